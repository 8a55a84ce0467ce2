// A DMA adapter that was put is gone.
// expect: E0382
use sluice_kernel::dma::DmaAdapter;
use sluice_kernel::irql::Passive;

fn misuse(passive: &mut Passive<'_>, adapter: DmaAdapter) {
    adapter.put(passive);
    adapter.common_buffer(passive, 4096);
}

fn main() {}

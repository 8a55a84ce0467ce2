// Freeing a common buffer by itself asks for a promise that no device touches it.
// expect: E0133
use sluice_kernel::dma::{CommonBuffer, DmaAdapter};
use sluice_kernel::irql::Passive;

fn misuse(passive: &mut Passive<'_>, adapter: &DmaAdapter, buffer: CommonBuffer) {
    adapter.free(passive, buffer);
}

fn main() {}

// A common buffer is freed at PASSIVE_LEVEL.
// expect: expected `&Passive
use sluice_kernel::dma::{CommonBuffer, DmaAdapter};
use sluice_kernel::irql::Dispatch;

fn misuse(dispatch: &mut Dispatch<'_>, adapter: &DmaAdapter, buffer: CommonBuffer) {
    // SAFETY: no device touches the buffer.
    unsafe { adapter.free(dispatch, buffer) };
}

fn main() {}

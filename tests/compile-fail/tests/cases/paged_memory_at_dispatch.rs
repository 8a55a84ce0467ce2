// Touching paged memory with a dispatch token.
// expect: may neither wait nor touch paged memory
use sluice_kernel::irql::Dispatch;
use sluice_kernel::pool::PagedBox;

fn misuse(dispatch: &mut Dispatch<'_>, memory: &PagedBox<u64>) -> u64 {
    *memory.get(dispatch)
}

fn main() {}

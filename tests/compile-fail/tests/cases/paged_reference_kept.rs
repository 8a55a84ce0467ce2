// A reference to paged memory that is kept until the level is raised.
// expect: E0502
use sluice_kernel::irql::Passive;
use sluice_kernel::pool::PagedBox;

fn misuse(passive: &mut Passive<'_>, memory: &PagedBox<u64>) -> u64 {
    let value = memory.get(passive);
    passive.at_dispatch(|_| *value)
}

fn main() {}

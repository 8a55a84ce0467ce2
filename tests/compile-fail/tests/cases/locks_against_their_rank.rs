// Two locks in the wrong order: somebody else takes them in the right one, and both wait.
// expect: a lock of rank `Table` is taken while one of rank `Entry` is held
use sluice_kernel::irql::Passive;
use sluice_kernel::lock::SpinLock;

sluice_kernel::ranks! {
    Table;
    Entry;
}

fn misuse(passive: &mut Passive<'_>, table: &SpinLock<u64, Table>, entry: &SpinLock<u64, Entry>) {
    entry.with(passive, |_, inside| table.with_at_dispatch(inside, |_, _| ()));
}

fn main() {}

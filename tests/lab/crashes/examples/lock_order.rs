//! Two locks in the wrong order, past the types: a token that was made inside another lock says that none is held. Debug
//! builds look once more, at what each processor holds. (Not one of the documents' crashes: with types alone it does
//! not compile, see `tests/compile-fail`.)
#![no_std]

use sluice_kernel::irql::{Dispatch, Passive};
use sluice_kernel::lock::SpinLock;
use sluice_kernel::ranks;
use wdk_sys::NTSTATUS;

lab::crash!(wrong, safe);

ranks! {
    /// Taken first.
    Table;
    /// Taken inside it.
    Entry;
}

static TABLE: SpinLock<u64, Table> = SpinLock::new(0);
static ENTRY: SpinLock<u64, Entry> = SpinLock::new(0);

unsafe fn wrong() {
    let mut passive = unsafe { Passive::assume() };
    ENTRY.with(&mut passive, |entry, _| {
        let mut lie = unsafe { Dispatch::assume() };
        TABLE.with_at_dispatch(&mut lie, |table, _| *table += *entry);
    });
}

fn safe(passive: &mut Passive<'_>) -> NTSTATUS {
    TABLE.with(passive, |table, inside| ENTRY.with_at_dispatch(inside, |entry, _| *entry += *table));
    0
}

//! Paged memory is read at `DISPATCH_LEVEL` (second document, "Interrupt Request Level").
//!
//! At `DISPATCH_LEVEL` the page fault handler cannot wait for the disk: the scheduler that would run another thread
//! meanwhile runs at that very level. If the page happens to be in memory nothing is noticed, which is why such a
//! driver works for months. The document's own figure is 0xD1 with the address in paged pool, IRQL 2, 0 for a read,
//! and the instruction.
#![no_std]

use lab::{NO_MEMORY, TAG, raw};
use sluice_kernel::irql::Passive;
use sluice_kernel::pool::PagedBox;
use wdk_sys::NTSTATUS;
use wdk_sys::ntddk::{KeLowerIrql, KfRaiseIrql};

lab::crash!(wrong, safe);

/// The memory is read with the level raised.
unsafe fn wrong() {
    unsafe {
        let memory = raw::paged::<u64>();
        let old = KfRaiseIrql(2);
        let value = memory.read_volatile();
        KeLowerIrql(old);
        lab::show(c"read %llu at %llu", value, 2);
        raw::free(memory);
    }
}

/// The value is copied while its page may still be fetched. `memory.get(dispatch)` does not compile: it wants a token
/// that shows that code may wait.
fn safe(passive: &mut Passive<'_>) -> NTSTATUS {
    let Ok(memory) = PagedBox::new(passive, 7u64, TAG) else { return NO_MEMORY };
    let value = *memory.get(passive);
    passive.at_dispatch(|_| lab::show(c"read %llu at %llu", value, 2));
    memory.free(passive);
    0
}

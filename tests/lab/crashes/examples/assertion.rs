//! `NT_ASSERT(KeGetCurrentIrql() == PASSIVE_LEVEL)` (second document): code says the level that it expects, and debug
//! builds check it where it is said, long before anything breaks. Here it is said wrongly on purpose.
#![no_std]

use lab::{NO_MEMORY, TAG};
use sluice_kernel::event::Event;
use sluice_kernel::irql::Passive;
use sluice_kernel::wait::Timeout;
use wdk_sys::NTSTATUS;
use wdk_sys::ntddk::{KeLowerIrql, KfRaiseIrql};

lab::crash!(wrong, safe);

/// The token lies: the level is `DISPATCH_LEVEL`. A debug build panics at the lie, with its line; a release build goes on
/// to the wait.
unsafe fn wrong() {
    let Ok(event) = Event::notification(TAG) else { return };
    unsafe {
        let old = KfRaiseIrql(2);
        let lie = Passive::assume();
        let _ = event.wait_for(&lie, Timeout::milliseconds(1));
        KeLowerIrql(old);
    }
}

/// The token is the one that the driver was given.
fn safe(passive: &mut Passive<'_>) -> NTSTATUS {
    let Ok(event) = Event::notification(TAG) else { return NO_MEMORY };
    let _ = event.wait_for(passive, Timeout::milliseconds(1));
    0
}

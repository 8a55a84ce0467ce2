//! A wait at `DISPATCH_LEVEL` (second document): the scheduler would have to run another thread, and cannot.
//! Driver Verifier stops at the call (0xC4 with 0x121); without it the system stops in the scheduler, or hangs.
#![no_std]

use lab::{NO_MEMORY, TAG, raw};
use sluice_kernel::event::Event;
use sluice_kernel::irql::Passive;
use sluice_kernel::wait::Timeout;
use wdk_sys::NTSTATUS;
use wdk_sys::ntddk::{KeLowerIrql, KfRaiseIrql};

lab::crash!(wrong, safe);

/// Waits for an event while the level is raised.
unsafe fn wrong() {
    unsafe {
        let event = raw::event();
        let old = KfRaiseIrql(2);
        raw::wait(event);
        KeLowerIrql(old);
        raw::free(event);
    }
}

/// At `DISPATCH_LEVEL` one may look, with a timeout of zero; waiting is for lower levels. `event.wait(dispatch)` does
/// not compile.
fn safe(passive: &mut Passive<'_>) -> NTSTATUS {
    let Ok(event) = Event::notification(TAG) else { return NO_MEMORY };
    let _ = passive.at_dispatch(|dispatch| event.poll(dispatch));
    let _ = event.wait_for(passive, Timeout::milliseconds(1));
    0
}

//! The IRQL is raised and not restored (second document: "if you raise the IRQL, lower it in the same function").
//! The caller goes on at `DISPATCH_LEVEL`, and something that has nothing to do with it crashes; Driver Verifier
//! and the machine look when the routine returns.
#![no_std]

use sluice_kernel::irql::Passive;
use wdk_sys::NTSTATUS;
use wdk_sys::ntddk::KfRaiseIrql;

lab::crash!(wrong, safe);

/// An early return between raising and lowering is how it happens.
unsafe fn wrong() {
    unsafe { KfRaiseIrql(2) };
}

/// Raising takes a closure: however it ends, the level is back. There is no function that only raises.
fn safe(passive: &mut Passive<'_>) -> NTSTATUS {
    let early = passive.at_dispatch(|_| {
        if sluice_kernel::irql::current() == sluice_kernel::irql::DISPATCH_LEVEL {
            return true;
        }
        false
    });
    NTSTATUS::from(!early)
}

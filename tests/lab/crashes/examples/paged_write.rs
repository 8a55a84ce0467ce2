//! Paged memory is written at `DISPATCH_LEVEL`: as reading it, with 1 as the third argument (second document).
#![no_std]

use lab::{NO_MEMORY, TAG, raw};
use sluice_kernel::irql::Passive;
use sluice_kernel::pool::PagedBox;
use wdk_sys::ntddk::KeInitializeSpinLock;
use wdk_sys::ntddk::{KeAcquireSpinLockRaiseToDpc, KeReleaseSpinLock};
use wdk_sys::{KSPIN_LOCK, NTSTATUS};

lab::crash!(wrong, safe);

/// A spin lock raises too, though it does not say so.
unsafe fn wrong() {
    unsafe {
        let memory = raw::paged::<u64>();
        let lock = raw::nonpaged::<KSPIN_LOCK>();
        KeInitializeSpinLock(lock);
        let old = KeAcquireSpinLockRaiseToDpc(lock);
        memory.write_volatile(1);
        KeReleaseSpinLock(lock, old);
        raw::free(lock);
        raw::free(memory);
    }
}

/// The value is made under the lock and stored after it.
fn safe(passive: &mut Passive<'_>) -> NTSTATUS {
    let Ok(mut memory) = PagedBox::new(passive, 0u64, TAG) else { return NO_MEMORY };
    let lock: sluice_kernel::lock::SpinLock<u64> = sluice_kernel::lock::SpinLock::new(0);
    let value = lock.with(passive, |counter, _| {
        *counter += 1;
        *counter
    });
    *memory.get_mut(passive) = value;
    memory.free(passive);
    0
}

//! What the safe wrappers of `sluice-kernel` cost: each function is here twice, once with the wrapper and once with
//! the raw calls. A test compares the instructions of the release build, which are the same.
//!
//! It is an image for the comparison. Only its events are ever run, which call nobody while nobody listens.
#![no_std]

extern crate wdk_panic;

use core::ptr::null_mut;
use core::sync::atomic::{AtomicI64, Ordering::SeqCst};

use sluice_kernel::interlocked::Counter;
use sluice_kernel::irql::{Apc, Dispatch, Passive};
use sluice_kernel::lock::{QueuedSpinLock, SpinLock};
use sluice_kernel::region::Critical;
use sluice_kernel::rundown::Rundown;
use sluice_kernel::wait::{self, Timeout};
use wdk_sys::ntddk::*;
use wdk_sys::{DRIVER_OBJECT, EX_RUNDOWN_REF, KLOCK_QUEUE_HANDLE, KSPIN_LOCK, LARGE_INTEGER, NTSTATUS};

/// `DriverEntry`: were it called, events would have a provider, so the compiler cannot leave them out.
///
/// # Safety
/// Called once, by the system.
#[unsafe(export_name = "DriverEntry")]
pub unsafe extern "system" fn driver_entry(_driver: &mut DRIVER_OBJECT, _path: *const ()) -> NTSTATUS {
    unsafe { sluice_ndis::trace::register() };
    0
}

/// An event of the driver's provider, for which nobody listens as long as it is not registered.
#[unsafe(no_mangle)]
pub extern "system" fn event(interface: u32, status: NTSTATUS) {
    sluice_ndis::trace::refused(interface, 0, status);
}

/// The same twice.
#[unsafe(no_mangle)]
pub extern "system" fn event_twice(interface: u32, status: NTSTATUS) {
    sluice_ndis::trace::refused(interface, 0, status);
    sluice_ndis::trace::refused(interface, 0, status);
}

/// No event.
#[unsafe(no_mangle)]
pub extern "system" fn no_event(_interface: u32, _status: NTSTATUS) {}

/// What a spin lock of the wrapper is: the lock, then the data.
#[repr(C)]
pub struct Locked {
    lock: KSPIN_LOCK,
    data: u64,
}

macro_rules! pairs {
    ($($wrapped:ident($($argument:ident: $type:ty),*) $wrapper:block $raw:ident($($same:ident: $like:ty),*) $calls:block)*) => {$(
        /// With the wrapper.
        #[unsafe(no_mangle)]
        pub extern "system" fn $wrapped($($argument: $type),*) $wrapper
        /// With the raw calls.
        ///
        /// # Safety
        /// Never called.
        #[unsafe(no_mangle)]
        pub unsafe extern "system" fn $raw($($same: $like),*) $calls
    )*};
}

pairs! {
    wrapped_spin_lock(lock: &SpinLock<u64>, passive: &mut Passive<'_>) {
        lock.with(passive, |data, _| *data += 1);
    }
    raw_spin_lock(lock: *mut Locked, _unused: usize) {
        unsafe {
            let old = KeAcquireSpinLockRaiseToDpc(&raw mut (*lock).lock);
            (*lock).data += 1;
            KeReleaseSpinLock(&raw mut (*lock).lock, old);
        }
    }

    wrapped_at_dispatch(lock: &SpinLock<u64>, dispatch: &mut Dispatch<'_>) {
        lock.with_at_dispatch(dispatch, |data, _| *data += 1);
    }
    raw_at_dispatch(lock: *mut Locked, _unused: usize) {
        unsafe {
            KeAcquireSpinLockAtDpcLevel(&raw mut (*lock).lock);
            (*lock).data += 1;
            KeReleaseSpinLockFromDpcLevel(&raw mut (*lock).lock);
        }
    }

    wrapped_queued(lock: &QueuedSpinLock<u64>, passive: &mut Passive<'_>) {
        lock.with(passive, |data, _| *data += 1);
    }
    raw_queued(lock: *mut Locked, _unused: usize) {
        unsafe {
            let mut place = KLOCK_QUEUE_HANDLE::default();
            KeAcquireInStackQueuedSpinLock(&raw mut (*lock).lock, &raw mut place);
            (*lock).data += 1;
            KeReleaseInStackQueuedSpinLock(&raw mut place);
        }
    }

    wrapped_raise(passive: &mut Passive<'_>, value: &mut u64) {
        passive.at_dispatch(|_| *value += 1);
    }
    raw_raise(_unused: usize, value: *mut u64) {
        unsafe {
            let old = KfRaiseIrql(2);
            *value += 1;
            KeLowerIrql(old);
        }
    }

    wrapped_region(passive: &mut Passive<'_>, value: &mut u64) {
        passive.critical_region(|_: &mut Critical<'_>| *value += 1);
    }
    raw_region(_unused: usize, value: *mut u64) {
        unsafe {
            KeEnterCriticalRegion();
            *value += 1;
            KeLeaveCriticalRegion();
        }
    }

    wrapped_rundown(rundown: &Rundown, value: &mut u64) {
        rundown.enter(|| *value += 1);
    }
    raw_rundown(rundown: *mut EX_RUNDOWN_REF, value: *mut u64) {
        unsafe {
            if ExAcquireRundownProtection(rundown) != 0 {
                *value += 1;
                ExReleaseRundownProtection(rundown);
            }
        }
    }

    wrapped_sleep(apc: &Apc<'_>) {
        wait::sleep(apc, Timeout::milliseconds(10));
    }
    raw_sleep(_unused: usize) {
        unsafe {
            let mut interval = LARGE_INTEGER { QuadPart: -100_000 };
            let _ = KeDelayExecutionThread(0, 0, &raw mut interval);
        }
    }

    wrapped_interlocked(counter: &Counter, value: &mut i64) {
        *value = counter.increment();
    }
    raw_interlocked(counter: &AtomicI64, value: *mut i64) {
        unsafe {
            *value = counter.fetch_add(1, SeqCst).wrapping_add(1);
        }
    }
}

const _: () = assert!(size_of::<SpinLock<u64>>() == size_of::<Locked>() && size_of::<Passive<'_>>() == 0);

/// Objects that have memory of their own are compared by what their calls do with its address.
pub mod owned {
    use super::*;
    use sluice_kernel::event::Event;
    use sluice_kernel::mutex::FastMutex;
    use wdk_sys::{FAST_MUTEX, KEVENT};

    /// An event: the address of its object.
    #[repr(C)]
    pub struct RawEvent(*mut KEVENT);
    /// A fast mutex as the wrapper lays it out.
    #[repr(C)]
    pub struct RawFastMutex {
        object: *mut FAST_MUTEX,
        tag: usize,
        data: u64,
    }

    pairs! {
        wrapped_event_set(event: &Event, passive: &Passive<'_>) {
            event.set(passive);
        }
        raw_event_set(event: *const RawEvent, _unused: usize) {
            unsafe {
                KeSetEvent((*event).0, 0, 0);
            }
        }

        wrapped_event_wait(event: &Event, passive: &Passive<'_>) {
            event.wait(passive);
        }
        raw_event_wait(event: *const RawEvent, _unused: usize) {
            unsafe {
                let _ = KeWaitForSingleObject((*event).0.cast(), 0, 0, 0, null_mut());
            }
        }

        wrapped_fast_mutex(mutex: &FastMutex<u64>, passive: &mut Passive<'_>) {
            mutex.with(passive, |data, _| *data += 1);
        }
        raw_fast_mutex(mutex: *mut RawFastMutex, _unused: usize) {
            unsafe {
                ExAcquireFastMutex((*mutex).object);
                (*mutex).data += 1;
                ExReleaseFastMutex((*mutex).object);
            }
        }
    }
}

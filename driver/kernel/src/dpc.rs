//! Deferred procedure calls (page "Introduction to DPC Objects").
#![expect(unsafe_code, reason = "the kernel keeps a pointer to the object")]
use core::cell::UnsafeCell;
use core::ffi::c_void;

use wdk_sys::KDPC;
use wdk_sys::ntddk::{KeFlushQueuedDpcs, KeInitializeDpc, KeInsertQueueDpc, KeRemoveQueueDpc};

use crate::embedded::Embedded;
use crate::irql::{Dispatch, Passive};
use crate::shared::Shared;

/// What a [`Dpc`] works on: the shared value that it is a part of.
pub trait Deferred: Sized + Send + Sync + 'static {
    /// Runs at `DISPATCH_LEVEL`.
    fn run(this: &Shared<Self>, dispatch: &mut Dispatch<'_>);
}

/// A DPC object, a part of the shared value that it works on. The value can be freed only after [`Dpc::stop`]:
/// dropping a DPC that was started and not stopped stops the system, rather than leave it in a queue.
///
/// # Invariants
/// While it is started, `object` and the value that it is a part of stay where they are.
pub struct Dpc {
    object: UnsafeCell<KDPC>,
    life: Embedded,
}

// SAFETY: the kernel's functions guard the object with its own lock.
unsafe impl Sync for Dpc {}
// SAFETY: the object is not tied to a thread; once started it does not move, since it is part of a shared value.
unsafe impl Send for Dpc {}

impl Dpc {
    /// An object that has no routine yet.
    pub fn new() -> Self {
        Self { object: UnsafeCell::new(KDPC::default()), life: Embedded::new() }
    }

    /// Gives the object its routine. Once.
    ///
    /// # Panics
    /// If the object is no part of `host`, or was started before.
    pub fn start<T: Deferred>(&self, host: &Shared<T>) {
        self.life.start(self, host);
        // SAFETY: the object is part of a shared value, so it stays in place; the routine fits its context.
        unsafe { KeInitializeDpc(self.object.get(), Some(routine::<T>), host.address().cast()) };
        self.life.admit();
    }

    /// Queues the routine, unless it is queued already, or the object is not started, or stopped.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`.
    pub fn queue(&self) {
        self.life.enter(|| {
            // SAFETY: `start` initialised the object, and it is not being stopped.
            unsafe { KeInsertQueueDpc(self.object.get(), core::ptr::null_mut(), core::ptr::null_mut()) };
        });
    }

    /// Takes the object off its queue and waits for a routine that is running. It is never queued again.
    pub fn stop(&self, passive: &mut Passive<'_>) {
        if !self.life.stop(passive) {
            return;
        }
        // SAFETY: `start` initialised the object.
        unsafe { KeRemoveQueueDpc(self.object.get()) };
        // SAFETY: the token shows PASSIVE_LEVEL.
        unsafe { KeFlushQueuedDpcs() };
    }
}

impl Default for Dpc {
    fn default() -> Self {
        Self::new()
    }
}

unsafe extern "C" fn routine<T: Deferred>(
    _dpc: *mut KDPC,
    context: *mut c_void,
    _argument1: *mut c_void,
    _argument2: *mut c_void,
) {
    // SAFETY: the kernel calls DPC routines at DISPATCH_LEVEL, and no lock is held then.
    let mut dispatch = unsafe { Dispatch::assume() };
    // SAFETY: `start` was given a shared value that lives until the object is stopped, which waits for this.
    let host = unsafe { Shared::borrow(context.cast::<T>()) };
    T::run(&host, &mut dispatch);
}

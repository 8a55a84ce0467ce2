//! Deferred procedure calls (page "Introduction to DPC Objects").
#![expect(unsafe_code, reason = "the kernel keeps a pointer to the object")]
use core::cell::UnsafeCell;
use core::ffi::c_void;

use wdk_sys::KDPC;
use wdk_sys::ntddk::{KeFlushQueuedDpcs, KeInitializeDpc, KeInsertQueueDpc, KeRemoveQueueDpc};

use crate::irql::{Dispatch, Passive};

/// What a DPC works on.
pub trait Deferred: Sync {
    /// Runs at `DISPATCH_LEVEL`.
    fn run(&self, dispatch: &Dispatch<'_>);
}

/// A DPC object.
///
/// # Invariants
/// Once [`Dpc::start`] was called the object and its context stay where they are until [`Dpc::stop`] returns.
pub struct Dpc(UnsafeCell<KDPC>);

// SAFETY: the kernel's functions guard the object with its own lock.
unsafe impl Sync for Dpc {}
// SAFETY: the object is not tied to a thread.
unsafe impl Send for Dpc {}

impl Dpc {
    /// An object that has no routine yet.
    pub fn new() -> Self {
        Self(UnsafeCell::new(KDPC::default()))
    }

    /// Gives the object its context.
    ///
    /// # Safety
    /// Neither the object nor `context` moves or dies before [`Dpc::stop`] has returned, and the object is
    /// not queued.
    pub unsafe fn start<T: Deferred>(&self, context: &T) {
        let context: *const T = context;
        // SAFETY: the caller keeps both in place; the routine matches the context's type.
        unsafe { KeInitializeDpc(self.0.get(), Some(routine::<T>), context.cast_mut().cast()) };
    }

    /// Queues the routine, unless it is queued already.
    ///
    /// # IRQL
    /// Any. Needs [`Dpc::start`] first.
    pub fn queue(&self) {
        // SAFETY: `start` initialised the object.
        unsafe { KeInsertQueueDpc(self.0.get(), core::ptr::null_mut(), core::ptr::null_mut()) };
    }

    /// Takes the object off its queue and waits for a routine that is running.
    pub fn stop(&self, _passive: &mut Passive<'_>) {
        // SAFETY: `start` initialised the object.
        unsafe { KeRemoveQueueDpc(self.0.get()) };
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
    // SAFETY: the kernel calls DPC routines at DISPATCH_LEVEL.
    let dispatch = unsafe { Dispatch::assume() };
    // SAFETY: `start` was given a `T` that lives until `stop`.
    let context: &T = unsafe { &*context.cast::<T>() };
    context.run(&dispatch);
}

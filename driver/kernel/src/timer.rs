//! Timers with a DPC (page "Timer Objects and DPCs").
#![expect(unsafe_code, reason = "the kernel keeps a pointer to the objects")]
use core::cell::UnsafeCell;
use core::ffi::c_void;

use wdk_sys::ntddk::{
    KeCancelTimer, KeFlushQueuedDpcs, KeInitializeDpc, KeInitializeTimerEx, KeRemoveQueueDpc, KeSetTimerEx,
};
use wdk_sys::{KDPC, KTIMER};

use crate::embedded::Embedded;
use crate::irql::{Dispatch, Passive};
use crate::shared::Shared;
use crate::wait::Timeout;

/// `NotificationTimer`.
const NOTIFICATION: i32 = 0;

/// What a [`Timer`] works on: the shared value that it is a part of.
pub trait Timed: Sized + Send + Sync + 'static {
    /// Runs at `DISPATCH_LEVEL` when the time has come.
    fn elapsed(this: &Shared<Self>, dispatch: &mut Dispatch<'_>);
}

/// A timer and its DPC, parts of the shared value that they work on. The value can be freed only after
/// [`Timer::stop`], as with a [`crate::dpc::Dpc`].
///
/// # Invariants
/// While it is started, both objects and the value that they are a part of stay where they are.
pub struct Timer {
    object: UnsafeCell<KTIMER>,
    dpc: UnsafeCell<KDPC>,
    life: Embedded,
}

// SAFETY: the kernel's functions guard the objects.
unsafe impl Sync for Timer {}
// SAFETY: the objects are not tied to a thread; once started they do not move.
unsafe impl Send for Timer {}

impl Timer {
    /// A timer that has no routine yet.
    pub fn new() -> Self {
        Self {
            object: UnsafeCell::new(KTIMER::default()),
            dpc: UnsafeCell::new(KDPC::default()),
            life: Embedded::new(),
        }
    }

    /// Gives the timer its routine; it is not set. Once.
    ///
    /// # Panics
    /// If the timer is no part of `host`, or was started before.
    pub fn start<T: Timed>(&self, host: &Shared<T>) {
        self.life.start(self, host);
        // SAFETY: the object is part of a shared value, so it stays in place.
        unsafe { KeInitializeTimerEx(self.object.get(), NOTIFICATION) };
        // SAFETY: as above; the routine fits its context.
        unsafe { KeInitializeDpc(self.dpc.get(), Some(routine::<T>), host.address().cast()) };
        self.life.admit();
    }

    /// Sets the timer, or sets it anew: it elapses once, `due` from now.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`.
    pub fn set(&self, due: Timeout) {
        self.set_with_period(due, 0);
    }

    /// Sets the timer, or sets it anew: it elapses `due` from now, and every `milliseconds` after that.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`.
    pub fn set_periodic(&self, due: Timeout, milliseconds: u32) {
        self.set_with_period(due, milliseconds as i32);
    }

    fn set_with_period(&self, due: Timeout, period: i32) {
        self.life.enter(|| {
            // SAFETY: `start` initialised both objects, and they are not being stopped.
            unsafe { KeSetTimerEx(self.object.get(), due.relative(), period, self.dpc.get()) };
        });
    }

    /// Cancels the timer; true if it was set. Its routine may be queued or run all the same.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`.
    pub fn cancel(&self) -> bool {
        // SAFETY: as for `set`.
        self.life.enter(|| unsafe { KeCancelTimer(self.object.get()) } != 0).unwrap_or(false)
    }

    /// Cancels the timer, and waits for its routine. It is never set again.
    pub fn stop(&self, passive: &mut Passive<'_>) {
        if !self.life.stop(passive) {
            return;
        }
        // SAFETY: `start` initialised the timer.
        unsafe { KeCancelTimer(self.object.get()) };
        // SAFETY: `start` initialised the DPC.
        unsafe { KeRemoveQueueDpc(self.dpc.get()) };
        // SAFETY: the token shows PASSIVE_LEVEL.
        unsafe { KeFlushQueuedDpcs() };
    }
}

impl Default for Timer {
    fn default() -> Self {
        Self::new()
    }
}

unsafe extern "C" fn routine<T: Timed>(
    _dpc: *mut KDPC,
    context: *mut c_void,
    _argument1: *mut c_void,
    _argument2: *mut c_void,
) {
    // SAFETY: the kernel calls DPC routines at DISPATCH_LEVEL, and no lock is held then.
    let mut dispatch = unsafe { Dispatch::assume() };
    // SAFETY: `start` was given a shared value that lives until the timer is stopped, which waits for this.
    let host = unsafe { Shared::borrow(context.cast::<T>()) };
    T::elapsed(&host, &mut dispatch);
}

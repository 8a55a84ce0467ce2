//! NDIS timers without period (page "NDIS Timer Services").
#![expect(unsafe_code, reason = "NDIS keeps a pointer to the context")]
use core::ffi::c_void;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

use ndis_sys::{
    NDIS_HANDLE, NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_TIMER_CHARACTERISTICS,
    NDIS_SIZEOF_TIMER_CHARACTERISTICS_REVISION_1, NDIS_STATUS_SUCCESS, NDIS_TIMER_CHARACTERISTICS,
    NDIS_TIMER_CHARACTERISTICS_REVISION_1, NdisAllocateTimerObject, NdisCancelTimerObject,
    NdisFreeTimerObject, NdisSetTimerObject,
};
use sluice_kernel::irql::{Dispatch, Passive};
use sluice_kernel::pool::{OutOfMemory, Tag};
use wdk_sys::ntddk::KeFlushQueuedDpcs;

use crate::filter::Handle;

/// What a timer works on.
pub trait Timed: Sync {
    /// Runs at `DISPATCH_LEVEL` when the time has come.
    fn elapsed(&self, dispatch: &Dispatch<'_>);
}

/// A timer of a module.
#[derive(Debug, Default)]
pub struct Timer(AtomicPtr<c_void>);

impl Timer {
    /// A timer that was not started.
    pub const fn new() -> Self {
        Self(AtomicPtr::new(null_mut()))
    }

    /// Makes the timer, not set.
    ///
    /// # Safety
    /// `context` does not move or die before [`Timer::stop`] has returned.
    pub unsafe fn start<T: Timed>(
        &self,
        module: Handle,
        context: *const T,
        tag: Tag,
    ) -> Result<(), OutOfMemory> {
        let characteristics = NDIS_TIMER_CHARACTERISTICS {
            Header: NDIS_OBJECT_HEADER {
                Type: NDIS_OBJECT_TYPE_TIMER_CHARACTERISTICS,
                Revision: NDIS_TIMER_CHARACTERISTICS_REVISION_1,
                Size: NDIS_SIZEOF_TIMER_CHARACTERISTICS_REVISION_1,
            },
            AllocationTag: tag.value(),
            TimerFunction: Some(routine::<T>),
            FunctionContext: context.cast_mut().cast(),
        };
        let mut timer = null_mut();
        // SAFETY: the handle is the module's; the characteristics are filled in.
        let status =
            unsafe { NdisAllocateTimerObject(module.raw(), &raw const characteristics, &raw mut timer) };
        if status != NDIS_STATUS_SUCCESS {
            return Err(OutOfMemory);
        }
        self.0.store(timer, Ordering::Release);
        Ok(())
    }

    /// Sets the timer, or sets it anew, to elapse once after `milliseconds`. The caller keeps it from being
    /// stopped meanwhile.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`.
    pub fn set(&self, milliseconds: u32) {
        // Relative times are negative, in units of 100 ns.
        let due = -(i64::from(milliseconds) * 10_000);
        let timer: NDIS_HANDLE = self.0.load(Ordering::Acquire);
        if !timer.is_null() {
            // SAFETY: the timer is not stopped meanwhile; the context of its making is used.
            unsafe { NdisSetTimerObject(timer, due, 0, null_mut()) };
        }
    }

    /// Cancels the timer, waits for a routine that is running, and frees it. Nobody may set it any more.
    pub fn stop(&self, _passive: &mut Passive<'_>) {
        let timer: NDIS_HANDLE = self.0.swap(null_mut(), Ordering::AcqRel);
        if timer.is_null() {
            return;
        }
        // SAFETY: the timer is alive and has no period.
        if unsafe { NdisCancelTimerObject(timer) } == 0 {
            // It may have elapsed and its routine be running: timer routines are DPCs.
            // SAFETY: the token shows PASSIVE_LEVEL.
            unsafe { KeFlushQueuedDpcs() };
        }
        // SAFETY: nobody uses the timer any more.
        unsafe { NdisFreeTimerObject(timer) };
    }
}

unsafe extern "system" fn routine<T: Timed>(
    _reserved1: *mut c_void,
    context: *mut c_void,
    _reserved2: *mut c_void,
    _reserved3: *mut c_void,
) {
    // SAFETY: NDIS calls timer routines at DISPATCH_LEVEL.
    let dispatch = unsafe { Dispatch::assume() };
    // SAFETY: the timer was made with a `T` that lives until it is stopped.
    let context: &T = unsafe { &*context.cast::<T>() };
    context.elapsed(&dispatch);
}

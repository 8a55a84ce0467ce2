//! Semaphores (page "Introduction to Semaphore Objects").
#![expect(unsafe_code, reason = "the kernel links waiters into the object")]
use core::cell::UnsafeCell;

use wdk_sys::KSEMAPHORE;
use wdk_sys::ntddk::{KeInitializeSemaphore, KeReleaseSemaphore};

use crate::irql::MayWait;
use crate::pool::{OutOfMemory, PoolBox, Tag};
use crate::wait::{self, Timeout, Waited};

/// So many permits. Each is given back by whoever took it, so the count never passes its limit, which raises
/// `STATUS_SEMAPHORE_LIMIT_EXCEEDED` in `KeReleaseSemaphore`.
pub struct Semaphore(PoolBox<UnsafeCell<KSEMAPHORE>>);

// SAFETY: the kernel's functions guard the object.
unsafe impl Sync for Semaphore {}
// SAFETY: a semaphore is not tied to a thread.
unsafe impl Send for Semaphore {}

impl Semaphore {
    /// A semaphore of `permits`, all of them free.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`.
    pub fn new(permits: u16, tag: Tag) -> Result<Self, OutOfMemory> {
        let semaphore = PoolBox::new(UnsafeCell::new(KSEMAPHORE::default()), tag)?;
        let permits = i32::from(permits.max(1));
        // SAFETY: the object is nonpaged, stays in place, and is not in use; the limit is positive.
        unsafe { KeInitializeSemaphore(semaphore.get(), permits, permits) };
        Ok(Self(semaphore))
    }

    /// Runs `work` with a permit, when one is free.
    pub fn with<R>(&self, level: &impl MayWait, work: impl FnOnce() -> R) -> R {
        // SAFETY: `new` initialised the object, and it is borrowed until the wait ends.
        unsafe { wait::forever(level, self.0.get().cast()) };
        self.held(work)
    }

    /// Runs `work` with a permit, or does not if the time is up before one is free.
    pub fn with_timeout<R>(
        &self,
        level: &impl MayWait,
        time: Timeout,
        work: impl FnOnce() -> R,
    ) -> Option<R> {
        // SAFETY: as for `with`.
        match unsafe { wait::until(level, self.0.get().cast(), time) } {
            Waited::Signalled => Some(self.held(work)),
            Waited::TimedOut => None,
        }
    }

    fn held<R>(&self, work: impl FnOnce() -> R) -> R {
        let result = work();
        // SAFETY: the permit that the caller took is given back, so the limit is not passed.
        unsafe { KeReleaseSemaphore(self.0.get(), 0, 1, 0) };
        result
    }
}

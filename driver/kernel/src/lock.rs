//! Spin locks (page "Introduction to Spin Locks").
#![expect(unsafe_code, reason = "the lock gives access to its data")]
use core::cell::UnsafeCell;

use wdk_sys::KSPIN_LOCK;
use wdk_sys::ntddk::{
    KeAcquireSpinLockAtDpcLevel, KeAcquireSpinLockRaiseToDpc, KeReleaseSpinLock,
    KeReleaseSpinLockFromDpcLevel,
};

use crate::irql::{Dispatch, Passive};

/// Data behind a spin lock. The lock is a closure: it is released, and the old level restored, in the
/// function that took it, always; inside, the caller's passive token is borrowed, so nothing that may wait
/// compiles.
///
/// # Invariants
/// `data` is only touched while `lock` is held.
pub struct SpinLock<T> {
    lock: UnsafeCell<KSPIN_LOCK>,
    data: UnsafeCell<T>,
}

// SAFETY: the data is only touched by the holder of the lock, one at a time.
unsafe impl<T: Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    /// A free lock. It works wherever it lies, as long as that is nonpaged memory and it does not move while
    /// it is held.
    pub const fn new(data: T) -> Self {
        // Zero is what KeInitializeSpinLock stores.
        Self { lock: UnsafeCell::new(0), data: UnsafeCell::new(data) }
    }

    /// Runs `work` with the data at `DISPATCH_LEVEL`, from `PASSIVE_LEVEL`.
    pub fn with<R>(&self, _passive: &mut Passive<'_>, work: impl FnOnce(&mut T, &Dispatch<'_>) -> R) -> R {
        self.with_raised(work)
    }

    /// Runs `work` with the data, from `DISPATCH_LEVEL`.
    pub fn with_at_dispatch<R>(
        &self,
        dispatch: &Dispatch<'_>,
        work: impl FnOnce(&mut T, &Dispatch<'_>) -> R,
    ) -> R {
        // SAFETY: the token shows DISPATCH_LEVEL, and the lock was initialised by `new`.
        unsafe { KeAcquireSpinLockAtDpcLevel(self.lock.get()) };
        // SAFETY: the lock is held, so nobody else can reach the data.
        let data = unsafe { &mut *self.data.get() };
        let result = work(data, dispatch);
        // SAFETY: taken above, on this processor.
        unsafe { KeReleaseSpinLockFromDpcLevel(self.lock.get()) };
        result
    }

    /// Runs `work` with the data at `DISPATCH_LEVEL`, from any level up to that, for callbacks that the
    /// system calls at either.
    pub fn with_raised<R>(&self, work: impl FnOnce(&mut T, &Dispatch<'_>) -> R) -> R {
        assert_irql!(<= crate::irql::DISPATCH_LEVEL);
        // SAFETY: the level is at most DISPATCH_LEVEL, and the lock was initialised by `new`.
        let old = unsafe { KeAcquireSpinLockRaiseToDpc(self.lock.get()) };
        // SAFETY: the lock is held, so nobody else can reach the data.
        let data = unsafe { &mut *self.data.get() };
        // SAFETY: the acquisition raised to DISPATCH_LEVEL, until the release below.
        let dispatch = unsafe { Dispatch::assume() };
        let result = work(data, &dispatch);
        // SAFETY: taken above; `old` is the level from before.
        unsafe { KeReleaseSpinLock(self.lock.get(), old) };
        result
    }

    /// Takes the lock without a closure, for callbacks that the system pairs itself.
    ///
    /// # Safety
    /// The caller passes what is returned to [`SpinLock::release`], on the same processor, and touches no
    /// pageable memory in between.
    pub(crate) unsafe fn acquire(&self) -> u8 {
        // SAFETY: as for `with_raised`.
        unsafe { KeAcquireSpinLockRaiseToDpc(self.lock.get()) }
    }

    /// Releases what [`SpinLock::acquire`] took.
    ///
    /// # Safety
    /// The lock is held by this processor, and `old` is what `acquire` returned.
    pub(crate) unsafe fn release(&self, old: u8) {
        // SAFETY: the caller holds the lock.
        unsafe { KeReleaseSpinLock(self.lock.get(), old) };
    }

    /// The data, for a caller between [`SpinLock::acquire`] and [`SpinLock::release`].
    ///
    /// # Safety
    /// The lock is held by this processor, and no other reference to the data is alive.
    #[expect(clippy::mut_from_ref, reason = "the lock makes it exclusive")]
    pub(crate) unsafe fn data(&self) -> &mut T {
        // SAFETY: the caller holds the lock.
        unsafe { &mut *self.data.get() }
    }
}

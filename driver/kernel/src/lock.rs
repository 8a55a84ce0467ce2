//! Spin locks (pages "Introduction to Spin Locks", "Queued Spin Locks").
#![expect(unsafe_code, reason = "the lock gives access to its data")]
use core::cell::UnsafeCell;
use core::marker::PhantomData;

use wdk_sys::ntddk::{
    KeAcquireInStackQueuedSpinLock, KeAcquireInStackQueuedSpinLockAtDpcLevel, KeAcquireSpinLockAtDpcLevel,
    KeAcquireSpinLockRaiseToDpc, KeReleaseInStackQueuedSpinLock, KeReleaseInStackQueuedSpinLockFromDpcLevel,
    KeReleaseSpinLock, KeReleaseSpinLockFromDpcLevel,
};
use wdk_sys::{KLOCK_QUEUE_HANDLE, KSPIN_LOCK};

use crate::irql::{BelowDispatch, Dispatch};
use crate::rank::{self, After, Leaf};

/// Data behind a spin lock of a rank. The lock is a closure: it is released, and the old level restored, in the
/// function that took it, always; inside, the caller's token is borrowed, so nothing that may wait compiles,
/// no other lock out of order, and no call into NDIS.
///
/// # Invariants
/// `data` is only touched while `lock` is held.
pub struct SpinLock<T, R = Leaf> {
    lock: UnsafeCell<KSPIN_LOCK>,
    data: UnsafeCell<T>,
    rank: PhantomData<fn() -> R>,
}

// SAFETY: the data is only touched by the holder of the lock, one at a time.
unsafe impl<T: Send, R> Sync for SpinLock<T, R> {}

impl<T, R> SpinLock<T, R> {
    /// A free lock. It works wherever it lies, as long as that is nonpaged memory.
    pub const fn new(data: T) -> Self {
        // Zero is what KeInitializeSpinLock stores.
        Self { lock: UnsafeCell::new(0), data: UnsafeCell::new(data), rank: PhantomData }
    }

    /// Runs `work` with the data at `DISPATCH_LEVEL`, from a lower level.
    pub fn with<L: BelowDispatch, Q>(
        &self,
        _level: &mut L,
        work: impl FnOnce(&mut T, &mut Dispatch<'_, R>) -> Q,
    ) -> Q
    where
        R: After<L::Held>,
    {
        assert_irql!(<= crate::irql::DISPATCH_LEVEL);
        // SAFETY: the token shows that the level is at most DISPATCH_LEVEL; the lock was initialised by `new`.
        let old = unsafe { KeAcquireSpinLockRaiseToDpc(self.lock.get()) };
        let before = rank::take(R::ORDER);
        // SAFETY: the lock is held, so nobody else can reach the data.
        let data = unsafe { &mut *self.data.get() };
        let result = work(data, &mut Dispatch::inside());
        rank::give(before);
        // SAFETY: taken above; `old` is the level from before.
        unsafe { KeReleaseSpinLock(self.lock.get(), old) };
        result
    }

    /// Runs `work` with the data, from `DISPATCH_LEVEL`.
    pub fn with_at_dispatch<Held, Q>(
        &self,
        _dispatch: &mut Dispatch<'_, Held>,
        work: impl FnOnce(&mut T, &mut Dispatch<'_, R>) -> Q,
    ) -> Q
    where
        R: After<Held>,
    {
        assert_irql!(== crate::irql::DISPATCH_LEVEL);
        let before = rank::take(R::ORDER);
        // SAFETY: the token shows DISPATCH_LEVEL, and the lock was initialised by `new`.
        unsafe { KeAcquireSpinLockAtDpcLevel(self.lock.get()) };
        // SAFETY: the lock is held, so nobody else can reach the data.
        let data = unsafe { &mut *self.data.get() };
        let result = work(data, &mut Dispatch::inside());
        // SAFETY: taken above, on this processor.
        unsafe { KeReleaseSpinLockFromDpcLevel(self.lock.get()) };
        rank::give(before);
        result
    }

    /// Takes the lock without a closure, for callbacks that the system pairs itself.
    ///
    /// # Safety
    /// The level is at most `DISPATCH_LEVEL`; the caller passes what is returned to [`SpinLock::release`], on the
    /// same processor, and touches no pageable memory in between.
    pub(crate) unsafe fn acquire(&self) -> u8 {
        // SAFETY: as promised by the caller.
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

/// Data behind a queued spin lock: whoever came first gets it first, and each waiter spins on memory of its own,
/// on the stack of this function. A lock is queued or not for all its life, which is why this is a type.
///
/// # Invariants
/// `data` is only touched while `lock` is held.
pub struct QueuedSpinLock<T, R = Leaf> {
    lock: UnsafeCell<KSPIN_LOCK>,
    data: UnsafeCell<T>,
    rank: PhantomData<fn() -> R>,
}

// SAFETY: the data is only touched by the holder of the lock, one at a time.
unsafe impl<T: Send, R> Sync for QueuedSpinLock<T, R> {}

impl<T, R> QueuedSpinLock<T, R> {
    /// A free lock, in nonpaged memory.
    pub const fn new(data: T) -> Self {
        Self { lock: UnsafeCell::new(0), data: UnsafeCell::new(data), rank: PhantomData }
    }

    /// Runs `work` with the data at `DISPATCH_LEVEL`, from a lower level.
    pub fn with<L: BelowDispatch, Q>(
        &self,
        _level: &mut L,
        work: impl FnOnce(&mut T, &mut Dispatch<'_, R>) -> Q,
    ) -> Q
    where
        R: After<L::Held>,
    {
        let mut place = KLOCK_QUEUE_HANDLE::default();
        // SAFETY: the token shows that the level is at most DISPATCH_LEVEL; the place lives until the release.
        unsafe { KeAcquireInStackQueuedSpinLock(self.lock.get(), &raw mut place) };
        let before = rank::take(R::ORDER);
        // SAFETY: the lock is held, so nobody else can reach the data.
        let data = unsafe { &mut *self.data.get() };
        let result = work(data, &mut Dispatch::inside());
        rank::give(before);
        // SAFETY: taken above with this place.
        unsafe { KeReleaseInStackQueuedSpinLock(&raw mut place) };
        result
    }

    /// Runs `work` with the data, from `DISPATCH_LEVEL`.
    pub fn with_at_dispatch<Held, Q>(
        &self,
        _dispatch: &mut Dispatch<'_, Held>,
        work: impl FnOnce(&mut T, &mut Dispatch<'_, R>) -> Q,
    ) -> Q
    where
        R: After<Held>,
    {
        let before = rank::take(R::ORDER);
        let mut place = KLOCK_QUEUE_HANDLE::default();
        // SAFETY: the token shows DISPATCH_LEVEL; the place lives until the release.
        unsafe { KeAcquireInStackQueuedSpinLockAtDpcLevel(self.lock.get(), &raw mut place) };
        // SAFETY: the lock is held, so nobody else can reach the data.
        let data = unsafe { &mut *self.data.get() };
        let result = work(data, &mut Dispatch::inside());
        // SAFETY: taken above with this place.
        unsafe { KeReleaseInStackQueuedSpinLockFromDpcLevel(&raw mut place) };
        rank::give(before);
        result
    }
}

//! NDIS reader-writer locks (page "`NdisAllocateRWLock`"): readers of different processors do not touch the same
//! cache line.
#![expect(unsafe_code, reason = "the lock gives access to its data")]
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::marker::PhantomData;
use core::ptr::NonNull;

use ndis_sys::{
    LOCK_STATE_EX, NdisAcquireRWLockRead, NdisAcquireRWLockWrite, NdisAllocateRWLock, NdisFreeRWLock,
    NdisReleaseRWLock,
};
use sluice_kernel::irql::{BelowDispatch, Dispatch};
use sluice_kernel::pool::OutOfMemory;
use sluice_kernel::rank::{After, Leaf};

use crate::filter::Handle;

/// Data behind a reader-writer lock of a rank. Like a spin lock it is a closure at `DISPATCH_LEVEL`; a reader that
/// would become the writer, which deadlocks, does not compile, since no lock comes after itself.
///
/// # Invariants
/// `data` is shared while `lock` is held by readers, and changed only while it is held by a writer.
pub struct RwLock<T, R = Leaf> {
    lock: NonNull<c_void>,
    data: UnsafeCell<T>,
    rank: PhantomData<fn() -> R>,
}

// SAFETY: the data is shared between readers, or with one writer.
unsafe impl<T: Send + Sync, R> Sync for RwLock<T, R> {}
// SAFETY: a free lock is not tied to a thread.
unsafe impl<T: Send, R> Send for RwLock<T, R> {}

impl<T, R> RwLock<T, R> {
    /// A free lock.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`, and so is dropping it.
    pub fn new(module: Handle, data: T) -> Result<Self, OutOfMemory> {
        // SAFETY: the handle is the module's.
        let lock = unsafe { NdisAllocateRWLock(module.raw()) };
        let lock = NonNull::new(lock).ok_or(OutOfMemory)?;
        Ok(Self { lock, data: UnsafeCell::new(data), rank: PhantomData })
    }

    /// Runs `work` with the data at `DISPATCH_LEVEL`, with other readers.
    pub fn read<L: BelowDispatch, Q>(
        &self,
        _level: &mut L,
        work: impl FnOnce(&T, &mut Dispatch<'_, R>) -> Q,
    ) -> Q
    where
        R: After<L::Held>,
    {
        let mut state = LOCK_STATE_EX { OldIrql: 0, LockState: 0, Flags: 0 };
        // SAFETY: the lock is alive; the state is this acquisition's own.
        unsafe { NdisAcquireRWLockRead(self.lock.as_ptr(), &raw mut state, 0) };
        // SAFETY: readers hold the lock, so nobody changes the data.
        let data = unsafe { &*self.data.get() };
        // SAFETY: the acquisition raised to DISPATCH_LEVEL, until the release below.
        let result = work(data, &mut unsafe { Dispatch::holding() });
        // SAFETY: taken above with this state, on this processor.
        unsafe { NdisReleaseRWLock(self.lock.as_ptr(), &raw mut state) };
        result
    }

    /// Runs `work` with the data at `DISPATCH_LEVEL`, alone.
    pub fn write<L: BelowDispatch, Q>(
        &self,
        _level: &mut L,
        work: impl FnOnce(&mut T, &mut Dispatch<'_, R>) -> Q,
    ) -> Q
    where
        R: After<L::Held>,
    {
        let mut state = LOCK_STATE_EX { OldIrql: 0, LockState: 0, Flags: 0 };
        // SAFETY: the lock is alive; the state is this acquisition's own.
        unsafe { NdisAcquireRWLockWrite(self.lock.as_ptr(), &raw mut state, 0) };
        // SAFETY: the writer holds the lock, so nobody else can reach the data.
        let data = unsafe { &mut *self.data.get() };
        // SAFETY: the acquisition raised to DISPATCH_LEVEL, until the release below.
        let result = work(data, &mut unsafe { Dispatch::holding() });
        // SAFETY: taken above with this state, on this processor.
        unsafe { NdisReleaseRWLock(self.lock.as_ptr(), &raw mut state) };
        result
    }
}

impl<T, R> Drop for RwLock<T, R> {
    fn drop(&mut self) {
        // SAFETY: whoever holds the lock borrows it, so it is free; it is not used again.
        unsafe { NdisFreeRWLock(self.lock.as_ptr()) };
    }
}

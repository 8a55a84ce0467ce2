//! Mutexes (pages "Introduction to Mutex Objects", "Fast Mutexes and Guarded Mutexes").
#![expect(unsafe_code, reason = "the mutex gives access to its data")]
use core::cell::UnsafeCell;
use core::marker::PhantomData;

use wdk_sys::ntddk::{
    ExAcquireFastMutex, ExAcquireFastMutexUnsafe, ExReleaseFastMutex, ExReleaseFastMutexUnsafe,
    ExTryToAcquireFastMutex, KeInitializeEvent, KeInitializeMutex, KeReleaseMutex,
};
use wdk_sys::{FAST_MUTEX, KMUTEX};

use crate::irql::{Apc, MayWait, Passive};
use crate::pool::{OutOfMemory, PoolBox, Tag};
use crate::rank::{After, Leaf, NoLock};
use crate::region::Guarded;
use crate::wait::{self, Timeout, Waited};

/// Data behind a mutex that its owner may take again. Therefore the data is only shared inside: whoever changes
/// it uses cells. It is released by the thread that took it, in the function that took it.
///
/// # Invariants
/// `data` is only touched by the thread that holds `mutex`.
pub struct Mutex<T> {
    mutex: PoolBox<UnsafeCell<KMUTEX>>,
    data: UnsafeCell<T>,
}

// SAFETY: the data is only touched by the holder of the mutex, one thread at a time.
unsafe impl<T: Send> Sync for Mutex<T> {}
// SAFETY: a free mutex is not tied to a thread, and one that is held is borrowed.
unsafe impl<T: Send> Send for Mutex<T> {}

impl<T> Mutex<T> {
    /// A free mutex.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`.
    pub fn new(data: T, tag: Tag) -> Result<Self, OutOfMemory> {
        let mutex = PoolBox::new(UnsafeCell::new(KMUTEX::default()), tag)?;
        // SAFETY: the object is nonpaged, stays in place, and is not in use.
        unsafe { KeInitializeMutex(mutex.get(), 0) };
        Ok(Self { mutex, data: UnsafeCell::new(data) })
    }

    /// Runs `work` with the data, with normal kernel APCs disabled, when the mutex is free.
    pub fn with<R>(&self, level: &impl MayWait, work: impl FnOnce(&T) -> R) -> R {
        // SAFETY: `new` initialised the object, and it is borrowed until the wait ends.
        unsafe { wait::forever(level, self.mutex.get().cast()) };
        self.held(work)
    }

    /// Runs `work` with the data, or does not if the time is up before the mutex is free.
    pub fn with_timeout<R>(
        &self,
        level: &impl MayWait,
        time: Timeout,
        work: impl FnOnce(&T) -> R,
    ) -> Option<R> {
        // SAFETY: as for `with`.
        match unsafe { wait::until(level, self.mutex.get().cast(), time) } {
            Waited::Signalled => Some(self.held(work)),
            Waited::TimedOut => None,
        }
    }

    fn held<R>(&self, work: impl FnOnce(&T) -> R) -> R {
        // SAFETY: this thread holds the mutex, so no other can reach the data; it is only shared with itself.
        let data = unsafe { &*self.data.get() };
        let result = work(data);
        // SAFETY: taken by the caller, on this thread.
        unsafe { KeReleaseMutex(self.mutex.get(), 0) };
        result
    }
}

/// Data behind a fast mutex: taken once, at `APC_LEVEL`, without a limit of time. The token inside has the
/// mutex's rank, so taking it again does not compile.
///
/// # Invariants
/// `data` is only touched while `mutex` is held.
pub struct FastMutex<T, R = Leaf> {
    mutex: PoolBox<UnsafeCell<FAST_MUTEX>>,
    data: UnsafeCell<T>,
    rank: PhantomData<fn() -> R>,
}

// SAFETY: the data is only touched by the holder of the mutex, one at a time.
unsafe impl<T: Send, R> Sync for FastMutex<T, R> {}
// SAFETY: a free mutex is not tied to a thread, and one that is held is borrowed.
unsafe impl<T: Send, R> Send for FastMutex<T, R> {}

impl<T, R> FastMutex<T, R> {
    /// A free mutex (`ExInitializeFastMutex`, which is inline in `wdm.h`).
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`.
    pub fn new(data: T, tag: Tag) -> Result<Self, OutOfMemory> {
        let free = FAST_MUTEX { Count: 1, ..FAST_MUTEX::default() };
        let mutex = PoolBox::new(UnsafeCell::new(free), tag)?;
        // SAFETY: the field lies inside the object.
        let event = unsafe { &raw mut (*mutex.get()).Event };
        // SAFETY: the event is nonpaged, stays in place, and is not in use; 1 is SynchronizationEvent.
        unsafe { KeInitializeEvent(event, 1, 0) };
        Ok(Self { mutex, data: UnsafeCell::new(data), rank: PhantomData })
    }

    /// Runs `work` with the data at `APC_LEVEL`, when the mutex is free.
    pub fn with<Q>(&self, _passive: &mut Passive<'_>, work: impl FnOnce(&mut T, &mut Apc<'_, R>) -> Q) -> Q
    where
        R: After<NoLock>,
    {
        self.taken(work)
    }

    /// Runs `work` with the data, from `APC_LEVEL`, inside another fast mutex perhaps.
    pub fn with_at_apc<Held, Q>(
        &self,
        _apc: &mut Apc<'_, Held>,
        work: impl FnOnce(&mut T, &mut Apc<'_, R>) -> Q,
    ) -> Q
    where
        R: After<Held>,
    {
        self.taken(work)
    }

    fn taken<Q>(&self, work: impl FnOnce(&mut T, &mut Apc<'_, R>) -> Q) -> Q {
        assert_irql!(<= crate::irql::APC_LEVEL);
        // SAFETY: the caller's token shows APC_LEVEL or below, and that this thread does not hold the mutex.
        unsafe { ExAcquireFastMutex(self.mutex.get()) };
        let result = self.held(work);
        // SAFETY: taken above, on this thread.
        unsafe { ExReleaseFastMutex(self.mutex.get()) };
        result
    }

    /// Runs `work` with the data if the mutex is free at this moment.
    pub fn try_with<Q>(
        &self,
        _passive: &mut Passive<'_>,
        work: impl FnOnce(&mut T, &mut Apc<'_, R>) -> Q,
    ) -> Option<Q>
    where
        R: After<NoLock>,
    {
        // SAFETY: the token shows PASSIVE_LEVEL.
        if unsafe { ExTryToAcquireFastMutex(self.mutex.get()) } == 0 {
            return None;
        }
        let result = self.held(work);
        // SAFETY: taken above, on this thread.
        unsafe { ExReleaseFastMutex(self.mutex.get()) };
        Some(result)
    }

    /// Runs `work` with the data inside a guarded region, where the level need not be raised.
    pub fn with_guarded<Q>(&self, _guarded: &mut Guarded<'_>, work: impl FnOnce(&mut T) -> Q) -> Q {
        // SAFETY: the token shows a guarded region: no APC can come, which is all that APC_LEVEL is for.
        unsafe { ExAcquireFastMutexUnsafe(self.mutex.get()) };
        // SAFETY: the mutex is held, so nobody else can reach the data.
        let result = work(unsafe { &mut *self.data.get() });
        // SAFETY: taken above, on this thread.
        unsafe { ExReleaseFastMutexUnsafe(self.mutex.get()) };
        result
    }

    fn held<Q>(&self, work: impl FnOnce(&mut T, &mut Apc<'_, R>) -> Q) -> Q {
        // SAFETY: the caller holds the mutex, so nobody else can reach the data.
        let data = unsafe { &mut *self.data.get() };
        work(data, &mut Apc::inside())
    }
}

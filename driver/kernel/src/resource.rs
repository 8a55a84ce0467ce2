//! Executive resources: many readers or one writer (page "Introduction to `ERESOURCE` Routines").
#![expect(unsafe_code, reason = "the resource gives access to its data")]
use core::cell::UnsafeCell;
use core::marker::PhantomData;

use wdk_sys::ERESOURCE;
use wdk_sys::ntddk::{
    ExAcquireResourceExclusiveLite, ExAcquireResourceSharedLite, ExDeleteResourceLite,
    ExInitializeResourceLite, ExReleaseResourceLite,
};

use crate::pool::{OutOfMemory, PoolBox, Tag};
use crate::rank::{After, Leaf};
use crate::region::Critical;

/// `TRUE`: wait for the resource.
const WAIT: u8 = 1;

/// Data behind an executive resource. It is taken in a critical region only: the token for that is what
/// [`crate::irql::Passive::critical_region`] gives out. A thread may take a resource again by the kernel's rules;
/// by rank it may not, since that would give it the data twice.
///
/// # Invariants
/// `data` is shared while `object` is held shared, and changed only while it is held exclusively.
pub struct Resource<T, R = Leaf> {
    object: PoolBox<UnsafeCell<ERESOURCE>>,
    data: UnsafeCell<T>,
    rank: PhantomData<fn() -> R>,
}

// SAFETY: the data is shared between readers, or with one writer.
unsafe impl<T: Send + Sync, R> Sync for Resource<T, R> {}
// SAFETY: a free resource is not tied to a thread, and one that is held is borrowed.
unsafe impl<T: Send, R> Send for Resource<T, R> {}

impl<T, R> Resource<T, R> {
    /// A free resource, deleted when dropped.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`, and so is dropping it.
    pub fn new(data: T, tag: Tag) -> Result<Self, OutOfMemory> {
        let resource = PoolBox::new(UnsafeCell::new(ERESOURCE::default()), tag)?;
        // SAFETY: the object is nonpaged, stays in place, and is not in use.
        let status = unsafe { ExInitializeResourceLite(resource.get()) };
        debug_assert!(status == 0, "ExInitializeResourceLite always succeeds");
        Ok(Self { object: resource, data: UnsafeCell::new(data), rank: PhantomData })
    }

    /// Runs `work` with the data, with other readers, when no writer has it.
    pub fn read<Held, Q>(
        &self,
        _region: &mut Critical<'_, Held>,
        work: impl FnOnce(&T, &mut Critical<'_, R>) -> Q,
    ) -> Q
    where
        R: After<Held>,
    {
        // SAFETY: the token shows a critical region, and that this thread does not hold the resource.
        unsafe { ExAcquireResourceSharedLite(self.object.get(), WAIT) };
        // SAFETY: the resource is held shared, so nobody changes the data.
        let data = unsafe { &*self.data.get() };
        // SAFETY: the caller's region goes on until this returns.
        let mut inside = unsafe { Critical::inside() };
        let result = work(data, &mut inside);
        // SAFETY: taken above, by this thread.
        unsafe { ExReleaseResourceLite(self.object.get()) };
        result
    }

    /// Runs `work` with the data alone.
    pub fn write<Held, Q>(
        &self,
        _region: &mut Critical<'_, Held>,
        work: impl FnOnce(&mut T, &mut Critical<'_, R>) -> Q,
    ) -> Q
    where
        R: After<Held>,
    {
        // SAFETY: the token shows a critical region, and that this thread does not hold the resource.
        unsafe { ExAcquireResourceExclusiveLite(self.object.get(), WAIT) };
        // SAFETY: the resource is held exclusively, so nobody else can reach the data.
        let data = unsafe { &mut *self.data.get() };
        // SAFETY: the caller's region goes on until this returns.
        let mut inside = unsafe { Critical::inside() };
        let result = work(data, &mut inside);
        // SAFETY: taken above, by this thread.
        unsafe { ExReleaseResourceLite(self.object.get()) };
        result
    }
}

impl<T, R> Drop for Resource<T, R> {
    fn drop(&mut self) {
        // SAFETY: whoever holds the resource borrows it, so it is free; it is not used again.
        let _ = unsafe { ExDeleteResourceLite(self.object.get()) };
    }
}

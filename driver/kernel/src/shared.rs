//! Reference-counted values in nonpaged pool.
#![expect(unsafe_code, reason = "shares pool memory by count")]
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering, fence};

use crate::pool::{OutOfMemory, PoolBox, Tag};

struct Counted<T> {
    references: AtomicU32,
    tag: Tag,
    value: T,
}

/// A value that lives until its last reference is dropped. Like `Arc`, but made fallibly and with a tag.
pub struct Shared<T>(NonNull<Counted<T>>);

// SAFETY: references are counted atomically; the value is shared between threads.
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// Moves `value` into the pool, with one reference.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`, and so is dropping a reference.
    pub fn new(value: T, tag: Tag) -> Result<Self, OutOfMemory> {
        let counted = PoolBox::new(Counted { references: AtomicU32::new(1), tag, value }, tag)?.into_raw();
        // SAFETY: a box is never null.
        Ok(Self(unsafe { NonNull::new_unchecked(counted) }))
    }

    /// The value's address, for a context that the system keeps while something else keeps the value.
    pub fn address(&self) -> *mut T {
        let value: *const T = &raw const **self;
        value.cast_mut()
    }

    /// Whether `part` lies inside the value.
    pub fn contains<P>(&self, part: &P) -> bool {
        let start = self.address().addr();
        let at = (&raw const *part).addr();
        at >= start && at + size_of::<P>() <= start + size_of::<T>()
    }

    /// A reference that is not counted, for a callback whose caller keeps the value.
    ///
    /// # Safety
    /// `value` is the address of a shared value that lives longer than what is returned.
    pub unsafe fn borrow(value: *const T) -> ManuallyDrop<Self> {
        // SAFETY: as promised by the caller; the reference is never given back.
        ManuallyDrop::new(unsafe { Self::from_raw(value) })
    }

    /// The value's address, for a context that the system keeps; the reference goes with it.
    pub fn into_raw(self) -> *const T {
        let value: *const T = &raw const *self;
        core::mem::forget(self);
        value
    }

    /// Takes a reference back that [`Shared::into_raw`] gave up.
    ///
    /// # Safety
    /// `value` came from `into_raw`, and that reference was not taken back before.
    pub unsafe fn from_raw(value: *const T) -> Self {
        let offset = core::mem::offset_of!(Counted<T>, value);
        // SAFETY: the value lies `offset` bytes into its allocation.
        let counted = unsafe { value.byte_sub(offset) }.cast_mut().cast();
        // SAFETY: `into_raw` returns no null pointer.
        Self(unsafe { NonNull::new_unchecked(counted) })
    }

    /// Whether both refer to one value.
    pub fn same(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    fn counted(&self) -> &Counted<T> {
        // SAFETY: this reference keeps the allocation alive.
        unsafe { self.0.as_ref() }
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        self.counted().references.fetch_add(1, Ordering::Relaxed);
        Self(self.0)
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.counted().value
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let tag = self.counted().tag;
        if self.counted().references.fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire);
            // SAFETY: that was the last reference, and `new` made the value as a box with this tag.
            drop(unsafe { PoolBox::from_raw(self.0, tag) });
        }
    }
}

/// A reference that is not counted, to a value that something borrowed keeps.
pub struct Kept<'a, T>(ManuallyDrop<Shared<T>>, PhantomData<&'a T>);

impl<T> Deref for Kept<'_, T> {
    type Target = Shared<T>;
    fn deref(&self) -> &Shared<T> {
        &self.0
    }
}

/// A place for a reference that is filled once, and read without a lock.
///
/// # Invariants
/// The pointer is null, or a reference given up by [`Shared::into_raw`], and it changes once.
pub struct OnceShared<T>(AtomicPtr<T>);

impl<T> OnceShared<T> {
    /// An empty place.
    pub const fn new() -> Self {
        Self(AtomicPtr::new(core::ptr::null_mut()))
    }

    /// Fills the place; false if it is filled already.
    pub fn set(&self, value: Shared<T>) -> bool {
        let raw = value.into_raw().cast_mut();
        if self.0.compare_exchange(core::ptr::null_mut(), raw, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            return true;
        }
        // SAFETY: the reference was given up above and did not stay.
        drop(unsafe { Shared::from_raw(raw) });
        false
    }

    /// What is there.
    pub fn get(&self) -> Option<Kept<'_, T>> {
        let raw = self.0.load(Ordering::Acquire);
        // SAFETY: the place's own reference keeps the value, and what is returned borrows the place.
        (!raw.is_null()).then(|| Kept(unsafe { Shared::borrow(raw) }, PhantomData))
    }
}

impl<T> Default for OnceShared<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for OnceShared<T> {
    fn drop(&mut self) {
        let raw = *self.0.get_mut();
        if !raw.is_null() {
            // SAFETY: the place's own reference is given back, once.
            drop(unsafe { Shared::from_raw(raw) });
        }
    }
}

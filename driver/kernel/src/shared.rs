//! Reference-counted values in nonpaged pool.
#![expect(unsafe_code, reason = "shares pool memory by count")]
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering, fence};

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

//! Pool: fallible boxes and slices with a tag (page "`ExAllocatePool2`").
#![expect(unsafe_code, reason = "owns pool memory")]
use core::mem::{align_of, size_of};
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use wdk_sys::ntddk::{ExAllocatePool2, ExFreePoolWithTag};

use crate::irql::MayWait;

/// Pool tag, as it is read in `!poolused`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(u32);

impl Tag {
    /// A tag of four characters.
    pub const fn new(text: [u8; 4]) -> Self {
        Self(u32::from_le_bytes(text))
    }

    /// The value that kernel functions take.
    pub const fn value(self) -> u32 {
        self.0
    }
}

/// Memory ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory;

/// `POOL_FLAG_NON_PAGED`.
const NON_PAGED: u64 = 0x40;
/// `POOL_FLAG_PAGED`.
const PAGED: u64 = 0x100;
/// Pool blocks of up to a page are aligned to this, larger ones to a page.
const POOL_ALIGNMENT: usize = 16;
/// Size of a page.
const PAGE: usize = 4096;

/// Allocates zeroed memory, aligned to a page at most.
///
/// # IRQL
/// Up to `DISPATCH_LEVEL` for nonpaged pool, up to `APC_LEVEL` for paged pool.
fn allocate(flags: u64, bytes: usize, align: usize, tag: Tag) -> Result<NonNull<u8>, OutOfMemory> {
    assert_irql!(<= crate::irql::DISPATCH_LEVEL);
    // A block of a page or more starts on a page: alignment above 16 is had by asking for at least that.
    let bytes = if align > POOL_ALIGNMENT { bytes.max(PAGE) } else { bytes.max(1) };
    // SAFETY: the level is at most DISPATCH_LEVEL, the size is not zero, the tag has four characters.
    let memory = unsafe { ExAllocatePool2(flags, bytes as u64, tag.value()) };
    NonNull::new(memory.cast()).ok_or(OutOfMemory)
}

/// Frees what [`allocate`] returned.
///
/// # Safety
/// `memory` came from `allocate` with this tag, and nothing refers to it.
unsafe fn free(memory: NonNull<u8>, tag: Tag) {
    // SAFETY: as promised by the caller.
    unsafe { ExFreePoolWithTag(memory.as_ptr().cast(), tag.value()) };
}

/// One value in nonpaged pool.
#[derive(Debug)]
pub struct PoolBox<T> {
    value: NonNull<T>,
    tag: Tag,
}

// SAFETY: a box owns its value, as a `Box` does.
unsafe impl<T: Send> Send for PoolBox<T> {}
// SAFETY: a shared box gives shared access to its value.
unsafe impl<T: Sync> Sync for PoolBox<T> {}

impl<T> PoolBox<T> {
    /// Moves `value` into the pool.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`, and so is dropping the box.
    pub fn new(value: T, tag: Tag) -> Result<Self, OutOfMemory> {
        const { assert!(align_of::<T>() <= PAGE) };
        let memory = allocate(NON_PAGED, size_of::<T>(), align_of::<T>(), tag)?.cast::<T>();
        // SAFETY: the memory has the size and the alignment of T, and nobody else knows it.
        unsafe { memory.write(value) };
        Ok(Self { value: memory, tag })
    }

    /// Gives the value up as a pointer, for a context that the system keeps.
    pub fn into_raw(self) -> *mut T {
        let value = self.value.as_ptr();
        core::mem::forget(self);
        value
    }

    /// Takes back what [`PoolBox::into_raw`] gave up.
    ///
    /// # Safety
    /// `value` came from `into_raw` of a box with this tag and was not taken back before.
    pub unsafe fn from_raw(value: NonNull<T>, tag: Tag) -> Self {
        Self { value, tag }
    }
}

impl<T> Deref for PoolBox<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the box owns an initialised value.
        unsafe { self.value.as_ref() }
    }
}

impl<T> DerefMut for PoolBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the box owns an initialised value and is borrowed mutably.
        unsafe { self.value.as_mut() }
    }
}

impl<T> Drop for PoolBox<T> {
    fn drop(&mut self) {
        // SAFETY: the value is initialised and not used again.
        unsafe { self.value.drop_in_place() };
        // SAFETY: the memory came from `allocate` with this tag.
        unsafe { free(self.value.cast(), self.tag) };
    }
}

/// One value in paged pool: it may be on disk, so it is only reached with a token that shows that code may wait
/// for it, and the reference borrows that token: it cannot be kept until the level is raised.
#[derive(Debug)]
pub struct PagedBox<T> {
    value: NonNull<T>,
    tag: Tag,
}

// SAFETY: a box owns its value, as a `Box` does.
unsafe impl<T: Send> Send for PagedBox<T> {}
// SAFETY: a shared box gives shared access to its value.
unsafe impl<T: Sync> Sync for PagedBox<T> {}

impl<T> PagedBox<T> {
    /// Moves `value` into paged pool. Values that need to be dropped are refused by the compiler: dropping would
    /// touch them, and nobody knows at which level.
    pub fn new(_level: &impl MayWait, value: T, tag: Tag) -> Result<Self, OutOfMemory>
    where
        T: Copy,
    {
        const { assert!(align_of::<T>() <= PAGE) };
        let memory = allocate(PAGED, size_of::<T>(), align_of::<T>(), tag)?.cast::<T>();
        // SAFETY: the memory has the size and the alignment of T, nobody else knows it, and the token shows a level
        // at which it may be paged in.
        unsafe { memory.write(value) };
        Ok(Self { value: memory, tag })
    }

    /// The value.
    pub fn get<'a>(&'a self, _level: &'a impl MayWait) -> &'a T {
        // SAFETY: the box owns an initialised value; it may be paged in while the token is borrowed.
        unsafe { self.value.as_ref() }
    }

    /// The value, to be changed.
    pub fn get_mut<'a>(&'a mut self, _level: &'a impl MayWait) -> &'a mut T {
        // SAFETY: as for `get`, and the box is borrowed mutably.
        unsafe { self.value.as_mut() }
    }

    /// Frees the value.
    pub fn free(self, _level: &impl MayWait) {
        // SAFETY: the memory came from `allocate` with this tag and is not used again; paged pool is freed up to
        // APC_LEVEL, which the token shows.
        unsafe { free(self.value.cast(), self.tag) };
    }
}

/// A slice in nonpaged pool.
#[derive(Debug)]
pub struct PoolSlice<T> {
    first: NonNull<T>,
    length: usize,
    tag: Tag,
}

// SAFETY: a slice owns its values, as a `Box<[T]>` does.
unsafe impl<T: Send> Send for PoolSlice<T> {}
// SAFETY: a shared slice gives shared access to its values.
unsafe impl<T: Sync> Sync for PoolSlice<T> {}

impl<T> PoolSlice<T> {
    /// `length` values, made by `make` from their index.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`, and so is dropping the slice.
    pub fn new(length: usize, tag: Tag, mut make: impl FnMut(usize) -> T) -> Result<Self, OutOfMemory> {
        const { assert!(align_of::<T>() <= PAGE) };
        let bytes = size_of::<T>().checked_mul(length).ok_or(OutOfMemory)?;
        let first = allocate(NON_PAGED, bytes, align_of::<T>(), tag)?.cast::<T>();
        for index in 0..length {
            // SAFETY: `index` lies inside the allocation.
            let place = unsafe { first.add(index) };
            // SAFETY: the place is aligned for T and nobody else knows it.
            unsafe { place.write(make(index)) };
        }
        Ok(Self { first, length, tag })
    }
}

impl<T> AsRef<[T]> for PoolSlice<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T> Deref for PoolSlice<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: the slice owns `length` initialised values.
        unsafe { core::slice::from_raw_parts(self.first.as_ptr(), self.length) }
    }
}

impl<T> DerefMut for PoolSlice<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: the slice owns `length` initialised values and is borrowed mutably.
        unsafe { core::slice::from_raw_parts_mut(self.first.as_ptr(), self.length) }
    }
}

impl<T> Drop for PoolSlice<T> {
    fn drop(&mut self) {
        let values: *mut [T] = &raw mut **self;
        // SAFETY: the values are initialised and not used again.
        unsafe { values.drop_in_place() };
        // SAFETY: the memory came from `allocate` with this tag.
        unsafe { free(self.first.cast(), self.tag) };
    }
}

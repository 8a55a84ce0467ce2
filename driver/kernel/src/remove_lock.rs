//! Remove locks (page "Using Remove Locks").
#![expect(unsafe_code, reason = "the kernel counts through a pointer")]
use core::cell::UnsafeCell;

use wdk_sys::ntddk::{
    IoAcquireRemoveLockEx, IoInitializeRemoveLockEx, IoReleaseRemoveLockAndWaitEx, IoReleaseRemoveLockEx,
};
use wdk_sys::{IO_REMOVE_LOCK, STATUS_SUCCESS};

use crate::irql::Passive;
use crate::pool::{OutOfMemory, PoolBox, Tag};

/// What free builds of `IO_REMOVE_LOCK` are told of their size.
const LENGTH: u32 = size_of::<IO_REMOVE_LOCK>() as u32;

/// Keeps a device from being removed while somebody uses it.
pub struct RemoveLock {
    lock: PoolBox<UnsafeCell<IO_REMOVE_LOCK>>,
}

// SAFETY: the kernel's functions change the lock atomically.
unsafe impl Sync for RemoveLock {}
// SAFETY: the lock is not tied to a thread.
unsafe impl Send for RemoveLock {}

impl RemoveLock {
    /// A lock that admits.
    pub fn new(_passive: &Passive<'_>, tag: Tag) -> Result<Self, OutOfMemory> {
        let lock = PoolBox::new(UnsafeCell::new(IO_REMOVE_LOCK::default()), tag)?;
        // SAFETY: the object is nonpaged, stays in place, and is not in use; the token shows PASSIVE_LEVEL.
        unsafe { IoInitializeRemoveLockEx(lock.get(), tag.value(), 0, 0, LENGTH) };
        Ok(Self { lock })
    }

    /// Runs `work` while the device cannot be removed, or not at all if it is being removed. Use and release
    /// come in pairs, with one tag.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`.
    pub fn enter<R>(&self, work: impl FnOnce() -> R) -> Option<R> {
        let tag = self.lock.get().cast();
        // SAFETY: `new` initialised the lock; the file name is only kept by checked builds.
        let status = unsafe { IoAcquireRemoveLockEx(self.lock.get(), tag, c"".as_ptr().cast(), 0, LENGTH) };
        if status != STATUS_SUCCESS {
            return None;
        }
        let result = work();
        // SAFETY: acquired above, with this tag.
        unsafe { IoReleaseRemoveLockEx(self.lock.get(), tag, LENGTH) };
        Some(result)
    }

    /// Refuses everybody from now on, and waits until all that entered have left. Once; a second call finds
    /// nobody.
    pub fn remove(&self, _passive: &mut Passive<'_>) {
        let tag = self.lock.get().cast();
        // SAFETY: as for `enter`.
        let status = unsafe { IoAcquireRemoveLockEx(self.lock.get(), tag, c"".as_ptr().cast(), 0, LENGTH) };
        if status == STATUS_SUCCESS {
            // SAFETY: acquired above; the token shows PASSIVE_LEVEL, where waiting is allowed.
            unsafe { IoReleaseRemoveLockAndWaitEx(self.lock.get(), tag, LENGTH) };
        }
    }
}

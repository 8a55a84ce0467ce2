//! What a client's handle stands for: at most one module, bound once.
#![expect(
    unsafe_code,
    reason = "keeps a reference to the module as a pointer, so that reading it takes no lock"
)]
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, Ordering};

use sluice_kernel::pool::{OutOfMemory, PoolBox};
use sluice_kernel::shared::Shared;
use wdk_sys::FILE_OBJECT;

use crate::TAG;
use crate::module::Module;

/// Kept in the file object.
///
/// # Invariants
/// `module` is null, or a reference given up by `Shared::into_raw`; it is set once.
pub(crate) struct ClientHandle {
    module: AtomicPtr<Module>,
}

impl ClientHandle {
    /// Gives a new file object its handle.
    ///
    /// # Safety
    /// `file` is the file object of an `IRP_MJ_CREATE` that is being handled.
    pub(crate) unsafe fn open(file: *mut FILE_OBJECT) -> Result<(), OutOfMemory> {
        let handle = PoolBox::new(Self { module: AtomicPtr::new(null_mut()) }, TAG)?;
        // SAFETY: the file object is this driver's to fill in.
        unsafe { (*file).FsContext = handle.into_raw().cast() };
        Ok(())
    }

    /// The handle of a file object.
    ///
    /// # Safety
    /// `file` was opened, and is not closed before the reference ends.
    pub(crate) unsafe fn of<'a>(file: *mut FILE_OBJECT) -> Option<&'a Self> {
        // SAFETY: `open` filled the context in.
        let context = unsafe { (*file).FsContext };
        // SAFETY: the context lives until `close`.
        unsafe { context.cast::<Self>().as_ref() }
    }

    /// Ends a handle, and its hold on its module.
    ///
    /// # Safety
    /// `file` is the file object of an `IRP_MJ_CLOSE` that is being handled.
    pub(crate) unsafe fn close(file: *mut FILE_OBJECT) {
        // SAFETY: `open` filled the context in.
        let context = unsafe { core::mem::replace(&mut (*file).FsContext, null_mut()) };
        let Some(handle) = NonNull::new(context.cast::<Self>()) else { return };
        // SAFETY: `open` made the context as a box with this tag; nobody uses the handle any more.
        let handle = unsafe { PoolBox::from_raw(handle, TAG) };
        let module = handle.module.load(Ordering::Acquire);
        if !module.is_null() {
            // SAFETY: the reference was given up by `bind`.
            let module = unsafe { Shared::from_raw(module) };
            module.handle_closed();
        }
    }

    /// The module, if the handle is bound.
    pub(crate) fn module(&self) -> Option<&Module> {
        // SAFETY: the handle's reference keeps the module until the handle is closed.
        unsafe { self.module.load(Ordering::Acquire).as_ref() }
    }

    /// Binds the handle; false if it is bound already.
    pub(crate) fn bind(&self, module: Shared<Module>) -> bool {
        let raw = module.into_raw().cast_mut();
        if self.module.compare_exchange(null_mut(), raw, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            return true;
        }
        // SAFETY: the reference was given up above and did not stay.
        drop(unsafe { Shared::from_raw(raw) });
        false
    }
}

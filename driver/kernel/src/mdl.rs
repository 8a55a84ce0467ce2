//! Memory descriptor lists over nonpaged memory (page "Using MDLs").
#![expect(unsafe_code, reason = "describes memory by its address")]
use core::marker::PhantomData;
use core::ptr::NonNull;

use wdk_sys::MDL;
use wdk_sys::ntddk::{IoAllocateMdl, IoFreeMdl, MmBuildMdlForNonPagedPool};

use crate::pool::{OutOfMemory, PoolSlice};

/// An MDL over a slice in nonpaged pool, which it borrows: the memory cannot be freed while it is described.
pub struct Mdl<'memory> {
    mdl: NonNull<MDL>,
    memory: PhantomData<&'memory [u8]>,
}

// SAFETY: an MDL is not tied to a thread.
unsafe impl Send for Mdl<'_> {}

impl<'memory> Mdl<'memory> {
    /// Describes `memory`.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`, and so is dropping it.
    pub fn over(memory: &'memory PoolSlice<u8>) -> Result<Self, OutOfMemory> {
        let address = memory.as_ptr().cast_mut().cast();
        // SAFETY: the memory is nonpaged and borrowed for as long as the MDL lives.
        let mdl = unsafe { IoAllocateMdl(address, memory.len() as u32, 0, 0, core::ptr::null_mut()) };
        let mdl = NonNull::new(mdl).ok_or(OutOfMemory)?;
        // SAFETY: the MDL was just allocated, over nonpaged pool.
        unsafe { MmBuildMdlForNonPagedPool(mdl.as_ptr()) };
        Ok(Self { mdl, memory: PhantomData })
    }

    /// Bytes that it describes.
    pub fn length(&self) -> usize {
        // SAFETY: the MDL is alive.
        unsafe { self.mdl.as_ref() }.ByteCount as usize
    }
}

impl Drop for Mdl<'_> {
    fn drop(&mut self) {
        // SAFETY: the MDL was allocated by `over`; memory of nonpaged pool was never locked or mapped by it.
        unsafe { IoFreeMdl(self.mdl.as_ptr()) };
    }
}

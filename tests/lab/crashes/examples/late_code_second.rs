//! The second of two images that import from each other (third document: `netio.sys`), loaded as an import of the first.
//!
//! The loader enters an image into its list, then loads what it imports from, and only then makes its sections resident.
//! So when the first image is loaded, this one comes in between: its own imports are filled from the first image's
//! export table, its sections are made resident, and its `DllInitialize` is called, while the first image's sections
//! still are not. It takes the first image's lock, whose page is fetched since the IRQL is `PASSIVE_LEVEL`; the lock
//! raises the IRQL; and the release lies in a page that is not there: 0xD1 with 8, at the address of the release
//! function itself. Loaded in the other order, this image first, nothing happens.
#![no_std]

use core::ffi::c_void;

use sluice_kernel::irql::Passive;
use wdk_sys::{NTSTATUS, PCUNICODE_STRING};

#[link(name = "late_code_first.sys", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    fn lab_allocate_lock() -> *mut c_void;
    fn lab_free_lock(lock: *mut c_void);
    fn lab_acquire_lock_write(lock: *mut c_void);
    fn lab_release_lock(lock: *mut c_void);
}

lab::crash!(start, safe_start);

/// Called by the loader, before whoever imports this image is there.
///
/// # Safety
/// Called by the system.
#[unsafe(export_name = "DllInitialize")]
pub unsafe extern "system" fn dll_initialize(_path: PCUNICODE_STRING) -> NTSTATUS {
    unsafe {
        let lock = lab_allocate_lock();
        lab_acquire_lock_write(lock);
        lab_release_lock(lock);
        lab_free_lock(lock);
    }
    0
}

/// What the first image imports.
#[unsafe(no_mangle)]
pub extern "system" fn second_version() -> u32 {
    1
}

unsafe fn start() {}

fn safe_start(_passive: &mut Passive<'_>) -> NTSTATUS {
    0
}

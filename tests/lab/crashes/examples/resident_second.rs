//! The safe pattern for `late_code_second.rs`: no work in `DllInitialize`.
#![no_std]

use core::ffi::c_void;

use sluice_kernel::irql::Passive;
use wdk_sys::{NTSTATUS, PCUNICODE_STRING};

#[link(name = "resident_first.sys", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    fn lab_allocate_lock() -> *mut c_void;
    fn lab_free_lock(lock: *mut c_void);
    fn lab_acquire_lock_write(lock: *mut c_void);
    fn lab_release_lock(lock: *mut c_void);
}

lab::crash!(start, safe_start);

/// Called by the loader: there is nothing that it could safely do.
///
/// # Safety
/// Called by the system.
#[unsafe(export_name = "DllInitialize")]
pub unsafe extern "system" fn dll_initialize(_path: PCUNICODE_STRING) -> NTSTATUS {
    0
}

/// What `DllInitialize` would have done, when it is needed.
#[unsafe(no_mangle)]
pub extern "system" fn second_prepare() {
    unsafe {
        let lock = lab_allocate_lock();
        lab_acquire_lock_write(lock);
        lab_release_lock(lock);
        lab_free_lock(lock);
    }
}

unsafe fn start() {}

fn safe_start(_passive: &mut Passive<'_>) -> NTSTATUS {
    0
}

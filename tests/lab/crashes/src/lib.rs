//! What the crashes of the lab share: how a driver is entered, threads, and how a result is shown.
//!
//! Each crash is one file in `examples/`, and one `.sys`: first the wrong pattern, as the document has it, with the
//! kernel's own functions; then the safe one, with `sluice-kernel`. Which of them runs is decided by the service's
//! name: one that ends in `-safe` runs the safe pattern. So on a real Windows, in a virtual machine that may crash:
//!
//! ```text
//! sc create lab-safe type= kernel binPath= C:\lab\paged_read.sys
//! sc start lab-safe
//! sc create lab type= kernel binPath= C:\lab\paged_read.sys
//! sc start lab
//! ```
#![no_std]

extern crate wdk_panic;

use core::ffi::c_void;
use core::ptr::{NonNull, null_mut};

use sluice_kernel::irql::Passive;
use sluice_kernel::pool::{PoolBox, Tag};
use sluice_kernel::shared::Shared;
use sluice_kernel::text::utf16;
use wdk_sys::ntddk::{
    DbgPrint, KeWaitForSingleObject, ObReferenceObjectByHandle, ObfDereferenceObject, PsCreateSystemThread,
    ZwClose,
};
use wdk_sys::{DRIVER_OBJECT, NTSTATUS, PCUNICODE_STRING, PKSTART_ROUTINE};

pub mod card;
pub mod filter;
pub mod raw;
pub mod receiver;
pub mod repaired;

/// Tag of what the lab allocates.
pub const TAG: Tag = Tag::new(*b"baLS");

/// What `DriverEntry` got.
pub struct Entry<'a> {
    /// The driver object.
    pub driver: &'a mut DRIVER_OBJECT,
    /// Whether the safe pattern is to be run.
    pub safe: bool,
}

impl<'a> Entry<'a> {
    /// Reads what the pattern is.
    ///
    /// # Safety
    /// The arguments are those of `DriverEntry`.
    pub unsafe fn new(driver: &'a mut DRIVER_OBJECT, path: PCUNICODE_STRING) -> Self {
        const SAFE: [u16; 6] = utf16("-safe");
        // SAFETY: the registry path is valid for the time of the call.
        let path = unsafe { &*path };
        // SAFETY: a counted string has `Length` bytes.
        let units = unsafe { core::slice::from_raw_parts(path.Buffer, usize::from(path.Length / 2)) };
        Self { driver, safe: units.ends_with(&SAFE[..SAFE.len() - 1]) }
    }
}

/// `DriverEntry` of a crash that happens while the driver loads: `crash!(wrong, safe)`. The driver unloads at once.
#[macro_export]
macro_rules! crash {
    ($wrong:path, $safe:path) => {
        /// `DriverEntry`.
        ///
        /// # Safety
        /// Called once, by the system.
        #[unsafe(export_name = "DriverEntry")]
        pub unsafe extern "system" fn driver_entry(
            driver: &mut wdk_sys::DRIVER_OBJECT,
            path: wdk_sys::PCUNICODE_STRING,
        ) -> wdk_sys::NTSTATUS {
            let entry = unsafe { $crate::Entry::new(driver, path) };
            entry.driver.DriverUnload = Some($crate::unload);
            if entry.safe {
                let mut passive = unsafe { sluice_kernel::irql::Passive::assume() };
                $safe(&mut passive)
            } else {
                unsafe { $wrong() };
                0
            }
        }
    };
}

/// An unload routine with nothing to do.
///
/// # Safety
/// Called by the system.
pub unsafe extern "C" fn unload(_driver: *mut DRIVER_OBJECT) {}

/// Starts a thread of the system; its handle.
///
/// # Safety
/// `routine` ends, and may be called with `context`.
pub unsafe fn start_thread(routine: PKSTART_ROUTINE, context: *mut c_void) -> *mut c_void {
    const ALL_ACCESS: u32 = 0x1F_FFFF;
    let mut handle = null_mut();
    let _ = unsafe {
        PsCreateSystemThread(
            &raw mut handle,
            ALL_ACCESS,
            null_mut(),
            null_mut(),
            null_mut(),
            routine,
            context,
        )
    };
    handle
}

/// Waits for the end of a thread.
///
/// # Safety
/// `handle` came from [`start_thread`], and the level is `PASSIVE_LEVEL`.
pub unsafe fn join(handle: *mut c_void) {
    let mut object = null_mut();
    let _ = unsafe { ObReferenceObjectByHandle(handle, 0, null_mut(), 0, &raw mut object, null_mut()) };
    let _ = unsafe { KeWaitForSingleObject(object, 0, 0, 0, null_mut()) };
    unsafe { ObfDereferenceObject(object) };
    let _ = unsafe { ZwClose(handle) };
}

/// What a thread of [`threads`] does.
pub type Job<T> = fn(&Shared<T>, &mut Passive<'_>);

struct Start<T> {
    state: Shared<T>,
    job: Job<T>,
}

unsafe extern "C" fn run<T: Send + Sync>(context: *mut c_void) {
    // SAFETY: threads of the system start at PASSIVE_LEVEL.
    let mut passive = unsafe { Passive::assume() };
    let Some(start) = NonNull::new(context.cast::<Start<T>>()) else { return };
    // SAFETY: `threads` gave the box up, for this thread.
    let start = unsafe { PoolBox::from_raw(start, TAG) };
    (start.job)(&start.state, &mut passive);
}

/// Runs each job on a thread of its own, with one state, and waits until all have ended.
pub fn threads<T: Send + Sync, const N: usize>(
    _passive: &mut Passive<'_>,
    state: &Shared<T>,
    jobs: [Job<T>; N],
) {
    let handles = jobs.map(|job| {
        let start = PoolBox::new(Start { state: state.clone(), job }, TAG).ok()?;
        // SAFETY: the routine takes what it is given, and ends when its job does.
        Some(unsafe { start_thread(Some(run::<T>), start.into_raw().cast()) })
    });
    for handle in handles.into_iter().flatten() {
        // SAFETY: started above; the caller's token shows PASSIVE_LEVEL.
        unsafe { join(handle) };
    }
}

/// Shows two numbers of a result, in the kernel debugger.
pub fn show(format: &core::ffi::CStr, first: u64, second: u64) {
    // SAFETY: the format takes two numbers of 64 bits.
    unsafe { DbgPrint(format.as_ptr().cast(), first, second) };
}

/// `STATUS_INSUFFICIENT_RESOURCES`, for what ran out of memory.
pub const NO_MEMORY: NTSTATUS = wdk_sys::STATUS_INSUFFICIENT_RESOURCES;

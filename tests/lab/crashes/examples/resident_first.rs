//! The safe pattern for `late_code_first.rs`: the same two images, but the second does nothing while it is loaded. What it
//! has to prepare it prepares when it is first called, by then from an image that is resident. (Sluice has no
//! `DllInitialize`, exports nothing, and imports from the kernel and from NDIS only: `cargo xtask build` rejects an
//! image that does otherwise.)
#![no_std]

#[path = "late/lock.rs"]
mod lock;

use sluice_kernel::irql::Passive;
use wdk_sys::NTSTATUS;

#[link(name = "resident_second.sys", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    fn second_prepare();
}

lab::crash!(start, safe_start);

unsafe fn start() {}

/// The first use, from `DriverEntry`: both images are there.
fn safe_start(_passive: &mut Passive<'_>) -> NTSTATUS {
    unsafe { second_prepare() };
    0
}

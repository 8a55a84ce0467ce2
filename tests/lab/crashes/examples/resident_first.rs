//! The safe pattern for `late_code_first.rs`: the same two images, but the second does nothing while it is loaded. What it
//! has to prepare it prepares when it is first called, by then from an image that is resident. (Sluice has no
//! `DllInitialize`, exports nothing, and imports from the kernel and from NDIS only: `cargo xtask build` rejects an
//! image that does otherwise.)
#![no_std]

use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering::SeqCst};

use lab::raw;
use sluice_kernel::irql::Passive;
use wdk_sys::NTSTATUS;
use wdk_sys::ntddk::{KeLowerIrql, KfRaiseIrql};

#[link(name = "resident_second.sys", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    fn second_prepare();
}

lab::crash!(start, safe_start);

/// The lock: in nonpaged pool, so that only the code can be missing.
#[repr(C)]
pub struct Lock {
    owners: AtomicUsize,
    level: AtomicU8,
}

/// `NdisAllocateRWLock`.
#[unsafe(no_mangle)]
pub extern "system" fn lab_allocate_lock() -> *mut Lock {
    unsafe { raw::nonpaged() }
}

/// `NdisFreeRWLock`.
///
/// # Safety
/// The lock is free.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn lab_free_lock(lock: *mut Lock) {
    unsafe { raw::free(lock) };
}

/// Takes the lock.
#[unsafe(no_mangle)]
pub extern "system" fn lab_acquire_lock_write(lock: &Lock) {
    let level = unsafe { KfRaiseIrql(2) };
    while lock.owners.compare_exchange(0, 1, SeqCst, SeqCst).is_err() {}
    lock.level.store(level, SeqCst);
}

core::arch::global_asm!(
    ".section .text$y,\"xr\"",
    ".p2align 12",
    ".skip 8192, 0xCC",
    // The linker's stubs for imports follow, and are called at any time.
    ".section .text$zz,\"xr\"",
    ".p2align 12",
    ".skip 4096, 0xCC",
    ".text"
);

/// Releases the lock.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text$z")]
pub extern "system" fn lab_release_lock(lock: &Lock) {
    lock.owners.store(0, SeqCst);
    unsafe { KeLowerIrql(lock.level.load(SeqCst)) };
}

unsafe fn start() {}

/// The first use, from `DriverEntry`: both images are there.
fn safe_start(_passive: &mut Passive<'_>) -> NTSTATUS {
    unsafe { second_prepare() };
    0
}

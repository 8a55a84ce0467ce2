//! The lock that the first image exports: `NdisAllocateRWLock` and its kin, with the release on a page of its own.
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering::SeqCst};

use lab::raw;
use wdk_sys::ntddk::{KeLowerIrql, KfRaiseIrql};

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

/// Takes the lock, and raises the IRQL: `NdisAcquireRWLockWrite`. At `PASSIVE_LEVEL` the page that this lies in is
/// fetched if it is not there.
#[unsafe(no_mangle)]
pub extern "system" fn lab_acquire_lock_write(lock: &Lock) {
    let level = unsafe { KfRaiseIrql(2) };
    while lock.owners.compare_exchange(0, 1, SeqCst, SeqCst).is_err() {}
    lock.level.store(level, SeqCst);
}

// In the document both functions lie near each other, but not in one page; if they did, the page would have come with the
// first call, and nobody would have noticed.
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

/// Releases the lock: `NdisReleaseRWLock`. By now the IRQL is `DISPATCH_LEVEL`, and a page that is not there cannot be
/// fetched.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text$z")]
pub extern "system" fn lab_release_lock(lock: &Lock) {
    lock.owners.store(0, SeqCst);
    unsafe { KeLowerIrql(lock.level.load(SeqCst)) };
}

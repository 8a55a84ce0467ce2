//! The safe pattern for `late_code_first.rs`: the same two images, but the second does nothing while it is loaded. What it
//! has to prepare it prepares when it is first called, by then from an image that is resident. (Sluice has no
//! `DllInitialize`, exports nothing, and imports from the kernel and from NDIS only: `cargo xtask build` rejects an
//! image that does otherwise.)
#![no_std]

use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering::SeqCst};

use sluice_kernel::irql::Passive;
use wdk_sys::NTSTATUS;
use wdk_sys::ntddk::{KeLowerIrql, KfRaiseIrql};

#[link(name = "resident_second.sys", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    fn second_prepare();
}

lab::crash!(start, safe_start);

static OWNERS: AtomicUsize = AtomicUsize::new(0);
static LEVEL: AtomicU8 = AtomicU8::new(0);

/// Takes the lock.
#[unsafe(no_mangle)]
pub extern "system" fn lab_acquire_lock_write() {
    let level = unsafe { KfRaiseIrql(2) };
    while OWNERS.compare_exchange(0, 1, SeqCst, SeqCst).is_err() {}
    LEVEL.store(level, SeqCst);
}

core::arch::global_asm!(".section .text$y,\"xr\"", ".p2align 12", ".skip 8192, 0xCC", ".text");

/// Releases the lock.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text$z")]
pub extern "system" fn lab_release_lock() {
    OWNERS.store(0, SeqCst);
    unsafe { KeLowerIrql(LEVEL.load(SeqCst)) };
}

unsafe fn start() {}

/// The first use, from `DriverEntry`: both images are there.
fn safe_start(_passive: &mut Passive<'_>) -> NTSTATUS {
    unsafe { second_prepare() };
    0
}

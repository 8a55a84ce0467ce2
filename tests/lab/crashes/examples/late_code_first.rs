//! The first of two images that import from each other (third document: `ndis.sys`). It exports a reader-writer lock, and
//! imports a function of the second. See `late_code_second.rs` for what goes wrong.
#![no_std]

#[path = "late/lock.rs"]
mod lock;

use sluice_kernel::irql::Passive;
use wdk_sys::NTSTATUS;

#[link(name = "late_code_second.sys", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    fn second_version() -> u32;
}

lab::crash!(start, safe_start);

unsafe fn start() {
    lab::show(c"second: version %llu, owners %llu", u64::from(unsafe { second_version() }), 0);
}

fn safe_start(_passive: &mut Passive<'_>) -> NTSTATUS {
    0
}

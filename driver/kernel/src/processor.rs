//! Processors.
#![expect(unsafe_code, reason = "asks the kernel")]
use wdk_sys::ntddk::{KeGetCurrentProcessorNumberEx, KeQueryMaximumProcessorCountEx};

/// `ALL_PROCESSOR_GROUPS`.
const ALL_GROUPS: u16 = 0xFFFF;

/// The processor that runs this code, counted over all groups. Below `DISPATCH_LEVEL` it may be another one
/// as soon as it is known.
pub fn current() -> u32 {
    // SAFETY: may be called at any level; the group is not asked for.
    unsafe { KeGetCurrentProcessorNumberEx(core::ptr::null_mut()) }
}

/// Processors that there may ever be, those added while running included.
pub fn maximum() -> u32 {
    // SAFETY: may be called at any level.
    unsafe { KeQueryMaximumProcessorCountEx(ALL_GROUPS) }.max(1)
}

//! The kernel stack (page "Using the Kernel Stack": 24 KiB on x64, and its end is a double fault).
#![expect(unsafe_code, reason = "asks the kernel where the stack lies")]
use wdk_sys::ntddk::IoGetStackLimits;

/// Bytes that are left of the current kernel stack (`IoGetRemainingStackSize`, which is inline in `wdm.h`). For
/// code whose depth is not bounded by its construction.
///
/// # IRQL
/// Up to `DISPATCH_LEVEL`.
pub fn remaining() -> usize {
    let (mut low, mut high) = (0, 0);
    // SAFETY: both are locals; the function only reads the thread's own limits.
    unsafe { IoGetStackLimits(&raw mut low, &raw mut high) };
    let here = (&raw const low).addr();
    here.saturating_sub(low as usize)
}

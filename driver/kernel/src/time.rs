//! Time (page "`KeQueryPerformanceCounter`").
#![expect(unsafe_code, reason = "asks the kernel")]
use wdk_sys::LARGE_INTEGER;
use wdk_sys::ntddk::KeQueryPerformanceCounter;

/// Microseconds since the system was started, for spans between two moments.
///
/// # IRQL
/// Any.
pub fn microseconds() -> u64 {
    let mut frequency = LARGE_INTEGER { QuadPart: 0 };
    // SAFETY: the frequency is a local.
    let ticks = unsafe { KeQueryPerformanceCounter(&raw mut frequency) };
    // SAFETY: all members of the union are the same eight bytes.
    let ticks = unsafe { ticks.QuadPart }.unsigned_abs();
    // SAFETY: as above.
    let frequency = unsafe { frequency.QuadPart }.unsigned_abs().max(1);
    ticks / frequency * 1_000_000 + ticks % frequency * 1_000_000 / frequency
}

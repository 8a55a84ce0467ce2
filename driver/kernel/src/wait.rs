//! Waiting for dispatcher objects (page "`KeWaitForSingleObject`").
#![expect(unsafe_code, reason = "waits through pointers")]
use core::ffi::c_void;

use wdk_sys::ntddk::{KeDelayExecutionThread, KeWaitForSingleObject};
use wdk_sys::{LARGE_INTEGER, STATUS_TIMEOUT};

use crate::irql::MayWait;

/// `KernelMode`: a driver's wait is not ended by its client.
const KERNEL_MODE: i8 = 0;
/// `Executive`: why a driver waits.
const EXECUTIVE: i32 = 0;

/// A span of time, in the units of 100 ns that the kernel counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout(i64);

impl Timeout {
    /// Milliseconds from now.
    pub const fn milliseconds(count: u32) -> Self {
        Self(count as i64 * 10_000)
    }

    /// Microseconds from now.
    pub const fn microseconds(count: u32) -> Self {
        Self(count as i64 * 10)
    }

    /// As the kernel wants it: relative times are negative.
    pub(crate) const fn relative(self) -> LARGE_INTEGER {
        LARGE_INTEGER { QuadPart: -self.0 }
    }
}

/// How a wait ended.
#[must_use = "a wait that timed out has not got what it waited for"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// The object was signalled.
    Signalled,
    /// The time was up.
    TimedOut,
}

/// Lets the thread sleep.
pub fn sleep(_level: &impl MayWait, time: Timeout) {
    let mut interval = time.relative();
    // SAFETY: the token shows that waiting is allowed; the interval is a local.
    let _ = unsafe { KeDelayExecutionThread(KERNEL_MODE, 0, &raw mut interval) };
}

/// Waits until an object is signalled.
///
/// # Safety
/// `object` is an initialised dispatcher object that lives until the wait ends.
pub(crate) unsafe fn forever(_level: &impl MayWait, object: *mut c_void) {
    assert_irql!(<= crate::irql::APC_LEVEL);
    // SAFETY: the caller vouches for the object; the token shows that waiting is allowed.
    let _ = unsafe { KeWaitForSingleObject(object, EXECUTIVE, KERNEL_MODE, 0, core::ptr::null_mut()) };
}

/// Waits until an object is signalled or the time is up.
///
/// # Safety
/// As for [`forever`].
pub(crate) unsafe fn until(_level: &impl MayWait, object: *mut c_void, time: Timeout) -> Waited {
    assert_irql!(<= crate::irql::APC_LEVEL);
    let mut timeout = time.relative();
    // SAFETY: as for `forever`; the timeout is a local.
    let status = unsafe { KeWaitForSingleObject(object, EXECUTIVE, KERNEL_MODE, 0, &raw mut timeout) };
    // A status is no Boolean: both of these count as success (`NT_SUCCESS`).
    if status == STATUS_TIMEOUT { Waited::TimedOut } else { Waited::Signalled }
}

/// Looks whether an object is signalled, and takes it if so, without waiting: allowed at `DISPATCH_LEVEL` too.
///
/// # Safety
/// `object` is an initialised dispatcher object.
pub(crate) unsafe fn poll(object: *mut c_void) -> Waited {
    let mut now = LARGE_INTEGER { QuadPart: 0 };
    // SAFETY: the caller vouches for the object; a timeout of zero never waits.
    let status = unsafe { KeWaitForSingleObject(object, EXECUTIVE, KERNEL_MODE, 0, &raw mut now) };
    if status == STATUS_TIMEOUT { Waited::TimedOut } else { Waited::Signalled }
}

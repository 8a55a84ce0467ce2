//! The driver on Windows, reached through its control device.
#![expect(unsafe_code, reason = "calls Win32")]
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::Arc;
use std::time::Duration;

use sluice_abi::WIN32_NAME;
use windows_sys::Win32::Foundation::{
    CloseHandle, ERROR_ACCESS_DENIED, ERROR_DEVICE_REMOVED, ERROR_FILE_NOT_FOUND, ERROR_INSUFFICIENT_BUFFER,
    ERROR_IO_PENDING, ERROR_NOT_FOUND, ERROR_OPERATION_ABORTED, ERROR_PATH_NOT_FOUND,
    ERROR_REVISION_MISMATCH, GENERIC_READ, GENERIC_WRITE, GetLastError, HANDLE, INVALID_HANDLE_VALUE,
    RtlNtStatusToDosError, WAIT_FAILED, WAIT_OBJECT_0,
};
use windows_sys::Win32::NetworkManagement::IpHelper::ConvertInterfaceLuidToAlias;
use windows_sys::Win32::NetworkManagement::Ndis::{IF_MAX_STRING_SIZE, NET_LUID_LH};
use windows_sys::Win32::Storage::FileSystem::{CreateFileW, FILE_FLAG_OVERLAPPED, OPEN_EXISTING};
use windows_sys::Win32::System::IO::{CancelIoEx, DeviceIoControl, GetOverlappedResult, OVERLAPPED};
use windows_sys::Win32::System::Threading::{CreateEventW, WaitForSingleObject};

use crate::Error;
use crate::device::{Device, Driver, Pending, Reply};
use crate::error::status;

/// The driver of this computer.
#[derive(Clone, Copy, Debug)]
pub struct Local;

/// A handle, closed when dropped.
struct Owned(HANDLE);

// SAFETY: a handle may be used from any thread.
unsafe impl Send for Owned {}
// SAFETY: as above.
unsafe impl Sync for Owned {}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the handle is open and not used again.
        unsafe { CloseHandle(self.0) };
    }
}

fn last_error() -> u32 {
    // SAFETY: reads the calling thread's own value.
    unsafe { GetLastError() }
}

/// Statuses of the driver that have a Win32 error of their own, besides those that are named below.
const OTHER_STATUSES: [u32; 6] =
    [status::INVALID_BUFFER_SIZE, 0xC000_0023, 0xC000_000D, 0xC000_0010, 0xC000_0184, 0xC000_009A];

/// The driver's status for a Win32 error, if only one has that error.
fn status_of(error: u32) -> Option<u32> {
    match error {
        ERROR_FILE_NOT_FOUND | ERROR_PATH_NOT_FOUND => Some(status::NAME_NOT_FOUND),
        ERROR_ACCESS_DENIED => Some(status::ACCESS_DENIED),
        ERROR_DEVICE_REMOVED => Some(status::DEVICE_REMOVED),
        ERROR_NOT_FOUND => Some(status::NOT_FOUND),
        ERROR_OPERATION_ABORTED => Some(status::CANCELLED),
        ERROR_REVISION_MISMATCH => Some(status::REVISION_MISMATCH),
        ERROR_INSUFFICIENT_BUFFER => Some(0xC000_0023),
        // SAFETY: a table lookup without side effects.
        other => OTHER_STATUSES
            .into_iter()
            .find(|status| unsafe { RtlNtStatusToDosError(*status as i32) } == other),
    }
}

/// The error for a Win32 error: the driver's status where it is known, and what Windows says otherwise.
fn error_of(error: u32) -> Error {
    match status_of(error) {
        Some(status) => Error::of_status(status),
        None => Error::System(std::io::Error::from_raw_os_error(error as i32)),
    }
}

/// The name that people know an interface by, such as "Ethernet".
pub(crate) fn alias(luid: u64) -> Option<String> {
    let luid = NET_LUID_LH { Value: luid };
    let mut name = [0u16; IF_MAX_STRING_SIZE as usize + 1];
    // SAFETY: the buffer has as many units as the call is told.
    let failed = unsafe { ConvertInterfaceLuidToAlias(&raw const luid, name.as_mut_ptr(), name.len()) };
    let length = name.iter().position(|unit| *unit == 0).unwrap_or(name.len());
    let name = String::from_utf16_lossy(name.get(..length).unwrap_or_default());
    (failed == 0 && !name.is_empty()).then_some(name)
}

impl Driver for Local {
    fn open(&self) -> Result<Box<dyn Device>, Error> {
        let name: Vec<u16> = WIN32_NAME.encode_utf16().chain([0]).collect();
        // SAFETY: the name is terminated; the other pointers are null.
        let handle = unsafe {
            CreateFileW(
                name.as_ptr(),
                GENERIC_READ | GENERIC_WRITE,
                0,
                null(),
                OPEN_EXISTING,
                FILE_FLAG_OVERLAPPED,
                null_mut(),
            )
        };
        if handle == INVALID_HANDLE_VALUE {
            return Err(error_of(last_error()));
        }
        Ok(Box::new(Open(Arc::new(Owned(handle)))))
    }
}

struct Open(Arc<Owned>);

/// A request with the memory that the system writes to until it has completed.
///
/// # Invariants
/// `overlapped` and `data` stay where they are, in their own allocations, while `under_way`.
struct Request {
    device: Arc<Owned>,
    event: Owned,
    overlapped: Box<OVERLAPPED>,
    data: Vec<u8>,
    under_way: bool,
    failed: Option<u32>,
    direct: bool,
}

impl Device for Open {
    fn start(&self, code: u32, input: Vec<u8>, mut data: Vec<u8>) -> Result<Box<dyn Pending>, Error> {
        // SAFETY: all pointers are null: a manual-reset event that is not set.
        let event = unsafe { CreateEventW(null(), 1, 0, null()) };
        if event.is_null() {
            return Err(error_of(last_error()));
        }
        let event = Owned(event);
        // SAFETY: all-zero is a valid OVERLAPPED.
        let mut overlapped: Box<OVERLAPPED> = Box::new(unsafe { std::mem::zeroed() });
        overlapped.hEvent = event.0;
        // SAFETY: the input is copied by the system before this returns, since both methods that the driver
        // uses buffer it; the output and the OVERLAPPED stay in place in the request.
        let done = unsafe {
            DeviceIoControl(
                self.0.0,
                code,
                input.as_ptr().cast::<c_void>(),
                input.len() as u32,
                data.as_mut_ptr().cast::<c_void>(),
                data.len() as u32,
                null_mut(),
                &raw mut *overlapped,
            )
        };
        let error = if done == 0 { last_error() } else { 0 };
        let under_way = done != 0 || error == ERROR_IO_PENDING;
        let failed = if under_way { None } else { Some(status_of(error).ok_or_else(|| error_of(error))?) };
        Ok(Box::new(Request {
            device: self.0.clone(),
            event,
            overlapped,
            data,
            under_way,
            failed,
            direct: code & 3 == 2,
        }))
    }
}

impl Request {
    /// Waits for the system to be done with the request's memory; returns the driver's status and the answer's length.
    fn finish(&mut self) -> (u32, usize) {
        if let Some(status) = self.failed {
            return (status, 0);
        }
        let mut length = 0;
        // SAFETY: the request is under way; the OVERLAPPED is its own.
        let done =
            unsafe { GetOverlappedResult(self.device.0, &raw const *self.overlapped, &raw mut length, 1) };
        self.under_way = false;
        // `Internal` is the status that the request was completed with (page "OVERLAPPED structure").
        if done == 0 { (self.overlapped.Internal as u32, 0) } else { (0, length as usize) }
    }
}

impl Pending for Request {
    fn wait(mut self: Box<Self>) -> Result<Reply, Error> {
        let (status, length) = self.finish();
        let mut output = std::mem::take(&mut self.data);
        if !self.direct {
            output.truncate(length);
        }
        Ok(Reply { status, output })
    }

    fn wait_for(&mut self, limit: Duration) -> Result<bool, Error> {
        if !self.under_way {
            return Ok(true);
        }
        let milliseconds = limit.as_millis().min(60_000) as u32;
        // SAFETY: the event is this request's own, and open.
        match unsafe { WaitForSingleObject(self.event.0, milliseconds) } {
            WAIT_OBJECT_0 => Ok(true),
            WAIT_FAILED => Err(error_of(last_error())),
            _ => Ok(false),
        }
    }

    fn cancel(&self) -> Result<(), Error> {
        // SAFETY: the OVERLAPPED is this request's own.
        if unsafe { CancelIoEx(self.device.0, &raw const *self.overlapped) } == 0
            && last_error() != ERROR_NOT_FOUND
        {
            return Err(error_of(last_error()));
        }
        Ok(())
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if self.under_way {
            // The system may still write to the request's memory: it is waited for.
            let _ = self.cancel();
            self.finish();
        }
    }
}

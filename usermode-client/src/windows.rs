//! The driver on Windows, reached through its control device.
#![expect(unsafe_code, reason = "calls Win32")]
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::Arc;

use sluice_abi::WIN32_NAME;
use windows_sys::Win32::Foundation::{
    CloseHandle, ERROR_ACCESS_DENIED, ERROR_DEVICE_REMOVED, ERROR_FILE_NOT_FOUND, ERROR_INSUFFICIENT_BUFFER,
    ERROR_IO_PENDING, ERROR_NOT_FOUND, ERROR_OPERATION_ABORTED, ERROR_PATH_NOT_FOUND,
    ERROR_REVISION_MISMATCH, GENERIC_READ, GENERIC_WRITE, GetLastError, HANDLE, INVALID_HANDLE_VALUE,
    RtlNtStatusToDosError,
};
use windows_sys::Win32::Storage::FileSystem::{CreateFileW, FILE_FLAG_OVERLAPPED, OPEN_EXISTING};
use windows_sys::Win32::System::IO::{CancelIoEx, DeviceIoControl, GetOverlappedResult, OVERLAPPED};
use windows_sys::Win32::System::Threading::CreateEventW;

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

/// The driver's status for a Win32 error, as far as clients tell statuses apart.
fn status_of(error: u32) -> u32 {
    match error {
        ERROR_FILE_NOT_FOUND | ERROR_PATH_NOT_FOUND => status::NAME_NOT_FOUND,
        ERROR_ACCESS_DENIED => status::ACCESS_DENIED,
        ERROR_DEVICE_REMOVED => status::DEVICE_REMOVED,
        ERROR_NOT_FOUND => status::NOT_FOUND,
        ERROR_OPERATION_ABORTED => status::CANCELLED,
        ERROR_REVISION_MISMATCH => status::REVISION_MISMATCH,
        other => {
            [status::INVALID_BUFFER_SIZE, 0xC000_0023, 0xC000_000D, 0xC000_0010, 0xC000_0184, 0xC000_009A]
                .into_iter()
                // SAFETY: a table lookup without side effects.
                .find(|status| unsafe { RtlNtStatusToDosError(*status as i32) } == other)
                .unwrap_or(if other == ERROR_INSUFFICIENT_BUFFER {
                    0xC000_0023
                } else {
                    0xC007_0000 | (other & 0xFFFF)
                })
        }
    }
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
            return Err(Error::of_status(status_of(last_error())));
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
    _event: Owned,
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
            return Err(Error::Refused(status_of(last_error())));
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
        Ok(Box::new(Request {
            device: self.0.clone(),
            _event: event,
            overlapped,
            data,
            under_way,
            failed: (!under_way).then_some(error),
            direct: code & 3 == 2,
        }))
    }
}

impl Request {
    /// Waits for the system to be done with the request's memory.
    fn finish(&mut self) -> (u32, usize) {
        if let Some(error) = self.failed {
            return (status_of(error), 0);
        }
        let mut length = 0;
        // SAFETY: the request is under way; the OVERLAPPED is its own.
        let done =
            unsafe { GetOverlappedResult(self.device.0, &raw const *self.overlapped, &raw mut length, 1) };
        self.under_way = false;
        if done == 0 { (status_of(last_error()), 0) } else { (0, length as usize) }
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

    fn cancel(&self) -> Result<(), Error> {
        // SAFETY: the OVERLAPPED is this request's own.
        if unsafe { CancelIoEx(self.device.0, &raw const *self.overlapped) } == 0
            && last_error() != ERROR_NOT_FOUND
        {
            return Err(Error::Refused(status_of(last_error())));
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

//! The one place where outcomes become status codes.
use sluice_core::request::Refusal;
use wdk_sys::NTSTATUS;

/// An `NTSTATUS` from the value that the documents print.
const fn ntstatus(value: u32) -> NTSTATUS {
    value as NTSTATUS
}

pub(crate) const SUCCESS: NTSTATUS = 0;
pub(crate) const INVALID_PARAMETER: NTSTATUS = ntstatus(0xC000_000D);
pub(crate) const INVALID_DEVICE_REQUEST: NTSTATUS = ntstatus(0xC000_0010);
pub(crate) const BUFFER_TOO_SMALL: NTSTATUS = ntstatus(0xC000_0023);
pub(crate) const REVISION_MISMATCH: NTSTATUS = ntstatus(0xC000_0059);
pub(crate) const INSUFFICIENT_RESOURCES: NTSTATUS = ntstatus(0xC000_009A);
pub(crate) const DEVICE_NOT_READY: NTSTATUS = ntstatus(0xC000_00A3);
pub(crate) const CANCELLED: NTSTATUS = ntstatus(0xC000_0120);
pub(crate) const INVALID_DEVICE_STATE: NTSTATUS = ntstatus(0xC000_0184);
pub(crate) const INVALID_BUFFER_SIZE: NTSTATUS = ntstatus(0xC000_0206);
pub(crate) const NOT_FOUND: NTSTATUS = ntstatus(0xC000_0225);
pub(crate) const DEVICE_REMOVED: NTSTATUS = ntstatus(0xC000_02B6);

/// What a client is told about a request that was refused.
pub(crate) const fn of_refusal(refusal: Refusal) -> NTSTATUS {
    match refusal {
        Refusal::TooShort => BUFFER_TOO_SMALL,
        Refusal::Version => REVISION_MISMATCH,
        Refusal::FrameTooShort | Refusal::FrameTooLong | Refusal::DataLength => INVALID_BUFFER_SIZE,
        Refusal::TrailingBytes | Refusal::Reserved | Refusal::FrameCount => INVALID_PARAMETER,
    }
}

//! Control codes of the device.

/// `FILE_DEVICE_NETWORK`.
const DEVICE_TYPE: u32 = 0x12;
/// `METHOD_BUFFERED`: both buffers are the I/O manager's copy.
const METHOD_BUFFERED: u32 = 0;
/// `METHOD_OUT_DIRECT`: the second buffer is the client's own, locked pages.
const METHOD_OUT_DIRECT: u32 = 2;
/// `FILE_READ_DATA`.
const READ: u32 = 1;
/// `FILE_READ_DATA | FILE_WRITE_DATA`.
const READ_WRITE: u32 = 3;

/// `CTL_CODE` (page "Defining I/O Control Codes").
const fn code(function: u32, method: u32, access: u32) -> u32 {
    (DEVICE_TYPE << 16) | (access << 14) | (function << 2) | method
}

/// Versions and limits: returns a [`crate::VersionReply`].
pub const IOCTL_VERSION: u32 = code(0x800, METHOD_BUFFERED, READ);
/// Modules: returns a [`crate::ListHeader`] and as many [`crate::ModuleRecord`] as fit.
pub const IOCTL_LIST: u32 = code(0x801, METHOD_BUFFERED, READ);
/// Binds the handle to one adapter: takes a [`crate::BindRequest`]. Once for each handle.
pub const IOCTL_BIND: u32 = code(0x802, METHOD_BUFFERED, READ_WRITE);
/// Sends frames: see [`crate::SendHeader`].
pub const IOCTL_SEND: u32 = code(0x803, METHOD_OUT_DIRECT, READ_WRITE);
/// Statistics of one module: returns a [`crate::Statistics`]. Takes a [`crate::BindRequest`] that names the
/// adapter, which binds nothing; or no input, for the module that the handle is bound to.
pub const IOCTL_STATISTICS: u32 = code(0x804, METHOD_BUFFERED, READ);

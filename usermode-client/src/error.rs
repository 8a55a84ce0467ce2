//! What can go wrong, and what to do about it.

/// `NTSTATUS` and `NDIS_STATUS` values that clients tell apart.
pub mod status {
    /// `STATUS_ACCESS_DENIED`.
    pub const ACCESS_DENIED: u32 = 0xC000_0022;
    /// `STATUS_OBJECT_NAME_NOT_FOUND`.
    pub const NAME_NOT_FOUND: u32 = 0xC000_0034;
    /// `STATUS_NOT_FOUND`.
    pub const NOT_FOUND: u32 = 0xC000_0225;
    /// `STATUS_DEVICE_REMOVED`.
    pub const DEVICE_REMOVED: u32 = 0xC000_02B6;
    /// `STATUS_CANCELLED`.
    pub const CANCELLED: u32 = 0xC000_0120;
    /// `STATUS_REVISION_MISMATCH`.
    pub const REVISION_MISMATCH: u32 = 0xC000_0059;
    /// `STATUS_INVALID_BUFFER_SIZE`.
    pub const INVALID_BUFFER_SIZE: u32 = 0xC000_0206;
}

/// An error of the client. Its text names the subject and the next command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The driver's device is not there.
    #[error("the Sluice driver is not loaded; install it, or check it with: sc query sluice")]
    NoDriver,
    /// The caller may not open the device.
    #[error("access to the Sluice driver is denied; run this from an administrator's prompt")]
    AccessDenied,
    /// No adapter has this name.
    #[error("no adapter matches \"{0}\"; see them with: sluice list")]
    NoAdapter(String),
    /// More than one adapter has this name.
    #[error("\"{0}\" matches {1} adapters; name one by its index or GUID, see: sluice list")]
    Ambiguous(String, usize),
    /// The adapter that the handle was bound to is gone.
    #[error("the adapter was disabled or removed")]
    Removed,
    /// The driver speaks another version of the interface.
    #[error("the driver and this client do not fit together; install both from one release")]
    Version,
    /// The driver refused a request.
    #[error("the driver refused the request with status {0:#010x}")]
    Refused(u32),
    /// A simulated machine cannot be reached.
    #[error("cannot reach a machine at {path}: {source}; start one with: cargo xtask machine run")]
    NoMachine {
        /// The socket.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The connection to the driver broke.
    #[error("the connection to the driver broke: {0}")]
    Broken(String),
    /// Input that cannot be sent.
    #[error("{0}")]
    Input(String),
}

impl Error {
    /// The error for a status of the driver.
    pub fn of_status(status: u32) -> Self {
        match status {
            status::NAME_NOT_FOUND => Self::NoDriver,
            status::ACCESS_DENIED => Self::AccessDenied,
            status::DEVICE_REMOVED => Self::Removed,
            status::REVISION_MISMATCH => Self::Version,
            other => Self::Refused(other),
        }
    }

    /// The program's exit code: 1 unexpected, 2 usage, then one number for each thing a script may handle.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoDriver | Self::NoMachine { .. } => 3,
            Self::AccessDenied => 4,
            Self::NoAdapter(_) | Self::Ambiguous(..) | Self::Removed => 5,
            Self::Version => 7,
            Self::Input(_) => 8,
            Self::Refused(_) | Self::Broken(_) => 1,
        }
    }
}

//! What can go wrong, and what to do about it.
use std::time::Duration;

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
    /// `NDIS_STATUS_LOW_POWER_STATE`: the adapter sleeps, and its stack is paused or about to be.
    pub const LOW_POWER_STATE: u32 = 0xC023_002F;
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
    #[error("\"{wanted}\" matches {} adapters; name one by its index or GUID:{}", candidates.len(), listed(candidates))]
    Ambiguous {
        /// What was asked for.
        wanted: String,
        /// Index, GUID and name of each that matches.
        candidates: Vec<String>,
    },
    /// The adapter that the handle was bound to is gone.
    #[error("the adapter was disabled or removed")]
    Removed,
    /// The adapter was away for as long as the caller would wait.
    #[error("the adapter \"{adapter}\" did not come back within {} s", seconds(*.waited))]
    Away {
        /// Its name.
        adapter: String,
        /// How long it was waited for, not counting time that this computer or program slept.
        waited: Duration,
    },
    /// The adapter binds, and takes no frame.
    #[error("the adapter \"{adapter}\" came back {times} times and answered no frame")]
    Fruitless {
        /// Its name.
        adapter: String,
        /// How often it came back.
        times: u32,
    },
    /// The driver does not know the adapter's MTU.
    #[error("the driver does not know the MTU of \"{0}\" yet, and sends nothing through it")]
    NoMtu(String),
    /// NDIS did not restart the adapter's stack in time.
    #[error("the adapter \"{adapter}\" could not be bound within {} s: {holder}", seconds(*.waited))]
    BindTimeout {
        /// Its name.
        adapter: String,
        /// How long it was waited for.
        waited: Duration,
        /// What holds the stack, as far as the driver tells.
        holder: String,
    },
    /// The caller stopped the operation.
    #[error("stopped by Ctrl-C")]
    Stopped,
    /// The driver speaks another version of the interface.
    #[error("driver and client versions are incompatible; install both from one release")]
    Version,
    /// The driver refused a request.
    #[error("the driver refused the request with status {0:#010x}")]
    Refused(u32),
    /// The system refused an operation on the driver's device, with an error that no status of the driver's has.
    #[error("the driver's device: {0}")]
    System(std::io::Error),
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
    /// Arguments that do not go together.
    #[error("{0}")]
    Usage(String),
    /// What the program prints cannot be written.
    #[error("{path}: {source}")]
    Output {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Seconds without a fraction that is zero.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

fn listed(candidates: &[String]) -> String {
    candidates.iter().fold(String::new(), |all, candidate| all + "\n    " + candidate)
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

    /// Whether the adapter is away, and may come back.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::NoAdapter(_) | Self::Removed | Self::NoMtu(_))
    }

    /// The program's exit code: 1 unexpected, 2 usage, then one number for each thing a script may handle.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::NoDriver | Self::NoMachine { .. } => 3,
            Self::AccessDenied => 4,
            Self::NoAdapter(_)
            | Self::Ambiguous { .. }
            | Self::Removed
            | Self::Away { .. }
            | Self::Fruitless { .. }
            | Self::NoMtu(_) => 5,
            Self::Stopped => 6,
            Self::Version => 7,
            Self::Input(_) => 8,
            Self::BindTimeout { .. } => 9,
            Self::Refused(_) | Self::System(_) | Self::Broken(_) | Self::Output { .. } => 1,
        }
    }
}

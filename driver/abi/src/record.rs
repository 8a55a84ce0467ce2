//! Records of the buffered requests.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Answer to [`crate::IOCTL_VERSION`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct VersionReply {
    /// [`crate::ABI_MAJOR`] of the driver.
    pub abi_major: u16,
    /// [`crate::ABI_MINOR`] of the driver.
    pub abi_minor: u16,
    /// The driver's own version.
    pub driver_major: u16,
    /// The driver's own version.
    pub driver_minor: u16,
    /// `(major << 16) | minor` that the driver registered with NDIS.
    pub ndis_version: u32,
    /// Frames that one send request may carry.
    pub max_frames: u32,
}

/// Start of the answer to [`crate::IOCTL_LIST`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ListHeader {
    /// Records that follow.
    pub count: u32,
    /// Modules that there are: more than `count` if the buffer was too small.
    pub total: u32,
}

/// UTF-16 units of an adapter's name that a record has room for.
pub const NAME_UNITS: usize = 128;

/// One module.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ModuleRecord {
    /// GUID of the adapter, bytes in the order of its text.
    pub guid: [u8; 16],
    /// LUID of the adapter's interface.
    pub luid: u64,
    /// Bits per second now, of sends; 0 if NDIS does not know.
    pub link_speed: u64,
    /// Index of the adapter's interface.
    pub if_index: u32,
    /// Bytes, without the Ethernet header; 0 while it is not known, and nothing can be sent.
    pub mtu: u32,
    /// One of the `STATE_…` constants.
    pub state: u32,
    /// `NET_IF_MEDIA_CONNECT_STATE` now: 0 not known, 1 connected, 2 not.
    pub media_connect_state: u32,
    /// Handles bound.
    pub handles: u32,
    /// UTF-16 units of `name` in use.
    pub name_length: u16,
    /// Bytes of `mac` in use.
    pub mac_length: u16,
    /// Current address.
    pub mac: [u8; 32],
    /// Friendly name of the adapter.
    pub name: [u16; NAME_UNITS],
}

/// The module is being attached.
pub const STATE_ATTACHING: u32 = 1;
/// The module is paused: nothing may be sent.
pub const STATE_PAUSED: u32 = 2;
/// The module is being restarted.
pub const STATE_RESTARTING: u32 = 3;
/// The module runs.
pub const STATE_RUNNING: u32 = 4;
/// The module is being paused: what was sent is on its way back.
pub const STATE_PAUSING: u32 = 5;
/// The module is gone; handles that were bound to it are stale.
pub const STATE_DETACHED: u32 = 6;

/// Input of [`crate::IOCTL_BIND`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct BindRequest {
    /// [`crate::ABI_MAJOR`] of the client.
    pub abi_major: u16,
    /// Zero.
    pub reserved: [u8; 6],
    /// GUID of the adapter, bytes in the order of its text.
    pub guid: [u8; 16],
}

/// Frames of this module live in a common buffer of its adapter's DMA adapter.
pub const MEMORY_ADAPTER: u32 = 1;
/// Frames of this module live in a common buffer of the HAL's DMA adapter.
pub const MEMORY_HAL: u32 = 2;
/// Frames of this module live in nonpaged memory.
pub const MEMORY_NONPAGED: u32 = 3;

/// Answer to [`crate::IOCTL_STATISTICS`]: since the module was attached.
///
/// `frames_submitted = frames_sent + frames_paused + frames_failed + frames_in_flight + frames_waiting`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Statistics {
    /// Frames in accepted requests.
    pub frames_submitted: u64,
    /// Frames that the adapter completed with success.
    pub frames_sent: u64,
    /// Frames refused because the module was paused.
    pub frames_paused: u64,
    /// Frames that were completed with an error, or cancelled.
    pub frames_failed: u64,
    /// Frames that NDIS holds.
    pub frames_in_flight: u64,
    /// Frames that wait for slots, or for the end of a restart.
    pub frames_waiting: u64,
    /// Bytes of the frames that were sent.
    pub bytes_sent: u64,
    /// Requests accepted.
    pub requests: u64,
    /// Pauses.
    pub pauses: u64,
    /// Pauses that had to wait for frames in flight.
    pub pauses_pending: u64,
    /// Calls with NBLs of the host that were passed on while handlers were installed.
    pub passed_through: u64,
    /// Slots that the module has memory for.
    pub slots: u32,
    /// One of the `MEMORY_…` constants, 0 while no handle is bound.
    pub memory: u32,
    /// One of the `STATE_…` constants.
    pub state: u32,
    /// Zero.
    pub reserved: u32,
}

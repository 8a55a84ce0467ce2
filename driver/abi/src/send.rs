//! The send request.
//!
//! Its input buffer is a [`SendHeader`] and one `u32` length for each frame: the I/O manager copies it, so
//! what was checked cannot change. Its output buffer is the client's own memory, locked for the time of the
//! request: one [`FrameResult`] for each frame, written when the frame comes back, then the frames' bytes,
//! one after the other without gaps, read once.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Frames that one request may carry.
pub const MAX_FRAMES: usize = 512;
/// Bytes of an Ethernet header: no frame is shorter.
pub const ETHERNET_HEADER: u32 = 14;
/// Bytes of a VLAN tag, which a frame may have beyond header and MTU.
pub const VLAN_TAG: u32 = 4;
/// The largest MTU that the driver uses, in bytes: jumbo frames and some. Of a larger one it uses this much.
pub const MAX_MTU: u32 = 16 * 1024;

/// Start of a send request's input.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SendHeader {
    /// [`crate::ABI_MAJOR`] of the client.
    pub abi_major: u16,
    /// Zero.
    pub flags: u16,
    /// Frames, 1 to [`MAX_FRAMES`].
    pub frame_count: u32,
}

/// What happened to one frame.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FrameResult(
    /// `NDIS_STATUS` of the frame.
    pub u32,
);

impl FrameResult {
    /// The adapter took the frame and completed it: `NDIS_STATUS_SUCCESS`.
    pub const SENT: Self = Self(0);
    /// The module was paused and the frame was not sent: `NDIS_STATUS_PAUSED`.
    pub const PAUSED: Self = Self(0xC023_002A);
    /// The send was cancelled: `NDIS_STATUS_SEND_ABORTED`.
    pub const ABORTED: Self = Self(0xC023_000C);

    /// The result of a frame whose list came back with this `NDIS_STATUS`. `NDIS_STATUS_LOW_POWER_STATE` says that the
    /// adapter sleeps: its stack is paused, or is about to be.
    pub fn of_status(status: u32) -> Self {
        match status {
            0xC023_002F => Self::PAUSED,
            other => Self(other),
        }
    }
}

//! How a common buffer is cut into slots.
pub use sluice_abi::MAX_MTU;
use sluice_abi::{ETHERNET_HEADER, VLAN_TAG};

/// Bytes after each frame's room that debug builds fill and check.
pub const CANARY: u32 = 8;
/// What the canary holds.
pub const CANARY_BYTES: [u8; CANARY as usize] = *b"SLUICE\xC1\x0E";
/// Slots start on cache lines: a device's write to one never shares a line with another.
const LINE: u32 = 64;
/// The most room in front of a frame that this driver grants the drivers below.
pub const MAX_BACKFILL: u32 = 1024;

/// Whether a frame carries a VLAN tag: that of IEEE 802.1Q, or the outer one of 802.1ad.
fn is_tagged(frame: &[u8]) -> bool {
    matches!(frame.get(12..14), Some([0x81, 0x00] | [0x88, 0xA8]))
}

/// Layout of a slab's slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotLayout {
    /// Room in front of the frame, for headers of drivers below.
    pub backfill: u32,
    /// The longest frame, which carries a tag.
    pub max_frame: u32,
    /// Bytes from one slot to the next.
    pub stride: u32,
}

impl SlotLayout {
    /// For an adapter's MTU (bytes without the Ethernet header) and the backfill that its stack asks for.
    pub const fn new(mtu: u32, backfill: u32) -> Self {
        let mtu = if mtu > MAX_MTU { MAX_MTU } else { mtu };
        let backfill = if backfill > MAX_BACKFILL { MAX_BACKFILL } else { backfill };
        let max_frame = mtu + ETHERNET_HEADER + VLAN_TAG;
        Self { backfill, max_frame, stride: (backfill + max_frame + CANARY).next_multiple_of(LINE) }
    }

    /// Whether the adapter takes a frame of `length` bytes that starts with `start`: the bytes of a tag beyond header and
    /// MTU are for a frame that carries one (page "`OID_GEN_MAXIMUM_TOTAL_SIZE`").
    pub fn takes(&self, length: u32, start: &[u8]) -> bool {
        length <= self.max_frame - VLAN_TAG || length <= self.max_frame && is_tagged(start)
    }

    /// Bytes of a slab of `slots` slots.
    pub const fn slab_length(&self, slots: u32) -> u32 {
        self.stride * slots
    }

    /// Bytes of a slot that its MDL describes.
    pub const fn mapped_length(&self) -> u32 {
        self.backfill + self.max_frame
    }
}

//! Which frames can be sent, and why others cannot.
use std::fmt;

use sluice_abi::{ETHERNET_HEADER, MAX_MTU, VLAN_TAG};

use crate::capture::Link;

/// Why a frame cannot be sent. As text it follows "frame N".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsendable {
    /// It is of another medium.
    NotEthernet(Link),
    /// The capture kept its beginning only.
    Cut {
        /// Bytes that were kept.
        captured: u32,
        /// Bytes that it had.
        original: u32,
    },
    /// Its interface is not described, and so its medium is unknown.
    UnknownInterface(u32),
    /// It is shorter than an Ethernet header.
    Short(usize),
    /// It is longer than the adapter takes.
    Long {
        /// Its bytes.
        length: usize,
        /// What the adapter takes.
        limits: Limits,
    },
}

impl Unsendable {
    /// The reason in one word, for counts.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotEthernet(_) => "not_ethernet",
            Self::Cut { .. } => "cut",
            Self::UnknownInterface(_) => "unknown_interface",
            Self::Short(_) => "too_short",
            Self::Long { .. } => "too_long",
        }
    }
}

impl fmt::Display for Unsendable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotEthernet(link) => write!(out, "is {link} and not an Ethernet frame"),
            Self::Cut { captured, original } => {
                write!(out, "was cut when it was captured: {captured} of {original} bytes")
            }
            Self::UnknownInterface(interface) => {
                write!(out, "is of interface {interface}, which the file does not describe")
            }
            Self::Short(length) => {
                let bytes = if *length == 1 { "byte" } else { "bytes" };
                write!(out, "has {length} {bytes}; an Ethernet frame has at least {ETHERNET_HEADER}")
            }
            Self::Long { length, limits } => write!(out, "has {length} bytes; the adapter takes {limits}"),
        }
    }
}

/// Lengths of frames that an adapter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    untagged: usize,
}

impl Limits {
    /// The limits of an adapter with this MTU, of which the driver uses no more than [`MAX_MTU`].
    pub fn of_mtu(mtu: u32) -> Self {
        Self { untagged: (ETHERNET_HEADER + mtu.min(MAX_MTU)) as usize }
    }

    /// The MTU that counts, in bytes.
    pub fn mtu(&self) -> usize {
        self.untagged - ETHERNET_HEADER as usize
    }

    /// Whether an adapter takes the frame.
    pub fn check(&self, frame: &[u8]) -> Result<(), Unsendable> {
        if frame.len() < ETHERNET_HEADER as usize {
            return Err(Unsendable::Short(frame.len()));
        }
        if mtu_for(frame) + ETHERNET_HEADER as usize > self.untagged {
            return Err(Unsendable::Long { length: frame.len(), limits: *self });
        }
        Ok(())
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, most) = (ETHERNET_HEADER, self.untagged);
        write!(out, "{least} to {most} bytes, and {VLAN_TAG} more with a VLAN tag")
    }
}

/// The least MTU with which an adapter takes the frame: a VLAN tag (IEEE 802.1Q or 802.1ad) does not count.
pub fn mtu_for(frame: &[u8]) -> usize {
    let tagged = matches!(frame.get(12..14), Some([0x81, 0x00] | [0x88, 0xA8]));
    let header = ETHERNET_HEADER + if tagged { VLAN_TAG } else { 0 };
    frame.len().saturating_sub(header as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize, ether_type: u16) -> Vec<u8> {
        let mut frame = vec![0; length];
        frame[12..14].copy_from_slice(&ether_type.to_be_bytes());
        frame
    }

    #[test]
    fn four_bytes_more_are_for_frames_with_a_vlan_tag() {
        let limits = Limits::of_mtu(1500);
        assert_eq!(limits.check(&frame(1514, 0x0800)), Ok(()));
        for length in 1515..=1518 {
            assert_eq!(limits.check(&frame(length, 0x0800)), Err(Unsendable::Long { length, limits }));
            assert_eq!(limits.check(&frame(length, 0x8100)), Ok(()));
            assert_eq!(limits.check(&frame(length, 0x88A8)), Ok(()));
        }
        assert!(limits.check(&frame(1519, 0x8100)).is_err());
        assert!(limits.check(&frame(1518, 0x9100)).is_err());
    }

    #[test]
    fn the_driver_uses_no_more_than_16384_bytes_of_mtu() {
        let limits = Limits::of_mtu(65_000);
        assert_eq!(limits.check(&frame(16_398, 0x0800)), Ok(()));
        let why = limits.check(&frame(16_399, 0x0800)).unwrap_err().to_string();
        assert_eq!(why, "has 16399 bytes; the adapter takes 14 to 16398 bytes, and 4 more with a VLAN tag");
    }

    #[test]
    fn thirteen_bytes_are_no_ethernet_frame() {
        assert_eq!(Limits::of_mtu(1500).check(&[0; 13]), Err(Unsendable::Short(13)));
        assert_eq!(Limits::of_mtu(1500).check(&[0; 14]), Ok(()));
    }
}

//! Link types of captures.
use std::fmt;

/// Link type of a capture or an interface (`LINKTYPE_…` of tcpdump.org).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link(pub u16);

impl Link {
    /// `LINKTYPE_ETHERNET`.
    pub const ETHERNET: Self = Self(1);
}

/// Names of the link types that captures are likely to have.
const NAMES: [(u16, &str); 24] = [
    (0, "NULL"),
    (1, "ETHERNET"),
    (6, "IEEE802_5"),
    (8, "SLIP"),
    (9, "PPP"),
    (10, "FDDI"),
    (12, "RAW"),
    (14, "RAW"),
    (50, "PPP_HDLC"),
    (51, "PPP_ETHER"),
    (101, "RAW"),
    (105, "IEEE802_11"),
    (108, "LOOP"),
    (113, "LINUX_SLL"),
    (119, "IEEE802_11_PRISM"),
    (127, "IEEE802_11_RADIOTAP"),
    (147, "USER0"),
    (189, "USB_LINUX"),
    (220, "USB_LINUX_MMAPPED"),
    (228, "IPV4"),
    (229, "IPV6"),
    (249, "USBPCAP"),
    (272, "DSA_TAG_BRCM"),
    (276, "LINUX_SLL2"),
];

impl fmt::Display for Link {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(number, _)| *number == self.0) {
            Some((number, name)) => write!(out, "{name} (link type {number})"),
            None => write!(out, "of link type {}", self.0),
        }
    }
}

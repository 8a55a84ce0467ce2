//! Captures put together byte by byte, right or wrong.

/// Order of the bytes of a number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
}
use Order::{Big, Little};

impl Order {
    pub(super) fn u16(self, value: u16) -> [u8; 2] {
        if self == Big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    pub(super) fn u32(self, value: u32) -> [u8; 4] {
        if self == Big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    pub(super) fn u64(self, value: u64) -> [u8; 8] {
        if self == Big { value.to_be_bytes() } else { value.to_le_bytes() }
    }
}

/// Pieces one after the other.
pub(super) fn join<T: AsRef<[u8]>>(pieces: impl IntoIterator<Item = T>) -> Vec<u8> {
    pieces.into_iter().flat_map(|piece| piece.as_ref().to_vec()).collect()
}

/// A frame of an experimental `EtherType` that differs from every other.
pub(super) fn frame(number: u32, length: usize) -> Vec<u8> {
    let mut frame = vec![2, 0x11, 0, 0, 0, 1, 2, 0x11, 0, 0, 0, 2, 0x88, 0xB5];
    frame.extend(number.to_be_bytes());
    frame.extend((0..length).map(|index| (number as usize + index) as u8));
    frame.truncate(length);
    frame
}

/// Frames 0 to 4 of 64 bytes.
pub(super) fn five() -> Vec<Vec<u8>> {
    (0..5).map(|number| frame(number, 64)).collect()
}

/// A full frame with a VLAN tag.
pub(super) fn tagged(length: usize) -> Vec<u8> {
    let mut frame = vec![2, 0x11, 0, 0, 0, 1, 2, 0x11, 0, 0, 0, 2, 0x81, 0, 0, 5, 8, 0];
    frame.resize(length, 0);
    frame
}

/// A pcap file.
#[derive(Clone, Copy)]
pub(super) struct Pcap {
    pub(super) order: Order,
    pub(super) magic: u32,
    pub(super) version: (u16, u16),
    pub(super) snaplen: u32,
    pub(super) network: u32,
    pub(super) extra: &'static [u8],
    pub(super) time: fn(u32) -> (u32, u32),
}

pub(super) const PCAP: Pcap = Pcap {
    order: Little,
    magic: 0xA1B2_C3D4,
    version: (2, 4),
    snaplen: 65535,
    network: 1,
    extra: &[],
    time: |number| (1_700_000_000 + number, 0),
};

impl Pcap {
    pub(super) fn header(&self) -> Vec<u8> {
        let order = self.order;
        let mut bytes = order.u32(self.magic).to_vec();
        bytes.extend(order.u16(self.version.0));
        bytes.extend(order.u16(self.version.1));
        bytes.extend([0; 8]);
        bytes.extend(order.u32(self.snaplen));
        bytes.extend(order.u32(self.network));
        bytes
    }

    pub(super) fn record(&self, number: u32, frame: &[u8], original: usize) -> Vec<u8> {
        let (order, (seconds, fraction)) = (self.order, (self.time)(number));
        let mut bytes =
            join([seconds, fraction, frame.len() as u32, original as u32].map(|word| order.u32(word)));
        bytes.extend(self.extra);
        bytes.extend(frame);
        bytes
    }

    pub(super) fn file(&self, frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = self.header();
        for (number, frame) in frames.iter().enumerate() {
            bytes.extend(self.record(number as u32, frame, frame.len()));
        }
        bytes
    }
}

/// A padded pcapng block.
pub(super) fn block(order: Order, kind: u32, body: &[u8]) -> Vec<u8> {
    let padding = vec![0; body.len().next_multiple_of(4) - body.len()];
    let length = order.u32((body.len() + padding.len() + 12) as u32);
    join([&order.u32(kind)[..], &length, body, &padding, &length])
}

/// An option of a block.
pub(super) fn option(order: Order, code: u16, value: &[u8]) -> Vec<u8> {
    let padding = vec![0; value.len().next_multiple_of(4) - value.len()];
    join([&order.u16(code)[..], &order.u16(value.len() as u16), value, &padding])
}

/// `opt_endofopt`.
pub(super) const END: [u8; 4] = [0; 4];

/// Options of one block, with an end.
pub(super) fn options(options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = join(options.iter().map(|(code, value)| option(Little, *code, value)));
    bytes.extend(END);
    bytes
}

pub(super) fn section_of(order: Order, version: (u16, u16), length: u64, options: &[u8]) -> Vec<u8> {
    let body = join([
        &order.u32(0x1A2B_3C4D)[..],
        &order.u16(version.0),
        &order.u16(version.1),
        &order.u64(length),
        options,
    ]);
    block(order, 0x0A0D_0D0A, &body)
}

pub(super) fn section(order: Order) -> Vec<u8> {
    section_of(order, (1, 0), u64::MAX, &[])
}

pub(super) fn interface_of(order: Order, link: u16, snaplen: u32, options: &[u8]) -> Vec<u8> {
    block(order, 1, &join([&order.u16(link)[..], &[0, 0], &order.u32(snaplen), options]))
}

pub(super) fn interface(options: &[u8]) -> Vec<u8> {
    interface_of(Little, 1, 0, options)
}

/// An enhanced packet block.
pub(super) struct Packet<'a> {
    pub(super) order: Order,
    pub(super) interface: u32,
    pub(super) time: u64,
    pub(super) original: Option<u32>,
    pub(super) options: &'a [u8],
}

pub(super) const PACKET: Packet<'static> =
    Packet { order: Little, interface: 0, time: 1_700_000_000_000_000, original: None, options: &[] };

impl Packet<'_> {
    pub(super) fn of(&self, frame: &[u8]) -> Vec<u8> {
        let (order, length) = (self.order, frame.len() as u32);
        let time = [(self.time >> 32) as u32, self.time as u32];
        let words = [self.interface, time[0], time[1], length, self.original.unwrap_or(length)];
        let padding = vec![0; frame.len().next_multiple_of(4) - frame.len()];
        block(order, 6, &join([&join(words.map(|word| order.u32(word))), frame, &padding, self.options]))
    }

    pub(super) fn all(&self, frames: &[Vec<u8>]) -> Vec<u8> {
        join(frames.iter().map(|frame| self.of(frame)))
    }
}

/// A simple packet block; `behind` is what stands where its padding belongs.
pub(super) fn simple(frame: &[u8], original: usize, behind: &[u8]) -> Vec<u8> {
    block(Little, 3, &join([&Little.u32(original as u32)[..], frame, behind]))
}

/// An obsolete packet block.
pub(super) fn obsolete(frame: &[u8]) -> Vec<u8> {
    let length = Little.u32(frame.len() as u32);
    block(Little, 2, &join([&[0; 4][..], &Little.u32(0x60A5), &[0; 4], &length, &length, frame]))
}

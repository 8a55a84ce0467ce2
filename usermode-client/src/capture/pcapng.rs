//! The pcapng format.
//!
//! Blocks are framed here, so that long blocks that hold no frame are passed over without being kept and a fault is
//! said of the right block; what section headers, interfaces, enhanced packets and their options hold is read by
//! the `pcap-parser` crate. Simple and obsolete packet blocks are read here: the crate gives the padding of the
//! former with its bytes, and does not know the latter.
use pcap_parser::pcapng::{
    parse_enhancedpacketblock_be, parse_enhancedpacketblock_le, parse_interfacedescriptionblock_be,
    parse_interfacedescriptionblock_le, parse_sectionheaderblock,
};
use pcap_parser::{OptionCode, PcapNGOption};

use super::input::Input;
use super::{Direction, Fault, Frame, Link, Record, before, cut_in_frame};
use crate::select::Unsendable;

pub(super) const SECTION_HEADER: u32 = 0x0A0D_0D0A;
const INTERFACE: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// The longest block that is kept (libpcap's limit).
const LONGEST: u32 = 16 * 1024 * 1024;
/// The longest block that is passed over (Wireshark's limit).
const LONGEST_OTHER: u32 = 128 * 1024 * 1024 + 128 * 1024;
/// Interfaces that a section may have: more than any capture, few enough to keep.
const INTERFACES: usize = 65_536;

/// Options, by their codes.
const IF_TSRESOL: u16 = 9;
const IF_FCSLEN: u16 = 13;
const IF_TSOFFSET: u16 = 14;
const PACKET_FLAGS: u16 = 2;

#[derive(Clone, Copy)]
struct Interface {
    link: Link,
    snaplen: u32,
    fcs: u8,
    /// `if_tsresol`: a power of ten, or with the high bit of two.
    resolution: u8,
    /// Seconds.
    offset: i64,
}

pub(super) struct Pcapng {
    big_endian: bool,
    interfaces: Vec<Interface>,
    frames: u64,
    sections: u64,
    block: Vec<u8>,
}

/// What a packet block says, of either kind.
struct Packet {
    interface: u32,
    ticks: u64,
    captured: u32,
    original: u32,
    flags: Option<u32>,
}

fn raw<'a>(options: &'a [PcapNGOption<'_>], code: u16) -> Option<&'a [u8]> {
    options
        .iter()
        .take_while(|option| option.code != OptionCode(0))
        .find(|option| option.code == OptionCode(code))
        .and_then(|option| option.as_bytes().ok())
}

impl Pcapng {
    pub(super) fn open(input: &mut Input) -> Result<Self, Fault> {
        let mut reader =
            Self { big_endian: false, interfaces: Vec::new(), frames: 0, sections: 0, block: Vec::new() };
        reader.next_block(input)?;
        Ok(reader)
    }

    fn u32_of(&self, bytes: [u8; 4]) -> u32 {
        if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    fn u32_at(&self, at: usize) -> u32 {
        let bytes = self.block.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
        self.u32_of(bytes)
    }

    fn u16_at(&self, at: usize) -> u16 {
        let bytes = self.block.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
        if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    }

    pub(super) fn next_frame(&mut self, input: &mut Input) -> Result<Option<Frame>, Fault> {
        while let Some(kind) = self.next_block(input)? {
            let frame = match kind {
                ENHANCED_PACKET => self.enhanced()?,
                SIMPLE_PACKET => self.simple()?,
                OBSOLETE_PACKET => self.obsolete()?,
                _ => continue,
            };
            self.frames = frame.number;
            return Ok(Some(frame));
        }
        Ok(None)
    }

    /// What the next block is, for messages.
    fn subject(&self, kind: u32) -> String {
        match kind {
            ENHANCED_PACKET | SIMPLE_PACKET | OBSOLETE_PACKET => format!("frame {}", self.frames + 1),
            INTERFACE => format!("interface {}", self.interfaces.len()),
            SECTION_HEADER => format!("section header {}", self.sections + 1),
            other => format!("a block of type {other:#x}"),
        }
    }

    fn cut(&self, kind: u32) -> Fault {
        match kind {
            ENHANCED_PACKET | SIMPLE_PACKET | OBSOLETE_PACKET => cut_in_frame(self.frames + 1),
            _ => Fault::Cut(format!("the file ends within {}; {}", self.subject(kind), before(self.frames))),
        }
    }

    fn damaged(&self, kind: u32, what: &str) -> Fault {
        Fault::Damaged(format!("{} {what}; {}", self.subject(kind), before(self.frames)))
    }

    /// Reads the next block, keeps it if it is of use, and takes in sections and interfaces; returns its type.
    fn next_block(&mut self, input: &mut Input) -> Result<Option<u32>, Fault> {
        let mut start = [0; 8];
        match input.fill(&mut start)? {
            0 => return Ok(None),
            8 => {}
            _ => return Err(Fault::Cut(format!("the file ends within a block; {}", before(self.frames)))),
        }
        let [a, b, c, d, length @ ..] = start;
        let mut kind = self.u32_of([a, b, c, d]);
        self.block.clear();
        self.block.extend_from_slice(&start);
        if [a, b, c, d] == SECTION_HEADER.to_le_bytes() {
            kind = SECTION_HEADER;
            let mut order = [0; 4];
            if input.fill(&mut order)? < order.len() {
                return Err(self.cut(kind));
            }
            self.big_endian = match order {
                [0x1A, 0x2B, 0x3C, 0x4D] => true,
                [0x4D, 0x3C, 0x2B, 0x1A] => false,
                _ => {
                    return Err(Fault::Format(
                        "the pcapng section header has an unknown byte order".to_owned(),
                    ));
                }
            };
            self.block.extend_from_slice(&order);
        }
        let length = self.u32_of(length);
        let least = match kind {
            SECTION_HEADER => 28,
            ENHANCED_PACKET | OBSOLETE_PACKET => 32,
            INTERFACE => 20,
            SIMPLE_PACKET => 16,
            _ => 12,
        };
        let keeps = least != 12;
        if length < least || length > if keeps { LONGEST } else { LONGEST_OTHER } {
            return Err(self.damaged(kind, &format!("claims a length of {length} bytes")));
        }
        // Some programs write lengths without the padding that they write, as Wireshark knows.
        let padded = length.next_multiple_of(4) as usize;
        let here = self.block.len();
        let trailer = if keeps {
            self.block.resize(padded, 0);
            let rest = self.block.get_mut(here..).unwrap_or_default();
            if input.fill(rest)? < padded - here {
                return Err(self.cut(kind));
            }
            self.u32_at(padded - 4)
        } else {
            let body = padded as u64 - 12;
            let mut trailer = [0; 4];
            if input.skip(body)? < body || input.fill(&mut trailer)? < trailer.len() {
                return Err(self.cut(kind));
            }
            self.u32_of(trailer)
        };
        if trailer != length {
            return Err(
                self.damaged(kind, &format!("has a length of {length} in front and of {trailer} behind"))
            );
        }
        if keeps && padded != length as usize {
            let whole = padded as u32;
            let whole = if self.big_endian { whole.to_be_bytes() } else { whole.to_le_bytes() };
            for at in [4, padded - 4] {
                if let Some(field) = self.block.get_mut(at..at + 4) {
                    field.copy_from_slice(&whole);
                }
            }
        }
        match kind {
            SECTION_HEADER => self.section()?,
            INTERFACE => self.interface()?,
            _ => {}
        }
        Ok(Some(kind))
    }

    fn section(&mut self) -> Result<(), Fault> {
        let Ok((_, header)) = parse_sectionheaderblock(&self.block) else {
            return Err(self.damaged(SECTION_HEADER, "cannot be read"));
        };
        let (major, minor) = (header.major_version, header.minor_version);
        // 1.2 is what some programs wrote for the same format.
        if major != 1 || (minor != 0 && minor != 2) {
            return Err(Fault::Format(format!("pcapng version {major}.{minor} is unknown")));
        }
        self.sections += 1;
        self.interfaces.clear();
        Ok(())
    }

    fn interface(&mut self) -> Result<(), Fault> {
        let parse = if self.big_endian {
            parse_interfacedescriptionblock_be
        } else {
            parse_interfacedescriptionblock_le
        };
        let Ok((_, block)) = parse(&self.block) else {
            return Err(self.damaged(INTERFACE, "cannot be read"));
        };
        let byte = |code| match raw(&block.options, code) {
            Some([byte]) => Some(*byte),
            _ => None,
        };
        let offset = raw(&block.options, IF_TSOFFSET).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
        let offset = offset.map_or(0, |bytes| {
            if self.big_endian { i64::from_be_bytes(bytes) } else { i64::from_le_bytes(bytes) }
        });
        let interface = Interface {
            link: Link(block.linktype.0 as u16),
            snaplen: block.snaplen,
            fcs: byte(IF_FCSLEN).unwrap_or(0),
            resolution: byte(IF_TSRESOL).unwrap_or(6),
            offset,
        };
        if self.interfaces.len() == INTERFACES {
            return Err(self.damaged(INTERFACE, "is one too many"));
        }
        self.interfaces.push(interface);
        Ok(())
    }

    fn enhanced(&self) -> Result<Frame, Fault> {
        let room = self.block.len() as u32 - 32;
        let claimed = self.u32_at(20);
        if claimed > room {
            return Err(self.lies(ENHANCED_PACKET, claimed, room));
        }
        let parse = if self.big_endian { parse_enhancedpacketblock_be } else { parse_enhancedpacketblock_le };
        let Ok((_, block)) = parse(&self.block) else {
            return Err(self.damaged(ENHANCED_PACKET, "cannot be read"));
        };
        let flags = raw(&block.options, PACKET_FLAGS).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        let packet = Packet {
            interface: block.if_id,
            ticks: u64::from(block.ts_high) << 32 | u64::from(block.ts_low),
            captured: block.caplen,
            original: block.origlen,
            flags: flags.map(|bytes| self.u32_of(bytes)),
        };
        Ok(self.packet(&packet, 28))
    }

    /// The block that enhanced packets replaced in 2009: 16 bits of interface, and how many were dropped before it.
    fn obsolete(&self) -> Result<Frame, Fault> {
        let (room, captured) = (self.block.len() as u32 - 32, self.u32_at(20));
        if captured > room {
            return Err(self.lies(OBSOLETE_PACKET, captured, room));
        }
        let packet = Packet {
            interface: u32::from(self.u16_at(8)),
            ticks: u64::from(self.u32_at(12)) << 32 | u64::from(self.u32_at(16)),
            captured,
            original: self.u32_at(24),
            flags: None,
        };
        Ok(self.packet(&packet, 28))
    }

    /// A frame without time and options, of interface 0, whose captured length follows from the snapshot length.
    fn simple(&self) -> Result<Frame, Fault> {
        let (room, original) = (self.block.len() as u32 - 16, self.u32_at(8));
        let number = self.frames + 1;
        let Some(interface) = self.interfaces.first() else {
            return Ok(unknown_interface(number, 0, None, original));
        };
        let snaplen = if interface.snaplen == 0 { u32::MAX } else { interface.snaplen };
        let captured = original.min(snaplen);
        if captured > room {
            return Err(self.lies(SIMPLE_PACKET, captured, room));
        }
        let data = self.block.get(12..12 + captured as usize).unwrap_or_default().to_vec();
        let fcs = u32::from(interface.fcs);
        let record = Record { number, time_ns: None, interface: 0, direction: None, original, fcs };
        Ok(record.frame(interface.link, data))
    }

    fn lies(&self, kind: u32, claimed: u32, room: u32) -> Fault {
        self.damaged(kind, &format!("claims {claimed} bytes, and its block has {room}"))
    }

    fn packet(&self, packet: &Packet, at: usize) -> Frame {
        let number = self.frames + 1;
        let flags = packet.flags.unwrap_or(0);
        let direction = match flags & 3 {
            1 => Some(Direction::Inbound),
            2 => Some(Direction::Outbound),
            _ => None,
        };
        let Some(interface) = self.interfaces.get(packet.interface as usize) else {
            return unknown_interface(number, packet.interface, direction, packet.original);
        };
        let data = self.block.get(at..at + packet.captured as usize).unwrap_or_default().to_vec();
        // Bits 5 to 8 are bytes of frame check sequence, 0 if they say nothing of it.
        let fcs = match flags >> 5 & 0xF {
            0 => u32::from(interface.fcs),
            bytes => bytes,
        };
        let record = Record {
            number,
            time_ns: Some(interface.nanoseconds(packet.ticks)),
            interface: packet.interface,
            direction,
            original: packet.original,
            fcs,
        };
        record.frame(interface.link, data)
    }
}

/// A frame whose medium is not known.
fn unknown_interface(number: u64, interface: u32, direction: Option<Direction>, original: u32) -> Frame {
    let unsendable = Some(Unsendable::UnknownInterface(interface));
    Frame { number, time_ns: None, interface, direction, original, data: Vec::new(), unsendable }
}

impl Interface {
    /// Nanoseconds since 1970 of a timestamp in units of this interface.
    fn nanoseconds(&self, ticks: u64) -> i128 {
        let exponent = u32::from(self.resolution & 0x7F);
        let base: i128 = if self.resolution & 0x80 == 0 { 10 } else { 2 };
        // A unit so small that 128 bits do not hold its inverse makes less than a nanosecond of any 64 bits.
        let since = base.checked_pow(exponent).map_or(0, |units| i128::from(ticks) * 1_000_000_000 / units);
        since + i128::from(self.offset) * 1_000_000_000
    }
}

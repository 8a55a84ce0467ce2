//! The pcap format, in every variant that libpcap reads: both byte orders, microseconds and nanoseconds, the
//! modified records of old Linux kernels, and lengths in the other order of versions before 2.3.
use super::input::Input;
use super::{Fault, Frame, Link, Record, cut_in_frame};

/// The longest frame that is kept (`MAXIMUM_SNAPLEN` of libpcap, `WTAP_MAX_PACKET_SIZE_STANDARD` of Wireshark).
const LONGEST: u32 = 256 * 1024;
/// The longest record of another link type, which is passed over.
const LONGEST_OTHER: u32 = 128 * 1024 * 1024;

/// Order of the captured and the original length.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lengths {
    /// Captured, then original.
    InOrder,
    /// Written either way: the smaller one is the captured length.
    Either,
    /// Original, then captured.
    Swapped,
}

pub(super) struct Pcap {
    big_endian: bool,
    /// Nanoseconds in the unit of the records' fractions.
    unit: i128,
    /// Bytes of a record's header.
    header: usize,
    lengths: Lengths,
    link: Link,
    fcs: u32,
    frames: u64,
}

fn word(bytes: &[u8], at: usize, big_endian: bool) -> u32 {
    let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()).copied().unwrap_or_default();
    if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
}

impl Pcap {
    pub(super) fn open(input: &mut Input) -> Result<Self, Fault> {
        let mut bytes = [0; 24];
        let length = input.fill(&mut bytes)?;
        let (big_endian, unit, header) = match word(&bytes, 0, true) {
            _ if length < 4 => return Err(input.unknown()),
            0xA1B2_C3D4 => (true, 1000, 16),
            0xD4C3_B2A1 => (false, 1000, 16),
            0xA1B2_3C4D => (true, 1, 16),
            0x4D3C_B2A1 => (false, 1, 16),
            // What the modified records have in addition are an interface, a protocol and a packet type.
            0xA1B2_CD34 => (true, 1000, 24),
            0x34CD_B2A1 => (false, 1000, 24),
            _ => return Err(input.unknown()),
        };
        if length < bytes.len() {
            return Err(Fault::Cut(format!("the file ends within its pcap header: {length} of 24 bytes")));
        }
        let versions = word(&bytes, 4, big_endian);
        let (major, minor) = if big_endian {
            (versions >> 16, versions & 0xFFFF)
        } else {
            (versions & 0xFFFF, versions >> 16)
        };
        let lengths = match (major, minor) {
            (2, 0..=2) => Lengths::Swapped,
            (2, 3) => Lengths::Either,
            // 543.0 is what the tcpdump of DG/UX wrote.
            (2, 4) | (543, 0) => Lengths::InOrder,
            _ => return Err(Fault::Format(format!("pcap version {major}.{minor} is unknown"))),
        };
        // Bits 28 to 31 tell 16-bit words of frame check sequence if bit 26 is set.
        let network = word(&bytes, 20, big_endian);
        let fcs = if network & 0x0400_0000 == 0 { 0 } else { (network >> 28) * 2 };
        let link = Link(network as u16);
        Ok(Self { big_endian, unit, header, lengths, link, fcs, frames: 0 })
    }

    pub(super) fn next_frame(&mut self, input: &mut Input) -> Result<Option<Frame>, Fault> {
        let number = self.frames + 1;
        let mut bytes = [0; 24];
        let header = bytes.get_mut(..self.header).unwrap_or_default();
        match input.fill(header)? {
            0 => return Ok(None),
            length if length < self.header => return Err(cut_in_frame(number)),
            _ => {}
        }
        let field = |at| word(&bytes, at, self.big_endian);
        let (mut captured, mut original) = (field(8), field(12));
        if self.lengths == Lengths::Swapped || (self.lengths == Lengths::Either && captured > original) {
            (captured, original) = (original, captured);
        }
        let ethernet = self.link == Link::ETHERNET;
        if captured > if ethernet { LONGEST } else { LONGEST_OTHER } {
            let behind = super::before(self.frames);
            return Err(Fault::Damaged(format!("frame {number} claims {captured} bytes; {behind}")));
        }
        let mut data = Vec::new();
        let read = if ethernet {
            data.resize(captured as usize, 0);
            input.fill(&mut data)? as u64
        } else {
            input.skip(u64::from(captured))?
        };
        if read < u64::from(captured) {
            return Err(cut_in_frame(number));
        }
        self.frames = number;
        let time_ns = i128::from(field(0)) * 1_000_000_000 + i128::from(field(4)) * self.unit;
        let record =
            Record { number, time_ns: Some(time_ns), interface: 0, direction: None, original, fcs: self.fcs };
        Ok(Some(record.frame(self.link, data)))
    }
}

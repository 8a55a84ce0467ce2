//! Captures, read as a stream: pcap and pcapng, plain or compressed with gzip.
//!
//! A [`Reader`] holds one block at a time, so its memory does not depend on the size of the capture. It reads what
//! tcpdump and Wireshark read; where these two differ, it reads what the more lenient of them reads without
//! guessing, except that formats of unknown versions are refused.
mod input;
mod link;
mod pcap;
mod pcapng;

use std::fmt;
use std::path::Path;

use crate::Error;
use crate::select::Unsendable;
use input::Input;
pub use link::Link;

/// Which way a frame went when it was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The capturing host received it.
    Inbound,
    /// The capturing host sent it.
    Outbound,
}

/// One frame of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its number in the capture, from 1.
    pub number: u64,
    /// Nanoseconds since 1970-01-01 UTC; a Simple Packet Block has no time.
    pub time_ns: Option<i128>,
    /// The interface that it was captured on, counted within its section.
    pub interface: u32,
    /// Which way it went, if the capture says so.
    pub direction: Option<Direction>,
    /// Bytes that it had on the wire, as the capture tells, without a frame check sequence.
    pub original: u32,
    /// Its bytes without a frame check sequence; empty if the frame is of no link type that can be sent.
    pub data: Vec<u8>,
    /// Why no adapter can send it, if that is so.
    pub unsendable: Option<Unsendable>,
}

/// Why a capture gives no more frames.
#[derive(Debug)]
pub enum Fault {
    /// It cannot be read at all: another format, or an unknown version.
    Format(String),
    /// It ends within a frame or a block: what writes it may not be done.
    Cut(String),
    /// It contradicts itself, and where the next frame starts is unknown.
    Damaged(String),
    /// The system failed to read it.
    Io(std::io::Error),
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(text) | Self::Cut(text) | Self::Damaged(text) => out.write_str(text),
            Self::Io(error) => error.fmt(out),
        }
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// Frames that were read before the fault, in words.
fn before(frames: u64) -> String {
    match frames {
        0 => "no frame is before it".to_owned(),
        1 => "1 before it is whole".to_owned(),
        more => format!("{more} before it are whole"),
    }
}

/// The capture ends within a frame.
fn cut_in_frame(number: u64) -> Fault {
    Fault::Cut(format!("the file ends within frame {number}; {}", before(number - 1)))
}

enum Format {
    Pcap(pcap::Pcap),
    Pcapng(pcapng::Pcapng),
}

/// Reads the frames of a capture, one after the other.
pub struct Reader {
    input: Input,
    format: Format,
    frames: u64,
}

impl Reader {
    /// Opens a file; `-` is standard input.
    pub fn open(path: &Path) -> Result<Self, Fault> {
        if path == Path::new("-") {
            return Self::new(Box::new(std::io::stdin()));
        }
        Self::new(Box::new(std::fs::File::open(path)?))
    }

    /// Reads a capture from where it comes.
    pub fn new(source: Box<dyn std::io::Read + Send>) -> Result<Self, Fault> {
        let mut input = Input::new(source)?;
        let format = if input.starts_with(&pcapng::SECTION_HEADER.to_le_bytes()) {
            Format::Pcapng(pcapng::Pcapng::open(&mut input)?)
        } else {
            Format::Pcap(pcap::Pcap::open(&mut input)?)
        };
        Ok(Self { input, format, frames: 0 })
    }

    /// The next frame; none when the capture has ended.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Fault> {
        let next = match &mut self.format {
            Format::Pcap(pcap) => pcap.next_frame(&mut self.input)?,
            Format::Pcapng(pcapng) => pcapng.next_frame(&mut self.input)?,
        };
        match &next {
            Some(frame) => self.frames = frame.number,
            None if self.input.is_cut() => {
                return Err(Fault::Cut(format!("the gzip file ends early; {}", before(self.frames))));
            }
            None => {}
        }
        Ok(next)
    }
}

/// What a record tells of a frame, whatever the format.
struct Record {
    number: u64,
    time_ns: Option<i128>,
    interface: u32,
    direction: Option<Direction>,
    original: u32,
    /// Bytes of the frame check sequence behind the frame.
    fcs: u32,
}

impl Record {
    /// The frame of this record.
    fn frame(self, link: Link, mut data: Vec<u8>) -> Frame {
        let captured = data.len() as u32;
        let mut unsendable = None;
        if link != Link::ETHERNET {
            data.clear();
            unsendable = Some(Unsendable::NotEthernet(link));
        } else if captured < self.original {
            unsendable = Some(Unsendable::Cut { captured, original: self.original });
        } else {
            data.truncate(captured.saturating_sub(self.fcs) as usize);
            if data.len() < sluice_abi::ETHERNET_HEADER as usize {
                unsendable = Some(Unsendable::Short(data.len()));
            }
        }
        let Self { number, time_ns, interface, direction, original, fcs } = self;
        let original = original.saturating_sub(fcs);
        Frame { number, time_ns, interface, direction, original, data, unsendable }
    }
}

/// Every frame of a capture, all of which have to be whole Ethernet frames.
pub fn frames(path: &Path) -> Result<Vec<Vec<u8>>, Error> {
    let refuse = |text: String| Error::Input(format!("{}: {text}", crate::text::path(path)));
    let mut reader = Reader::open(path).map_err(|fault| refuse(fault.to_string()))?;
    let mut frames = Vec::new();
    while let Some(frame) = reader.next_frame().map_err(|fault| refuse(fault.to_string()))? {
        if let Some(why) = frame.unsendable {
            return Err(refuse(format!("frame {} {why}", frame.number)));
        }
        frames.push(frame.data);
    }
    Ok(frames)
}

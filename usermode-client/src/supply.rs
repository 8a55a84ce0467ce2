//! Frames to send, in order: of a capture that is kept, read again for each pass, or arriving.
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use crate::capture::{Fault, Frame, Reader};
use crate::select::{self, Limits, Unsendable};
use crate::stop::Stop;
use crate::{Error, text};

/// Bytes of frames that are kept for further passes.
const KEPT: usize = 16 * 1024 * 1024;
/// What a frame takes in memory besides its bytes.
const OVERHEAD: usize = 128;
/// Frames that are read ahead of a pipe.
const AHEAD: usize = 64;

/// A frame to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Its number, from 1; passes of a loop count on.
    pub number: u64,
    /// Its bytes.
    pub data: Vec<u8>,
    /// Why no adapter can send it, if that is so.
    pub unsendable: Option<Unsendable>,
}

/// What comes next.
#[derive(Debug)]
pub enum Next {
    /// A frame.
    Packet(Packet),
    /// None yet.
    Later,
    /// The capture ends within a frame or a block, which these words say.
    Cut(String),
    /// The capture gives no more frames.
    Fault(Error),
    /// All frames have been handed out.
    End,
}

/// Hands out frames in order.
pub trait Supply {
    /// The next frame; waits up to `limit` for it if it comes from a pipe.
    fn next(&mut self, limit: Duration) -> Next;

    /// Frames that there are in all, those that cannot be sent among them, if that is known.
    fn total(&self) -> Option<u64>;

    /// Where they come from, for messages.
    fn name(&self) -> String;
}

/// What is known of a capture that was read to its end.
#[derive(Debug, Default)]
pub struct Scan {
    /// Frames in it.
    pub frames: u64,
    /// The first that no adapter can send.
    unsendable: Option<(u64, Unsendable)>,
    /// Each frame that is longer than all before it: its number, its bytes, and the MTU that it needs.
    longer: Vec<(u64, usize, usize)>,
    /// The least MTU that any frame needs that can be sent.
    least: Option<usize>,
    /// That it ends within a frame or a block.
    cut: Option<String>,
    /// That it is damaged behind its last frame.
    damaged: Option<String>,
    kept: Vec<Packet>,
    bytes: usize,
}

impl Scan {
    fn add(&mut self, frame: Frame) {
        self.frames = frame.number;
        if let Some(why) = frame.unsendable {
            self.unsendable.get_or_insert((frame.number, why));
        } else {
            let mtu = select::mtu_for(&frame.data);
            self.least = Some(self.least.map_or(mtu, |least| least.min(mtu)));
            if self.longer.last().is_none_or(|(_, _, longest)| mtu > *longest) {
                self.longer.push((frame.number, frame.data.len(), mtu));
            }
        }
        self.bytes += frame.data.len() + OVERHEAD;
        if self.bytes <= KEPT {
            self.kept.push(Packet { number: frame.number, data: frame.data, unsendable: frame.unsendable });
        }
    }

    fn end(&mut self, fault: Fault) -> Result<(), Fault> {
        match fault {
            Fault::Cut(text) => self.cut = Some(text),
            Fault::Damaged(text) => self.damaged = Some(text),
            fault => return Err(fault),
        }
        Ok(())
    }

    /// Why the capture cannot be sent as a whole, if that is so.
    pub fn refusal(&self, limits: Option<Limits>) -> Option<String> {
        let long = |limits: Limits| {
            let (number, length, _) = self.longer.iter().find(|(_, _, mtu)| *mtu > limits.mtu()).copied()?;
            Some((number, Unsendable::Long { length, limits }))
        };
        let first =
            self.unsendable.into_iter().chain(limits.and_then(long)).min_by_key(|(number, _)| *number);
        let first = first.map(|(number, why)| format!("frame {number} {why}"));
        first.or_else(|| self.damaged.clone()).or_else(|| self.cut.clone())
    }
}

fn refused(path: &Path, text: &str) -> Error {
    Error::Input(format!("{}: {text}", text::path(path)))
}

/// Frames of a capture, ready to be handed out.
pub struct Prepared {
    path: PathBuf,
    /// Passes; none for an endless loop.
    times: Option<u64>,
    /// What was found, unless the capture arrives through a pipe.
    pub scan: Option<Scan>,
}

impl Prepared {
    /// Reads a capture to its end to know what is in it, unless it arrives through a pipe and is sent once: then
    /// nothing is read yet. `times` is none for an endless loop.
    pub fn open(path: &Path, times: Option<u64>, stop: &Stop) -> Result<Self, Error> {
        let file = path != Path::new("-") && std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
        if !file && times == Some(1) {
            if path != Path::new("-") {
                // A folder, or what is not there, is said at once.
                Error::readable(path)?;
            }
            return Ok(Self { path: path.to_owned(), times, scan: None });
        }
        let scan = scan(path, file, stop)?;
        if scan.frames == 0 && scan.refusal(None).is_none() {
            return Err(refused(path, "there are no frames to send"));
        }
        Ok(Self { path: path.to_owned(), times, scan: Some(scan) })
    }

    /// One frame that did not come from a capture.
    pub fn one(data: Vec<u8>, times: Option<u64>) -> Self {
        let mut scan = Scan::default();
        let unsendable =
            (data.len() < sluice_abi::ETHERNET_HEADER as usize).then_some(Unsendable::Short(data.len()));
        let original = data.len() as u32;
        scan.add(Frame {
            number: 1,
            time_ns: None,
            interface: 0,
            direction: None,
            original,
            data,
            unsendable,
        });
        Self { path: PathBuf::from("--hex"), times, scan: Some(scan) }
    }

    /// The capture's name, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fails unless an adapter with these limits takes every frame; a capture that arrives is not known yet.
    pub fn check(&self, limits: Option<Limits>) -> Result<(), Error> {
        let refusal = self.scan.as_ref().and_then(|scan| scan.refusal(limits));
        refusal.map_or(Ok(()), |text| Err(refused(&self.path, &text)))
    }

    /// Fails if an adapter with these limits takes none of the frames.
    pub fn check_any(&self, limits: Limits) -> Result<(), Error> {
        let Some(scan) = &self.scan else { return Ok(()) };
        if scan.least.is_some_and(|least| least <= limits.mtu()) {
            return Ok(());
        }
        if let Some(text) = &scan.damaged {
            return Err(refused(&self.path, text));
        }
        let why = scan.refusal(Some(limits)).map_or_else(String::new, |text| format!(": {text}"));
        Err(refused(&self.path, &format!("there are no frames to send{why}")))
    }

    /// Hands the frames out.
    pub fn supply(self) -> Result<Box<dyn Supply>, Error> {
        let Self { path, times, scan } = self;
        let Some(scan) = scan else { return Ok(Box::new(Arriving::start(path))) };
        let damaged = scan.damaged.is_some();
        // A damaged capture ends the run where the damage is, however many passes were asked for.
        let times = if damaged { Some(1) } else { times };
        let end = match (scan.damaged, scan.cut) {
            (Some(text), _) => Some((true, text)),
            (None, Some(text)) => Some((false, text)),
            (None, None) => None,
        };
        let frames = if scan.bytes <= KEPT { Frames::Kept(scan.kept) } else { Frames::Read(open(&path)?) };
        Ok(Box::new(Passes {
            path,
            frames,
            count: scan.frames,
            times,
            pass: 0,
            position: 0,
            end,
            ended: false,
        }))
    }
}

impl Error {
    /// Fails unless a file can be opened and is no folder.
    fn readable(path: &Path) -> Result<(), Self> {
        let metadata = std::fs::metadata(path).map_err(|error| refused(path, &error.to_string()))?;
        if metadata.is_dir() { Err(refused(path, "is a folder")) } else { Ok(()) }
    }
}

fn open(path: &Path) -> Result<Reader, Error> {
    Reader::open(path).map_err(|fault| refused(path, &fault.to_string()))
}

fn scan(path: &Path, again: bool, stop: &Stop) -> Result<Scan, Error> {
    Error::readable(path).or_else(|error| if path == Path::new("-") { Ok(()) } else { Err(error) })?;
    let mut scan = Scan::default();
    let mut reader = match Reader::open(path) {
        Ok(reader) => reader,
        Err(fault) => {
            let text = fault.to_string();
            return match scan.end(fault) {
                Ok(()) => Ok(scan),
                Err(_) => Err(refused(path, &text)),
            };
        }
    };
    loop {
        if stop.is_stopped() {
            return Err(Error::Stopped);
        }
        match reader.next_frame() {
            Ok(Some(frame)) => scan.add(frame),
            Ok(None) => return Ok(scan),
            Err(fault) => {
                let text = fault.to_string();
                scan.end(fault).map_err(|_| refused(path, &text))?;
                return Ok(scan);
            }
        }
        if !again && scan.bytes > KEPT {
            let most = KEPT / 1024 / 1024;
            let text = format!(
                "holds more than the {most} MiB of frames that --loop keeps of a pipe; save it to a file"
            );
            return Err(refused(path, &text));
        }
        if scan.bytes > KEPT && !scan.kept.is_empty() {
            scan.kept = Vec::new();
        }
    }
}

enum Frames {
    Kept(Vec<Packet>),
    Read(Reader),
}

/// A capture that was read once, one or several times.
struct Passes {
    path: PathBuf,
    frames: Frames,
    /// Frames of a pass, so that a capture that grows meanwhile is sent as it was.
    count: u64,
    times: Option<u64>,
    pass: u64,
    position: u64,
    /// Whether the capture is damaged behind its last frame, or else cut, in words.
    end: Option<(bool, String)>,
    ended: bool,
}

impl Passes {
    fn read(&mut self) -> Result<Option<Packet>, Error> {
        let number = self.pass * self.count + self.position + 1;
        let packet = match &mut self.frames {
            Frames::Kept(frames) => frames.get(self.position as usize).cloned(),
            Frames::Read(reader) => reader
                .next_frame()
                .map_err(|fault| refused(&self.path, &format!("changed since it was first read: {fault}")))?
                .map(|frame| Packet { number, data: frame.data, unsendable: frame.unsendable }),
        };
        Ok(packet.map(|packet| Packet { number, ..packet }))
    }

    fn step(&mut self) -> Result<Next, Error> {
        if self.times.is_some_and(|times| self.pass >= times) {
            return Ok(Next::End);
        }
        if self.position < self.count
            && let Some(packet) = self.read()?
        {
            self.position += 1;
            return Ok(Next::Packet(packet));
        }
        self.pass += 1;
        self.position = 0;
        if let Frames::Read(reader) = &mut self.frames
            && self.times.is_none_or(|times| self.pass < times)
        {
            *reader = open(&self.path)?;
        }
        match &self.end {
            Some((true, text)) => Err(refused(&self.path, text)),
            Some((false, text)) => Ok(Next::Cut(text.clone())),
            None => Ok(Next::Later),
        }
    }
}

impl Supply for Passes {
    fn next(&mut self, _limit: Duration) -> Next {
        while !self.ended {
            match self.step() {
                // A pass has ended, and the next begins.
                Ok(Next::Later) => {}
                Ok(next) => return next,
                Err(error) => {
                    self.ended = true;
                    return Next::Fault(error);
                }
            }
        }
        Next::End
    }

    fn total(&self) -> Option<u64> {
        self.times.map(|times| times.saturating_mul(self.count))
    }

    fn name(&self) -> String {
        text::path(&self.path)
    }
}

/// A capture that arrives through a pipe, read on a thread of its own: a writer that pauses holds nothing up.
struct Arriving {
    path: PathBuf,
    frames: Receiver<Result<Frame, Fault>>,
    ended: bool,
    any: bool,
}

impl Arriving {
    fn start(path: PathBuf) -> Self {
        let (sender, frames) = sync_channel(AHEAD);
        let name = path.clone();
        std::thread::spawn(move || {
            let mut reader = match Reader::open(&name) {
                Ok(reader) => reader,
                Err(fault) => {
                    // The run may have ended meanwhile.
                    let _ = sender.send(Err(fault));
                    return;
                }
            };
            while let Some(next) = reader.next_frame().transpose() {
                let failed = next.is_err();
                if sender.send(next).is_err() || failed {
                    return;
                }
            }
        });
        Self { path, frames, ended: false, any: false }
    }
}

impl Supply for Arriving {
    fn next(&mut self, limit: Duration) -> Next {
        if self.ended {
            return Next::End;
        }
        match self.frames.recv_timeout(limit) {
            Ok(Ok(frame)) => {
                self.any = true;
                Next::Packet(Packet { number: frame.number, data: frame.data, unsendable: frame.unsendable })
            }
            Ok(Err(fault)) => {
                self.ended = true;
                match fault {
                    Fault::Cut(text) => Next::Cut(text),
                    fault => Next::Fault(refused(&self.path, &fault.to_string())),
                }
            }
            Err(RecvTimeoutError::Timeout) => Next::Later,
            Err(RecvTimeoutError::Disconnected) if !self.any => {
                self.ended = true;
                Next::Fault(refused(&self.path, "there are no frames to send"))
            }
            Err(RecvTimeoutError::Disconnected) => {
                self.ended = true;
                Next::End
            }
        }
    }

    fn total(&self) -> Option<u64> {
        None
    }

    fn name(&self) -> String {
        text::path(&self.path)
    }
}

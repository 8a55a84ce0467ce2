//! Frames to send, in order: of a capture that is kept, read again for each pass, or arriving.
mod arriving;
mod passes;
mod scan;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::capture::Frame;
use crate::select::{Limits, Unsendable};
use crate::stop::Stop;
use crate::{Error, text};

use arriving::Arriving;
use passes::Passes;
use scan::{Scan, scan};

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

fn refused(path: &Path, text: &str) -> Error {
    Error::Input(format!("{}: {text}", text::path(path)))
}

/// Frames of a capture, ready to be handed out.
pub struct Prepared {
    path: PathBuf,
    /// Passes; none for an endless loop.
    times: Option<u64>,
    /// What was found, unless the capture arrives through a pipe.
    scan: Option<Scan>,
}

impl Prepared {
    /// Reads a capture to its end to know what is in it, unless it arrives through a pipe and is sent once: then
    /// nothing is read yet. `times` is none for an endless loop.
    pub fn open(path: &Path, times: Option<u64>, stop: &Stop) -> Result<Self, Error> {
        let file = path != Path::new("-") && std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
        if !file && times == Some(1) {
            // A folder, or what is not there, is said at once.
            readable(path)?;
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
        Ok(Box::new(Passes::start(path, scan, times)?))
    }
}

/// Fails unless a file can be opened and is no folder.
fn readable(path: &Path) -> Result<(), Error> {
    if path == Path::new("-") {
        return Ok(());
    }
    let metadata = std::fs::metadata(path).map_err(|error| refused(path, &error.to_string()))?;
    if metadata.is_dir() { Err(refused(path, "is a folder")) } else { Ok(()) }
}

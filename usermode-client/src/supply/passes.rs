//! A capture that was read once, and is sent once or several times.
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::scan::{KEPT, Scan};
use super::{Next, Packet, Supply, refused};
use crate::capture::Reader;
use crate::{Error, text};

fn open(path: &Path) -> Result<Reader, Error> {
    Reader::open(path).map_err(|fault| refused(path, &fault.to_string()))
}

enum Frames {
    Kept(Vec<Packet>),
    Read(Reader),
}

/// A capture that was read once, one or several times.
pub(super) struct Passes {
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
    /// Starts the first pass; `times` is none for an endless loop.
    pub(super) fn start(path: PathBuf, scan: Scan, times: Option<u64>) -> Result<Self, Error> {
        // A damaged capture ends the run where the damage is, however many passes were asked for.
        let times = if scan.damaged.is_some() { Some(1) } else { times };
        let end = match (scan.damaged, scan.cut) {
            (Some(text), _) => Some((true, text)),
            (None, Some(text)) => Some((false, text)),
            (None, None) => None,
        };
        let frames = if scan.bytes <= KEPT { Frames::Kept(scan.kept) } else { Frames::Read(open(&path)?) };
        Ok(Self { path, frames, count: scan.frames, times, pass: 0, position: 0, end, ended: false })
    }

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

//! What is in a capture, before any of it is sent.
use std::path::Path;

use super::{Packet, readable, refused};
use crate::Error;
use crate::capture::{Fault, Frame, Reader};
use crate::select::{self, Limits, Unsendable};
use crate::stop::Stop;

/// Bytes of frames that are kept for further passes.
pub(super) const KEPT: usize = 16 * 1024 * 1024;
/// What a frame takes in memory besides its bytes.
const OVERHEAD: usize = 128;

/// What is known of a capture that was read to its end.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Frames in it.
    pub(super) frames: u64,
    /// The first that no adapter can send.
    unsendable: Option<(u64, Unsendable)>,
    /// Each frame that is longer than all before it: its number, its bytes, and the MTU that it needs.
    longer: Vec<(u64, usize, usize)>,
    /// The least MTU that any frame needs that can be sent.
    pub(super) least: Option<usize>,
    /// That it ends within a frame or a block.
    pub(super) cut: Option<String>,
    /// That it is damaged behind its last frame.
    pub(super) damaged: Option<String>,
    pub(super) kept: Vec<Packet>,
    pub(super) bytes: usize,
}

impl Scan {
    pub(super) fn add(&mut self, frame: Frame) {
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
    pub(super) fn refusal(&self, limits: Option<Limits>) -> Option<String> {
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

/// Reads a capture to its end; what cannot be read `again` may not hold more than is kept.
pub(super) fn scan(path: &Path, again: bool, stop: &Stop) -> Result<Scan, Error> {
    readable(path)?;
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

//! A capture that arrives through a pipe.
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use super::{Next, Packet, Supply, refused};
use crate::capture::{Fault, Frame, Reader};
use crate::text;

/// Frames that are read ahead of a pipe.
const AHEAD: usize = 64;

/// A capture that arrives through a pipe, read on a thread of its own: a writer that pauses holds nothing up.
pub(super) struct Arriving {
    path: PathBuf,
    frames: Receiver<Result<Frame, Fault>>,
    ended: bool,
    any: bool,
}

impl Arriving {
    pub(super) fn start(path: PathBuf) -> Self {
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

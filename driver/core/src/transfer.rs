//! One send request while its frames are out, and the race between its last frame and its cancellation.
//!
//! Two parties may still touch the request: its frames, and the cancel routine that the I/O manager may call
//! at any time. Each holds a share; whoever gives up the last share completes the request. The last frame
//! gives up its share only after it has tried to take the cancel routine back, so the request cannot be
//! completed while it tries.
use core::sync::atomic::Ordering::{AcqRel, Release};

use crate::Word;

/// Shares and frames of one request.
#[derive(Debug)]
pub struct Transfer<W> {
    frames: W,
    shares: W,
}

impl<W: Word> Transfer<W> {
    /// A transfer that is not in use.
    pub fn new() -> Self {
        Self { frames: W::new(0), shares: W::new(0) }
    }

    /// Starts a request of `frames` frames: one share for them, one for its cancel routine.
    pub fn start(&self, frames: u32) {
        self.frames.store(u64::from(frames), Release);
        self.shares.store(2, Release);
    }

    /// `frames` frames came back; true for the caller that brought the last. That caller still holds the
    /// frames' share.
    pub fn frames_back(&self, frames: u32) -> bool {
        self.frames.fetch_sub(u64::from(frames), AcqRel) == u64::from(frames)
    }

    /// Gives up one share; true for the caller that gave up the last and must complete the request.
    pub fn give_up(&self) -> bool {
        self.shares.fetch_sub(1, AcqRel) == 1
    }
}

impl<W: Word> Default for Transfer<W> {
    fn default() -> Self {
        Self::new()
    }
}

//! Sending: frames in batches, several batches on their way, and what became of each frame.
use std::collections::VecDeque;

use serde::Serialize;
use sluice_abi::{ABI_MAJOR, FrameResult, IOCTL_SEND, MAX_FRAMES, SendHeader};
use zerocopy::{FromBytes, IntoBytes};

use crate::Error;
use crate::device::{Device, Pending, Reply};
use crate::error::status;

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The adapter sent it.
    Sent,
    /// It was not sent, because the adapter was paused.
    Paused,
    /// The adapter gave it back with this status.
    Failed(u32),
}

impl From<FrameResult> for Outcome {
    fn from(result: FrameResult) -> Self {
        match result {
            FrameResult::SENT => Self::Sent,
            FrameResult::PAUSED => Self::Paused,
            FrameResult(status) => Self::Failed(status),
        }
    }
}

/// Sums of a run. `submitted = sent + paused + failed`, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Frames handed to the driver that it answered.
    pub submitted: u64,
    /// Frames sent.
    pub sent: u64,
    /// Frames refused because the adapter was paused.
    pub paused: u64,
    /// Frames given back with an error.
    pub failed: u64,
    /// Bytes of the frames that were sent.
    pub bytes_sent: u64,
    /// Requests.
    pub requests: u64,
}

impl Totals {
    /// Counts one frame.
    pub fn count(&mut self, outcome: Outcome, length: usize) {
        self.submitted += 1;
        match outcome {
            Outcome::Sent => {
                self.sent += 1;
                self.bytes_sent += length as u64;
            }
            Outcome::Paused => self.paused += 1,
            Outcome::Failed(_) => self.failed += 1,
        }
    }

    /// Adds another run's sums.
    pub fn add(&mut self, other: &Self) {
        self.submitted += other.submitted;
        self.sent += other.sent;
        self.paused += other.paused;
        self.failed += other.failed;
        self.bytes_sent += other.bytes_sent;
        self.requests += other.requests;
    }
}

/// A batch on its way.
pub struct Batch {
    /// The batch's frames, in order.
    pub frames: Vec<Vec<u8>>,
    pending: Box<dyn Pending>,
}

/// What became of a batch.
#[derive(Debug)]
pub enum Answer {
    /// The driver took the request: one outcome for each frame.
    Frames(Vec<Outcome>),
    /// The adapter was gone before anything was sent: the frames are still the caller's.
    Removed,
}

/// Hands up to [`MAX_FRAMES`] frames to the driver.
pub fn start(device: &dyn Device, frames: Vec<Vec<u8>>) -> Result<Batch, Error> {
    if frames.is_empty() || frames.len() > MAX_FRAMES {
        return Err(Error::Input(format!(
            "a request carries 1 to {MAX_FRAMES} frames, not {}",
            frames.len()
        )));
    }
    let header = SendHeader { abi_major: ABI_MAJOR, flags: 0, frame_count: frames.len() as u32 };
    let mut input = header.as_bytes().to_vec();
    let mut data = vec![0xFF; size_of::<FrameResult>() * frames.len()];
    for frame in &frames {
        input.extend_from_slice(&(frame.len() as u32).to_le_bytes());
        data.extend_from_slice(frame);
    }
    let pending = device.start(IOCTL_SEND, input, data)?;
    Ok(Batch { frames, pending })
}

impl Batch {
    /// Waits for the driver's answer; the frames come back with it.
    pub fn wait(self) -> Result<(Vec<Vec<u8>>, Answer), Error> {
        let reply = self.pending.wait()?;
        answer(&reply, self.frames.len()).map(|answer| (self.frames, answer))
    }

    /// Asks for the batch to be cancelled. [`Batch::wait`] tells what became of it.
    pub fn cancel(&self) -> Result<(), Error> {
        self.pending.cancel()
    }
}

fn answer(reply: &Reply, frames: usize) -> Result<Answer, Error> {
    match reply.status {
        0 | status::CANCELLED => {
            let (results, _) = <[FrameResult]>::ref_from_prefix_with_elems(&reply.output, frames)
                .map_err(|_| Error::Broken("the driver's results are too short".to_owned()))?;
            Ok(Answer::Frames(results.iter().map(|result| Outcome::from(*result)).collect()))
        }
        status::DEVICE_REMOVED => Ok(Answer::Removed),
        status::INVALID_BUFFER_SIZE => Err(Error::Input(
            "a frame is shorter than an Ethernet header or longer than the adapter takes".to_owned(),
        )),
        other => Err(Error::of_status(other)),
    }
}

/// What [`run`] reports as it goes.
pub trait Progress {
    /// One frame's outcome is known.
    fn frame(&mut self, frame: &[u8], outcome: Outcome);

    /// The adapter is gone. Returns a new handle that is bound to it again, or gives up.
    fn removed(&mut self) -> Result<Box<dyn Device>, Error>;

    /// Whether to stop handing in frames.
    fn stopped(&self) -> bool;
}

/// Sends every frame, `batch` in a request and `depth` requests at a time.
///
/// A frame is either answered for, in the totals and through [`Progress::frame`], or it was never handed to
/// a driver that took it: frames of a request that met a removed adapter are sent again when it is back.
pub fn run(
    mut device: Box<dyn Device>,
    frames: impl Iterator<Item = Vec<u8>>,
    batch: usize,
    depth: usize,
    progress: &mut dyn Progress,
) -> Result<Totals, (Totals, Error)> {
    let mut totals = Totals::default();
    let mut frames = frames.fuse();
    let mut again: VecDeque<Vec<u8>> = VecDeque::new();
    let mut under_way: VecDeque<Batch> = VecDeque::new();
    loop {
        while under_way.len() < depth.max(1) {
            let fresh = !progress.stopped();
            let next: Vec<Vec<u8>> =
                std::iter::from_fn(|| again.pop_front().or_else(|| if fresh { frames.next() } else { None }))
                    .take(batch.clamp(1, MAX_FRAMES))
                    .collect();
            if next.is_empty() {
                break;
            }
            totals.requests += 1;
            match start(device.as_ref(), next) {
                Ok(batch) => under_way.push_back(batch),
                Err(error) => return Err(finish(under_way, totals, progress, error)),
            }
        }
        let Some(oldest) = under_way.pop_front() else { return Ok(totals) };
        match collect(oldest, &mut totals, progress) {
            Ok(None) => {}
            Ok(Some(unsent)) => {
                again.extend(unsent);
                // What else is under way meets the same end; it is collected before a new handle is used.
                while let Some(other) = under_way.pop_front() {
                    match collect(other, &mut totals, progress) {
                        Ok(unsent) => again.extend(unsent.into_iter().flatten()),
                        Err(error) => return Err(finish(under_way, totals, progress, error)),
                    }
                }
                device = progress.removed().map_err(|error| (totals, error))?;
            }
            Err(error) => return Err(finish(under_way, totals, progress, error)),
        }
    }
}

/// Waits for a batch and counts its frames; frames of a batch that met a removed adapter are given back.
fn collect(
    batch: Batch,
    totals: &mut Totals,
    progress: &mut dyn Progress,
) -> Result<Option<Vec<Vec<u8>>>, Error> {
    let (frames, answer) = batch.wait()?;
    let Answer::Frames(outcomes) = answer else { return Ok(Some(frames)) };
    for (frame, outcome) in frames.iter().zip(outcomes) {
        totals.count(outcome, frame.len());
        progress.frame(frame, outcome);
    }
    Ok(None)
}

/// After an error: what is still under way is waited for and counted, so that the totals are true.
fn finish(
    under_way: VecDeque<Batch>,
    mut totals: Totals,
    progress: &mut dyn Progress,
    error: Error,
) -> (Totals, Error) {
    for batch in under_way {
        // Another error on the way out says no more than the first.
        let _ = collect(batch, &mut totals, progress);
    }
    (totals, error)
}

//! Send requests: a batch of frames, and what became of each. [`crate::run`] sends whole captures with them.
use std::time::Duration;

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
            FrameResult::PAUSED | FrameResult(status::LOW_POWER_STATE) => Self::Paused,
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
        let (frames, answer) = self.finish();
        answer.map(|answer| (frames, answer))
    }

    /// Waits for the driver's answer; the frames come back whatever it is.
    pub fn finish(self) -> (Vec<Vec<u8>>, Result<Answer, Error>) {
        let answer = self.pending.wait().and_then(|reply| answer(&reply, self.frames.len()));
        (self.frames, answer)
    }

    /// Waits up to `limit` for the driver's answer, and returns whether it is there.
    pub fn wait_for(&mut self, limit: Duration) -> Result<bool, Error> {
        self.pending.wait_for(limit)
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

//! Sending a whole capture: several requests outstanding, an adapter that goes away and comes back, and a caller that
//! stops.
//!
//! Each frame is sent once at most. What the driver refused, because the module was paused or gone, was not sent; with
//! [`Options::wait`] it is sent again, in order, after everything outstanding has been answered and before any frame
//! that was not handed in yet.
mod absence;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use sluice_abi::MAX_FRAMES;

use absence::Trouble;

use crate::Error;
use crate::device::Device;
use crate::outcomes::Final;
use crate::patience::Patience;
use crate::select::Limits;
use crate::send::{self, Answer, Batch, Outcome, Totals};
use crate::stop::{Stage, Stop};
use crate::supply::{Next, Packet, Supply};

/// How long one look at an outstanding request or a pipe may take.
const LOOK: Duration = Duration::from_millis(50);
/// How a run is made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Frames in a request.
    pub batch: usize,
    /// Requests outstanding at a time.
    pub depth: usize,
    /// Leave out frames that cannot be sent.
    pub skip: bool,
    /// How long an absence of the adapter may take, not counting time asleep; zero: it ends the run.
    pub wait: Duration,
}

/// A handle that is bound to an adapter.
pub struct Connection {
    /// The handle.
    pub device: Box<dyn Device>,
    /// What the adapter takes.
    pub limits: Limits,
}

/// Finds the adapter again after it went away.
pub trait Connect {
    /// Tries once to open a handle and to bind it; a bind that pends is given up when `patience` is over.
    fn connect(&mut self, patience: &mut Patience, stop: &Stop) -> Result<Connection, Error>;

    /// What the adapter takes now.
    fn limits(&mut self, device: &dyn Device) -> Result<Limits, Error>;

    /// The adapter's name, for messages.
    fn name(&self) -> String;
}

/// What a run tells as it goes.
pub trait Observer {
    /// What became of a frame in the end.
    fn frame(&mut self, number: u64, what: Final) -> Result<(), Error>;

    /// The sums have changed.
    fn progress(&mut self, sums: &Sums) -> Result<(), Error>;

    /// The caller stops the run further while this many frames are outstanding.
    fn stage(&mut self, stage: Stage, outstanding: u64);

    /// The adapter is away, or back.
    fn waiting(&mut self, waiting: bool);
}

/// What a run adds up. Each frame that was read is in `totals`, `skipped`, `unsent` or `unanswered`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Frames that the driver answered for.
    pub totals: Totals,
    /// Frames that cannot be sent and were left out.
    pub skipped: u64,
    /// The same by reason.
    pub reasons: BTreeMap<&'static str, u64>,
    /// Frames handed in again after a refusal.
    pub resent: u64,
    /// Frames that were read and not sent.
    pub unsent: u64,
    /// Frames that were handed to the driver, whose outcome is not known.
    pub unanswered: u64,
    /// How often the adapter went away and was bound again.
    pub removals: u32,
}

impl Sums {
    /// Frames that were left out; an unfinished one at the end of a capture is none.
    pub fn skipped_frames(&self) -> u64 {
        self.skipped - self.reasons.get(UNFINISHED).copied().unwrap_or(0)
    }
}

/// The reason for which the end of a cut capture is left out.
pub const UNFINISHED: &str = "unfinished";

/// A frame that was taken from the supply and is not handed in.
struct Again {
    packet: Packet,
    /// Whether the driver had it and refused it.
    refused: bool,
}

/// A request that is outstanding, and its frames' numbers.
struct Flight {
    batch: Batch,
    numbers: Vec<u64>,
}

/// Why nothing is handed in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Absence {
    Paused,
    Removed,
}

struct Run<'a> {
    device: Box<dyn Device>,
    limits: Limits,
    supply: &'a mut dyn Supply,
    connect: &'a mut dyn Connect,
    options: Options,
    stop: &'a Stop,
    observer: &'a mut dyn Observer,
    sums: Sums,
    /// Frames that come before those of the supply, in order.
    again: VecDeque<Again>,
    /// Frames of the next request.
    gathered: Vec<Packet>,
    outstanding: VecDeque<Flight>,
    ended: bool,
    stage: Stage,
    absence: Option<Absence>,
    trouble: Option<Trouble>,
    failure: Option<Error>,
}

/// Sends every frame of `supply`, and returns the sums and what ended the run early.
pub fn run(
    connection: Connection,
    supply: &mut dyn Supply,
    connect: &mut dyn Connect,
    options: Options,
    stop: &Stop,
    observer: &mut dyn Observer,
) -> (Sums, Option<Error>) {
    let run = Run {
        device: connection.device,
        limits: connection.limits,
        supply,
        connect,
        options,
        stop,
        observer,
        sums: Sums::default(),
        again: VecDeque::new(),
        gathered: Vec::new(),
        outstanding: VecDeque::new(),
        ended: false,
        stage: Stage::Running,
        absence: None,
        trouble: None,
        failure: None,
    };
    run.finish()
}

impl Run<'_> {
    fn finish(mut self) -> (Sums, Option<Error>) {
        loop {
            // The caller's wish comes first, whatever the adapter does.
            self.follow();
            if self.stage == Stage::Gone {
                break;
            }
            let goes_on = self.stage == Stage::Running && self.failure.is_none();
            if goes_on && self.absence.is_none() {
                self.hand_in();
            }
            if !self.outstanding.is_empty() {
                self.collect();
            } else if !goes_on || self.failure.is_some() {
                break;
            } else if let Some(absence) = self.absence {
                self.recover(absence);
            } else if self.ended && self.again.is_empty() && self.gathered.is_empty() {
                break;
            }
        }
        self.account()
    }

    /// Notes a failure; the first one is what the caller is told.
    fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
    }

    fn note(&mut self, number: u64, what: Final) {
        if let Err(error) = self.observer.frame(number, what) {
            self.fail(error);
        }
    }

    fn follow(&mut self) {
        let stage = self.stop.stage();
        if stage == self.stage {
            return;
        }
        let outstanding = self.outstanding.iter().map(|flight| flight.numbers.len() as u64).sum();
        self.observer.stage(stage, outstanding);
        if stage >= Stage::Cancelling && self.stage < Stage::Cancelling {
            for flight in &self.outstanding {
                // A request that has completed meanwhile cannot be cancelled, and is collected like the others.
                let _ = flight.batch.cancel();
            }
        }
        self.stage = stage;
    }

    /// Fills the window.
    fn hand_in(&mut self) {
        let batch = self.options.batch.clamp(1, MAX_FRAMES);
        while self.outstanding.len() < self.options.depth.max(1)
            && self.failure.is_none()
            && self.absence.is_none()
        {
            self.gather(batch);
            // A pipe that gives few frames at a time is not waited for unless nothing else is to be done.
            let later = !self.ended && self.failure.is_none() && self.gathered.len() < batch;
            if self.gathered.is_empty() || (later && !self.outstanding.is_empty()) {
                return;
            }
            self.start();
        }
    }

    fn gather(&mut self, batch: usize) {
        while self.gathered.len() < batch && self.failure.is_none() {
            if let Some(Again { packet, refused }) = self.again.pop_front() {
                self.sums.resent += u64::from(refused);
                self.admit(packet);
                continue;
            }
            if self.ended {
                return;
            }
            let idle = self.gathered.is_empty() && self.outstanding.is_empty();
            match self.supply.next(if idle { LOOK } else { Duration::ZERO }) {
                Next::Packet(packet) => self.admit(packet),
                Next::Later => return,
                Next::Cut(_) if self.options.skip => self.skipped(UNFINISHED),
                Next::Cut(text) => self.refuse_input(&text),
                Next::Fault(error) => self.fail(error),
                Next::End => self.ended = true,
            }
        }
    }

    /// Takes a frame into the next request if the adapter takes it.
    fn admit(&mut self, packet: Packet) {
        let fits = packet.unsendable.map_or_else(|| self.limits.check(&packet.data), Err);
        match fits {
            Ok(()) => self.gathered.push(packet),
            Err(why) if self.options.skip => {
                self.skipped(why.reason());
                self.note(packet.number, Final::Skipped);
            }
            Err(why) => {
                let number = packet.number;
                self.again.push_back(Again { packet, refused: false });
                self.refuse_input(&format!("frame {number} {why}"));
            }
        }
    }

    fn refuse_input(&mut self, text: &str) {
        let name = self.supply.name();
        self.fail(Error::Input(format!("{name}: {text}")));
    }

    fn skipped(&mut self, reason: &'static str) {
        self.sums.skipped += 1;
        *self.sums.reasons.entry(reason).or_default() += 1;
    }

    fn start(&mut self) {
        let packets = std::mem::take(&mut self.gathered);
        let (numbers, frames) = packets.into_iter().map(|packet| (packet.number, packet.data)).unzip();
        let numbers: Vec<u64> = numbers;
        self.sums.totals.requests += 1;
        match send::start(self.device.as_ref(), frames) {
            Ok(batch) => self.outstanding.push_back(Flight { batch, numbers }),
            Err(error) => {
                // A connection that broke may have carried the request before.
                if matches!(error, Error::Broken(_)) {
                    self.unanswered(&numbers);
                } else {
                    self.unsent(&numbers);
                }
                self.fail(error);
            }
        }
    }

    fn unsent(&mut self, numbers: &[u64]) {
        self.sums.unsent += numbers.len() as u64;
        for number in numbers {
            self.note(*number, Final::Unsent);
        }
    }

    fn unanswered(&mut self, numbers: &[u64]) {
        self.sums.unanswered += numbers.len() as u64;
        for number in numbers {
            self.note(*number, Final::Unanswered);
        }
    }

    /// Looks at the oldest request, and takes in its answer if it is there.
    fn collect(&mut self) {
        let Some(oldest) = self.outstanding.front_mut() else { return };
        match oldest.batch.wait_for(LOOK) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                if let Some(Flight { numbers, .. }) = self.outstanding.pop_front() {
                    self.unanswered(&numbers);
                }
                self.fail(error);
                return;
            }
        }
        let Some(Flight { batch, numbers }) = self.outstanding.pop_front() else { return };
        let (frames, answer) = batch.finish();
        match answer {
            Ok(Answer::Frames(outcomes)) => self.answered(&numbers, frames, &outcomes),
            Ok(Answer::Removed) => {
                self.refused(numbers.into_iter().zip(frames));
                self.absence = Some(Absence::Removed);
            }
            // The adapter's MTU has changed since the frames were looked at.
            Err(Error::Input(_)) if self.has_other_limits() => self.refused(numbers.into_iter().zip(frames)),
            Err(error @ (Error::Broken(_) | Error::System(_))) => {
                self.unanswered(&numbers);
                self.fail(error);
            }
            Err(error) => {
                self.unsent(&numbers);
                self.fail(error);
            }
        }
        if let Err(error) = self.observer.progress(&self.sums) {
            self.fail(error);
        }
    }

    /// Whether the adapter takes other frames than it did; notes which.
    fn has_other_limits(&mut self) -> bool {
        let Ok(limits) = self.connect.limits(self.device.as_ref()) else { return false };
        std::mem::replace(&mut self.limits, limits) != limits
    }

    fn answered(&mut self, numbers: &[u64], frames: Vec<Vec<u8>>, outcomes: &[Outcome]) {
        let resends = !self.options.wait.is_zero() && self.stage == Stage::Running && self.failure.is_none();
        let mut refused = Vec::new();
        let mut progress = false;
        for ((number, frame), outcome) in numbers.iter().zip(frames).zip(outcomes) {
            if *outcome == Outcome::Paused && resends {
                refused.push((*number, frame));
                continue;
            }
            progress |= *outcome != Outcome::Paused;
            self.sums.totals.count(*outcome, frame.len());
            self.note(*number, Final::Answered(*outcome));
        }
        if progress {
            self.trouble = None;
        }
        if !refused.is_empty() {
            self.refused(refused);
            self.absence.get_or_insert(Absence::Paused);
        }
    }

    /// Takes frames back that the driver refused.
    fn refused(&mut self, frames: impl IntoIterator<Item = (u64, Vec<u8>)>) {
        let packet = |(number, data)| Packet { number, data, unsendable: None };
        self.again.extend(frames.into_iter().map(|frame| Again { packet: packet(frame), refused: true }));
        // What was refused before and has not been handed in since stands behind.
        self.again.make_contiguous().sort_by_key(|again| again.packet.number);
    }

    /// Puts frames that were gathered for the next request behind those that were refused.
    fn ungather(&mut self) {
        self.again.extend(self.gathered.drain(..).map(|packet| Again { packet, refused: false }));
        self.again.make_contiguous().sort_by_key(|again| again.packet.number);
    }

    /// Accounts for what was not sent.
    fn account(mut self) -> (Sums, Option<Error>) {
        self.ungather();
        let left: Vec<u64> = self.again.drain(..).map(|again| again.packet.number).collect();
        self.unsent(&left);
        let outstanding: Vec<Flight> = self.outstanding.drain(..).collect();
        for flight in outstanding {
            self.unanswered(&flight.numbers);
            // The driver may still write to the request's memory, and nothing is waited for any more.
            std::mem::forget(flight.batch);
        }
        if let Err(error) = self.observer.progress(&self.sums) {
            self.fail(error);
        }
        let Self { device, sums, failure, stage, .. } = self;
        if stage == Stage::Gone {
            // Closing the handle would wait for what is outstanding.
            std::mem::forget(device);
        }
        (sums, failure)
    }
}

//! A driver that answers as a script says, and what reached its wire.
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use sluice_abi::{
    FrameResult, IOCTL_BIND, IOCTL_SEND, IOCTL_STATISTICS, STATE_PAUSED, STATE_RUNNING, Statistics,
};
use sluice_client::device::{Device, Pending, Reply};
use sluice_client::outcomes::Final;
use sluice_client::patience::Patience;
use sluice_client::run::{Connect, Connection, Observer, Sums};
use sluice_client::select::Limits;
use sluice_client::stop::{Stage, Stop};
use sluice_client::supply::{Next, Packet, Supply};
use sluice_client::{Error, status};
use zerocopy::IntoBytes;

/// What becomes of a send request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// Every frame is sent.
    Sent,
    /// The frames from this one on are refused with `NDIS_STATUS_PAUSED` or another result.
    From(usize, FrameResult),
    /// The handle is stale.
    Removed,
    /// The request is refused with a status.
    Status(u32),
    /// The adapter keeps the frames until the request is cancelled.
    Held,
    /// The adapter keeps the frames whatever is asked.
    Kept,
}

/// All frames of a request are refused because the module is paused.
pub(crate) const PAUSED: Answer = Answer::From(0, FrameResult::PAUSED);

/// The driver, and what it saw.
#[derive(Default)]
pub(crate) struct World {
    /// Answers to the next send requests; after them every frame is sent.
    pub(crate) answers: RefCell<VecDeque<Answer>>,
    /// The answer after the script, if it is another.
    pub(crate) always: Cell<Option<Answer>>,
    /// States that the next requests for statistics show; after them it runs.
    pub(crate) states: RefCell<VecDeque<u32>>,
    /// Frames that reached the wire, in order: their numbers.
    pub(crate) wire: RefCell<Vec<u64>>,
    /// Send requests.
    pub(crate) requests: Cell<u32>,
    /// Requests that were cancelled.
    pub(crate) cancelled: Cell<u32>,
    /// Binds that were asked for through [`Reconnect`].
    pub(crate) binds: Cell<u32>,
    /// What the next binds end with; after them they succeed.
    pub(crate) absences: RefCell<VecDeque<Error>>,
    /// Whether the adapter never comes back.
    pub(crate) gone: Cell<bool>,
    /// The adapter's MTU, 1500 unless set.
    pub(crate) mtu: Cell<u32>,
    /// Whether a bind pends.
    pub(crate) bind_pends: Cell<bool>,
}

impl World {
    pub(crate) fn new(answers: &[Answer]) -> Rc<Self> {
        let world = Self { answers: RefCell::new(answers.iter().copied().collect()), ..Self::default() };
        world.mtu.set(1500);
        Rc::new(world)
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits::of_mtu(self.mtu.get())
    }

    pub(crate) fn connection(self: &Rc<Self>) -> Connection {
        Connection { device: Box::new(Handle::new(self)), limits: self.limits() }
    }
}

/// A handle of that driver.
pub(crate) struct Handle {
    world: Rc<World>,
    /// Whether its adapter was removed: nothing makes a handle fresh again.
    stale: Cell<bool>,
}

impl Handle {
    pub(crate) fn new(world: &Rc<World>) -> Self {
        Self { world: world.clone(), stale: Cell::new(false) }
    }
}

struct Request {
    world: Rc<World>,
    reply: RefCell<Option<Reply>>,
    /// What a cancelled request ends with.
    when_cancelled: Option<Reply>,
}

/// The number in a frame's bytes.
pub(crate) fn number_of(frame: &[u8]) -> u64 {
    u64::from_be_bytes(frame[14..22].try_into().unwrap())
}

/// A frame with a number in its bytes.
pub(crate) fn frame(number: u64, length: usize) -> Vec<u8> {
    let mut frame = vec![0; length.max(22)];
    frame[12..14].copy_from_slice(&[0x88, 0xB5]);
    frame[14..22].copy_from_slice(&number.to_be_bytes());
    frame
}

impl World {
    fn send(&self, input: &[u8], data: &[u8], stale: &Cell<bool>) -> (Option<Reply>, Option<Reply>) {
        self.requests.set(self.requests.get() + 1);
        let lengths: Vec<usize> = input[8..]
            .chunks_exact(4)
            .map(|length| u32::from_le_bytes(length.try_into().unwrap()) as usize)
            .collect();
        let mut rest = &data[4 * lengths.len()..];
        let mut frames = Vec::new();
        for length in &lengths {
            let (frame, behind) = rest.split_at(*length);
            frames.push(frame);
            rest = behind;
        }
        let reply = |status: u32, results: &[FrameResult]| {
            let mut output = data.to_vec();
            for (slot, result) in output.chunks_exact_mut(4).zip(results) {
                slot.copy_from_slice(result.as_bytes());
            }
            Reply { status, output }
        };
        let all = |result: FrameResult| vec![result; frames.len()];
        let next = || self.answers.borrow_mut().pop_front().or(self.always.get()).unwrap_or(Answer::Sent);
        let answer = if stale.get() { Answer::Removed } else { next() };
        if frames.iter().any(|frame| self.limits().check(frame).is_err()) {
            return (Some(reply(status::INVALID_BUFFER_SIZE, &[])), None);
        }
        let (sent, reply) = match answer {
            Answer::Sent => (frames.len(), reply(0, &all(FrameResult::SENT))),
            Answer::From(first, result) => {
                let mut results = all(FrameResult::SENT);
                let first = first.min(results.len());
                results[first..].fill(result);
                (first, reply(0, &results))
            }
            Answer::Removed => {
                stale.set(true);
                (0, reply(status::DEVICE_REMOVED, &[]))
            }
            Answer::Status(status) => (0, reply(status, &[])),
            Answer::Held => return (None, Some(reply(status::CANCELLED, &all(FrameResult::ABORTED)))),
            Answer::Kept => return (None, None),
        };
        self.wire.borrow_mut().extend(frames[..sent].iter().map(|frame| number_of(frame)));
        (Some(reply), None)
    }
}

impl Device for Handle {
    fn start(&self, code: u32, input: Vec<u8>, data: Vec<u8>) -> Result<Box<dyn Pending>, Error> {
        let world = self.world.clone();
        let done = |output: Vec<u8>| (Some(Reply { status: 0, output }), None);
        let (reply, when_cancelled) = match code {
            IOCTL_SEND => world.send(&input, &data, &self.stale),
            IOCTL_STATISTICS if self.stale.get() => {
                (Some(Reply { status: status::DEVICE_REMOVED, output: Vec::new() }), None)
            }
            IOCTL_STATISTICS => {
                let state = world.states.borrow_mut().pop_front().unwrap_or(STATE_RUNNING);
                done(Statistics { state, ..Statistics::default() }.as_bytes().to_vec())
            }
            IOCTL_BIND if world.bind_pends.get() => {
                world.states.borrow_mut().push_back(STATE_PAUSED);
                (None, Some(Reply { status: status::CANCELLED, output: Vec::new() }))
            }
            IOCTL_BIND => done(Vec::new()),
            other => panic!("{other:#x}"),
        };
        Ok(Box::new(Request { world, reply: RefCell::new(reply), when_cancelled }))
    }
}

impl Pending for Request {
    fn wait(self: Box<Self>) -> Result<Reply, Error> {
        Ok(self.reply.into_inner().expect("a request that never completes is waited for"))
    }

    fn wait_for(&mut self, limit: Duration) -> Result<bool, Error> {
        if self.reply.borrow().is_none() {
            std::thread::sleep(limit);
        }
        Ok(self.reply.borrow().is_some())
    }

    fn cancel(&self) -> Result<(), Error> {
        self.world.cancelled.set(self.world.cancelled.get() + 1);
        if self.reply.borrow().is_none() {
            self.reply.borrow_mut().clone_from(&self.when_cancelled);
        }
        Ok(())
    }
}

/// Binds again, as the world says.
pub(crate) struct Reconnect(pub(crate) Rc<World>);

impl Connect for Reconnect {
    fn connect(&mut self, _patience: &mut Patience, _stop: &Stop) -> Result<Connection, Error> {
        self.0.binds.set(self.0.binds.get() + 1);
        if self.0.gone.get() {
            return Err(Error::NoAdapter("adapter 0".to_owned()));
        }
        match self.0.absences.borrow_mut().pop_front() {
            Some(error) => Err(error),
            None => Ok(self.0.connection()),
        }
    }

    fn limits(&mut self, _device: &dyn Device) -> Result<Limits, Error> {
        Ok(self.0.limits())
    }

    fn name(&self) -> String {
        "adapter 0".to_owned()
    }
}

/// Frames 1 to `count` of 60 bytes, or of what `lengths` says.
pub(crate) struct Frames {
    pub(crate) count: u64,
    pub(crate) next: u64,
    pub(crate) lengths: fn(u64) -> usize,
}

impl Supply for Frames {
    fn next(&mut self, _limit: Duration) -> Next {
        self.next += 1;
        let number = self.next;
        if number > self.count {
            return Next::End;
        }
        Next::Packet(Packet { number, data: frame(number, (self.lengths)(number)), unsendable: None })
    }

    fn total(&self) -> Option<u64> {
        Some(self.count)
    }

    fn name(&self) -> String {
        "frames".to_owned()
    }
}

/// Notes what a run tells.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) finals: Vec<(u64, Final)>,
    pub(crate) stages: Vec<(Stage, u64)>,
}

impl Observer for Notes {
    fn frame(&mut self, number: u64, what: Final) -> Result<(), Error> {
        self.finals.push((number, what));
        Ok(())
    }

    fn progress(&mut self, _sums: &Sums) -> Result<(), Error> {
        Ok(())
    }

    fn stage(&mut self, stage: Stage, outstanding: u64) {
        self.stages.push((stage, outstanding));
    }

    fn waiting(&mut self, _waiting: bool) {}
}

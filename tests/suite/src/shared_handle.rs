//! Threads of one program that share a handle: they send, cancel, bind and read statistics while another thread closes
//! the handle or the program dies, and any of them may be slow.
use std::cell::Cell;
use std::rc::Rc;

use sluice_abi::{
    ABI_MAJOR, BindRequest, FrameResult, IOCTL_BIND, IOCTL_SEND, IOCTL_STATISTICS, SendHeader, Statistics,
    WIN32_NAME,
};
use sluice_client::send::{Answer, Outcome};
use sluice_machine::ndis::adapter::Adapter;
use sluice_machine::user::{self, Handle, Pending};
use zerocopy::IntoBytes;

use crate::scenario::{Ledger, frame};

const SUCCESS: u32 = 0;
const INVALID_HANDLE: u32 = 0xC000_0008;
const NOT_READY: u32 = 0xC000_00A3;
const NO_MEMORY: u32 = 0xC000_009A;
const CANCELLED: u32 = 0xC000_0120;
const INVALID_DEVICE_STATE: u32 = 0xC000_0184;
const NOT_FOUND: u32 = 0xC000_0225;
const DEVICE_REMOVED: u32 = 0xC000_02B6;

/// A handle that threads share, and what is known of it.
pub(crate) struct SharedHandle {
    handle: Handle,
    /// A bind has succeeded.
    bound: Cell<bool>,
    /// A thread has begun to close the handle, or has cancelled everything.
    closing: Cell<bool>,
    closed: Cell<bool>,
    /// Bind requests that were sent, and that pend.
    binds: Cell<u32>,
    binds_out: Cell<u32>,
    /// Numbers of frames.
    frames: Cell<u32>,
    /// Whether memory never runs out.
    strict: bool,
}

impl SharedHandle {
    pub(crate) fn open(strict: bool) -> Option<Rc<Self>> {
        let handle = Handle::open(WIN32_NAME, true).ok()?;
        Some(Rc::new(Self {
            handle,
            bound: Cell::new(false),
            closing: Cell::new(false),
            closed: Cell::new(false),
            binds: Cell::new(0),
            binds_out: Cell::new(0),
            frames: Cell::new(0),
            strict,
        }))
    }

    fn bind(&self, adapter: &Adapter) -> Request {
        let alone = self.binds_out.get() == 0 && !self.bound.get();
        self.binds.set(self.binds.get() + 1);
        self.binds_out.set(self.binds_out.get() + 1);
        let number = self.binds.get();
        let record = BindRequest { abi_major: ABI_MAJOR, reserved: [0; 6], guid: guid(adapter) };
        let pending = self.handle.control(IOCTL_BIND, record.as_bytes(), Vec::new());
        Request { pending, cancelled: false, kind: Kind::Bind { alone, number } }
    }

    fn send(&self, client: u8, count: u32) -> Request {
        let frames: Vec<Vec<u8>> = (0..count)
            .map(|_| {
                self.frames.set(self.frames.get() + 1);
                frame(client, self.frames.get(), 60)
            })
            .collect();
        let header = SendHeader { abi_major: ABI_MAJOR, flags: 0, frame_count: count };
        let mut input = header.as_bytes().to_vec();
        let mut data = vec![0xEE; size_of::<FrameResult>() * frames.len()];
        for frame in &frames {
            input.extend_from_slice(&(frame.len() as u32).to_le_bytes());
            data.extend_from_slice(frame);
        }
        let bound = self.bound.get();
        let pending = self.handle.control(IOCTL_SEND, &input, data);
        Request { pending, cancelled: false, kind: Kind::Send { bound, frames } }
    }

    fn statistics(&self) -> Request {
        let bound = self.bound.get();
        let pending = self.handle.control(IOCTL_STATISTICS, &[], vec![0; size_of::<Statistics>()]);
        Request { pending, cancelled: false, kind: Kind::Statistics { bound } }
    }

    /// Waits for a request, and notes what may not be.
    fn settle(&self, request: Request, adapter: &Adapter, ledger: &Ledger) {
        let done = request.pending.wait();
        let status = done.status as u32;
        let cancelled = request.cancelled || self.closing.get();
        let allowed = match status {
            SUCCESS | DEVICE_REMOVED => true,
            INVALID_HANDLE => self.closing.get(),
            CANCELLED => cancelled,
            // Memory for the question may have run out.
            NOT_READY => !adapter.answers_total_size.get() || !self.strict,
            INVALID_DEVICE_STATE => match request.kind {
                // Only what binds or is bound cannot be bound.
                Kind::Bind { alone, number } => !alone || number != self.binds.get() || self.bound.get(),
                Kind::Send { bound, .. } | Kind::Statistics { bound } => !bound,
            },
            NO_MEMORY => !self.strict,
            NOT_FOUND => matches!(request.kind, Kind::Bind { .. }),
            _ => false,
        };
        if !allowed {
            ledger.fault(format!("a shared handle's {} ended in {status:#010x}", request.kind.name()));
        }
        match request.kind {
            Kind::Bind { .. } => {
                self.binds_out.set(self.binds_out.get() - 1);
                if status == SUCCESS && self.bound.replace(true) {
                    ledger.fault("a handle was bound twice");
                }
            }
            Kind::Send { frames, .. } if status == SUCCESS => {
                let result = |place: &[u8; 4]| match FrameResult(u32::from_le_bytes(*place)) {
                    FrameResult::SENT => Outcome::Sent,
                    FrameResult::PAUSED => Outcome::Paused,
                    FrameResult(other) => Outcome::Failed(other),
                };
                let results: Vec<Outcome> =
                    done.output.as_chunks().0.iter().take(frames.len()).map(result).collect();
                if done.information != (frames.len() * size_of::<FrameResult>()) as u64 {
                    ledger.fault(format!(
                        "a send of {} frames tells {} bytes",
                        frames.len(),
                        done.information
                    ));
                }
                ledger.note(&frames, Answer::Frames(results));
            }
            _ => {}
        }
    }
}

/// A request that pends.
struct Request {
    pending: Pending,
    cancelled: bool,
    kind: Kind,
}

enum Kind {
    /// Whether no other bind pended when it was sent, and which bind of the handle it is.
    Bind {
        alone: bool,
        number: u32,
    },
    /// Whether the handle was bound then.
    Send {
        bound: bool,
        frames: Vec<Vec<u8>>,
    },
    Statistics {
        bound: bool,
    },
}

impl Kind {
    fn name(&self) -> &'static str {
        match self {
            Self::Bind { .. } => "bind",
            Self::Send { .. } => "send",
            Self::Statistics { .. } => "statistics",
        }
    }
}

/// The adapter's GUID as requests have it: the bytes in the order of the text.
fn guid(adapter: &Adapter) -> [u8; 16] {
    let digits: Vec<u8> =
        adapter.guid().chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    let mut guid = [0; 16];
    for (place, pair) in guid.iter_mut().zip(digits.as_chunks().0) {
        let [high, low] = pair;
        *place = high << 4 | low;
    }
    guid
}

/// One of the threads that use a handle. Frames of `client` are compared with the wire.
pub(crate) fn user(
    client: u8,
    shared: &Rc<SharedHandle>,
    random: &mut fastrand::Rng,
    adapter: &Rc<Adapter>,
    ledger: &Ledger,
) {
    let mut requests: Vec<Request> = Vec::new();
    if random.u8(..) < 200 {
        // Most know that nothing can be sent before the handle is bound.
        let request = shared.bind(adapter);
        shared.settle(request, adapter, ledger);
    }
    for _ in 0..random.u32(4..40) {
        if random.bool() {
            // Slow until the handle is closed, perhaps for the driver too, and the module is gone that it was bound to.
            let (handle, watched, before) = (shared.clone(), adapter.clone(), adapter.teardowns());
            let until = random.bool();
            user::stall(random.u32(0..10), move || {
                handle.closed.get() && watched.teardowns() != before && (until || handle.handle.is_gone())
            });
        }
        match random.u8(..100) {
            0..=14 => requests.push(shared.bind(adapter)),
            15..=69 => {
                let count = if random.u8(..) < 60 { random.u32(300..=512) } else { random.u32(1..5) };
                requests.push(shared.send(client, count));
            }
            70..=79 => requests.push(shared.statistics()),
            80..=94 => {
                if let Some(request) = requests.last_mut() {
                    request.cancelled = true;
                    request.pending.cancel();
                }
            }
            _ => user::sleep(random.u64(0..400)),
        }
        if requests.len() > 3 || random.u8(..) < 60 {
            for request in requests.drain(..) {
                shared.settle(request, adapter, ledger);
            }
        }
        if shared.closed.get() {
            break;
        }
    }
    user::stall_no_more();
    for request in requests {
        shared.settle(request, adapter, ledger);
    }
}

/// The thread that closes a handle, or the death of its program.
pub(crate) fn closer(shared: &Rc<SharedHandle>, random: &mut fastrand::Rng) {
    if random.u8(..) < 200 {
        // The handle has been of use.
        let bound = shared.clone();
        user::wait_at_most("a bind", 20_000, move || bound.bound.get());
    }
    user::sleep(random.u64(0..2_000));
    shared.closing.set(true);
    if random.bool() {
        shared.handle.clone().die();
    } else {
        shared.handle.clone().close();
    }
    shared.closed.set(true);
}

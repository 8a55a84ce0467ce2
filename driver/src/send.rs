//! The data path: from a request to NDIS, and back.
use core::sync::atomic::{Ordering, fence};

use ndis_sys::NDIS_STATUS_PAUSED;
use sluice_abi::{FrameResult, IOCTL_SEND};
use sluice_core::gate::Pass;
use sluice_core::lifecycle::State;
use sluice_core::request::Send;
use sluice_kernel::device::Request;
use sluice_kernel::irp::{Disposition, File, Irp, PendingIrp};
use sluice_kernel::irql::{AtMostDispatch, NoLockHeld, Passive};
use sluice_kernel::queue::Waiting;
use sluice_kernel::shared::Shared;
use sluice_ndis::filter::{Handle, PauseComplete};
use sluice_ndis::list::Chain;
use sluice_ndis::path::{self, Leaving, Returned, Unsent, Why};
use sluice_ndis::trace;
use wdk_sys::NTSTATUS;
use zerocopy::IntoBytes;

use crate::bind::ClientHandle;
use crate::module::Module;
use crate::{device, status};

/// Sums of one completed chain.
#[derive(Default)]
struct Tally {
    sent: u64,
    bytes: u64,
    paused: u64,
    failed: u64,
    /// Status of the first that failed.
    error: NTSTATUS,
}

impl Tally {
    fn count(&mut self, returned: Returned) {
        match FrameResult::of_status(returned.status as u32) {
            FrameResult::SENT => {
                self.sent += 1;
                self.bytes += u64::from(returned.length);
            }
            FrameResult::PAUSED => self.paused += 1,
            _ => {
                if self.failed == 0 {
                    self.error = returned.status;
                }
                self.failed += 1;
            }
        }
    }
}

/// Frames of one run of the worker, after which it lets other work of the system run.
const RUN_FRAMES: u32 = 1024;
/// Bytes of one run of the worker.
const RUN_BYTES: u32 = 1 << 20;

/// The queue of requests that wait for slots.
pub(crate) struct Sending;

/// Frames and bytes of a request that was read before, whatever the adapter takes now.
fn extent(irp: &Irp) -> (u32, u32) {
    let pages = path::pages(irp).map_or(0, |pages| pages.length());
    Send::parse(irp.input(), pages, u32::MAX).map_or((0, 0), |request| (request.frames(), request.bytes()))
}

impl Module {
    /// Takes a send request from its dispatch routine.
    pub(crate) fn send<'a>(
        this: &Shared<Self>,
        passive: &mut Passive<'_>,
        request: Request<'a, ClientHandle>,
    ) -> Disposition<'a> {
        let Some(pages) = path::pages(&request) else {
            return request.complete(status::INSUFFICIENT_RESOURCES, 0);
        };
        let Some(max_frame) = this.max_frame() else {
            return device::refuse(request, status::DEVICE_NOT_READY);
        };
        let frames = match Send::parse(request.input(), pages.length(), max_frame) {
            Ok(parsed) => parsed.frames(),
            Err(refusal) => return device::refuse(request, status::of_refusal(refusal)),
        };
        this.counters.requests.add(1);
        this.counters.frames_submitted.add(u64::from(frames));
        let (irp, disposition) = request.pend(this.clone());
        // A pause that ends here is completed when this returns.
        let mut last = None;
        // First come, first served. A restart that is on ends soon, and nothing may be sent before.
        if this.waiting.load(Ordering::SeqCst) != 0 || this.life.state() == State::Restarting {
            Self::wait(this, irp);
        } else if let Err(irp) = Self::begin(this, passive, irp, &mut last) {
            Self::wait(this, irp);
        }
        disposition
    }

    /// Sends a pending request, or refuses it, or gives it back because too few slots are free.
    fn begin(
        this: &Shared<Self>,
        passive: &Passive<'_>,
        irp: PendingIrp<Self>,
        last: &mut Option<PauseComplete>,
    ) -> Result<(), PendingIrp<Self>> {
        let Some(max_frame) = this.max_frame() else {
            // A restart since the request came has not told it.
            this.refuse_uncounted(irp, status::DEVICE_NOT_READY);
            return Ok(());
        };
        let Unsent { why, irp, share } = match this.path.load(irp, max_frame) {
            Ok(chain) => {
                // From here on the frames may come back, on this stack or elsewhere, before this returns.
                this.handle().send(passive, chain);
                return Ok(());
            }
            Err(unsent) => unsent,
        };
        if matches!(why, Why::Cancelled | Why::Refused(_)) && share.is_some() {
            // Its slots were taken for a moment, in which another request may have found too few.
            Self::kick_if_waiting(this);
        }
        let short = match why {
            Why::Short => Err(irp),
            Why::Closed => {
                Self::refuse_paused(irp);
                Ok(())
            }
            Why::Cancelled => {
                Self::fail(irp, FrameResult::ABORTED, status::CANCELLED);
                Ok(())
            }
            Why::NoMapping => {
                drop(irp.complete(status::INSUFFICIENT_RESOURCES, 0));
                Ok(())
            }
            Why::Refused(refusal) => {
                // A frame is too long without a tag, or the adapter came back with a smaller MTU while the request waited.
                this.refuse_uncounted(irp, status::of_refusal(refusal));
                Ok(())
            }
        };
        this.give_back(passive, share, last);
        short
    }

    /// Has the worker look whether requests that wait can start.
    pub(crate) fn kick_if_waiting(this: &Shared<Self>) {
        if this.waiting.load(Ordering::SeqCst) != 0 {
            Self::kick(this);
        }
    }

    /// Gives a share of the gate back; `last` gets the duty to complete the pause.
    fn give_back(&self, level: &impl NoLockHeld, share: Option<Pass>, last: &mut Option<PauseComplete>) {
        if let Some(duty) = share.and_then(|share| self.leave(level, share)) {
            *last = Some(duty);
        }
    }

    /// Queues a pending request until slots come back, or a restart is complete.
    fn wait(this: &Shared<Self>, irp: PendingIrp<Self>) {
        let (frames, _) = extent(&irp);
        this.waiting.fetch_add(1, Ordering::SeqCst);
        this.counters.frames_waiting.add(u64::from(frames));
        this.queue.push(irp);
        // Slots may have come back in between, or the restart has ended; the worker looks again.
        Self::kick(this);
        this.refuse_if_closed();
    }

    /// After a request was put into the queue: whatever closed the gate may have looked there before.
    fn refuse_if_closed(&self) {
        fence(Ordering::SeqCst);
        let opens = match self.life.state() {
            State::Restarting => true,
            State::Running => self.is_usable(),
            _ => false,
        };
        if !opens {
            self.refuse_waiting();
        }
    }

    /// Refuses all requests that wait: the gate is closed, and no restart is on that may open it.
    pub(crate) fn refuse_waiting(&self) {
        fence(Ordering::SeqCst);
        while let Some(irp) = self.queue.pop() {
            self.no_longer_waits(&irp);
            Self::refuse_paused(irp);
        }
    }

    fn no_longer_waits(&self, irp: &Irp) {
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        self.counters.frames_waiting.sub(u64::from(extent(irp).0));
    }

    /// Starts requests that wait, in order, as far as the slots go; true if there are more and the run is long enough.
    /// One thread at a time calls this.
    pub(crate) fn start_waiting(this: &Shared<Self>, passive: &mut Passive<'_>) -> bool {
        // A pause that ends here is completed when this returns.
        let mut last = None;
        let (mut frames, mut bytes) = (0, 0);
        // A closed gate needs nothing from here: its pause refuses what waits, or a restart opens it.
        while this.life.state() == State::Running && this.is_usable() {
            if frames >= RUN_FRAMES || bytes >= RUN_BYTES {
                return !this.queue.is_empty();
            }
            let Some(irp) = this.queue.pop() else { break };
            let extent = extent(&irp);
            match Self::begin(this, passive, irp, &mut last) {
                Ok(()) => {
                    this.waiting.fetch_sub(1, Ordering::SeqCst);
                    this.counters.frames_waiting.sub(u64::from(extent.0));
                    frames += extent.0;
                    bytes += extent.1;
                }
                Err(irp) => {
                    this.queue.push_front(irp);
                    this.refuse_if_closed();
                    break;
                }
            }
        }
        false
    }

    /// Completes a request none of whose frames was sent, with the same result for each.
    fn answer(irp: PendingIrp<Self>, result: FrameResult, answer: NTSTATUS) {
        let frames = extent(&irp).0 as usize;
        let bytes = result.0.to_le_bytes();
        if let Some(pages) = path::pages(&irp) {
            for frame in 0..frames {
                pages.write(frame * bytes.len(), bytes.as_bytes());
            }
        }
        let length = if answer == status::SUCCESS { frames * bytes.len() } else { 0 };
        drop(irp.complete(answer, length));
    }

    /// Refuses a request that was counted when it came: one that is refused is not, from before its client knows.
    fn refuse_uncounted(&self, irp: PendingIrp<Self>, refused: NTSTATUS) {
        trace::refused(self.info.if_index, IOCTL_SEND, refused);
        self.counters.frames_submitted.sub(u64::from(extent(&irp).0));
        self.counters.requests.sub(1);
        Self::answer(irp, FrameResult(refused as u32), refused);
    }

    /// Tells a client that the module is paused, or gone.
    fn refuse_paused(irp: PendingIrp<Self>) {
        irp.owner().counters.frames_paused.add(u64::from(extent(&irp).0));
        Self::answer(irp, FrameResult::PAUSED, status::SUCCESS);
    }

    /// Fails a request: it was cancelled before anything was sent, or no longer fits the adapter.
    fn fail(irp: PendingIrp<Self>, result: FrameResult, refused: NTSTATUS) {
        irp.owner().counters.frames_failed.add(u64::from(extent(&irp).0));
        Self::answer(irp, result, refused);
    }

    /// The host's traffic passes, from the moment on at which NDIS was told that the module runs.
    pub(crate) fn pass_on(&self, level: &mut AtMostDispatch<'_>, lists: Chain, port: u32, flags: u32) {
        if self.runs_for_ndis(level) {
            self.counters.passed_through.add(1);
            self.handle().forward_send(level, lists, port, flags);
            return;
        }
        let mut refused = Chain::new();
        for mut list in lists {
            list.set_status(NDIS_STATUS_PAUSED);
            refused.push(list);
        }
        self.handle().complete_send(level, refused, Handle::completion_flags(flags));
    }

    /// Lists came back, own and others', in any order and mixture.
    pub(crate) fn sends_completed(
        this: &Shared<Self>,
        level: &mut AtMostDispatch<'_>,
        lists: Chain,
        flags: u32,
    ) -> Option<PauseComplete> {
        let mut foreign = Chain::new();
        let mut leaving = Leaving::default();
        let mut tally = Tally::default();
        let mut own = false;
        for list in lists {
            match this.path.back(list, &mut leaving) {
                Ok(returned) => {
                    own = true;
                    if let Some(returned) = returned {
                        tally.count(returned);
                    }
                }
                Err(list) => foreign.push(list),
            }
        }
        this.handle().complete_send(level, foreign, flags);
        if !own {
            return None;
        }
        this.counters.frames_sent.add(tally.sent);
        this.counters.bytes_sent.add(tally.bytes);
        this.counters.frames_paused.add(tally.paused);
        this.counters.frames_failed.add(tally.failed);
        if tally.failed != 0 {
            trace::frames_failed(this.info.if_index, tally.failed, tally.error);
        }
        Self::kick_if_waiting(this);
        // Last: once the gate is drained the module may be gone.
        leaving.last().and_then(|share| this.leave(level, share))
    }

    /// Cancels what `file` has waiting or outstanding; frames that NDIS has complete later.
    pub(crate) fn cancel_all(&self, passive: &mut Passive<'_>, file: File) {
        while let Some(irp) = self.queue.pop_of(file) {
            Self::cancelled_waiting(irp);
        }
        self.path.cancel(passive, file, |ask| {
            self.rundown.enter(ask);
        });
    }

    /// A request that waited for slots was cancelled.
    fn cancelled_waiting(irp: PendingIrp<Self>) {
        irp.owner().no_longer_waits(&irp);
        // Those behind it may need fewer slots.
        Self::kick_if_waiting(irp.owner());
        Self::fail(irp, FrameResult::ABORTED, status::CANCELLED);
    }
}

impl Waiting<Sending> for Module {
    fn cancelled(_level: &mut AtMostDispatch<'_>, irp: PendingIrp<Self>) {
        Self::cancelled_waiting(irp);
    }
}

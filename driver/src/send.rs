//! The data path: from a request to NDIS, and back.
use core::sync::atomic::Ordering;

use ndis_sys::NDIS_STATUS_PAUSED;
use sluice_abi::{FrameResult, IOCTL_SEND};
use sluice_core::gate::Pass;
use sluice_core::lifecycle::State;
use sluice_core::request::Send;
use sluice_kernel::dpc::Deferred;
use sluice_kernel::irp::{Disposition, File, Irp};
use sluice_kernel::irql::{AtMostDispatch, Dispatch, NoLockHeld, Passive};
use sluice_kernel::queue::Waiting;
use sluice_kernel::shared::Shared;
use sluice_ndis::filter::{Handle, PauseComplete};
use sluice_ndis::list::Chain;
use sluice_ndis::path::{self, Leaving, Returned, Unsent, Why};
use sluice_ndis::trace;
use wdk_sys::NTSTATUS;
use zerocopy::IntoBytes;

use crate::module::{Module, Sending};
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

/// How many frames a request has that was read before, whatever the adapter takes now.
fn frames_of(irp: &Irp) -> u32 {
    let pages = path::pages(irp).map_or(0, |pages| pages.length());
    Send::parse(irp.input(), pages, u32::MAX).map_or(0, |request| request.frames())
}

impl Module {
    /// Takes a send request from its dispatch routine.
    pub(crate) fn send(&self, passive: &mut Passive<'_>, irp: Irp) -> Disposition {
        let Some(pages) = path::pages(&irp) else {
            return irp.complete(status::INSUFFICIENT_RESOURCES, 0);
        };
        if !self.knows_mtu() {
            return device::refuse(irp, self.info.if_index, IOCTL_SEND, status::DEVICE_NOT_READY);
        }
        let frames = match Send::parse(irp.input(), pages.length(), self.max_frame()) {
            Ok(request) => request.frames(),
            Err(refusal) => {
                return device::refuse(irp, self.info.if_index, IOCTL_SEND, status::of_refusal(refusal));
            }
        };
        self.counters.requests.add(1);
        self.counters.frames_submitted.add(u64::from(frames));
        let (irp, disposition) = irp.pend();
        // The client's handle keeps the module; a pause that ends here is completed when this returns.
        let mut last = None;
        // Whoever came first is served first.
        if self.waiting.load(Ordering::SeqCst) != 0 {
            self.wait(passive, irp, frames, &mut last);
        } else if let Err(irp) = self.begin(passive, irp, &mut last) {
            self.wait(passive, irp, frames, &mut last);
        }
        disposition
    }

    /// Sends a pending request, or refuses it, or gives it back because slots are short.
    fn begin(&self, level: &impl NoLockHeld, irp: Irp, last: &mut Option<PauseComplete>) -> Result<(), Irp> {
        let Unsent { why, irp, share } = match self.path.load(irp, self.max_frame()) {
            Ok(chain) => {
                // From here on the frames may come back, on this stack or elsewhere, before this returns.
                self.handle().send(level, chain);
                return Ok(());
            }
            Err(unsent) => unsent,
        };
        let short = match why {
            Why::Short => Err(irp),
            Why::Closed => {
                self.refuse_paused(irp, false);
                Ok(())
            }
            Why::Cancelled => {
                self.kick();
                self.fail(irp, FrameResult::ABORTED, status::CANCELLED);
                Ok(())
            }
            Why::NoMapping => {
                let _ = irp.complete(status::INSUFFICIENT_RESOURCES, 0);
                Ok(())
            }
            Why::Refused(refusal) => {
                // A frame is too long without a tag, or the adapter came back with a smaller MTU while the request waited.
                let refused = status::of_refusal(refusal);
                trace::refused(self.info.if_index, IOCTL_SEND, refused);
                // A request that is refused is not counted, from before its client knows.
                self.counters.frames_submitted.sub(u64::from(frames_of(&irp)));
                self.counters.requests.sub(1);
                Self::answer(irp, FrameResult(refused as u32), refused);
                Ok(())
            }
        };
        self.give_back(level, share, last);
        short
    }

    /// Gives a share of the gate back; `last` gets the duty to complete the pause.
    fn give_back(&self, level: &impl NoLockHeld, share: Option<Pass>, last: &mut Option<PauseComplete>) {
        if let Some(duty) = share.and_then(|share| self.leave(level, share)) {
            *last = Some(duty);
        }
    }

    /// Queues a pending request until slots come back.
    fn wait(&self, level: &impl NoLockHeld, irp: Irp, frames: u32, last: &mut Option<PauseComplete>) {
        // While this share is held no pause completes, so whoever drains the gate finds the request queued.
        let Some(share) = self.path.enter() else {
            self.refuse_paused(irp, false);
            return;
        };
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.counters.frames_waiting.add(u64::from(frames));
        self.queue.push(irp);
        // Slots may have come back in between; the DPC looks again.
        self.starter.queue();
        self.give_back(level, Some(share), last);
    }

    /// Has the DPC look at waiting requests, after slots were put back.
    pub(crate) fn kick(&self) {
        if self.waiting.load(Ordering::SeqCst) != 0 {
            self.starter.queue();
        }
    }

    /// Answers a request none of whose frames was sent, with the same result for each; returns how many those are.
    fn answer(irp: Irp, result: FrameResult, answer: NTSTATUS) -> u64 {
        let frames = frames_of(&irp);
        if frames == 0 {
            let _ = irp.complete(status::INVALID_PARAMETER, 0);
            return 0;
        }
        let bytes = result.0.to_le_bytes();
        if let Some(pages) = path::pages(&irp) {
            for frame in 0..frames as usize {
                pages.write(frame * bytes.len(), bytes.as_bytes());
            }
        }
        let length = frames as usize * bytes.len();
        let _ = irp.complete(answer, if answer == status::SUCCESS { length } else { 0 });
        u64::from(frames)
    }

    /// Tells a client that the module is paused, or gone.
    pub(crate) fn refuse_paused(&self, irp: Irp, waited: bool) {
        let frames = Self::answer(irp, FrameResult::PAUSED, status::SUCCESS);
        self.counters.frames_paused.add(frames);
        if waited {
            self.counters.frames_waiting.sub(frames);
        }
    }

    /// Fails a request: it was cancelled before anything was sent, or no longer fits the adapter.
    fn fail(&self, irp: Irp, result: FrameResult, refused: NTSTATUS) {
        let frames = Self::answer(irp, result, refused);
        self.counters.frames_failed.add(frames);
    }

    /// The host's traffic passes.
    pub(crate) fn pass_on(&self, level: &mut AtMostDispatch<'_>, lists: Chain, port: u32, flags: u32) {
        if self.life.state() == State::Running {
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
        &self,
        level: &mut AtMostDispatch<'_>,
        lists: Chain,
        flags: u32,
    ) -> Option<PauseComplete> {
        let mut foreign = Chain::new();
        let mut leaving = Leaving::default();
        let mut tally = Tally::default();
        let mut own = false;
        for list in lists {
            match self.path.back(list, &mut leaving) {
                Ok(returned) => {
                    own = true;
                    if let Some(returned) = returned {
                        tally.count(returned);
                    }
                }
                Err(list) => foreign.push(list),
            }
        }
        self.handle().complete_send(level, foreign, flags);
        if !own {
            return None;
        }
        self.counters.frames_sent.add(tally.sent);
        self.counters.bytes_sent.add(tally.bytes);
        self.counters.frames_paused.add(tally.paused);
        self.counters.frames_failed.add(tally.failed);
        if tally.failed != 0 {
            trace::frames_failed(self.info.if_index, tally.failed, tally.error);
        }
        self.kick();
        // Last: once the gate is drained the module may be gone.
        leaving.last().and_then(|share| self.leave(level, share))
    }

    /// Cancels what `file` has waiting or out; it comes back in its own time.
    pub(crate) fn cancel_all(&self, passive: &mut Passive<'_>, file: File) {
        while let Some(irp) = self.queue.pop_of(file) {
            self.cancelled_waiting(irp);
        }
        while let Some(irp) = self.binding.pop_of(file) {
            let _ = irp.complete(status::CANCELLED, 0);
        }
        self.path.cancel(passive, file, |ask| {
            self.rundown.enter(ask);
        });
    }

    /// A request that waited for slots was cancelled.
    fn cancelled_waiting(&self, irp: Irp) {
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        let frames = Self::answer(irp, FrameResult::ABORTED, status::CANCELLED);
        self.counters.frames_failed.add(frames);
        self.counters.frames_waiting.sub(frames);
    }
}

impl Waiting<Sending> for Module {
    fn cancelled(this: &Shared<Self>, irp: Irp) {
        this.cancelled_waiting(irp);
    }
}

impl Deferred for Module {
    /// Starts what waited for slots, in order, as far as the slots go.
    fn run(this: &Shared<Self>, dispatch: &mut Dispatch<'_>) {
        // While this share is held no pause completes, so a request that goes back into the queue is found
        // there. A closed gate needs nothing from here: its pause refuses what waits.
        let Some(share) = this.path.enter() else { return };
        // A pause that ends here is completed when this returns; stopping the DPC waits for that.
        let mut last = None;
        while let Some(irp) = this.queue.pop() {
            let frames = frames_of(&irp);
            match this.begin(dispatch, irp, &mut last) {
                Ok(()) => {
                    this.waiting.fetch_sub(1, Ordering::SeqCst);
                    this.counters.frames_waiting.sub(u64::from(frames));
                }
                Err(irp) => {
                    this.queue.push_front(irp);
                    break;
                }
            }
        }
        this.give_back(dispatch, Some(share), &mut last);
    }
}

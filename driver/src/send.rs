//! The data path: from a request's locked pages into slots, to NDIS, and back.
#![expect(unsafe_code, reason = "reads frames and writes results in locked pages")]
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use sluice_abi::FrameResult;
use sluice_core::gate::{Direction, Leave, Pass};
use sluice_core::request::{Refusal, Send};
use sluice_core::slot::{InFlight, Slot};
use sluice_kernel::dpc::Deferred;
use sluice_kernel::irp::{Disposition, Irp};
use sluice_kernel::irql::{Dispatch, Passive, UpToDispatch};
use sluice_kernel::processor;
use sluice_kernel::queue::Waiting;
use sluice_ndis::Status;
use sluice_ndis::list::{Chain, List};
use wdk_sys::{FILE_OBJECT, NTSTATUS};

use crate::module::Module;
use crate::request::{Finished, Request, share};
use crate::slab::{Slabs, Ticket};
use crate::status;

/// A share of the gate that is about to go back: lists of one shard leave together.
#[derive(Default)]
struct Leaving {
    shard: u16,
    count: u32,
}

/// Sums of one completed chain.
#[derive(Default)]
struct Tally {
    sent: u64,
    bytes: u64,
    paused: u64,
    failed: u64,
}

impl Tally {
    fn count(&mut self, status: Status, length: u32) {
        match FrameResult(status as u32) {
            FrameResult::SENT => {
                self.sent += 1;
                self.bytes += u64::from(length);
            }
            FrameResult::PAUSED => self.paused += 1,
            _ => self.failed += 1,
        }
    }
}

/// Reads a send request of `irp`.
///
/// # Safety
/// The IRP is a device control request with `IOCTL_SEND`.
unsafe fn parse(irp: &Irp, max_frame: u32) -> Result<(Send<'_>, NonNull<u8>), NTSTATUS> {
    // SAFETY: as promised by the caller.
    let control = unsafe { irp.control() };
    // SAFETY: a direct request's input is the I/O manager's copy.
    let input = unsafe { irp.input(control.input_length) };
    // A request without data has no pages; it is refused for its length.
    let (data, length) = match (control.output_length, irp.locked_pages()) {
        (0, _) => (NonNull::dangling(), 0),
        (_, Some(pages)) => pages,
        (_, None) => return Err(status::INSUFFICIENT_RESOURCES),
    };
    let request =
        Send::parse(input, length, max_frame).map_err(|refusal: Refusal| status::of_refusal(refusal))?;
    Ok((request, data))
}

impl Module {
    /// Takes a send request from its dispatch routine.
    ///
    /// # Safety
    /// The IRP is a device control request with `IOCTL_SEND`.
    pub(crate) unsafe fn send(&self, passive: &Passive<'_>, irp: Irp) -> Disposition {
        // SAFETY: as promised by the caller.
        let frames = match unsafe { parse(&irp, self.max_frame()) } {
            Ok((request, _)) => request.frames(),
            Err(refused) => return irp.complete(refused, 0),
        };
        self.counters.requests.add(1);
        self.counters.frames_submitted.add(u64::from(frames));
        let (irp, disposition) = irp.pend();
        // Whoever came first is served first.
        if self.waiting.load(Ordering::SeqCst) != 0 {
            self.wait(irp, frames);
        } else if let Err(irp) = self.begin(passive, irp) {
            self.wait(irp, frames);
        }
        disposition
    }

    /// Sends a pending request, or refuses it, or gives it back because slots are short.
    fn begin<L: UpToDispatch>(&self, level: &L, irp: Irp) -> Result<(), Irp> {
        // SAFETY: only send requests come here, and this one was read before.
        let (request, data) = match unsafe { parse(&irp, self.max_frame()) } {
            Ok(request) => request,
            Err(refused) => {
                // The adapter came back with a smaller MTU while the request waited.
                self.fail_unread(irp, refused);
                return Ok(());
            }
        };
        let frames = request.frames();
        let processor = processor::current();
        let Some(pass) = self.gate.enter(processor, Direction::Send, frames) else {
            self.refuse_paused(irp, false);
            return Ok(());
        };
        let Some(slabs) = self.slabs_for(&pass) else {
            self.refuse_paused(irp, false);
            self.leave(pass);
            return Ok(());
        };
        if request.longest() > slabs.layout.max_frame {
            // The stack was restarted with a smaller MTU after the request was read. Only from here on, with a
            // share of the gate, do the slots stay as they are.
            self.fail_unread(irp, status::INVALID_BUFFER_SIZE);
            self.leave(pass);
            return Ok(());
        }
        let cancel_id = self.next_cancel_id();
        let mut chain = Chain::new();
        let mut spans = request.spans();
        let mut first = None;
        let mut frame = 0;
        let taken = slabs.map.take(frames, processor, |slot| {
            let (Some((offset, length)), Some(record)) = (spans.next(), slabs.record(slot.index())) else {
                return;
            };
            // SAFETY: the span lies inside the locked pages, as the request's check has shown.
            let bytes = unsafe { data.add(offset) };
            // SAFETY: as above; the longest frame was compared with these slabs' layout.
            unsafe { slabs.write(&slot, bytes.as_ptr(), length) };
            let request = *first.get_or_insert(slot.index());
            record.set_ticket(Ticket { request, frame, shard: pass.shard(), length });
            let backfill = slabs.layout.backfill;
            // SAFETY: the slot was taken from the map, so the driver owns its list.
            let list = unsafe {
                record.list.prepare(self.handle, backfill, length, self.info.list_info_slots, cancel_id)
            };
            let _in_flight: Slot<InFlight> = slot.filled().submitted();
            chain.push(list);
            frame += 1;
        });
        drop(spans);
        let keeper = first.filter(|_| taken).and_then(|slot| slabs.record(slot));
        let Some(keeper) = keeper else {
            self.leave(pass);
            return Err(irp);
        };
        keeper.request.start(irp, data, frames, cancel_id);
        if let Some(irp) = keeper.request.arm() {
            self.take_back(slabs, chain);
            self.abort(irp);
            self.leave(pass);
            return Ok(());
        }
        pass.into_items();
        // From here on the frames may come back, on this stack or elsewhere, before this returns.
        self.handle.send(level, chain);
        Ok(())
    }

    /// Puts the slots of a chain back that was not sent.
    fn take_back(&self, slabs: &Slabs, chain: Chain) {
        for list in chain {
            // SAFETY: the chain was built by `begin`.
            let slot = unsafe { list.slot() };
            list.retire();
            slabs.map.put(Slot::returned(slot));
        }
        self.kick();
    }

    /// Queues a pending request until slots come back.
    fn wait(&self, irp: Irp, frames: u32) {
        // While this share is held no pause completes, so whoever drains the gate finds the request queued.
        let Some(pass) = self.gate.enter(processor::current(), Direction::Send, 1) else {
            self.refuse_paused(irp, false);
            return;
        };
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.counters.frames_waiting.add(u64::from(frames));
        self.queue.push(irp);
        // Slots may have come back in between; the DPC looks again.
        self.starter.queue();
        self.leave(pass);
    }

    /// Has the DPC look at waiting requests, after slots were put back.
    fn kick(&self) {
        if self.waiting.load(Ordering::SeqCst) != 0 {
            self.starter.queue();
        }
    }

    /// Gives a share back. After this the caller must not touch the module unless it holds another share, or
    /// a reference.
    fn leave(&self, pass: Pass) {
        if self.gate.leave(pass) == Leave::Drained {
            self.drained();
        }
    }

    /// Answers a request none of whose frames was sent, with the same result for each.
    fn answer(irp: Irp, result: FrameResult, answer: NTSTATUS) -> u32 {
        // SAFETY: only send requests come here. Whether a frame fits the adapter does not matter any more.
        let Ok((request, data)) = (unsafe { parse(&irp, u32::MAX) }) else {
            let _ = irp.complete(status::INVALID_PARAMETER, 0);
            return 0;
        };
        let frames = request.frames();
        let results = data.cast::<FrameResult>();
        for frame in 0..frames as usize {
            // SAFETY: the locked pages hold a result for each frame.
            let place = unsafe { results.add(frame) };
            // SAFETY: as above; they need not be aligned.
            unsafe { place.write_unaligned(result) };
        }
        let length = request.results_length();
        let _ = irp.complete(answer, if answer == status::SUCCESS { length } else { 0 });
        frames
    }

    /// Tells a client that the module is paused, or gone.
    pub(crate) fn refuse_paused(&self, irp: Irp, waited: bool) {
        let frames = u64::from(Self::answer(irp, FrameResult::PAUSED, status::SUCCESS));
        self.counters.frames_paused.add(frames);
        if waited {
            self.counters.frames_waiting.sub(frames);
        }
    }

    /// Tells a client that its request was cancelled before anything was sent.
    fn abort(&self, irp: Irp) {
        let frames = Self::answer(irp, FrameResult::ABORTED, status::CANCELLED);
        self.counters.frames_failed.add(u64::from(frames));
    }

    /// Fails a request that no longer fits the adapter.
    fn fail_unread(&self, irp: Irp, refused: NTSTATUS) {
        let frames = Self::answer(irp, FrameResult(refused as u32), refused);
        self.counters.frames_failed.add(u64::from(frames));
    }

    /// `FilterSendNetBufferListsComplete`: lists came back, own and others', in any order and mixture.
    pub(crate) fn sends_completed(&self, lists: Chain, flags: u32) {
        let mut foreign = Chain::new();
        let mut leaving = Leaving::default();
        let mut tally = Tally::default();
        let mut own = false;
        for list in lists {
            if list.is_from(self.handle) {
                own = true;
                self.frame_back(list, &mut tally, &mut leaving);
            } else {
                foreign.push(list);
            }
        }
        self.handle.complete_send(foreign, flags);
        if !own {
            return;
        }
        self.counters.frames_sent.add(tally.sent);
        self.counters.bytes_sent.add(tally.bytes);
        self.counters.frames_paused.add(tally.paused);
        self.counters.frames_failed.add(tally.failed);
        self.kick();
        // Last: once the gate is drained the module may be gone.
        self.leave_some(&mut leaving, 0, 0);
    }

    /// One own list came back.
    fn frame_back(&self, list: List, tally: &mut Tally, leaving: &mut Leaving) {
        // SAFETY: a list of this module is out, and its share of the gate with it.
        let Some(slabs) = (unsafe { self.slabs() }) else { return };
        // SAFETY: the list is this module's.
        let slot = unsafe { list.slot() };
        let status = list.status();
        list.retire();
        let Some(record) = slabs.record(slot) else { return };
        let ticket = record.ticket();
        let Some(keeper) = slabs.record(ticket.request) else { return };
        let returned = Slot::<InFlight>::returned(slot);
        slabs.check(&returned);
        tally.count(status, ticket.length);
        keeper.request.set_result(ticket.frame, FrameResult(status as u32));
        if slot == ticket.request {
            // The first slot keeps the request, and stays with its share of the gate until that is over.
            let _ = returned;
        } else {
            slabs.map.put(returned);
            self.leave_some(leaving, ticket.shard, 1);
        }
        if let Some(finished) = keeper.request.frames_back(1) {
            finished.complete();
            slabs.map.put(Slot::returned(ticket.request));
            self.leave_some(leaving, ticket.shard, 1);
        }
    }

    /// Collects shares of one shard; gives back what was collected when another shard comes, or `count` is 0.
    ///
    /// Only the call at the end of a chain can drain the gate: before, the chain itself holds shares.
    fn leave_some(&self, leaving: &mut Leaving, shard: u16, count: u32) {
        if leaving.count != 0 && (count == 0 || leaving.shard != shard) {
            self.leave(Pass::resume(leaving.shard, Direction::Send, leaving.count));
            leaving.count = 0;
        }
        if count != 0 {
            leaving.shard = shard;
            leaving.count += count;
        }
    }

    /// A request whose last share the cancel routine gave up.
    pub(crate) fn finish_late(&self, finished: Finished, request: &Request) {
        // SAFETY: the request's share of the gate is still held.
        let Some(slabs) = (unsafe { self.slabs() }) else { return };
        let Some((slot, ticket)) = slabs.keeper_of(request) else { return };
        finished.complete();
        slabs.map.put(Slot::returned(slot));
        self.kick();
        self.leave(share(ticket.shard));
    }

    /// Cancels what `file` has waiting or out; it comes back in its own time.
    pub(crate) fn cancel_all(&self, passive: &mut Passive<'_>, file: *mut FILE_OBJECT) {
        while let Some(irp) = self.queue.pop(file) {
            self.cancelled(irp);
        }
        while let Some(irp) = self.binding.pop(file) {
            let _ = irp.complete(status::CANCELLED, 0);
        }
        let mut next = 0;
        let mut ids = [0u64; 32];
        loop {
            // NDIS is not called with the lock held, so ids are collected first.
            let found = self.with_slabs(passive, |slabs| slabs.cancel_ids(file, &mut next, &mut ids));
            let found = found.unwrap_or(0);
            for id in ids.iter().take(found) {
                self.rundown.enter(|| self.handle.cancel_sends(*id));
            }
            if found < ids.len() {
                return;
            }
        }
    }
}

impl Slabs {
    /// The slot that keeps `request`, and its ticket.
    fn keeper_of(&self, request: &Request) -> Option<(u32, Ticket)> {
        (0..self.map.slots()).find_map(|slot| {
            let record = self.record(slot)?;
            core::ptr::eq(&raw const record.request, request).then(|| (slot, record.ticket()))
        })
    }

    /// Collects the cancel ids of requests that came through `file`, from slot `next` on; returns how many.
    fn cancel_ids(&self, file: *mut FILE_OBJECT, next: &mut u32, ids: &mut [u64]) -> usize {
        let mut found = 0;
        while *next < self.map.slots() {
            let Some(place) = ids.get_mut(found) else { break };
            if let Some(id) = self.record(*next).and_then(|record| record.request.cancel_id_for(file)) {
                *place = id;
                found += 1;
            }
            *next += 1;
        }
        found
    }
}

impl Waiting for Module {
    fn cancelled(&self, irp: Irp) {
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        let frames = u64::from(Self::answer(irp, FrameResult::ABORTED, status::CANCELLED));
        self.counters.frames_failed.add(frames);
        self.counters.frames_waiting.sub(frames);
    }
}

impl Deferred for Module {
    /// Starts what waited for slots, in order, as far as the slots go.
    fn run(&self, dispatch: &Dispatch<'_>) {
        // While this share is held no pause completes, so a request that goes back into the queue is found
        // there. A closed gate needs nothing from here: its pause refuses what waits.
        let Some(pass) = self.gate.enter(processor::current(), Direction::Send, 1) else { return };
        while let Some(irp) = self.queue.pop(core::ptr::null_mut()) {
            // SAFETY: only send requests are queued.
            let frames = unsafe { parse(&irp, u32::MAX) }.map_or(0, |(request, _)| request.frames());
            match self.begin(dispatch, irp) {
                Ok(()) => {
                    self.waiting.fetch_sub(1, Ordering::SeqCst);
                    self.counters.frames_waiting.sub(u64::from(frames));
                }
                Err(irp) => {
                    self.queue.push_front(irp);
                    break;
                }
            }
        }
        self.leave(pass);
    }
}

//! A module's data path: its gate, its frame memory, and the requests that are out.
//!
//! A send enters the gate, takes slots, and goes; each list that comes back gives back its slot, then its share of
//! the gate. The memory is freed with the proof that the gate is drained, and by nobody else.
#![expect(unsafe_code, reason = "slabs are reached without a lock, by those whose lists keep them alive")]
use core::cell::UnsafeCell;
use core::sync::atomic::AtomicU64;

use sluice_abi::FrameResult;
use sluice_core::gate::{Close, Direction, Gate, Leave, Outstanding, Pass, Shard};
use sluice_core::layout::SlotLayout;
use sluice_core::request::{Refusal, Send as Request};
use sluice_core::slot::{InFlight, Slot};
use sluice_kernel::irp::{File, Irp, LockedPages, PendingIrp, Pends};
use sluice_kernel::irql::{AtMostDispatch, BelowDispatch, Passive};
use sluice_kernel::lock::SpinLock;
use sluice_kernel::pool::{OutOfMemory, PoolSlice, Tag};
use sluice_kernel::processor;
use sluice_kernel::rank::{After, Leaf};
use sluice_kernel::shared::Shared;

use crate::Status;
use crate::filter::{self, Handle, PauseComplete, PhysicalDevice};
use crate::list::{Chain, List};
use crate::slab::{ModuleDrained, Purpose, Sending, Slabs, Ticket};
use crate::trace;
use crate::transfer::{Finished, Request as Out};

/// The shared value that a path is a part of.
pub trait Host: Pends + Sized {
    /// The path.
    fn path(&self) -> &Path<Self>;

    /// A cancelled request is over, and its share goes back: [`Path::leave`].
    fn left(this: &Shared<Self>, level: &mut AtMostDispatch<'_>, share: Pass) -> Option<PauseComplete>;
}

/// Why a request was not sent. The IRP comes back with it, and the share of the gate, if one was taken.
pub struct Unsent<T> {
    /// Why.
    pub why: Why,
    /// The request.
    pub irp: PendingIrp<T>,
    /// To be given to [`Path::leave`].
    pub share: Option<Pass>,
}

/// See [`Unsent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The request is not well-formed, or has frames that are too long for the adapter.
    Refused(Refusal),
    /// Memory to map the client's pages ran out.
    NoMapping,
    /// The gate is closed.
    Closed,
    /// Too few slots are free at this moment.
    Short,
    /// The client cancelled it.
    Cancelled,
}

/// A frame that came back.
#[derive(Clone, Copy, Debug)]
pub struct Returned {
    /// Status of its list.
    pub status: Status,
    /// Bytes.
    pub length: u32,
}

/// Shares of the gate that are about to go back: lists of one shard leave together.
#[derive(Debug, Default)]
pub struct Leaving {
    shard: u16,
    count: u32,
}

impl Leaving {
    /// What was collected last. After this share has left, the gate may be drained.
    pub fn last(self) -> Option<Pass> {
        (self.count != 0).then(|| Pass::resume(self.shard, Direction::Send, self.count))
    }
}

/// See the module's description.
///
/// # Invariants
/// - `slabs` changes only with the proof that the gate is drained, and under `lock`. It is read by whoever
///   holds a share of the gate, or `lock`.
/// - The path is a part of the shared value that its slabs were built for.
pub struct Path<T> {
    handle: Handle,
    gate: Gate<AtomicU64, PoolSlice<Shard<AtomicU64>>>,
    slabs: UnsafeCell<Option<Slabs<T>>>,
    lock: SpinLock<()>,
    info_slots: usize,
    device: Option<PhysicalDevice>,
    tag: Tag,
}

// SAFETY: see the invariants; every other field is shared as its type allows.
unsafe impl<T: Send + Sync> Sync for Path<T> {}
// SAFETY: a path is not tied to a thread.
unsafe impl<T: Send + Sync> Send for Path<T> {}

impl<T: Host> Path<T> {
    /// A path whose gate is closed and which has no memory.
    pub fn new(
        handle: Handle,
        device: Option<PhysicalDevice>,
        info_slots: usize,
        tag: Tag,
    ) -> Result<Self, OutOfMemory> {
        let shards = PoolSlice::new(processor::maximum() as usize, tag, |_| Shard::new())?;
        Ok(Self {
            handle,
            gate: Gate::new(shards),
            slabs: UnsafeCell::new(None),
            lock: SpinLock::new(()),
            info_slots,
            device,
            tag,
        })
    }

    /// The module's handle.
    pub fn handle(&self) -> Handle {
        self.handle
    }

    /// Gives a share back; true for whoever drained the gate and completes the pause. After this the caller must not
    /// touch the path unless it holds another share, or a reference to the host.
    #[must_use = "the one who drains the gate completes the pause"]
    pub fn leave(&self, share: Pass) -> bool {
        self.gate.leave(share) == Leave::Drained
    }

    /// Closes the gate, whether or not anything is out.
    pub fn close(&self) -> Close {
        self.gate.close()
    }

    /// The proof that the gate is closed and nothing is out, if that is so.
    pub fn claim(&self) -> Option<ModuleDrained<'_>> {
        self.gate.claim()
    }

    /// How much is out at this moment.
    pub fn outstanding(&self) -> Outstanding {
        self.gate.outstanding()
    }

    /// The slabs.
    ///
    /// # Safety
    /// The caller holds a share of the gate until it uses what is returned no more.
    unsafe fn slabs(&self) -> Option<&Slabs<T>> {
        // SAFETY: slabs change only while the gate is drained, and it is not.
        unsafe { (*self.slabs.get()).as_ref() }
    }

    /// Puts other slabs in place and returns those that were there.
    fn swap(
        &self,
        passive: &mut Passive<'_>,
        _proof: &ModuleDrained<'_>,
        new: Option<Slabs<T>>,
    ) -> Option<Slabs<T>> {
        self.lock.with(passive, |(), _| {
            // SAFETY: the proof shows that nobody holds a share of the gate; the lock keeps everybody else out.
            core::mem::replace(unsafe { &mut *self.slabs.get() }, new)
        })
    }

    /// Runs `work` with the slabs if there are any, without a share of the gate, at `DISPATCH_LEVEL`.
    fn with_slabs<L: BelowDispatch, R>(&self, level: &mut L, work: impl FnOnce(&Slabs<T>) -> R) -> Option<R>
    where
        Leaf: After<L::Held>,
    {
        self.lock.with(level, |(), _| {
            // SAFETY: the lock keeps the slabs in place.
            unsafe { (*self.slabs.get()).as_ref() }.map(work)
        })
    }

    /// Allocates, keeps or replaces the memory, or frees it if none is wanted; true if frames can be sent.
    ///
    /// # Panics
    /// If the path is no part of `host`.
    pub fn fit(
        &self,
        passive: &mut Passive<'_>,
        host: &Shared<T>,
        proof: &ModuleDrained<'_>,
        wanted: Option<SlotLayout>,
    ) -> Result<bool, OutOfMemory> {
        assert!(host.contains(self), "a path is a part of the value that it works for");
        let fits = self.with_slabs(passive, |slabs| wanted == Some(slabs.layout));
        if fits == Some(true) {
            return Ok(true);
        }
        if let Some(old) = self.swap(passive, proof, None) {
            old.free(passive, proof);
        }
        let Some(layout) = wanted else { return Ok(false) };
        let purpose = Purpose { handle: self.handle, device: self.device, layout, tag: self.tag };
        let new = Slabs::build(passive, host, purpose)?;
        let none = self.swap(passive, proof, Some(new));
        debug_assert!(none.is_none(), "the old slabs were freed above");
        Ok(true)
    }

    /// Frees the memory, if the gate is drained.
    pub fn free(&self, passive: &mut Passive<'_>) {
        if let Some(proof) = self.gate.claim()
            && let Some(slabs) = self.swap(passive, &proof, None)
        {
            slabs.free(passive, &proof);
        }
    }

    /// How many slots there are, and which `MEMORY_…` they lie in.
    pub fn memory(&self, level: &mut Passive<'_>) -> (u32, u32) {
        self.with_slabs(level, |slabs| (slabs.map.slots(), slabs.kind)).unwrap_or((0, 0))
    }

    /// Reads a send request, and copies its frames into slots; the chain that comes back is to be sent. From then on
    /// the path owns the IRP.
    pub fn load(&self, irp: PendingIrp<T>, max_frame: u32) -> Result<Chain, Unsent<T>> {
        let unsent = |why, irp, share| Err(Unsent { why, irp, share });
        let Some(pages) = pages(&irp) else { return unsent(Why::NoMapping, irp, None) };
        let request = match Request::parse(irp.input(), pages.length(), max_frame) {
            Ok(request) => request,
            Err(refusal) => return unsent(Why::Refused(refusal), irp, None),
        };
        let (frames, bytes) = (request.frames(), request.bytes());
        let processor = processor::current();
        let Some(share) = self.gate.enter(processor, Direction::Send, frames) else {
            return unsent(Why::Closed, irp, None);
        };
        // SAFETY: the share is given back by the caller, or with the lists.
        let Some(slabs) = (unsafe { self.slabs() }) else { return unsent(Why::Closed, irp, Some(share)) };
        if request.longest() > slabs.layout.max_frame {
            // The stack was restarted with a smaller MTU after the request was read. Only from here on, with a
            // share of the gate, do the slots stay as they are.
            return unsent(Why::Refused(Refusal::FrameTooLong), irp, Some(share));
        }
        let cancel_id = filter::next_cancel_id();
        let about = Sending { handle: self.handle, info_slots: self.info_slots, cancel_id };
        let mut chain = Chain::new();
        let mut spans = request.spans();
        let (mut first, mut frame, mut all_fit) = (None, 0, true);
        let taken = slabs.map.take(frames, processor, |slot| {
            let Some((offset, length)) = spans.next() else { return };
            let request = *first.get_or_insert(slot.index());
            let ticket = Ticket { request, frame, shard: share.shard(), length };
            if let Some((list, fits)) = slabs.load(slot, &pages, offset, ticket, about) {
                chain.push(list);
                all_fit &= fits;
            }
            frame += 1;
        });
        drop(spans);
        let Some(keeper) = first.filter(|_| taken).and_then(|slot| slabs.record(slot)) else {
            return unsent(Why::Short, irp, Some(share));
        };
        if !all_fit {
            self.take_back(slabs, chain);
            return unsent(Why::Refused(Refusal::FrameTooLong), irp, Some(share));
        }
        keeper.request.start(irp, frames, cancel_id);
        if let Some(irp) = keeper.request.arm() {
            self.take_back(slabs, chain);
            return unsent(Why::Cancelled, irp, Some(share));
        }
        share.into_items();
        trace::batch_started(cancel_id, frames, bytes);
        Ok(chain)
    }

    /// Puts the slots of a chain back that was not sent.
    fn take_back(&self, slabs: &Slabs<T>, chain: Chain) {
        for list in chain {
            if let Some(slot) = list.slot(self.handle) {
                list.retire();
                slabs.map.put(Slot::returned(slot));
            }
        }
    }

    /// A list came back: its result goes to its request, its slot to the map, and its share of the gate to `leaving`.
    /// A list of somebody else is given back.
    pub fn back(&self, list: List, leaving: &mut Leaving) -> Result<Option<Returned>, List> {
        let Some(slot) = list.slot(self.handle) else { return Err(list) };
        let status = list.status();
        list.retire();
        // SAFETY: a list of this module was out, and its share of the gate with it, until it is collected below.
        let Some(slabs) = (unsafe { self.slabs() }) else { return Ok(None) };
        let Some(ticket) = slabs.record(slot).map(crate::slab::Record::ticket) else { return Ok(None) };
        let Some(keeper) = slabs.record(ticket.request) else { return Ok(None) };
        let returned = Slot::<InFlight>::returned(slot);
        slabs.check(&returned);
        keeper.request.set_result(ticket.frame, FrameResult::of_status(status as u32));
        let mut shares = 0;
        if slot == ticket.request {
            // The first slot keeps the request, and stays with its share of the gate until that is over.
            let _ = returned;
        } else {
            slabs.map.put(returned);
            shares += 1;
        }
        if let Some(finished) = keeper.request.frames_back(1) {
            finished.complete();
            slabs.map.put(Slot::returned(ticket.request));
            shares += 1;
        }
        self.collect(leaving, ticket.shard, shares);
        Ok(Some(Returned { status, length: ticket.length }))
    }

    /// Collects shares of one shard; those of another go back first.
    ///
    /// That cannot drain the gate: the shares that are collected now are still held.
    fn collect(&self, leaving: &mut Leaving, shard: u16, shares: u32) {
        if shares == 0 {
            return;
        }
        if leaving.shard != shard
            && let Some(others) = core::mem::take(leaving).last()
        {
            let drained = self.leave(others);
            debug_assert!(!drained, "a share is still held");
        }
        leaving.shard = shard;
        leaving.count += shares;
    }

    /// A request whose last share its cancel routine gave up. Its share of the gate is to be given to [`Path::leave`].
    pub(crate) fn finish_late(&self, finished: Finished<T>, request: &Out<T>) -> Option<Pass> {
        // SAFETY: the request's share of the gate is still held; it is what is returned.
        let slabs = (unsafe { self.slabs() })?;
        let (slot, ticket) = slabs.keeper_of(request)?;
        finished.complete();
        slabs.map.put(Slot::returned(slot));
        Some(Pass::resume(ticket.shard, Direction::Send, 1))
    }

    /// Asks the drivers below to give back what came through `file` and is out. `attached` runs its argument while
    /// the module is attached.
    pub fn cancel(&self, passive: &mut Passive<'_>, file: File, attached: impl Fn(&dyn Fn())) {
        let mut next = 0;
        let mut ids = [0u64; 32];
        loop {
            // NDIS is not called with the lock held, so ids are collected first.
            let found = self.with_slabs(passive, |slabs| slabs.cancel_ids(file, &mut next, &mut ids));
            let found = found.unwrap_or(0);
            for id in ids.iter().take(found) {
                attached(&|| self.handle.cancel_sends(passive, *id));
            }
            if found < ids.len() {
                return;
            }
        }
    }
}

impl<T> Drop for Path<T> {
    fn drop(&mut self) {
        assert!(
            self.slabs.get_mut().is_none(),
            "a module is freed while it has memory that a device may know"
        );
    }
}

/// The pages of a send request. A request without data has none, and is refused for its length.
pub fn pages(irp: &Irp) -> Option<LockedPages<'_>> {
    match irp.control()?.output_length {
        0 => Some(LockedPages::none()),
        _ => irp.locked_pages(),
    }
}

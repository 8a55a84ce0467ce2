//! A module's frame memory: slabs of slots in DMA common buffers, each slot with its list built once.
//!
//! Whose memory is it, when may it die, does the device know? A slab belongs to the module that allocated
//! it. It dies only with a [`Drained`] proof in hand, which a gate gives out when it is closed and every
//! list has come back: then no device has been told of its memory any more.
#![expect(unsafe_code, reason = "hands out addresses inside common buffers, and frees them")]
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use sluice_abi::{MEMORY_ADAPTER, MEMORY_HAL, MEMORY_NONPAGED};
use sluice_core::gate::{Drained, Shard};
use sluice_core::layout::SlotLayout;
use sluice_core::slot::{InFlight, Slot, SlotMap, Taken, words_for};
use sluice_kernel::dma::{CommonBuffer, DmaAdapter};
use sluice_kernel::irp::{File, LockedPages};
use sluice_kernel::irql::Passive;
use sluice_kernel::pool::{OutOfMemory, PoolSlice, Tag};
use sluice_kernel::shared::Shared;

use crate::filter::{Handle, PhysicalDevice};
use crate::list::{List, Pool, Prebuilt};
use crate::path::Host;
use crate::trace;
use crate::transfer::Request;

/// Slots of one slab: those of one word of the map.
const SLOTS_PER_SLAB: u32 = u64::BITS;
/// Slabs of a module: room for two requests of the largest size.
const SLABS: u32 = 16;
/// Slots of a module.
const SLOTS: u32 = SLABS * SLOTS_PER_SLAB;

const _: () = assert!(SLOTS as usize >= sluice_abi::MAX_FRAMES, "the largest request must fit");

/// Proof that a module's gate is closed and that nothing is out: what freeing a slab needs. Only
/// [`crate::path::Path::claim`] gives it out.
pub type ModuleDrained<'gate> = Drained<'gate, AtomicU64, PoolSlice<Shard<AtomicU64>>>;

/// Where a frame in flight belongs: kept by its slot, since nothing else travels with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    /// Slot that keeps the request.
    pub(crate) request: u32,
    /// Which frame of the request.
    pub(crate) frame: u32,
    /// Shard of the gate that counts it.
    pub(crate) shard: u16,
    /// Bytes.
    pub(crate) length: u32,
}

impl Ticket {
    const fn pack(self) -> u64 {
        (self.request as u64) << 48
            | (self.frame as u64) << 32
            | (self.shard as u64) << 16
            | self.length as u64
    }

    const fn unpack(value: u64) -> Self {
        Self {
            request: (value >> 48) as u32,
            frame: (value >> 32) as u32 & 0xFFFF,
            shard: (value >> 16) as u16,
            length: value as u32 & 0xFFFF,
        }
    }
}

/// One slot, built once.
pub(crate) struct Record<T> {
    list: Prebuilt,
    address: NonNull<u8>,
    ticket: AtomicU64,
    /// The request that is kept here while this is its first slot.
    pub(crate) request: Request<T>,
}

// SAFETY: the address is only written by whoever took the slot, and the request's host is shared.
unsafe impl<T: Send + Sync> Send for Record<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Record<T> {}

impl<T> Record<T> {
    /// Remembers where the frame belongs.
    pub(crate) fn set_ticket(&self, ticket: Ticket) {
        self.ticket.store(ticket.pack(), Ordering::Release);
    }

    /// Where the frame belongs.
    pub(crate) fn ticket(&self) -> Ticket {
        Ticket::unpack(self.ticket.load(Ordering::Acquire))
    }
}

/// What is the same for all lists of a request.
#[derive(Clone, Copy)]
pub(crate) struct Sending {
    pub(crate) handle: Handle,
    pub(crate) info_slots: usize,
    pub(crate) cancel_id: u64,
}

/// Memory of one slab.
enum Memory {
    Common(CommonBuffer),
    Pool(PoolSlice<u64>),
}

impl Memory {
    fn address(&self) -> NonNull<u8> {
        match self {
            Self::Common(buffer) => buffer.address(),
            Self::Pool(words) => NonNull::from(&**words).cast(),
        }
    }
}

/// All slots of a module. It has no `Drop`: [`Slabs::free`] frees it.
#[must_use = "slabs that are dropped are never freed"]
pub struct Slabs<T> {
    /// How slots are laid out.
    pub(crate) layout: SlotLayout,
    /// Free slots.
    pub(crate) map: SlotMap<AtomicU64, PoolSlice<AtomicU64>>,
    /// `MEMORY_…` of the first slab.
    pub(crate) kind: u32,
    records: PoolSlice<Option<Record<T>>>,
    pool: Pool,
    memory: [Option<Memory>; SLABS as usize],
    adapter: Option<DmaAdapter>,
}

/// What slabs are built for.
#[derive(Clone, Copy)]
pub(crate) struct Purpose {
    pub(crate) handle: Handle,
    pub(crate) device: Option<PhysicalDevice>,
    pub(crate) layout: SlotLayout,
    pub(crate) tag: Tag,
}

impl<T: Host> Slabs<T> {
    /// Allocates and builds everything that sending needs, so that sending allocates nothing.
    pub(crate) fn build(
        passive: &Passive<'_>,
        host: &Shared<T>,
        purpose: Purpose,
    ) -> Result<Self, OutOfMemory> {
        let Purpose { handle, device, layout, tag } = purpose;
        let (adapter, kind) = adapter(passive, device);
        trace::adapter(kind);
        let mut slabs = Self {
            layout,
            map: SlotMap::new(PoolSlice::new(words_for(SLOTS), tag, |_| AtomicU64::new(0))?, SLOTS),
            kind,
            records: PoolSlice::new(SLOTS as usize, tag, |_| None)?,
            pool: Pool::new(handle, tag)?,
            memory: [const { None }; SLABS as usize],
            adapter,
        };
        match slabs.fill(passive, host, purpose) {
            Ok(()) => Ok(slabs),
            Err(error) => {
                // SAFETY: nothing was ever sent from these slabs.
                unsafe { slabs.release(passive) };
                Err(error)
            }
        }
    }

    fn fill(&mut self, passive: &Passive<'_>, host: &Shared<T>, purpose: Purpose) -> Result<(), OutOfMemory> {
        let length = self.layout.slab_length(SLOTS_PER_SLAB);
        for slab in 0..SLABS {
            let common = self.adapter.as_ref().and_then(|adapter| adapter.common_buffer(passive, length));
            let memory = if let Some(buffer) = common {
                trace::allocated(buffer.address().addr().get() as u64, buffer.logical_address(), length);
                Memory::Common(buffer)
            } else {
                // Late in a system's life contiguous memory may be gone; the card maps any nonpaged memory.
                if slab == 0 {
                    self.kind = MEMORY_NONPAGED;
                }
                Memory::Pool(PoolSlice::new(length.div_ceil(8) as usize, purpose.tag, |_| 0)?)
            };
            let base = memory.address();
            if let Some(place) = self.memory.get_mut(slab as usize) {
                *place = Some(memory);
            }
            for offset in 0..SLOTS_PER_SLAB {
                let slot = slab * SLOTS_PER_SLAB + offset;
                // SAFETY: the slab has room for SLOTS_PER_SLAB slots of one stride each.
                let address = unsafe { base.add((offset * self.layout.stride) as usize) };
                // SAFETY: the slab's memory is nonpaged and is freed after its lists.
                let list = unsafe {
                    self.pool.prebuilt(purpose.handle, address, self.layout.mapped_length(), slot)
                }?;
                let record = Record { list, address, ticket: AtomicU64::new(0), request: Request::new(host) };
                if let Some(place) = self.records.get_mut(slot as usize) {
                    *place = Some(record);
                }
            }
        }
        Ok(())
    }

    /// A slot's record.
    pub(crate) fn record(&self, slot: u32) -> Option<&Record<T>> {
        self.records.get(slot as usize)?.as_ref()
    }

    /// Writes a frame into a slot that was taken, and returns its list, to be sent: from there on the slot is in
    /// flight. And whether the adapter takes the frame, which is decided on the copy: the client may write into its own
    /// memory at any time. One that is not taken must not be sent.
    pub(crate) fn load(
        &self,
        slot: Slot<Taken>,
        pages: &LockedPages<'_>,
        offset: usize,
        ticket: Ticket,
        about: Sending,
    ) -> Option<(List, bool)> {
        let record = self.record(slot.index())?;
        let length = ticket.length.min(self.layout.max_frame);
        // SAFETY: the frame's room starts after the backfill, inside the slot.
        let room = unsafe { record.address.add(self.layout.backfill as usize) };
        // SAFETY: the slot was taken, so its bytes are this caller's, and it has room for the longest frame.
        let room = unsafe { core::slice::from_raw_parts_mut(room.as_ptr(), length as usize) };
        let read = pages.read(offset, room);
        debug_assert!(read, "the request's check has shown that its frames lie inside its pages");
        let fits = self.layout.takes(length, room);
        #[cfg(debug_assertions)]
        canary::set(record.address, &self.layout);
        record.set_ticket(ticket);
        let Sending { handle, info_slots, cancel_id } = about;
        // SAFETY: the slot was taken from the map, so the driver owns its list.
        let list =
            unsafe { record.list.prepare(handle, self.layout.backfill, length, info_slots, cancel_id) };
        let _in_flight: Slot<InFlight> = slot.filled().submitted();
        Some((list, fits))
    }

    /// The slot that keeps `request`, and its ticket.
    pub(crate) fn keeper_of(&self, request: &Request<T>) -> Option<(u32, Ticket)> {
        (0..self.map.slots()).find_map(|slot| {
            let record = self.record(slot)?;
            core::ptr::eq(&raw const record.request, request).then(|| (slot, record.ticket()))
        })
    }

    /// Collects the cancel ids of requests that came through `file`, from slot `next` on; returns how many.
    pub(crate) fn cancel_ids(&self, file: File, next: &mut u32, ids: &mut [u64]) -> usize {
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

    /// In debug builds, checks that nobody wrote behind the frame's room.
    #[cfg_attr(not(debug_assertions), expect(clippy::unused_self, reason = "checks in debug builds only"))]
    pub(crate) fn check(&self, slot: &Slot<InFlight>) {
        #[cfg(debug_assertions)]
        if let Some(record) = self.record(slot.index()) {
            canary::check(record.address, &self.layout);
        }
        #[cfg(not(debug_assertions))]
        let _ = slot;
    }

    /// Frees everything. The proof says that no device may still touch the memory.
    pub fn free(self, passive: &Passive<'_>, _proof: &ModuleDrained<'_>) {
        // SAFETY: the proof shows that every list of the module has come back and that none can be sent.
        unsafe { self.release(passive) };
    }

    /// # Safety
    /// No list of these slabs is out.
    unsafe fn release(self, passive: &Passive<'_>) {
        let Self { records, pool, memory, adapter, .. } = self;
        // Lists first, then their pool, then the memory that they described, then the adapter.
        drop(records);
        drop(pool);
        for memory in memory.into_iter().flatten() {
            match (memory, &adapter) {
                (Memory::Common(buffer), Some(adapter)) => {
                    trace::freed(buffer.logical_address(), buffer.length());
                    // SAFETY: the buffer is this adapter's; the caller says that no device touches it.
                    unsafe { adapter.free(passive, buffer) };
                }
                (Memory::Common(_), None) => debug_assert!(false, "a common buffer without its adapter"),
                (Memory::Pool(words), _) => drop(words),
            }
        }
    }
}

/// The DMA adapter of the card that the module sits on, or the HAL's, or none.
///
/// No document grants or denies a filter this use of the card's adapter; the card maps what is sent by itself
/// in every case, so nothing but the place of the memory depends on it.
fn adapter(passive: &Passive<'_>, device: Option<PhysicalDevice>) -> (Option<DmaAdapter>, u32) {
    if let Some(device) = device {
        // SAFETY: the device is the one that the module is attached to; slabs are freed before it detaches.
        if let Some(adapter) = unsafe { DmaAdapter::of(passive, device.raw()) } {
            return (Some(adapter), MEMORY_ADAPTER);
        }
    }
    // SAFETY: a null device asks for the HAL's own adapter.
    match unsafe { DmaAdapter::of(passive, core::ptr::null_mut()) } {
        Some(adapter) => (Some(adapter), MEMORY_HAL),
        None => (None, MEMORY_NONPAGED),
    }
}

#[cfg(debug_assertions)]
mod canary {
    use core::ptr::NonNull;

    use sluice_core::layout::{CANARY, CANARY_BYTES, SlotLayout};

    type Canary = [u8; CANARY as usize];

    fn place(slot: NonNull<u8>, layout: &SlotLayout) -> NonNull<Canary> {
        // SAFETY: the stride has room for the canary behind what is mapped.
        unsafe { slot.add(layout.mapped_length() as usize) }.cast()
    }

    pub(super) fn set(slot: NonNull<u8>, layout: &SlotLayout) {
        // SAFETY: the slot was taken, so its bytes are this caller's; bytes have no alignment.
        unsafe { place(slot, layout).write_unaligned(CANARY_BYTES) };
    }

    pub(super) fn check(slot: NonNull<u8>, layout: &SlotLayout) {
        // SAFETY: the slot came back, so its bytes are the driver's.
        let found = unsafe { place(slot, layout).read_unaligned() };
        assert!(found == CANARY_BYTES, "somebody wrote behind a frame");
    }
}

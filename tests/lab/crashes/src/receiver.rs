//! The safe side of the first document: a buffer that a card writes into, whose life is a type.
//!
//! "Whose memory is this, when may it live and die, does the device know?" An [`Idle`] buffer is the driver's, and the
//! device knows nothing of it. Starting a transfer consumes it: a [`Receiving`] one is the device's, has no bytes to be
//! read and nothing to free. Only [`Receiving::finish`] makes it the driver's again, and that waits until the gate
//! through which the transfer was admitted is drained: the card has said that it is complete.
//!
//! The length that the card is told is the buffer's own, so it cannot be told of more; and in front of the buffer and
//! behind it lies a page with a pattern that is checked when the transfer is over. (The document's code puts its page
//! in front of the buffer, where it says that it lies behind; a device may run over either end, so both are needed.)
//!
//! What those pages can do: show, when the transfer is over, that the card ran over an end by up to a page, and take what
//! it wrote, so that nothing else is harmed. What they cannot: stop the card, find more than a page, or find it earlier.
//! They are a part of the buffer's mapping, so an IOMMU lets the card write there; only one outside the mapping stops it.
use core::ffi::c_void;
use core::sync::atomic::AtomicU64;

use sluice_core::gate::{Close, Direction, Gate, Leave, Pass, Shard};
use sluice_kernel::dma::{CommonBuffer, DmaAdapter};
use sluice_kernel::event::Event;
use sluice_kernel::irql::{Dispatch, Passive};
use sluice_kernel::pool::{OutOfMemory, PoolSlice};
use sluice_kernel::shared::Shared;

use crate::{TAG, card};

/// Bytes of a page.
const PAGE: u32 = 4096;
/// What the pages around a buffer hold.
const PATTERN: u8 = 0xA5;

/// What the DPC and the driver share.
struct Transfers {
    gate: Gate<AtomicU64, PoolSlice<Shard<AtomicU64>>>,
    drained: Event,
}

/// A card and its adapter.
pub struct Receiver {
    adapter: DmaAdapter,
    transfers: Shared<Transfers>,
}

/// A buffer that the driver owns.
#[must_use = "a buffer that is dropped is never freed"]
pub struct Idle {
    buffer: CommonBuffer,
    length: u32,
}

/// A buffer that the card owns.
#[must_use = "a buffer that is dropped is never freed"]
pub struct Receiving(Idle);

impl Transfers {
    /// The card has interrupted: only `COMPLETE` ends a transfer, however many bytes have come.
    unsafe fn interrupted(status: u32, received: u32, context: *mut c_void) {
        if status & card::COMPLETE == 0 {
            return;
        }
        // SAFETY: DPCs run at DISPATCH_LEVEL.
        let dispatch = unsafe { Dispatch::assume() };
        // SAFETY: the card is closed before the last reference goes.
        let this = unsafe { Shared::borrow(context.cast::<Self>()) };
        crate::show(c"DMA is complete: %llu bytes, status %llu", u64::from(received), u64::from(status));
        if this.gate.leave(Pass::resume(0, Direction::Receive, 1)) == Leave::Drained {
            this.drained.set(&dispatch);
        }
    }
}

impl Receiver {
    /// Opens the card, if there is one.
    pub fn open(passive: &mut Passive<'_>) -> Result<Option<Self>, OutOfMemory> {
        let gate = Gate::new(PoolSlice::new(1, TAG, |_| Shard::new())?);
        let transfers = Shared::new(Transfers { gate, drained: Event::synchronization(TAG)? }, TAG)?;
        // SAFETY: a null device asks for the HAL's adapter.
        let adapter = unsafe { DmaAdapter::of(passive, core::ptr::null_mut()) }.ok_or(OutOfMemory)?;
        // SAFETY: the token shows PASSIVE_LEVEL; the transfers live until the card is closed.
        let open = unsafe { card::open(Transfers::interrupted, transfers.address().cast()) };
        Ok(open.then_some(Self { adapter, transfers }))
    }

    /// A buffer of so many bytes.
    pub fn buffer(&self, passive: &Passive<'_>, length: u32) -> Result<Idle, OutOfMemory> {
        let whole = length.next_multiple_of(PAGE) + 2 * PAGE;
        let buffer = self.adapter.common_buffer(passive, whole).ok_or(OutOfMemory)?;
        // SAFETY: the buffer is new, and nobody else knows it.
        unsafe { buffer.address().as_ptr().write_bytes(PATTERN, whole as usize) };
        Ok(Idle { buffer, length })
    }

    /// Has the card write into a buffer.
    pub fn receive(&self, buffer: Idle) -> Receiving {
        self.receive_over(buffer, 0)
    }

    /// Has the card write into a buffer, and over its end by up to a page, as one does that does not keep to its length.
    pub fn receive_over(&self, buffer: Idle, beyond: u32) -> Receiving {
        let length = buffer.length + beyond.min(PAGE);
        if let Some(proof) = self.transfers.gate.claim() {
            proof.open();
        }
        let admitted = self.transfers.gate.enter(0, Direction::Receive, 1).map(Pass::into_items);
        debug_assert!(admitted == Some(1), "the gate was opened above");
        // SAFETY: the card is open; the bytes are the buffer's own and those of the page behind it, and it cannot be freed
        // before the gate is drained.
        unsafe { card::receive(buffer.buffer.logical_address() + u64::from(PAGE), length) };
        Receiving(buffer)
    }

    /// Frees a buffer.
    pub fn free(&self, passive: &Passive<'_>, buffer: Idle) {
        // SAFETY: an idle buffer is one that no device writes to, and it is this adapter's.
        unsafe { self.adapter.free(passive, buffer.buffer) };
    }

    /// Closes the card.
    pub fn close(self, passive: &Passive<'_>) {
        // SAFETY: the token shows PASSIVE_LEVEL, and the card is open.
        unsafe { card::close() };
        self.adapter.put(passive);
    }
}

impl Receiving {
    /// Waits until the card is done; the buffer is the driver's again.
    pub fn finish(self, passive: &mut Passive<'_>, receiver: &Receiver) -> Idle {
        let transfers = &receiver.transfers;
        if transfers.gate.close() == Close::Pending {
            transfers.drained.wait(passive);
        }
        self.0
    }
}

impl Idle {
    /// The bytes that were received.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the buffer is the driver's, and has a page, its bytes, and another page.
        unsafe {
            core::slice::from_raw_parts(
                self.buffer.address().as_ptr().add(PAGE as usize),
                self.length as usize,
            )
        }
    }

    /// Whether the card stayed inside: the page in front and all that lies behind hold the pattern.
    pub fn is_intact(&self) -> bool {
        // SAFETY: the buffer is the driver's.
        let whole = unsafe {
            core::slice::from_raw_parts(self.buffer.address().as_ptr(), self.buffer.length() as usize)
        };
        let (front, rest) = whole.split_at(PAGE as usize);
        front.iter().chain(&rest[self.length as usize..]).all(|byte| *byte == PATTERN)
    }
}

/// Receives once, and frees everything: what most safe patterns do.
pub fn receive_once(passive: &mut Passive<'_>, length: u32) -> Result<(), OutOfMemory> {
    receive_once_over(passive, length, 0)
}

/// As [`receive_once`], with a card that writes over the buffer's end.
pub fn receive_once_over(passive: &mut Passive<'_>, length: u32, beyond: u32) -> Result<(), OutOfMemory> {
    let Some(receiver) = Receiver::open(passive)? else { return Ok(()) };
    let buffer = receiver.buffer(passive, length)?;
    let buffer = receiver.receive_over(buffer, beyond).finish(passive, &receiver);
    let sum: u64 = buffer.bytes().iter().map(|byte| u64::from(*byte)).sum();
    crate::show(c"received: sum %llu, intact %llu", sum, u64::from(buffer.is_intact()));
    receiver.free(passive, buffer);
    receiver.close(passive);
    Ok(())
}

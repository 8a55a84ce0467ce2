//! The first document's fourth piece of advice, put right, with the page behind the buffer: it says that a device which runs
//! over the end then faults at once. The processor does, where that page is inaccessible in its page tables, as Driver
//! Verifier's special pool has it behind a buffer of whole pages. A device does not go through them: it writes the memory
//! that comes next, and the system stops later, where that is used.
#![no_std]

use lab::{NO_MEMORY, card, raw, receiver};
use sluice_kernel::irql::Passive;
use wdk_sys::NTSTATUS;

lab::crash!(wrong, safe);

const LENGTH: u32 = 4096;
/// A header that was not counted when the buffer was allocated.
const HEADER: u32 = 64;

/// Another component's memory, which happens to come next.
#[repr(C)]
struct Neighbour {
    next: *const Neighbour,
    more: [u64; 7],
}

unsafe fn wrong() {
    unsafe {
        let done = raw::event();
        if !card::open(card::signal_complete, done.cast()) {
            return raw::free(done);
        }
        let adapter = raw::dma_adapter();
        // Special pool: a page of its own, and behind it one that no access of the processor survives.
        let buffer = raw::nonpaged::<[u8; LENGTH as usize]>();
        let neighbour = raw::nonpaged::<Neighbour>();
        (*neighbour).next = neighbour;
        let Some(mapped) = raw::map(adapter, buffer.cast(), LENGTH) else { return };
        card::receive(mapped.logical, LENGTH + HEADER);
        raw::wait(done);
        card::close();
        raw::unmap(adapter, mapped);
        // Nothing has stopped. The neighbour's owner uses it.
        let next = (&raw const (*neighbour).next).read_volatile();
        lab::show(c"the neighbour: %llx", (&raw const (*next).more).cast::<u64>().read_volatile(), 0);
        raw::free(neighbour);
        raw::free(buffer);
        raw::free(done);
    }
}

/// The length that the card is told is the buffer's own. For a card that does not keep to it a driver has nothing more than
/// pages of its own around the buffer; what stops the card is an IOMMU, behind a mapping that ends with the buffer.
fn safe(passive: &mut Passive<'_>) -> NTSTATUS {
    receiver::receive_once(passive, LENGTH).map_or(NO_MEMORY, |()| 0)
}

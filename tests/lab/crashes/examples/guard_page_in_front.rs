//! The first document's fourth piece of advice, as it is printed: a page more is allocated, and the driver's address is the
//! one behind the first page. The guard then lies in front of the buffer. The card runs over the end, as devices do; the
//! guard is as it was, and what lay behind the buffer, another component's memory, holds the card's data. The system stops later, where
//! that is used.
#![no_std]

use lab::{NO_MEMORY, card, raw, receiver};
use sluice_kernel::irql::Passive;
use wdk_sys::NTSTATUS;

lab::crash!(wrong, safe);

const LENGTH: u32 = 4096;
/// A header that was not counted when the buffer was allocated.
const HEADER: u32 = 64;
const PAGE: u32 = 4096;
const PATTERN: u8 = 0xA5;

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
        let whole = raw::common_buffer(adapter, PAGE + LENGTH);
        let neighbour = raw::nonpaged::<Neighbour>();
        (*neighbour).next = neighbour;
        whole.0.write_bytes(PATTERN, PAGE as usize);
        // "Left for protection", says the document.
        let buffer = whole.1 + u64::from(PAGE);
        card::receive(buffer, LENGTH + HEADER);
        raw::wait(done);
        let guard = core::slice::from_raw_parts(whole.0, PAGE as usize);
        lab::show(
            c"the guard in front: intact %llu",
            u64::from(guard.iter().all(|byte| *byte == PATTERN)),
            0,
        );
        // The neighbour's owner uses it.
        let next = (&raw const (*neighbour).next).read_volatile();
        lab::show(c"the neighbour: %llx", (&raw const (*next).more).cast::<u64>().read_volatile(), 0);
        card::close();
        raw::free(neighbour);
        raw::free_common_buffer(adapter, PAGE + LENGTH, whole);
        raw::free(done);
    }
}

/// A page with a pattern on both sides, looked at when the card is done. It does not stop a card that runs over the end: it
/// takes what that wrote, and the driver knows.
fn safe(passive: &mut Passive<'_>) -> NTSTATUS {
    receiver::receive_once_over(passive, LENGTH, HEADER).map_or(NO_MEMORY, |()| 0)
}

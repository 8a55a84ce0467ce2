//! The card is told of more bytes than the buffer has (first document): it writes over what lies behind. The document
//! names 0xC5 for it, when the neighbour's pool header is found broken; with an IOMMU the write itself is stopped
//! (0xE6 with 0x26), and inside one page Driver Verifier finds its pattern changed when the buffer is freed (0xE6
//! with 0xF).
#![no_std]

use lab::{NO_MEMORY, card, raw, receiver};
use sluice_kernel::irql::Passive;
use wdk_sys::NTSTATUS;

lab::crash!(wrong, safe);

const LENGTH: u32 = 4096;
/// A header that somebody forgot to count when the buffer was allocated.
const HEADER: u32 = 64;

unsafe fn wrong() {
    unsafe {
        let done = raw::event();
        if !card::open(card::signal_complete, done.cast()) {
            return raw::free(done);
        }
        let adapter = raw::dma_adapter();
        let buffer = raw::common_buffer(adapter, LENGTH);
        card::receive(buffer.1, LENGTH + HEADER);
        raw::wait(done);
        card::close();
        raw::free_common_buffer(adapter, LENGTH, buffer);
        raw::free(done);
    }
}

/// The length that the card is told is the buffer's own, and the pages around it are looked at when the card is done.
fn safe(passive: &mut Passive<'_>) -> NTSTATUS {
    receiver::receive_once(passive, LENGTH + HEADER).map_or(NO_MEMORY, |()| 0)
}

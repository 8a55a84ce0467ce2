//! The card is started before its memory is mapped (first document): the address that it is given is what happened to
//! lie in the driver's variable, here nothing. The document names 0x50; an IOMMU stops the write (0xE6 with 0x26).
#![no_std]

use lab::{NO_MEMORY, card, raw, receiver};
use sluice_kernel::irql::Passive;
use wdk_sys::NTSTATUS;

lab::crash!(wrong, safe);

const LENGTH: u32 = 1500;

unsafe fn wrong() {
    unsafe {
        let done = raw::event();
        if !card::open(card::signal_complete, done.cast()) {
            return raw::free(done);
        }
        let logical = 0;
        card::receive(logical, LENGTH);
        // Too late: the card has its address.
        let adapter = raw::dma_adapter();
        let buffer = raw::common_buffer(adapter, LENGTH);
        raw::wait(done);
        card::close();
        raw::free_common_buffer(adapter, LENGTH, buffer);
        raw::free(done);
    }
}

/// The address comes from the buffer, and there is no buffer that is not mapped.
fn safe(passive: &mut Passive<'_>) -> NTSTATUS {
    receiver::receive_once(passive, LENGTH).map_or(NO_MEMORY, |()| 0)
}

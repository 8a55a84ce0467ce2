//! A DMA buffer is freed before the card is done with it (first document): the DPC takes the first interrupt for the
//! last one, the buffer goes, and the card writes the rest into memory that is somebody else's by then. The document
//! saw 0xA in code that had nothing to do with it, much later; with Driver Verifier's DMA checking and an IOMMU the
//! write itself is stopped (0xE6 with 0x26).
#![no_std]

use core::ffi::c_void;

use lab::{NO_MEMORY, card, raw, receiver};
use sluice_kernel::irql::Passive;
use wdk_sys::ntddk::KeSetEvent;
use wdk_sys::{KEVENT, NTSTATUS};

lab::crash!(wrong, safe);

const LENGTH: u32 = 4096;

/// The mistake: bytes have come, so the transfer must be over.
unsafe fn interrupted(status: u32, _received: u32, done: *mut c_void) {
    if status & card::ARRIVED != 0 {
        unsafe { KeSetEvent(done.cast::<KEVENT>(), 0, 0) };
    }
}

unsafe fn wrong() {
    unsafe {
        let done = raw::event();
        if !card::open(interrupted, done.cast()) {
            return raw::free(done);
        }
        let adapter = raw::dma_adapter();
        let buffer = raw::common_buffer(adapter, LENGTH);
        card::receive(buffer.1, LENGTH);
        raw::wait(done);
        raw::free_common_buffer(adapter, LENGTH, buffer);
        // The card is still writing.
        sluice_kernel::wait::sleep(&Passive::assume(), sluice_kernel::wait::Timeout::milliseconds(1));
        card::close();
        raw::free(done);
    }
}

/// The buffer is the card's until the card says that it is complete: a buffer that is being received into has no
/// function that frees it.
fn safe(passive: &mut Passive<'_>) -> NTSTATUS {
    receiver::receive_once(passive, LENGTH).map_or(NO_MEMORY, |()| 0)
}

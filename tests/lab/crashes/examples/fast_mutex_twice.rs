//! A fast mutex is taken again by its owner (second document: "cannot be taken recursively"): the thread waits for
//! itself, for ever. Driver Verifier finds the deadlock before it happens (0xC4 with 0x1000).
#![no_std]

use lab::{NO_MEMORY, TAG, raw};
use sluice_kernel::irql::Passive;
use sluice_kernel::mutex::FastMutex;
use sluice_kernel::ranks;
use wdk_sys::ntddk::{ExAcquireFastMutex, ExReleaseFastMutex};
use wdk_sys::{FAST_MUTEX, NTSTATUS};

lab::crash!(wrong, safe);

/// A function that takes the mutex calls another that takes it too.
unsafe fn wrong() {
    unsafe {
        let mutex = raw::nonpaged::<FAST_MUTEX>();
        raw::initialize_fast_mutex(mutex);
        ExAcquireFastMutex(mutex);
        ExAcquireFastMutex(mutex);
        ExReleaseFastMutex(mutex);
        ExReleaseFastMutex(mutex);
        raw::free(mutex);
    }
}

ranks! {
    /// The list's mutex, taken first.
    List;
    /// An entry's mutex.
    Entry;
}

/// The token inside has the mutex's rank: another mutex may be taken if its rank comes later, and never the same.
fn safe(passive: &mut Passive<'_>) -> NTSTATUS {
    let (Ok(list), Ok(entry)) = (FastMutex::<u64, List>::new(0, TAG), FastMutex::<u64, Entry>::new(0, TAG))
    else {
        return NO_MEMORY;
    };
    list.with(passive, |length, inside| {
        *length += 1;
        entry.with_at_apc(inside, |entry, _| *entry += 1);
    });
    0
}

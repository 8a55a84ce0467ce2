//! A counter that two processors increment (second document, "Interlocked"): a plain `counter += 1` reads, adds and
//! writes, and of two that do so at once one is lost. Nothing crashes; the number is wrong.
#![no_std]

use core::ffi::c_void;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use lab::{NO_MEMORY, TAG};
use sluice_kernel::interlocked::Counter;
use sluice_kernel::irql::{self, Passive};
use sluice_kernel::shared::Shared;
use wdk_sys::NTSTATUS;

lab::crash!(wrong, safe);

const ROUNDS: u64 = 10;

static PLAIN: AtomicU64 = AtomicU64::new(0);

/// `counter += 1` in its three parts. Between them anything may come, here a call as anybody makes it.
unsafe extern "C" fn increment(_context: *mut c_void) {
    for _ in 0..ROUNDS {
        let value = PLAIN.load(Relaxed);
        let _level = irql::current();
        PLAIN.store(value + 1, Relaxed);
    }
}

/// Two threads, on two processors.
unsafe fn wrong() {
    PLAIN.store(0, Relaxed);
    unsafe {
        let first = lab::start_thread(Some(increment), core::ptr::null_mut());
        let second = lab::start_thread(Some(increment), core::ptr::null_mut());
        lab::join(first);
        lab::join(second);
    }
    lab::show(c"counter: %llu of %llu", PLAIN.load(Relaxed), 2 * ROUNDS);
}

fn interlocked(counter: &Shared<Counter>, _passive: &mut Passive<'_>) {
    for _ in 0..ROUNDS {
        counter.increment();
        let _level = irql::current();
    }
}

/// One instruction with the bus locked: nothing comes between.
fn safe(passive: &mut Passive<'_>) -> NTSTATUS {
    let Ok(counter) = Shared::new(Counter::new(0), TAG) else { return NO_MEMORY };
    lab::threads(passive, &counter, [interlocked, interlocked]);
    lab::show(c"counter: %llu of %llu", counter.get().unsigned_abs(), 2 * ROUNDS);
    0
}

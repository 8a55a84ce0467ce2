//! A mutex is released by a thread that does not own it (second document: "the owner is the only one that can release
//! it"). `KeReleaseMutex` raises `STATUS_MUTANT_NOT_OWNED`, which nobody handles: 0x7E with 0xC0000046 in a
//! thread of the system, 0x3B in a client's request.
#![no_std]

use core::cell::Cell;
use core::ffi::c_void;

use lab::{NO_MEMORY, TAG, raw};
use sluice_kernel::irql::Passive;
use sluice_kernel::mutex::Mutex;
use sluice_kernel::shared::Shared;
use wdk_sys::ntddk::{KeInitializeMutex, KeReleaseMutex};
use wdk_sys::{KMUTEX, NTSTATUS};

lab::crash!(wrong, safe);

unsafe extern "C" fn release(mutex: *mut c_void) {
    let before = unsafe { KeReleaseMutex(mutex.cast(), 0) };
    lab::show(c"state before: %lld, %llu", i64::from(before).cast_unsigned(), 0);
}

/// One thread takes the mutex, and another is asked to release it.
unsafe fn wrong() {
    unsafe {
        let mutex = raw::nonpaged::<KMUTEX>();
        KeInitializeMutex(mutex, 0);
        raw::wait(mutex);
        lab::join(lab::start_thread(Some(release), mutex.cast()));
    }
}

struct State {
    counter: Mutex<Cell<u64>>,
}

fn count(state: &Shared<State>, passive: &mut Passive<'_>) {
    for _ in 0..3 {
        state.counter.with(passive, |counter| counter.set(counter.get() + 1));
    }
}

/// Taking and releasing are one call, in one thread: nothing is there that another could release.
fn safe(passive: &mut Passive<'_>) -> NTSTATUS {
    let Ok(counter) = Mutex::new(Cell::new(0), TAG) else { return NO_MEMORY };
    let Ok(state) = Shared::new(State { counter }, TAG) else { return NO_MEMORY };
    lab::threads(passive, &state, [count, count]);
    let counted = state.counter.with(passive, Cell::get);
    lab::show(c"counter: %llu of %llu", counted, 6);
    0
}

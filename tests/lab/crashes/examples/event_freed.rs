//! An event is freed while a thread waits for it (second document): the waiter is linked into the object. No bugcheck of
//! Windows' own is documented for the moment of freeing; the machine stops there, Windows when the list is followed.
#![no_std]

use core::ffi::c_void;

use lab::{NO_MEMORY, TAG, raw};
use sluice_kernel::event::Event;
use sluice_kernel::irql::Passive;
use sluice_kernel::shared::Shared;
use sluice_kernel::wait::{self, Timeout};
use wdk_sys::NTSTATUS;

lab::crash!(wrong, safe);

unsafe extern "C" fn waiter(event: *mut c_void) {
    unsafe { raw::wait(event) };
}

/// The thread has been waiting for a while when its event goes.
unsafe fn wrong() {
    unsafe {
        let event = raw::event();
        lab::start_thread(Some(waiter), event.cast());
        wait::sleep(&Passive::assume(), Timeout::milliseconds(1));
        raw::free(event);
    }
}

struct State {
    event: Event,
}

fn wait_for_it(state: &Shared<State>, passive: &mut Passive<'_>) {
    state.event.wait(passive);
}

fn signal(state: &Shared<State>, passive: &mut Passive<'_>) {
    wait::sleep(passive, Timeout::milliseconds(1));
    state.event.set(passive);
}

/// A wait borrows the event, and each thread has a reference to it: it is freed by whoever is last.
fn safe(passive: &mut Passive<'_>) -> NTSTATUS {
    let Ok(event) = Event::notification(TAG) else { return NO_MEMORY };
    let Ok(state) = Shared::new(State { event }, TAG) else { return NO_MEMORY };
    lab::threads(passive, &state, [wait_for_it, wait_for_it, signal]);
    0
}

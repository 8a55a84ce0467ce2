//! A timer is freed while it is set (second document): the clock interrupt finds it in its table (0xC7).
//! Driver Verifier looks when the pool is freed: 0xC4 with 0x15.
#![no_std]

use lab::{NO_MEMORY, TAG, raw};
use sluice_kernel::interlocked::Counter;
use sluice_kernel::irql::{Dispatch, Passive};
use sluice_kernel::shared::Shared;
use sluice_kernel::timer::{Timed, Timer};
use sluice_kernel::wait::{self, Timeout};
use wdk_sys::ntddk::{KeInitializeTimerEx, KeSetTimerEx};
use wdk_sys::{KTIMER, LARGE_INTEGER, NTSTATUS};

lab::crash!(wrong, safe);

/// Ten milliseconds are a long time.
unsafe fn wrong() {
    unsafe {
        let timer = raw::nonpaged::<KTIMER>();
        KeInitializeTimerEx(timer, 0);
        KeSetTimerEx(timer, LARGE_INTEGER { QuadPart: -100_000 }, 0, core::ptr::null_mut());
        raw::free(timer);
    }
}

struct State {
    timer: Timer,
    ticks: Counter,
}

impl Timed for State {
    fn elapsed(this: &Shared<Self>, _dispatch: &mut Dispatch<'_>) {
        this.ticks.increment();
    }
}

/// Stopping cancels the timer, takes its DPC off the queue, and waits for a routine that runs.
fn safe(passive: &mut Passive<'_>) -> NTSTATUS {
    let Ok(state) = Shared::new(State { timer: Timer::new(), ticks: Counter::new(0) }, TAG) else {
        return NO_MEMORY;
    };
    state.timer.start(&state);
    state.timer.set_periodic(Timeout::milliseconds(1), 1);
    wait::sleep(passive, Timeout::milliseconds(3));
    state.timer.stop(passive);
    0
}

//! A DPC object is freed while it is queued (second document): the processor follows a pointer into memory that is
//! somebody else's by now. 0xC7 where it is noticed; anything at all where it is not.
#![no_std]

use lab::{NO_MEMORY, TAG, raw};
use sluice_kernel::dpc::{Deferred, Dpc};
use sluice_kernel::interlocked::Counter;
use sluice_kernel::irql::{Dispatch, Passive};
use sluice_kernel::shared::Shared;
use wdk_sys::ntddk::{KeInitializeDpc, KeInsertQueueDpc, KeLowerIrql, KfRaiseIrql};
use wdk_sys::{KDPC, NTSTATUS};

lab::crash!(wrong, safe);

unsafe extern "C" fn routine(
    _dpc: *mut KDPC,
    _context: *mut core::ffi::c_void,
    _first: *mut core::ffi::c_void,
    _second: *mut core::ffi::c_void,
) {
}

/// The DPC cannot run before the level is lowered, and by then it is gone.
unsafe fn wrong() {
    unsafe {
        let dpc = raw::nonpaged::<KDPC>();
        KeInitializeDpc(dpc, Some(routine), core::ptr::null_mut());
        let old = KfRaiseIrql(2);
        KeInsertQueueDpc(dpc, core::ptr::null_mut(), core::ptr::null_mut());
        raw::free(dpc);
        KeLowerIrql(old);
    }
}

struct State {
    dpc: Dpc,
    runs: Counter,
}

impl Deferred for State {
    fn run(this: &Shared<Self>, _dispatch: &mut Dispatch<'_>) {
        this.runs.increment();
    }
}

/// The DPC is a part of what it works on, and stopping it takes it off its queue and waits for its routine. A value that
/// is freed with a DPC that was not stopped stops the system there and then, where the mistake is.
fn safe(passive: &mut Passive<'_>) -> NTSTATUS {
    let Ok(state) = Shared::new(State { dpc: Dpc::new(), runs: Counter::new(0) }, TAG) else {
        return NO_MEMORY;
    };
    state.dpc.start(&state);
    passive.at_dispatch(|_| state.dpc.queue());
    state.dpc.stop(passive);
    // Refused: it is stopped.
    state.dpc.queue();
    0
}

//! `Ex…`: pool and rundown protection.
use super::{Call, Function, function};
use crate::machine::{Machine, current};
use crate::memory::{get, put};

pub(super) const FUNCTIONS: &[Function] = &[
    function!("ExAllocatePool2", Any, |machine, call| {
        machine.pool.allocate(machine, call.arg(1), call.arg32(2), call.caller())
    }),
    function!("ExAllocatePoolWithTag", Any, |machine, call| {
        machine.pool.allocate(machine, call.arg(1), call.arg32(2), call.caller())
    }),
    function!("ExFreePoolWithTag", Any, |machine, call| {
        machine.pool.free(machine, call.arg(0), call.arg32(1));
        0
    }),
    function!("ExFreePool", Any, |machine, call| {
        machine.pool.free(machine, call.arg(0), 0);
        0
    }),
    function!("ExInitializeRundownProtection", Any, |_, call| {
        put::<u64>(call.arg(0), 0);
        0
    }),
    function!("ExAcquireRundownProtection", Dispatch, acquire_rundown),
    function!("ExReleaseRundownProtection", Dispatch, |_, call| {
        put::<u64>(call.arg(0), get::<u64>(call.arg(0)) - RUNDOWN_UNIT);
        0
    }),
    function!("ExWaitForRundownProtectionRelease", Apc, wait_rundown),
];

/// Set in an `EX_RUNDOWN_REF` from the wait on.
const RUNDOWN_ACTIVE: u64 = 1;
/// One reference.
const RUNDOWN_UNIT: u64 = 2;

fn acquire_rundown(_machine: &Machine, call: &Call<'_>) -> u64 {
    let reference: u64 = get(call.arg(0));
    if reference & RUNDOWN_ACTIVE != 0 {
        return 0;
    }
    put(call.arg(0), reference + RUNDOWN_UNIT);
    1
}

fn wait_rundown(machine: &Machine, call: &Call<'_>) -> u64 {
    let reference = call.arg(0);
    put::<u64>(reference, get::<u64>(reference) | RUNDOWN_ACTIVE);
    machine.scheduler.wait("a rundown", None, move || {
        let _ = current();
        get::<u64>(reference) == RUNDOWN_ACTIVE
    });
    0
}

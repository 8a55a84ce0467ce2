//! `Ex…`: pool, rundown protection, remove locks, probes.
use super::{Call, Function, function};
use crate::machine::{Machine, current};
use crate::memory::{get, put};
use crate::rule;

pub(super) const FUNCTIONS: &[Function] = &[
    function!("ExAllocatePool2", 3, Any, |machine, call| {
        let flags = call.arg(0);
        let zeroed = flags & POOL_FLAG_UNINITIALIZED == 0;
        if flags & POOL_FLAG_EXECUTE != 0 {
            executable(machine, call, flags);
        }
        let paged = flags & POOL_FLAG_PAGED != 0;
        let memory = machine.pool.allocate(machine, call.arg(1), call.arg32(2), call.caller(), paged);
        if memory != 0 && !zeroed {
            crate::kernel::pool::dirty(memory, call.arg(1));
        }
        memory
    }),
    function!("ExAllocatePool3", 5, Any, |machine, call| {
        let paged = call.arg(0) & POOL_FLAG_PAGED != 0;
        machine.pool.allocate(machine, call.arg(1), call.arg32(2), call.caller(), paged)
    }),
    function!("ExAllocatePoolWithTag", 3, Any, |machine, call| old_pool(machine, call, call.arg32(2))),
    function!("ExAllocatePoolZero", 3, Any, |machine, call| {
        let paged = call.arg32(0) & 1 != 0;
        machine.pool.allocate(machine, call.arg(1), call.arg32(2), call.caller(), paged)
    }),
    function!("ExAllocatePoolWithQuotaTag", 3, Any, |machine, call| old_pool(machine, call, call.arg32(2))),
    function!("ExAllocatePool", 2, Any, |machine, call| old_pool(
        machine,
        call,
        u32::from_le_bytes(*b"None")
    )),
    function!("ExFreePoolWithTag", 2, Any, |machine, call| {
        machine.pool.free(machine, call.arg(0), call.arg32(1));
        0
    }),
    function!("ExFreePool", 1, Any, |machine, call| {
        machine.pool.free(machine, call.arg(0), 0);
        0
    }),
    function!("ExFreePool2", 4, Any, |machine, call| {
        machine.pool.free(machine, call.arg(0), call.arg32(1));
        0
    }),
    function!("ExInitializeRundownProtection", 1, Any, |_, call| {
        put::<u64>(call.arg(0), 0);
        0
    }),
    function!("ExReInitializeRundownProtection", 1, Any, |_, call| {
        put::<u64>(call.arg(0), 0);
        0
    }),
    function!("ExAcquireRundownProtection", 1, Any, |_, call| acquire_rundown(call.arg(0), 1)),
    function!("ExAcquireRundownProtectionEx", 2, Any, |_, call| acquire_rundown(call.arg(0), call.arg(1))),
    function!("ExReleaseRundownProtection", 1, Any, |machine, call| release_rundown(machine, call.arg(0), 1)),
    function!("ExReleaseRundownProtectionEx", 2, Any, |machine, call| {
        release_rundown(machine, call.arg(0), call.arg(1))
    }),
    function!("ExRundownCompleted", 1, Any, |_, call| {
        put::<u64>(call.arg(0), RUNDOWN_ACTIVE);
        0
    }),
    function!("ExWaitForRundownProtectionRelease", 1, Apc, wait_rundown),
    function!("IoInitializeRemoveLockEx", 5, Any, |_, call| {
        put::<u8>(call.arg(0), 0);
        put::<i32>(call.arg(0) + REMOVE_COUNT, 1);
        0
    }),
    function!("IoAcquireRemoveLockEx", 5, Dispatch, |machine, call| {
        if get::<u8>(call.arg(0)) != 0 {
            return u64::from(DELETE_PENDING);
        }
        let count: i32 = get(call.arg(0) + REMOVE_COUNT);
        put(call.arg(0) + REMOVE_COUNT, count + 1);
        machine.kernel.devices.remove_tags.borrow_mut().push((call.arg(0), call.arg(1)));
        0
    }),
    function!("IoReleaseRemoveLockEx", 3, Dispatch, |machine, call| {
        release_remove(machine, call.arg(0), call.arg(1), false);
        0
    }),
    function!("IoReleaseRemoveLockAndWaitEx", 3, Passive, |machine, call| {
        let lock = call.arg(0);
        put::<u8>(lock, 1);
        release_remove(machine, lock, call.arg(1), true);
        // The count that the lock began with.
        let count: i32 = get(lock + REMOVE_COUNT);
        put(lock + REMOVE_COUNT, count - 1);
        machine.scheduler.wait("a remove lock", None, move || {
            let tags = current().kernel.devices.remove_tags.borrow();
            !tags.iter().any(|(other, _)| *other == lock)
        });
        0
    }),
    function!("ProbeForRead", 3, Apc, IRQL_PAGED_LOOKASIDE, |_, _| 0),
    function!("ProbeForWrite", 3, Apc, IRQL_PAGED_LOOKASIDE, |_, _| 0),
    function!("ExUuidCreate", 1, Passive, IRQL_EX_PASSIVE, |machine, call| {
        put::<u64>(call.arg(0), machine.scheduler.choose(u64::MAX));
        put::<u64>(call.arg(0) + 8, machine.scheduler.choose(u64::MAX) | 1 << 63);
        0
    }),
    function!("ExGetPreviousMode", 0, Any, |machine, _| u64::from(machine.scheduler.this().in_service.get())),
];

/// `POOL_FLAG_…` of `ExAllocatePool2`.
const POOL_FLAG_UNINITIALIZED: u64 = 0x2;
const POOL_FLAG_EXECUTE: u64 = 0x80;
const POOL_FLAG_PAGED: u64 = 0x100;
/// `POOL_TYPE`: executable nonpaged pool is 0, and what is not executable has this bit.
const POOL_NX: u32 = 512;
/// Set in an `EX_RUNDOWN_REF` from the wait on.
const RUNDOWN_ACTIVE: u64 = 1;
/// One reference.
const RUNDOWN_UNIT: u64 = 2;
/// Offset of the count in an `IO_REMOVE_LOCK`.
const REMOVE_COUNT: u64 = 4;
/// `STATUS_DELETE_PENDING`.
const DELETE_PENDING: u32 = 0xC000_0056;

fn executable(machine: &Machine, call: &Call<'_>, kind: u64) {
    let arguments = [call.caller(), kind, u64::from(call.arg32(2))];
    machine.stop(&rule::POOL_EXECUTABLE, arguments, "Executable pool is allocated");
}

fn old_pool(machine: &Machine, call: &Call<'_>, tag: u32) -> u64 {
    let kind = call.arg32(0);
    let paged = kind & 1 != 0;
    if !paged && kind & POOL_NX == 0 {
        executable(machine, call, u64::from(kind));
    }
    let memory = machine.pool.allocate(machine, call.arg(1), tag, call.caller(), paged);
    if memory != 0 {
        crate::kernel::pool::dirty(memory, call.arg(1));
    }
    memory
}

fn acquire_rundown(reference: u64, count: u64) -> u64 {
    let value: u64 = get(reference);
    if value & RUNDOWN_ACTIVE != 0 {
        return 0;
    }
    put(reference, value + RUNDOWN_UNIT * count);
    1
}

fn release_rundown(machine: &Machine, reference: u64, count: u64) -> u64 {
    machine.checked();
    let value: u64 = get(reference);
    if value < RUNDOWN_UNIT * count {
        let text = "Rundown protection is released more often than it was acquired";
        machine.stop(&rule::RUNDOWN, [reference, value, count], text);
    }
    put(reference, value.wrapping_sub(RUNDOWN_UNIT * count));
    0
}

fn wait_rundown(machine: &Machine, call: &Call<'_>) -> u64 {
    let reference = call.arg(0);
    put::<u64>(reference, get::<u64>(reference) | RUNDOWN_ACTIVE);
    let block = machine.memory.block_around(reference).map(|block| (block.address, block.length));
    machine.scheduler.wait("a rundown", None, move || {
        let memory = &current().memory;
        // Its memory may be gone while somebody waits; then the wait has nothing to end it.
        block.is_none_or(|(address, length)| memory.is_live(address, length))
            && get::<u64>(reference) == RUNDOWN_ACTIVE
    });
    0
}

fn release_remove(machine: &Machine, lock: u64, tag: u64, waits: bool) {
    machine.checked();
    let mut tags = machine.kernel.devices.remove_tags.borrow_mut();
    let found = tags.iter().position(|held| *held == (lock, tag));
    if let Some(place) = found {
        tags.remove(place);
        let count: i32 = get(lock + REMOVE_COUNT);
        put(lock + REMOVE_COUNT, count - 1);
        return;
    }
    drop(tags);
    if waits {
        let text = "IoReleaseRemoveLockAndWait is given a tag that the lock was not acquired with";
        machine.stop(&rule::REMOVE_LOCK_WAIT, [lock, tag, 0], text);
    } else {
        let text = "A remove lock is released with a tag that it was not acquired with";
        machine.stop(&rule::REMOVE_LOCK_TAG, [lock, tag, 0], text);
    }
}

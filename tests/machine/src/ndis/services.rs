//! NDIS's services for drivers: memory, events, sleep, reader-writer locks, work items, configuration, names.
use std::cell::RefCell;

use ndis_sys::{
    NDIS_OBJECT_TYPE_DEFAULT, NDIS_STATUS_FAILURE, NDIS_STATUS_INVALID_PARAMETER, NDIS_STATUS_NOT_SUPPORTED,
};
use rustc_hash::FxHashMap;

use crate::kernel::{Call, Function, function, ke, sync, wait, work};
use crate::machine::{Machine, current};
use crate::memory::{Use, get, put, text};
use crate::rule;
use crate::sched::DISPATCH;

pub(crate) const FUNCTIONS: &[Function] = &[
    function!("NdisAllocateMemoryWithTagPriority", 4, Dispatch, |machine, call| {
        machine.pool.allocate(machine, u64::from(call.arg32(1)), call.arg32(2), call.caller(), false)
    }),
    function!("NdisAllocateMemoryWithTag", 3, Dispatch, |machine, call| {
        let length = u64::from(call.arg32(1));
        let memory = machine.pool.allocate(machine, length, call.arg32(2), call.caller(), false);
        put::<u64>(call.arg(0), memory);
        if memory == 0 { u64::from(NDIS_STATUS_FAILURE as u32) } else { 0 }
    }),
    function!("NdisFreeMemory", 3, Dispatch, |machine, call| {
        machine.pool.free(machine, call.arg(0), 0);
        0
    }),
    function!("NdisFreeMemoryWithTag", 2, Dispatch, |machine, call| {
        machine.pool.free(machine, call.arg(0), call.arg32(1));
        0
    }),
    function!("NdisFreeMemoryWithTagPriority", 3, Dispatch, |machine, call| {
        machine.pool.free(machine, call.arg(1), call.arg32(2));
        0
    }),
    function!("NdisInitializeEvent", 1, Dispatch, |machine, call| {
        wait::initialize_event(machine, call.arg(0), false, false);
        0
    }),
    function!("NdisSetEvent", 1, Dispatch, |machine, call| {
        wait::set_event(machine, call.arg(0));
        0
    }),
    function!("NdisResetEvent", 1, Dispatch, |machine, call| {
        wait::reset_event(machine, call.arg(0));
        0
    }),
    function!("NdisWaitEvent", 2, Any, wait_event),
    function!("NdisMSleep", 1, Apc, |machine, call| {
        let until = machine.scheduler.now() + u64::from(call.arg32(0)) * 10;
        machine.scheduler.wait("NdisMSleep", Some(until), || false);
        0
    }),
    function!("NdisAllocateRWLock", 1, Dispatch, |machine, _| {
        if machine.pool_fails() {
            return 0;
        }
        let lock = machine.memory.allocate(64, Use::System("NDIS_RW_LOCK_EX"));
        machine.ndis.services.locks.borrow_mut().push(lock);
        lock
    }),
    function!("NdisFreeRWLock", 1, Dispatch, |machine, call| {
        let mut locks = machine.ndis.services.locks.borrow_mut();
        let place = locks.iter().position(|lock| *lock == call.arg(0));
        if let Some(place) = place {
            locks.swap_remove(place);
            drop(locks);
            machine.memory.free(call.arg(0));
        } else {
            drop(locks);
            machine.stop(&rule::OBJECT, [call.arg(0), 0, 0], "A reader-writer lock is freed that is none");
        }
        0
    }),
    function!("NdisAcquireRWLockRead", 3, Dispatch, |machine, call| acquire(machine, call, false)),
    function!("NdisAcquireRWLockWrite", 3, Dispatch, |machine, call| acquire(machine, call, true)),
    function!("NdisReleaseRWLock", 2, Any, release),
    function!("NdisAllocateIoWorkItem", 1, Dispatch, |machine, _| {
        if machine.pool_fails() {
            return 0;
        }
        let handle = machine.ndis.new_handle();
        machine.ndis.services.work.borrow_mut().insert(handle, false);
        handle
    }),
    function!("NdisQueueIoWorkItem", 3, Dispatch, queue_work),
    function!("NdisFreeIoWorkItem", 1, Dispatch, |machine, call| {
        let found = machine.ndis.services.work.borrow_mut().remove(&call.arg(0));
        match found {
            Some(true) => {
                let text = "A work item is freed that is queued";
                machine.stop(&rule::IO_WORK_FREED, [call.arg(0), 0, 0], text);
            }
            Some(false) => {}
            None => {
                machine.stop(&rule::WORK_INVALID, [call.arg(0), 0, 0], "A work item is freed that is none");
            }
        }
        0
    }),
    function!("NdisAllocateGenericObject", 3, Dispatch, |machine, call| {
        if machine.pool_fails() {
            return 0;
        }
        let object =
            machine.memory.allocate((call.arg(2) & 0xFFFF).max(0x20), Use::System("NDIS_GENERIC_OBJECT"));
        put::<u8>(object, NDIS_OBJECT_TYPE_DEFAULT);
        put::<u64>(object + 0x18, call.arg(0));
        object
    }),
    function!("NdisFreeGenericObject", 1, Dispatch, |machine, call| {
        machine.memory.free(call.arg(0));
        0
    }),
    // Not documented for filters: no provider answers.
    function!("NdisAllocateSharedMemory", 3, Passive, |_, _| u64::from(NDIS_STATUS_NOT_SUPPORTED as u32)),
    function!("NdisFreeSharedMemory", 2, Passive, |machine, call| {
        machine.stop(&rule::OBJECT, [call.arg(1), 0, 0], "Shared memory is freed that is none");
        0
    }),
    function!("NdisGetRoutineAddress", 1, Passive, |machine, call| {
        crate::kernel::routine_address(machine, &text(call.arg(0)))
    }),
    function!("NdisEnumerateFilterModules", 5, Passive, |_, call| {
        put::<u32>(call.arg(3), 0);
        put::<u32>(call.arg(4), 0);
        0
    }),
    function!("NdisOpenConfigurationEx", 2, Passive, |machine, call| {
        if get::<u8>(call.arg(0)) != 0xA9 {
            return u64::from(NDIS_STATUS_INVALID_PARAMETER as u32);
        }
        put::<u64>(call.arg(1), machine.ndis.new_handle());
        0
    }),
    function!("NdisReadConfiguration", 5, Passive, |_, call| {
        // No parameter is set.
        put::<u32>(call.arg(0), NDIS_STATUS_FAILURE as u32);
        put::<u64>(call.arg(1), 0);
        0
    }),
    function!("NdisCloseConfiguration", 1, Passive, |_, _| 0),
    function!("NdisGetSystemUpTimeEx", 1, Any, |machine, call| {
        put::<u64>(call.arg(0), machine.scheduler.now() / 10_000);
        0
    }),
    function!("NdisGetCurrentSystemTime", 1, Any, |machine, call| {
        put::<u64>(call.arg(0), machine.scheduler.now());
        0
    }),
    function!("NdisGetVersion", 0, Dispatch, |machine, _| u64::from(machine.configuration.ndis_version)),
];

/// `RWL_AT_DISPATCH_LEVEL`.
const AT_DISPATCH: u64 = 1;

/// Locks, and work items with whether they are queued.
#[derive(Default)]
pub(crate) struct Services {
    locks: RefCell<Vec<u64>>,
    work: RefCell<FxHashMap<u64, bool>>,
}

impl Services {
    /// Locks and work items that were not freed.
    pub(crate) fn left(&self) -> usize {
        self.locks.borrow().len() + self.work.borrow().len()
    }
}

fn wait_event(machine: &Machine, call: &Call<'_>) -> u64 {
    machine.checked();
    let irql = machine.scheduler.irql();
    if irql != 0 {
        let text = "NdisWaitEvent is called above PASSIVE_LEVEL";
        machine.stop(&rule::NDIS_WAIT, [u64::from(irql), 0, 0], text);
    }
    let milliseconds = u64::from(call.arg32(1));
    let status = if milliseconds == 0 {
        wait::wait(machine, vec![call.arg(0)], false, 0)
    } else {
        let place = machine.memory.allocate(8, Use::System("timeout"));
        put::<i64>(place, -(milliseconds as i64) * 10_000);
        let status = wait::wait(machine, vec![call.arg(0)], false, place);
        machine.memory.free(place);
        status
    };
    u64::from(status == 0)
}

/// A `LOCK_STATE_EX`: the level before, and whether the lock is held.
fn acquire(machine: &Machine, call: &Call<'_>, exclusive: bool) -> u64 {
    machine.checked();
    let (lock, state) = (call.arg(0), call.arg(1));
    if !machine.ndis.services.locks.borrow().contains(&lock) {
        machine.stop(&rule::OBJECT, [lock, 0, 0], "A reader-writer lock is acquired that is none");
        return 0;
    }
    let raises = call.arg(2) & AT_DISPATCH == 0;
    let held = {
        let this = machine.scheduler.thread_id();
        let wide = machine.kernel.sync.wide.borrow();
        wide.get(&lock).is_some_and(|wide| wide.is_held_by(this, exclusive))
    };
    if held {
        let text = "A reader-writer lock is acquired for writing by who holds it: it cannot be upgraded";
        machine.stop(&rule::RWLOCK, [lock, 0, 0], text);
    }
    let old = sync::acquire_wide(machine, lock, exclusive, raises);
    put::<u8>(state, old as u8);
    put::<u8>(state + 1, 1 + u8::from(exclusive));
    put::<u8>(state + 2, u8::from(raises));
    0
}

fn release(machine: &Machine, call: &Call<'_>) -> u64 {
    machine.checked();
    let (lock, state) = (call.arg(0), call.arg(1));
    let irql = machine.scheduler.irql();
    if irql != DISPATCH || get::<u8>(state + 1) == 0 || !sync::release_wide_if_held(machine, lock) {
        let text = "A reader-writer lock is released by who does not hold it, or not at DISPATCH_LEVEL";
        machine.stop(&rule::RWLOCK, [lock, u64::from(irql), 0], text);
    }
    put::<u8>(state + 1, 0);
    if get::<u8>(state + 2) != 0 {
        ke::lower_to(machine, get::<u8>(state));
    }
    0
}

fn queue_work(machine: &Machine, call: &Call<'_>) -> u64 {
    machine.checked();
    let (item, routine, context) = (call.arg(0), call.arg(1), call.arg(2));
    let before =
        machine.ndis.services.work.borrow_mut().get_mut(&item).map(|queued| std::mem::replace(queued, true));
    match before {
        None => machine.stop(&rule::WORK_INVALID, [item, 0, 0], "A work item is queued that is none"),
        Some(true) => {
            let text = "A work item is queued that is queued already";
            machine.stop(&rule::WORK_TWICE, [item, 0, 0], text);
        }
        Some(false) => {}
    }
    work::run_later(machine, "worker", (item, true), routine, vec![context, item], move || {
        if let Some(queued) = current().ndis.services.work.borrow_mut().get_mut(&item) {
            *queued = false;
        }
    });
    0
}

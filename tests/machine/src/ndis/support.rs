//! NDIS's support calls: list pools, MDLs, timers, clones of OID requests, control devices.
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use ndis_sys::{
    NDIS_DEVICE_OBJECT_ATTRIBUTES as Device, NDIS_OBJECT_TYPE_DEVICE_OBJECT_ATTRIBUTES, NDIS_OID_REQUEST,
    NDIS_STATUS_INVALID_PARAMETER, NDIS_STATUS_RESOURCES, NDIS_TIMER_CHARACTERISTICS as Timer,
};

use super::lists;
use crate::bugcheck::contract;
use crate::kernel::{Call, Function, function};
use crate::machine::{Machine, current};
use crate::memory::{Use, bytes, field, get, put, put_bytes, text};
use crate::sched::Dpc;

pub(crate) const FUNCTIONS: &[Function] = &[
    function!("NdisAllocateNetBufferListPool", Dispatch, |machine, call| {
        if machine.pool_fails() {
            return 0;
        }
        machine.ndis.lists.new_pool(machine.ndis.new_handle(), call.arg(0), call.arg(1))
    }),
    function!("NdisFreeNetBufferListPool", Dispatch, |machine, call| {
        machine.ndis.lists.free_pool(machine, call.arg(0));
        0
    }),
    function!("NdisAllocateNetBufferAndNetBufferList", Dispatch, |machine, call| {
        if machine.pool_fails() {
            return 0;
        }
        machine.ndis.lists.allocate(machine, call.arg(0), call.arg(3), call.arg32(4), call.arg(5))
    }),
    function!("NdisFreeNetBufferList", Dispatch, |machine, call| {
        machine.ndis.lists.free(machine, call.arg(0));
        0
    }),
    function!("NdisAllocateMdl", Dispatch, |machine, call| {
        if machine.pool_fails() {
            return 0;
        }
        let mdl = lists::mdl(machine, call.arg(1), call.arg32(2));
        machine.ndis.support.mdls.borrow_mut().insert(mdl);
        mdl
    }),
    function!("NdisFreeMdl", Dispatch, |machine, call| {
        if !machine.ndis.support.mdls.borrow_mut().remove(&call.arg(0)) {
            not_one(machine, call.arg(0), "An MDL");
            return 0;
        }
        lists::free_mdl(machine, call.arg(0));
        0
    }),
    function!("NdisGeneratePartialCancelId", Dispatch, |machine, _| {
        let id = machine.ndis.support.next_partial_id.get() + 1;
        machine.ndis.support.next_partial_id.set(id);
        u64::from(id)
    }),
    function!("NdisAllocateTimerObject", Dispatch, allocate_timer),
    function!("NdisSetTimerObject", Dispatch, set_timer),
    function!("NdisCancelTimerObject", Dispatch, |machine, call| u64::from(cancel_timer(
        machine,
        call.arg(0)
    ))),
    function!("NdisFreeTimerObject", Dispatch, |machine, call| {
        let timer = machine.ndis.support.timers.borrow_mut().remove(&call.arg(0));
        match timer {
            None => not_one(machine, call.arg(0), "A timer"),
            Some(timer) if timer.event.is_some() => machine.bugcheck(
                crate::bugcheck::code::TIMER_OR_DPC_INVALID,
                [0, call.arg(0), 0, 0],
                "A timer is freed while it is set",
            ),
            Some(_) => {}
        }
        0
    }),
    function!("NdisAllocateCloneOidRequest", Dispatch, clone_oid),
    function!("NdisFreeCloneOidRequest", Dispatch, |machine, call| {
        if !machine.ndis.support.clones.borrow_mut().remove(&call.arg(1)) {
            not_one(machine, call.arg(1), "A clone of an OID request");
            return 0;
        }
        machine.memory.free(call.arg(1));
        0
    }),
    function!("NdisRegisterDeviceEx", Passive, register_device),
    function!("NdisDeregisterDeviceEx", Passive, |machine, call| {
        machine.io.remove_device(call.arg(0));
        0
    }),
];

/// What support calls keep.
#[derive(Default)]
pub(crate) struct Support {
    mdls: RefCell<BTreeSet<u64>>,
    clones: RefCell<BTreeSet<u64>>,
    timers: RefCell<BTreeMap<u64, TimerState>>,
    next_partial_id: Cell<u8>,
}

struct TimerState {
    function: u64,
    context: u64,
    event: Option<(u64, u64)>,
}

impl Support {
    /// MDLs, clones and timers that were not freed.
    pub(crate) fn left(&self) -> usize {
        self.mdls.borrow().len() + self.clones.borrow().len() + self.timers.borrow().len()
    }
}

fn not_one(machine: &Machine, object: u64, what: &str) {
    machine.contract(
        contract::INVALID_OBJECT,
        [object, 0, 0],
        format!("{what} is freed that is not allocated: freed twice?"),
        Vec::new(),
    );
}

fn allocate_timer(machine: &Machine, call: &Call<'_>) -> u64 {
    if machine.pool_fails() {
        return u64::from(NDIS_STATUS_RESOURCES as u32);
    }
    let characteristics = call.arg(1);
    let state = TimerState {
        function: field!(characteristics, Timer, TimerFunction, u64),
        context: field!(characteristics, Timer, FunctionContext, u64),
        event: None,
    };
    let handle = machine.ndis.new_handle();
    machine.ndis.support.timers.borrow_mut().insert(handle, state);
    put(call.arg(2), handle);
    0
}

fn set_timer(machine: &Machine, call: &Call<'_>) -> u64 {
    let (timer, due, context) = (call.arg(0), call.arg(1) as i64, call.arg(3));
    let was = cancel_timer(machine, timer);
    let delay =
        if due < 0 { due.unsigned_abs() } else { (due as u64).saturating_sub(machine.scheduler.now()) };
    let event = machine.scheduler.after(delay, move || elapse(timer, context));
    match machine.ndis.support.timers.borrow_mut().get_mut(&timer) {
        Some(state) => state.event = Some(event),
        None => {
            machine.scheduler.cancel_event(event);
        }
    }
    if !machine.ndis.support.timers.borrow().contains_key(&timer) {
        not_one(machine, timer, "A timer is set, and a timer");
    }
    u64::from(was)
}

fn cancel_timer(machine: &Machine, timer: u64) -> bool {
    let event = machine.ndis.support.timers.borrow_mut().get_mut(&timer).and_then(|state| state.event.take());
    event.is_some_and(|event| machine.scheduler.cancel_event(event))
}

/// A timer's time has come: its routine runs as a DPC.
fn elapse(timer: u64, context: u64) {
    let machine = current();
    let routine = {
        let mut timers = machine.ndis.support.timers.borrow_mut();
        let Some(state) = timers.get_mut(&timer) else { return };
        state.event = None;
        (state.function, if context == 0 { state.context } else { context })
    };
    let work = Box::new(move || {
        let machine = current();
        machine.call(routine.0, &[0, routine.1, 0, 0]);
        crate::kernel::ke::after_dpc(machine);
    });
    machine.scheduler.queue_dpc(Some(0), Dpc { object: timer, work });
}

fn clone_oid(machine: &Machine, call: &Call<'_>) -> u64 {
    if machine.pool_fails() {
        return u64::from(NDIS_STATUS_RESOURCES as u32);
    }
    let size = size_of::<NDIS_OID_REQUEST>();
    let clone = machine.memory.allocate(size as u64, Use::System("NDIS_OID_REQUEST"));
    put_bytes(clone, &bytes(call.arg(1), size));
    machine.ndis.support.clones.borrow_mut().insert(clone);
    put(call.arg(3), clone);
    0
}

fn register_device(machine: &Machine, call: &Call<'_>) -> u64 {
    let attributes = call.arg(1);
    let driver = machine
        .ndis
        .drivers
        .borrow()
        .iter()
        .find(|driver| driver.handle == call.arg(0))
        .map(|driver| driver.object);
    let Some(driver) = driver.filter(|_| get::<u8>(attributes) == NDIS_OBJECT_TYPE_DEVICE_OBJECT_ATTRIBUTES)
    else {
        return u64::from(NDIS_STATUS_INVALID_PARAMETER as u32);
    };
    if machine.pool_fails() {
        return u64::from(NDIS_STATUS_RESOURCES as u32);
    }
    let table = field!(attributes, Device, MajorFunctions, u64);
    let mut dispatch = [0; 28];
    for (index, routine) in dispatch.iter_mut().enumerate() {
        *routine = get(table + index as u64 * 8);
    }
    let symbolic = text(field!(attributes, Device, SymbolicName, u64));
    let sddl = text(field!(attributes, Device, DefaultSDDLString, u64));
    let object = machine.io.add_device(driver, symbolic, sddl, dispatch);
    put(call.arg(2), object);
    put(call.arg(3), object);
    0
}

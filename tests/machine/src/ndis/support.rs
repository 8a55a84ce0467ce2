//! NDIS's timers and control devices, and what of its small objects is out.
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use ndis_sys::{
    NDIS_DEVICE_OBJECT_ATTRIBUTES as Device, NDIS_OBJECT_TYPE_DEVICE_OBJECT_ATTRIBUTES,
    NDIS_STATUS_INVALID_PARAMETER, NDIS_STATUS_RESOURCES, NDIS_TIMER_CHARACTERISTICS as Timer,
};
use rustc_hash::FxHashSet;

use crate::kernel::{Call, Function, function};
use crate::machine::{Machine, current};
use crate::memory::{field, get, put};
use crate::rule;
use crate::sched::Dpc;

pub(crate) const FUNCTIONS: &[Function] = &[
    function!("NdisAllocateTimerObject", 3, Dispatch, allocate_timer),
    function!("NdisSetTimerObject", 4, Dispatch, set_timer),
    function!("NdisCancelTimerObject", 1, Dispatch, |machine, call| u64::from(cancel_timer(
        machine,
        call.arg(0)
    ))),
    function!("NdisFreeTimerObject", 1, Dispatch, |machine, call| {
        machine.checked();
        let timer = machine.ndis.support.timers.borrow_mut().remove(&call.arg(0));
        match timer {
            None => machine.stop(
                &rule::OBJECT,
                [call.arg(0), 0, 0],
                "A timer is freed that is none: freed twice?",
            ),
            Some(timer) if timer.event.is_some() => {
                machine.stop(&rule::TIMER_FREED, [call.arg(0), 0, 0], "A timer is freed while it is set");
            }
            Some(_) => {}
        }
        0
    }),
    function!("NdisRegisterDeviceEx", 4, Passive, register_device),
    function!("NdisDeregisterDeviceEx", 1, Passive, |machine, call| {
        machine.checked();
        if !machine.io.remove_device(call.arg(0)) {
            let text = "A device is deregistered that is deregistered already, or is none";
            machine.stop(&rule::DEVICE_TWICE, [call.arg(0), 0, 0], text);
        }
        0
    }),
    function!("NdisGetDeviceReservedExtension", 1, Any, |_, call| {
        get::<u64>(call.arg(0) + crate::kernel::objects::DEVICE_EXTENSION)
    }),
];

/// What support calls keep.
#[derive(Default)]
pub(crate) struct Support {
    pub(super) mdls: RefCell<FxHashSet<u64>>,
    /// MDLs that NDIS allocated to move the start of data.
    pub(super) retreats: RefCell<FxHashSet<u64>>,
    timers: RefCell<BTreeMap<u64, TimerState>>,
    pub(super) next_partial_id: Cell<u8>,
}

struct TimerState {
    function: u64,
    context: u64,
    period: u64,
    event: Option<(u64, u64)>,
}

impl Support {
    /// MDLs and timers that were not freed.
    pub(crate) fn left(&self) -> usize {
        self.mdls.borrow().len() + self.timers.borrow().len()
    }
}

fn allocate_timer(machine: &Machine, call: &Call<'_>) -> u64 {
    if machine.pool_fails() {
        return u64::from(NDIS_STATUS_RESOURCES as u32);
    }
    let characteristics = call.arg(1);
    let state = TimerState {
        function: field!(characteristics, Timer, TimerFunction, u64),
        context: field!(characteristics, Timer, FunctionContext, u64),
        period: 0,
        event: None,
    };
    let handle = machine.ndis.new_handle();
    machine.ndis.support.timers.borrow_mut().insert(handle, state);
    put(call.arg(2), handle);
    0
}

fn set_timer(machine: &Machine, call: &Call<'_>) -> u64 {
    machine.checked();
    let (timer, due, period, context) = (call.arg(0), call.arg(1) as i64, call.arg32(2), call.arg(3));
    if !machine.ndis.support.timers.borrow().contains_key(&timer) {
        machine.stop(&rule::OBJECT, [timer, 0, 0], "A timer is set that is none");
        return 0;
    }
    let was = cancel_timer(machine, timer);
    if let Some(state) = machine.ndis.support.timers.borrow_mut().get_mut(&timer) {
        state.period = u64::from(period) * 10_000;
    }
    let delay =
        if due < 0 { due.unsigned_abs() } else { (due as u64).saturating_sub(machine.scheduler.now()) };
    arm(machine, timer, delay, context);
    u64::from(was)
}

fn arm(machine: &Machine, timer: u64, delay: u64, context: u64) {
    let event = machine.scheduler.after(delay + machine.ndis.work_delay(), move || elapse(timer, context));
    if let Some(state) = machine.ndis.support.timers.borrow_mut().get_mut(&timer) {
        state.event = Some(event);
    }
}

fn cancel_timer(machine: &Machine, timer: u64) -> bool {
    let event = machine.ndis.support.timers.borrow_mut().get_mut(&timer).and_then(|state| state.event.take());
    event.is_some_and(|event| machine.scheduler.cancel_event(event))
}

/// A timer's time has come: its routine is queued as a DPC, with nothing between that a flush would miss.
fn elapse(timer: u64, context: u64) {
    let machine = current();
    let (routine, period) = {
        let mut timers = machine.ndis.support.timers.borrow_mut();
        let Some(state) = timers.get_mut(&timer) else { return };
        state.event = None;
        ((state.function, if context == 0 { state.context } else { context }), state.period)
    };
    if period != 0 {
        arm(machine, timer, period, context);
    }
    let work = Box::new(move || {
        let machine = current();
        machine.call(routine.0, &[0, routine.1, 0, 0]);
        crate::kernel::ke::after_dpc(machine);
    });
    machine.scheduler.queue_dpc(Some(0), Dpc { object: timer, work });
}

/// A string for NDIS has a terminator behind its length, and room for it (page "`NDIS_DEVICE_OBJECT_ATTRIBUTES`").
fn check_terminated(machine: &Machine, what: &str, string: u64) {
    machine.checked();
    if string == 0 {
        return;
    }
    let (length, room): (u16, u16) = (get(string), get(string + 2));
    let terminated = room >= length + 2 && get::<u16>(get::<u64>(string + 8) + u64::from(length)) == 0;
    if !terminated {
        let text =
            format!("{what} of NDIS_DEVICE_OBJECT_ATTRIBUTES has no terminator within its MaximumLength");
        machine.stop(&rule::NAME_TERMINATED, [string, u64::from(length), u64::from(room)], text);
    }
}

/// A string as a reader takes it that goes to the terminator, wherever that is.
fn to_terminator(string: u64) -> String {
    if string == 0 {
        return String::new();
    }
    let start: u64 = get(string + 8);
    let units: Vec<u16> =
        (0..0x8000).map(|index| get(start + index * 2)).take_while(|unit| *unit != 0).collect();
    String::from_utf16_lossy(&units)
}

/// Whether a text is the path of an object, or none.
fn is_path(name: &str) -> bool {
    name.is_empty() || name.starts_with('\\') && !name.contains(|letter: char| letter.is_control())
}

/// Whether a text is a security descriptor: an access control list behind its flags, and nothing behind that.
fn is_descriptor(sddl: &str) -> bool {
    let Some(list) = sddl.strip_prefix("D:") else { return sddl.is_empty() };
    let entries = list.trim_start_matches(|letter: char| letter.is_ascii_uppercase());
    entries.strip_suffix(')').is_some_and(|entries| {
        entries.split(')').all(|entry| entry.starts_with('(') && entry.matches(';').count() == 5)
    })
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
    super::exports::check_header(
        machine,
        call.arg(0),
        attributes,
        NDIS_OBJECT_TYPE_DEVICE_OBJECT_ATTRIBUTES,
        ndis_sys::NDIS_SIZEOF_DEVICE_OBJECT_ATTRIBUTES_REVISION_1,
    );
    let names = [
        ("DeviceName", field!(attributes, Device, DeviceName, u64)),
        ("SymbolicName", field!(attributes, Device, SymbolicName, u64)),
        ("DefaultSDDLString", field!(attributes, Device, DefaultSDDLString, u64)),
    ];
    for (what, string) in names {
        check_terminated(machine, what, string);
    }
    let table = field!(attributes, Device, MajorFunctions, u64);
    let mut dispatch = [0; 28];
    for (index, routine) in dispatch.iter_mut().enumerate() {
        *routine = get(table + index as u64 * 8);
    }
    let [name, symbolic, sddl] = names.map(|(_, string)| to_terminator(string));
    if !is_path(&name) || !is_path(&symbolic) || !is_descriptor(&sddl) {
        return u64::from(NDIS_STATUS_INVALID_PARAMETER as u32);
    }
    let object = machine.io.add_device(driver, symbolic, sddl, dispatch);
    put(call.arg(2), object);
    put(call.arg(3), object);
    0
}

//! `KTIMER`: timers with DPCs.
use std::cell::RefCell;

use rustc_hash::FxHashMap;

use super::wait::{self, Kind};
use super::{Function, function, ke};
use crate::image::Image;
use crate::machine::{Machine, current};
use crate::rule;

pub(super) const FUNCTIONS: &[Function] = &[
    function!("KeInitializeTimer", 1, Any, |machine, call| initialize(machine, call.arg(0), 0)),
    function!("KeInitializeTimerEx", 2, Any, |machine, call| initialize(machine, call.arg(0), call.arg32(1))),
    function!("KeSetTimer", 3, Dispatch, IRQL_KE, |machine, call| {
        u64::from(set(machine, call.arg(0), call.arg(1) as i64, 0, call.arg(2)))
    }),
    function!("KeSetTimerEx", 4, Dispatch, IRQL_KE, |machine, call| {
        u64::from(set(machine, call.arg(0), call.arg(1) as i64, call.arg32(2), call.arg(3)))
    }),
    function!("KeSetCoalescableTimer", 5, Dispatch, IRQL_KE, |machine, call| {
        u64::from(set(machine, call.arg(0), call.arg(1) as i64, call.arg32(2), call.arg(4)))
    }),
    function!("KeCancelTimer", 1, Dispatch, IRQL_KE, |machine, call| u64::from(cancel(machine, call.arg(0)))),
    function!("KeReadStateTimer", 1, Any, |machine, call| {
        let known = machine
            .kernel
            .objects
            .change(call.arg(0), |kind| matches!(kind, Kind::Event { signalled: true, .. }));
        u64::from(known == Some(true))
    }),
    function!("ExSetTimerResolution", 2, Apc, |_, _| 156_250),
];

/// Types in a `DISPATCHER_HEADER` (`KOBJECTS`): a notification timer; a synchronisation timer is one more.
const TIMER_OBJECT: u8 = 8;
/// 100 ns units of a millisecond.
const MILLISECOND: u64 = 10_000;

struct Active {
    event: (u64, u64),
    dpc: u64,
}

/// Timers that are set, by address.
#[derive(Default)]
pub(crate) struct Timers {
    active: RefCell<FxHashMap<u64, Active>>,
}

fn initialize(machine: &Machine, timer: u64, kind: u32) -> u64 {
    let resets = kind == 1;
    let state = Kind::Event { resets, signalled: false };
    machine.kernel.objects.add(machine, timer, state, TIMER_OBJECT + u8::from(resets));
    0
}

fn set(machine: &Machine, timer: u64, due: i64, period: u32, dpc: u64) -> bool {
    machine.checked();
    let was = cancel(machine, timer);
    let known = machine.kernel.objects.change(timer, |kind| {
        if let Kind::Event { signalled, .. } = kind {
            *signalled = false;
        }
    });
    if known.is_none() {
        let text = "What is set is no initialised timer";
        machine.stop(&rule::OBJECT_INVALID, [timer, 0, 0], text);
    }
    let delay = wait::deadline(machine, due).saturating_sub(machine.scheduler.now());
    start(machine, timer, delay, period, dpc);
    machine.event(timer, "set");
    was
}

fn start(machine: &Machine, timer: u64, delay: u64, period: u32, dpc: u64) {
    let late = machine.ndis.work_delay();
    let event = machine.scheduler.after(delay + late, move || elapse(timer, period, dpc));
    machine.kernel.timers.active.borrow_mut().insert(timer, Active { event, dpc });
}

fn cancel(machine: &Machine, timer: u64) -> bool {
    let active = machine.kernel.timers.active.borrow_mut().remove(&timer);
    active.is_some_and(|active| machine.scheduler.cancel_event(active.event))
}

/// A timer's time has come: whoever waits for it goes on, and its DPC is queued.
fn elapse(timer: u64, period: u32, dpc: u64) {
    let machine = current();
    machine.kernel.timers.active.borrow_mut().remove(&timer);
    machine.kernel.objects.change(timer, |kind| {
        if let Kind::Event { signalled, .. } = kind {
            *signalled = true;
        }
    });
    if dpc != 0 {
        ke::insert_dpc(machine, dpc, 0, 0);
    }
    if period != 0 {
        start(machine, timer, u64::from(period) * MILLISECOND, period, dpc);
    }
}

/// Memory is about to be freed: no timer in it may be active.
pub(super) fn check_freed(machine: &Machine, start: u64, length: u64) {
    let active = machine.kernel.timers.active.borrow();
    let found = active.keys().copied().find(|timer| timer.wrapping_sub(start) < length);
    drop(active);
    if let Some(timer) = found {
        let text = "Memory is freed that holds an active timer";
        machine.stop_about(&rule::POOL_HOLDS_TIMER, [0x15, timer, 0, start], text, timer);
    }
}

/// An image is about to go: no timer in it may be active, nor call into it.
pub(super) fn check_unload(machine: &Machine, image: &Image) {
    machine.checked();
    let timers: Vec<(u64, u64)> =
        machine.kernel.timers.active.borrow().iter().map(|(timer, active)| (*timer, active.dpc)).collect();
    for (timer, dpc) in timers {
        if image.contains(timer) {
            let arguments = [timer, image.base, image.base + image.length];
            machine.stop(&rule::TIMER_FREED, arguments, "A driver is unloaded whose timer is active");
        }
        if dpc != 0 && image.contains(ke::dpc_routine(dpc)) {
            let text = "A driver is unloaded while an active timer will call a DPC routine in it";
            machine.stop(&rule::DPC_ROUTINE_GONE, [dpc, image.base, image.base + image.length], text);
        }
    }
    if let Some(dpc) = machine.scheduler.dpc_in(image.base, image.length) {
        let text = "A driver is unloaded whose DPC is queued";
        machine.stop(&rule::DPC_FREED, [dpc, image.base, image.base + image.length], text);
    }
}

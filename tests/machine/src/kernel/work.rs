//! Work items and system threads.
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::wait::{self, Kind};
use super::{Call, Function, after_callback, function};
use crate::image::Image;
use crate::machine::{Machine, current};
use crate::memory::{Use, get, put};
use crate::rule;

pub(super) const FUNCTIONS: &[Function] = &[
    function!("IoAllocateWorkItem", 1, Dispatch, |machine, call| {
        if machine.pool_fails() {
            return 0;
        }
        let item = machine.memory.allocate(IO_WORK_ITEM, Use::System("IO_WORKITEM"));
        let state = IoItem { device: call.arg(0), queued: false };
        machine.kernel.work.io.borrow_mut().insert(item, state);
        item
    }),
    function!("IoFreeWorkItem", 1, Dispatch, |machine, call| {
        free_io(machine, call.arg(0));
        0
    }),
    function!("IoQueueWorkItem", 4, Dispatch, |machine, call| {
        queue_io(machine, call.arg(0), call.arg(1), call.arg(3), false);
        0
    }),
    function!("IoQueueWorkItemEx", 4, Dispatch, |machine, call| {
        queue_io(machine, call.arg(0), call.arg(1), call.arg(3), true);
        0
    }),
    function!("ExQueueWorkItem", 2, Dispatch, queue),
    function!("PsCreateSystemThread", 7, Passive, IRQL_PS, create_thread),
    function!("PsTerminateSystemThread", 1, Passive, |machine, _| {
        end_thread(machine);
        // The thread does not come back; its stack is the scheduler's to take.
        machine.scheduler.end_thread()
    }),
    function!("PsGetCurrentThread", 0, Any, |machine, _| machine.scheduler.this().object.get()),
    function!("KeGetCurrentThread", 0, Any, |machine, _| machine.scheduler.this().object.get()),
    function!("PsGetCurrentThreadId", 0, Any, |machine, _| u64::from(machine.scheduler.thread_id()) * 4),
    function!("PsGetCurrentProcess", 0, Any, |_, _| PROCESS),
    function!("IoGetCurrentProcess", 0, Any, |_, _| PROCESS),
    function!("PsGetCurrentProcessId", 0, Any, |_, _| 4),
    function!("KeSetPriorityThread", 2, Any, |_, _| 8),
    function!("ObReferenceObjectByHandle", 6, Passive, IRQL_OB, |machine, call| {
        let found = machine.kernel.work.threads.borrow().get(&call.arg(0)).map(|thread| thread.object);
        match found {
            Some(object) => {
                put::<u64>(call.arg(4), object);
                0
            }
            None => u64::from(INVALID_HANDLE),
        }
    }),
    function!("ObfReferenceObject", 1, Dispatch, |_, _| 2),
    function!("ObfDereferenceObject", 1, Dispatch, |_, _| 1),
    function!("ZwClose", 1, Passive, IRQL_ZW, |machine, call| {
        zw(machine, call);
        let known = machine.kernel.work.threads.borrow_mut().remove(&call.arg(0)).is_some();
        u64::from(if known { 0 } else { INVALID_HANDLE })
    }),
];

/// `STATUS_INVALID_HANDLE`.
const INVALID_HANDLE: u32 = 0xC000_0008;
/// Bytes of an `IO_WORKITEM`.
const IO_WORK_ITEM: u64 = 0x58;
/// Offsets in a `WORK_QUEUE_ITEM`.
const ITEM_ROUTINE: u64 = 0x10;
const ITEM_PARAMETER: u64 = 0x18;
/// Bytes of a `WORK_QUEUE_ITEM`.
const ITEM: u64 = 0x20;
/// The system process: an identity.
const PROCESS: u64 = 0xFFFF_B000_0000_0040;
/// Where objects of threads lie that drivers get: identities, which are no memory.
const THREADS: u64 = 0xFFFF_B000_0001_0000;

struct IoItem {
    device: u64,
    queued: bool,
}

struct Created {
    object: u64,
}

/// Work items by address, and threads of drivers by handle.
#[derive(Default)]
pub(crate) struct Work {
    io: RefCell<FxHashMap<u64, IoItem>>,
    queued: RefCell<FxHashMap<u64, u64>>,
    threads: RefCell<FxHashMap<u64, Created>>,
    all_threads: RefCell<Vec<(u64, Rc<Cell<bool>>)>>,
    next_handle: Cell<u64>,
    /// Routines that run or wait to run, for unloading: number, routine, and whether it is that of an I/O work item.
    running: RefCell<Vec<(u64, u64, bool)>>,
    next_run: Cell<u64>,
}

/// Zw functions want APCs enabled as well.
pub(super) fn zw(machine: &Machine, call: &Call<'_>) {
    machine.checked();
    let this = machine.scheduler.this();
    if this.critical.get() != 0 || this.guarded.get() != 0 {
        let arguments = [call.caller(), u64::from(this.irql.get()), this.critical.get() as u64];
        let text = format!("{} is called with APCs disabled", call.function.name);
        machine.stop(&rule::ZW_IRQL, arguments, text);
    }
}

/// Runs a routine on a worker thread, some time later. That of an I/O work item keeps its driver in memory.
pub(crate) fn run_later(
    machine: &Machine,
    name: &str,
    (item, is_io): (u64, bool),
    routine: u64,
    arguments: Vec<u64>,
    starts: impl FnOnce() + 'static,
) {
    let work = &machine.kernel.work;
    let number = work.next_run.get();
    work.next_run.set(number + 1);
    work.running.borrow_mut().push((number, routine, is_io));
    let delay = machine.ndis.work_delay();
    machine.scheduler.spawn(name, move || {
        let machine = current();
        if delay != 0 {
            let until = machine.scheduler.now() + delay;
            machine.scheduler.wait("its turn as a worker", Some(until), || false);
        }
        starts();
        machine.call(routine, &arguments);
        let irql = machine.scheduler.irql();
        if irql != 0 {
            let text = "A work item returned at raised IRQL";
            machine.stop_about(&rule::WORK_IRQL, [routine, u64::from(irql), item, item], text, 0);
        }
        after_callback(machine, "A work item", 0);
        machine.kernel.work.running.borrow_mut().retain(|(other, ..)| *other != number);
    });
}

fn free_io(machine: &Machine, item: u64) {
    machine.checked();
    let queued = machine.kernel.work.io.borrow().get(&item).map(|state| state.queued);
    match queued {
        Some(true) => {
            let text = "An I/O work item is freed that is queued";
            machine.stop(&rule::IO_WORK_FREED, [item, 0, 0], text);
        }
        Some(false) => {}
        None => machine.stop(&rule::WORK_INVALID, [item, 0, 0], "An I/O work item is freed that is none"),
    }
    if machine.kernel.work.io.borrow_mut().remove(&item).is_some() {
        machine.memory.free(item);
    }
}

fn queue_io(machine: &Machine, item: u64, routine: u64, context: u64, extended: bool) {
    machine.checked();
    let state = {
        let mut items = machine.kernel.work.io.borrow_mut();
        items.get_mut(&item).map(|state| (state.device, std::mem::replace(&mut state.queued, true)))
    };
    let Some((device, queued)) = state else {
        machine.stop(&rule::WORK_INVALID, [item, 0, 0], "An I/O work item is queued that is none");
        return;
    };
    if queued {
        let text = "An I/O work item is queued that is queued already";
        machine.stop(&rule::WORK_TWICE, [item, 0, 0], text);
    }
    let arguments = if extended { vec![device, context, item] } else { vec![device, context] };
    run_later(machine, "worker", (item, true), routine, arguments, move || {
        if let Some(state) = current().kernel.work.io.borrow_mut().get_mut(&item) {
            state.queued = false;
        }
    });
}

fn queue(machine: &Machine, call: &Call<'_>) -> u64 {
    machine.checked();
    let item = call.arg(0);
    let (routine, parameter) = (get::<u64>(item + ITEM_ROUTINE), get::<u64>(item + ITEM_PARAMETER));
    let known = machine.drivers.borrow().iter().any(|driver| driver.image.contains(routine));
    if !known {
        machine.stop(
            &rule::WORK_INVALID,
            [item, routine, 0],
            "A work item is queued whose routine is no code",
        );
    }
    if machine.memory.is_pageable(item) {
        machine.stop(&rule::WORK_PAGED, [item, 0, 0], "A work item lies in memory that can be paged out");
    }
    if machine.kernel.work.queued.borrow_mut().insert(item, routine).is_some() {
        let text = "A work item is queued that is queued already";
        machine.stop(&rule::WORK_TWICE, [item, 0, 0], text);
    }
    run_later(machine, "worker", (item, false), routine, vec![parameter], move || {
        current().kernel.work.queued.borrow_mut().remove(&item);
    });
    0
}

fn create_thread(machine: &Machine, call: &Call<'_>) -> u64 {
    zw(machine, call);
    let work = &machine.kernel.work;
    let number = work.next_handle.get() + 1;
    work.next_handle.set(number);
    let (handle, object) = (0x8000_0000 + number * 4, THREADS + number * 0x100);
    let (routine, context) = (call.arg(5), call.arg(6));
    machine.kernel.objects.add_hidden(object, Kind::Thread { ended: false });
    let ended = Rc::new(Cell::new(false));
    work.all_threads.borrow_mut().push((routine, ended.clone()));
    work.threads.borrow_mut().insert(handle, Created { object });
    put::<u64>(call.arg(0), handle);
    machine.scheduler.spawn("system thread", move || {
        let machine = current();
        let ends = machine.scheduler.this();
        ends.on_end.replace(Some(Box::new(move || {
            ended.set(true);
            current().kernel.objects.change(object, |kind| {
                if let Kind::Thread { ended } = kind {
                    *ended = true;
                }
            });
        })));
        machine.call(routine, &[context]);
        end_thread(machine);
    });
    0
}

/// A thread of a driver ends, by return or by call.
fn end_thread(machine: &Machine) {
    wait::thread_ends(machine);
    let this = machine.scheduler.this();
    let ended = this.on_end.borrow_mut().take();
    if let Some(ended) = ended {
        ended();
    }
}

/// Memory is about to be freed: no queued work item may be in it.
pub(super) fn check_freed(machine: &Machine, start: u64, length: u64) {
    let queued = machine.kernel.work.queued.borrow();
    let found = queued.keys().copied().find(|item| item.wrapping_sub(start) < length.max(ITEM).min(length));
    drop(queued);
    if let Some(item) = found {
        let text = "Memory is freed that holds an active work item";
        machine.stop(&rule::WORK_FREED, [item, start, length], text);
    }
}

/// Waits for the I/O work items of a driver that is being unloaded. The object that one was allocated with stays until its
/// routine has returned, and with it the driver (page "System Worker Threads"): a routine that tells the driver of its end
/// has yet to return.
pub(crate) fn io_returns(machine: &Machine, image: &Image) {
    let code = image.base..image.base + image.length;
    machine.scheduler.wait("I/O work items to return", None, move || {
        let running = current().kernel.work.running.borrow();
        !running.iter().any(|(_, routine, is_io)| *is_io && code.contains(routine))
    });
}

/// An image is about to go: no work of it may be under way.
pub(super) fn check_unload(machine: &Machine, image: &Image) {
    machine.checked();
    let work = &machine.kernel.work;
    let routine =
        work.running.borrow().iter().map(|(_, routine, _)| *routine).find(|one| image.contains(*one));
    let thread = work
        .all_threads
        .borrow()
        .iter()
        .find(|(routine, ended)| image.contains(*routine) && !ended.get())
        .map(|(routine, _)| *routine);
    if let Some(routine) = routine.or(thread) {
        let text = "A driver is unloaded while a work item or a thread of it has not ended";
        machine.stop_about(&rule::UNLOADED_PENDING, [routine, 8, routine, 0], text, 0);
    }
    let items = work.io.borrow().len();
    if items != 0 {
        let text = format!("A driver is unloaded without freeing {items} I/O work items");
        machine.stop(&rule::OBJECTS_LEFT, [image.base, 0, items as u64], text);
    }
}

//! Dispatcher objects and waits: events, mutexes, semaphores, timers, threads.
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::{Call, Function, function};
use crate::machine::{Machine, current};
use crate::memory::{get, put};
use crate::rule;
use crate::sched::{APC, DISPATCH, Held, LockKind};

pub(super) const FUNCTIONS: &[Function] = &[
    function!("KeInitializeEvent", 3, Any, |machine, call| {
        initialize_event(machine, call.arg(0), call.arg32(1) == 1, call.arg(2) as u8 != 0);
        0
    }),
    function!("KeSetEvent", 3, Any, |machine, call| {
        let (irql, waits) = (machine.scheduler.irql(), call.arg(2) as u8 != 0);
        if irql > DISPATCH {
            let text = "KeSetEvent is called above DISPATCH_LEVEL";
            machine.stop(&rule::SET_EVENT_IRQL, [u64::from(irql), call.arg(0), 0], text);
        }
        if waits && irql > APC {
            let text = "KeSetEvent is called with Wait above APC_LEVEL";
            machine.stop(&rule::SET_EVENT_WAIT, [u64::from(irql), call.arg(0), 0], text);
        }
        u64::from(set_event(machine, call.arg(0)))
    }),
    function!("KeClearEvent", 1, Dispatch, IRQL_KE, |machine, call| {
        reset_event(machine, call.arg(0));
        0
    }),
    function!("KeResetEvent", 1, Dispatch, IRQL_KE, |machine, call| u64::from(reset_event(
        machine,
        call.arg(0)
    ))),
    function!("KeReadStateEvent", 1, Any, |machine, call| {
        u64::from(machine.kernel.objects.is_signalled(call.arg(0)))
    }),
    function!("KeInitializeMutex", 2, Any, |machine, call| {
        let kind = Kind::Mutex { owner: None, depth: 0 };
        machine.kernel.objects.add(machine, call.arg(0), kind, MUTANT_OBJECT);
        put::<i32>(call.arg(0) + SIGNAL_STATE, 1);
        0
    }),
    function!("KeReleaseMutex", 2, Dispatch, release_mutex),
    function!("KeReadStateMutex", 1, Dispatch, |machine, call| {
        u64::from(machine.kernel.objects.is_signalled(call.arg(0)))
    }),
    function!("KeInitializeSemaphore", 3, Any, |machine, call| {
        let kind = Kind::Semaphore { count: call.arg(1) as i32, limit: call.arg(2) as i32 };
        machine.kernel.objects.add(machine, call.arg(0), kind, SEMAPHORE_OBJECT);
        put::<i32>(call.arg(0) + SIGNAL_STATE, call.arg(1) as i32);
        0
    }),
    function!("KeReleaseSemaphore", 4, Dispatch, release_semaphore),
    function!("KeReadStateSemaphore", 1, Any, |machine, call| {
        machine.kernel.objects.count(call.arg(0)) as u64
    }),
    function!("KeWaitForSingleObject", 5, Any, |machine, call| {
        wait(machine, vec![call.arg(0)], false, call.arg(4)) as u64
    }),
    function!("KeWaitForMultipleObjects", 8, Any, |machine, call| {
        let count = call.arg(0);
        let objects = (0..count).map(|index| get::<u64>(call.arg(1) + index * 8)).collect();
        wait(machine, objects, call.arg32(2) == 0, call.arg(6)) as u64
    }),
    function!("KeDelayExecutionThread", 3, Apc, IRQL_DELAY, |machine, call| {
        let until = deadline(machine, get::<i64>(call.arg(2)));
        machine.scheduler.wait("a delay", Some(until), || false);
        0
    }),
];

/// Types in a `DISPATCHER_HEADER` (`KOBJECTS`).
const NOTIFICATION_EVENT: u8 = 0;
const SYNCHRONIZATION_EVENT: u8 = 1;
const MUTANT_OBJECT: u8 = 2;
const SEMAPHORE_OBJECT: u8 = 5;
/// Offset of `SignalState` in a `DISPATCHER_HEADER`.
const SIGNAL_STATE: u64 = 0x04;
/// `STATUS_TIMEOUT`.
const TIMEOUT: i32 = 0x102;

/// What an object is, and its state.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// An event, or a timer, which signals like one.
    Event { resets: bool, signalled: bool },
    /// A mutex: the thread that owns it, and how often.
    Mutex { owner: Option<u32>, depth: u32 },
    /// A semaphore.
    Semaphore { count: i32, limit: i32 },
    /// A thread: signalled when it has ended.
    Thread { ended: bool },
}

struct Waiter {
    thread: u32,
    objects: Vec<u64>,
    all: bool,
    satisfied: Rc<Cell<Option<i32>>>,
}

/// Objects by address, and who waits, in the order in which they came.
#[derive(Default)]
pub(crate) struct Objects {
    objects: RefCell<FxHashMap<u64, Kind>>,
    waiters: RefCell<Vec<Waiter>>,
}

impl Objects {
    /// Initialises an object.
    pub(crate) fn add(&self, machine: &Machine, address: u64, kind: Kind, header: u8) {
        machine.checked();
        put::<u8>(address, header);
        check_place(machine, address);
        self.objects.borrow_mut().insert(address, kind);
        machine.log.kind(address, "dispatcher object");
        machine.event(address, "initialised");
    }

    /// An object of the machine's own, which has no memory that drivers see.
    pub(crate) fn add_hidden(&self, address: u64, kind: Kind) {
        self.objects.borrow_mut().insert(address, kind);
    }

    fn is_signalled(&self, address: u64) -> bool {
        match self.objects.borrow().get(&address) {
            Some(Kind::Event { signalled, .. }) => *signalled,
            Some(Kind::Mutex { owner, .. }) => owner.is_none(),
            Some(Kind::Semaphore { count, .. }) => *count > 0,
            Some(Kind::Thread { ended }) => *ended,
            None => false,
        }
    }

    fn count(&self, address: u64) -> i32 {
        match self.objects.borrow().get(&address) {
            Some(Kind::Semaphore { count, .. }) => *count,
            _ => 0,
        }
    }

    /// Changes an object's state; what it returns, and nothing if it is no object.
    pub(crate) fn change<R>(&self, address: u64, change: impl FnOnce(&mut Kind) -> R) -> Option<R> {
        let result = self.objects.borrow_mut().get_mut(&address).map(change);
        self.settle();
        result
    }

    /// Threads that wait for an object.
    fn waited_on(&self, address: u64) -> usize {
        self.waiters.borrow().iter().filter(|waiter| waiter.objects.contains(&address)).count()
    }

    /// Gives objects that are signalled to those who wait for them, first come first served.
    fn settle(&self) {
        let mut satisfied = Vec::new();
        self.waiters.borrow_mut().retain(|waiter| {
            let ready = |object: &u64| self.could_take(*object, waiter.thread);
            let result = if waiter.all {
                waiter.objects.iter().all(ready).then_some(0)
            } else {
                waiter.objects.iter().position(ready).map(|index| index as i32)
            };
            let Some(index) = result else { return true };
            let taken: &[u64] = if waiter.all {
                &waiter.objects
            } else {
                std::slice::from_ref(&waiter.objects[index as usize])
            };
            for object in taken {
                self.take(*object, waiter.thread);
            }
            satisfied.push((waiter.satisfied.clone(), index));
            false
        });
        for (place, index) in satisfied {
            place.set(Some(index));
        }
    }

    fn could_take(&self, object: u64, thread: u32) -> bool {
        match self.objects.borrow().get(&object) {
            Some(Kind::Mutex { owner, .. }) => owner.is_none_or(|owner| owner == thread),
            _ => self.is_signalled(object),
        }
    }

    fn take(&self, object: u64, thread: u32) {
        let mut objects = self.objects.borrow_mut();
        // Objects of the machine's own have addresses that are no memory.
        let visible = object < 1 << 63;
        let state = match objects.get_mut(&object) {
            Some(Kind::Event { resets: true, signalled }) => {
                *signalled = false;
                0
            }
            Some(Kind::Mutex { owner, depth }) => {
                *owner = Some(thread);
                *depth += 1;
                1 - *depth as i32
            }
            Some(Kind::Semaphore { count, .. }) => {
                *count -= 1;
                *count
            }
            _ => return,
        };
        if visible {
            put::<i32>(object + SIGNAL_STATE, state);
        }
    }

    /// Mutexes that a thread owns.
    pub(crate) fn owned_by(&self, thread: u32) -> Option<u64> {
        let objects = self.objects.borrow();
        let owned = |kind: &Kind| matches!(kind, Kind::Mutex { owner: Some(owner), .. } if *owner == thread);
        objects.iter().find(|(_, kind)| owned(kind)).map(|(address, _)| *address)
    }
}

/// Synchronisation objects lie in memory that is always there.
pub(crate) fn check_place(machine: &Machine, address: u64) {
    machine.checked();
    if machine.memory.areas.user.contains(address) {
        let text = "A function of the kernel is given an address of user memory";
        machine.stop(&rule::USER_ADDRESS, [address, 8, 0], text);
    }
    if machine.memory.is_pageable(address) {
        let text = "A synchronisation object lies in memory that can be paged out";
        machine.stop(&rule::OBJECT_PAGED, [address, 0, 0], text);
    }
}

/// `KeInitializeEvent`.
pub(crate) fn initialize_event(machine: &Machine, event: u64, resets: bool, signalled: bool) {
    let header = if resets { SYNCHRONIZATION_EVENT } else { NOTIFICATION_EVENT };
    machine.kernel.objects.add(machine, event, Kind::Event { resets, signalled }, header);
    put::<i32>(event + SIGNAL_STATE, i32::from(signalled));
}

fn invalid(machine: &Machine, object: u64, what: &str) {
    let text = format!("{what} is no initialised synchronisation object");
    machine.stop(&rule::OBJECT_INVALID, [object, 0, 0], text);
}

/// `KeSetEvent`: the state before.
pub(crate) fn set_event(machine: &Machine, event: u64) -> bool {
    machine.checked();
    put::<i32>(event + SIGNAL_STATE, 1);
    machine.event(event, "signalled");
    let before = machine.kernel.objects.change(event, |kind| match kind {
        Kind::Event { signalled, .. } => Some(std::mem::replace(signalled, true)),
        _ => None,
    });
    before.flatten().unwrap_or_else(|| {
        invalid(machine, event, "What KeSetEvent is given");
        false
    })
}

/// `KeResetEvent`: the state before.
pub(crate) fn reset_event(machine: &Machine, event: u64) -> bool {
    machine.checked();
    put::<i32>(event + SIGNAL_STATE, 0);
    let before = machine.kernel.objects.change(event, |kind| match kind {
        Kind::Event { signalled, .. } => Some(std::mem::replace(signalled, false)),
        _ => None,
    });
    before.flatten().unwrap_or_else(|| {
        invalid(machine, event, "What KeResetEvent is given");
        false
    })
}

fn release_mutex(machine: &Machine, call: &Call<'_>) -> u64 {
    machine.checked();
    let mutex = call.arg(0);
    let this = machine.scheduler.this();
    let result = machine.kernel.objects.change(mutex, |kind| match kind {
        Kind::Mutex { owner, depth } if *owner == Some(this.id) => {
            *depth -= 1;
            if *depth == 0 {
                *owner = None;
            }
            Some((*depth, true))
        }
        Kind::Mutex { .. } => Some((0, false)),
        _ => None,
    });
    match result.flatten() {
        Some((depth, true)) => {
            if depth == 0 {
                this.held.borrow_mut().retain(|held| held.lock != mutex);
            }
            put::<i32>(mutex + SIGNAL_STATE, 1 - depth as i32);
        }
        Some((_, false)) => {
            let text =
                "A mutex is released by a thread that does not own it: STATUS_MUTANT_NOT_OWNED is raised";
            // Nobody handles the exception that is raised here.
            let service = machine.scheduler.this().in_service.get();
            let rule = if service { &rule::MUTEX_NOT_OWNED_SERVICE } else { &rule::MUTEX_NOT_OWNED };
            machine.stop(rule, [call.caller(), mutex, 0], text);
        }
        None => invalid(machine, mutex, "What KeReleaseMutex is given"),
    }
    0
}

fn release_semaphore(machine: &Machine, call: &Call<'_>) -> u64 {
    machine.checked();
    let (semaphore, adjustment) = (call.arg(0), call.arg(2) as i32);
    let result = machine.kernel.objects.change(semaphore, |kind| match kind {
        Kind::Semaphore { count, limit } if *count + adjustment <= *limit => {
            let before = *count;
            *count += adjustment;
            Some(Some(before))
        }
        Kind::Semaphore { .. } => Some(None),
        _ => None,
    });
    match result.flatten() {
        Some(Some(before)) => {
            put::<i32>(semaphore + SIGNAL_STATE, machine.kernel.objects.count(semaphore));
            return before as u64;
        }
        Some(None) => {
            let text = "A semaphore is released beyond its limit: STATUS_SEMAPHORE_LIMIT_EXCEEDED is raised";
            machine.stop(&rule::SEMAPHORE_LIMIT, [call.caller(), semaphore, 0], text);
        }
        None => invalid(machine, semaphore, "What KeReleaseSemaphore is given"),
    }
    0
}

/// The time at which a timeout ends: relative if negative, since 1601 otherwise.
pub(crate) fn deadline(machine: &Machine, timeout: i64) -> u64 {
    if timeout < 0 {
        machine.scheduler.now() + timeout.unsigned_abs()
    } else {
        timeout.saturating_sub(super::ke::BOOT as i64).max(0) as u64
    }
}

/// `KeWaitFor…`: the status. `timeout` is the address of one, or 0 for none.
pub(crate) fn wait(machine: &Machine, objects: Vec<u64>, all: bool, timeout: u64) -> i32 {
    machine.checked();
    let irql = machine.scheduler.irql();
    let first = objects.first().copied().unwrap_or(0);
    let time = if timeout == 0 { None } else { Some(get::<i64>(timeout)) };
    let arguments = [u64::from(irql), first, timeout];
    if irql > DISPATCH {
        machine.stop(&rule::WAIT_ABOVE, arguments, "A thread waits above DISPATCH_LEVEL");
    } else if irql == DISPATCH && time.is_none() {
        machine.stop(&rule::WAIT_AT, arguments, "A thread waits at DISPATCH_LEVEL, without timeout");
    } else if irql == DISPATCH && time != Some(0) {
        machine.stop(&rule::WAIT_TIMEOUT, arguments, "A thread waits at DISPATCH_LEVEL, with a timeout");
    }
    let this = machine.scheduler.this();
    for object in &objects {
        // What is no memory faults here, as it does in the kernel.
        let _: u8 = get(*object);
        check_place(machine, *object);
        let known = machine.kernel.objects.objects.borrow().get(object).copied();
        match known {
            None => invalid(machine, *object, "What is waited on"),
            Some(Kind::Mutex { owner, .. }) if owner != Some(this.id) => {
                machine.kernel.sync.note_order(machine, *object);
            }
            Some(_) => {}
        }
    }
    let satisfied = Rc::new(Cell::new(None));
    let waiter = Waiter { thread: this.id, objects: objects.clone(), all, satisfied: satisfied.clone() };
    machine.kernel.objects.waiters.borrow_mut().push(waiter);
    machine.kernel.objects.settle();
    if satisfied.get().is_none() && time != Some(0) {
        if irql >= DISPATCH {
            let text = "A thread that may not be switched waits: in a DPC, or at DISPATCH_LEVEL";
            machine.stop_about(&rule::WAIT_KERNEL, [u64::from(this.id), 0, 0, 0], text, first);
        }
        machine.event(first, "waited on");
        let watched = satisfied.clone();
        let until = time.map(|time| deadline(machine, time));
        let what = format!("the object {:#x}", machine.memory.areas.canonical(first));
        machine.scheduler.wait(&what, until, move || watched.get().is_some());
    }
    machine.kernel.objects.waiters.borrow_mut().retain(|waiter| !Rc::ptr_eq(&waiter.satisfied, &satisfied));
    let Some(index) = satisfied.get() else { return TIMEOUT };
    for object in &objects {
        let owned = matches!(
            machine.kernel.objects.objects.borrow().get(object),
            Some(Kind::Mutex { owner: Some(owner), depth: 1 }) if *owner == this.id
        );
        if owned {
            this.held.borrow_mut().push(Held { lock: *object, kind: LockKind::Mutex });
        }
    }
    index
}

/// Memory is about to be freed: nobody may wait for what is in it.
pub(super) fn check_freed(machine: &Machine, start: u64, length: u64) {
    let objects = &machine.kernel.objects;
    let inside: Vec<u64> = {
        let all = objects.objects.borrow();
        all.keys().copied().filter(|address| address.wrapping_sub(start) < length).collect()
    };
    for object in inside {
        let waiters = objects.waited_on(object);
        if waiters != 0 {
            let text = format!("Memory is freed that holds an object which {waiters} threads wait on");
            machine.stop_about(&rule::WAITED_ON_FREED, [31, object, start, length], text, object);
        }
        objects.objects.borrow_mut().remove(&object);
    }
}

/// A thread of a driver ends.
pub(crate) fn thread_ends(machine: &Machine) {
    machine.checked();
    let this = machine.scheduler.this();
    let held = this.held.borrow().first().map(|held| held.lock);
    let owned = held.or_else(|| current().kernel.objects.owned_by(this.id));
    if let Some(lock) = owned {
        let text = format!("The thread {} ends and owns a lock", this.name);
        machine.stop(&rule::DEADLOCK_THREAD_ENDED, [u64::from(this.id), lock, 0], text);
    }
}

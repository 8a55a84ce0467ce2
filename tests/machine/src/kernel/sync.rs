//! Locks that threads wait for, the regions that they need, reader-writer spin locks, and the order of locks.
use std::cell::RefCell;
use std::collections::BTreeSet;

use rustc_hash::{FxHashMap, FxHashSet};

use super::{Call, Function, function, ke, wait};
use crate::image::Image;
use crate::machine::{Machine, current};
use crate::memory::{get, put};
use crate::rule;
use crate::sched::{APC, DISPATCH, Held, LockKind};

pub(super) const FUNCTIONS: &[Function] = &[
    function!("ExAcquireFastMutex", 1, Apc, FAST_MUTEX_IRQL, |machine, call| {
        let old = machine.scheduler.irql();
        acquire_fast(machine, call.arg(0));
        machine.scheduler.set_irql(APC);
        put::<u32>(call.arg(0) + FAST_OLD_IRQL, u32::from(old));
        0
    }),
    function!("ExTryToAcquireFastMutex", 1, Apc, IRQL_FAST_MUTEX, |machine, call| {
        if machine.kernel.sync.fast.borrow().contains_key(&call.arg(0)) {
            return 0;
        }
        let old = machine.scheduler.irql();
        acquire_fast(machine, call.arg(0));
        machine.scheduler.set_irql(APC);
        put::<u32>(call.arg(0) + FAST_OLD_IRQL, u32::from(old));
        1
    }),
    function!("ExReleaseFastMutex", 1, Any, |machine, call| {
        let irql = machine.scheduler.irql();
        if irql != APC {
            let text = "A fast mutex is released at another level than APC_LEVEL";
            machine.stop(&rule::FAST_MUTEX_RELEASE, [u64::from(irql), 0, call.arg(0)], text);
        }
        let old: u32 = get(call.arg(0) + FAST_OLD_IRQL);
        release_fast(machine, call.arg(0));
        machine.scheduler.set_irql(old as u8);
        0
    }),
    function!("ExAcquireFastMutexUnsafe", 1, Any, |machine, call| {
        apcs_disabled(machine, &rule::UNSAFE_MUTEX, call.arg(0), "An unsafe fast mutex is acquired");
        acquire_fast(machine, call.arg(0));
        0
    }),
    function!("ExReleaseFastMutexUnsafe", 1, Any, |machine, call| {
        apcs_disabled(machine, &rule::UNSAFE_MUTEX_RELEASE, call.arg(0), "An unsafe fast mutex is released");
        release_fast(machine, call.arg(0));
        0
    }),
    function!("KeInitializeGuardedMutex", 1, Any, |_, call| {
        put::<i32>(call.arg(0), 1);
        0
    }),
    function!("KeAcquireGuardedMutex", 1, Apc, IRQL_DELAY, |machine, call| {
        acquire_fast(machine, call.arg(0));
        change_guarded(machine, 1);
        0
    }),
    function!("KeReleaseGuardedMutex", 1, Apc, IRQL_DELAY, |machine, call| {
        release_fast(machine, call.arg(0));
        change_guarded(machine, -1);
        0
    }),
    function!("KeEnterCriticalRegion", 0, Apc, ENTER_CRITICAL_IRQL, |machine, _| {
        let this = machine.scheduler.this();
        this.critical.set(this.critical.get() + 1);
        0
    }),
    function!("KeLeaveCriticalRegion", 0, Apc, LEAVE_CRITICAL_IRQL, leave_critical),
    function!("KeEnterGuardedRegion", 0, Apc, IRQL_REGIONS, |machine, _| {
        change_guarded(machine, 1);
        0
    }),
    function!("KeLeaveGuardedRegion", 0, Apc, IRQL_REGIONS, |machine, _| {
        change_guarded(machine, -1);
        0
    }),
    function!("KeAreApcsDisabled", 0, Any, |machine, _| {
        let this = machine.scheduler.this();
        u64::from(this.critical.get() != 0 || this.guarded.get() != 0)
    }),
    function!("KeAreAllApcsDisabled", 0, Any, |machine, _| {
        let this = machine.scheduler.this();
        u64::from(this.guarded.get() != 0 || this.irql.get() >= APC)
    }),
    function!("ExInitializeResourceLite", 1, Dispatch, |machine, call| {
        wait::check_place(machine, call.arg(0));
        put::<u64>(call.arg(0), call.arg(0));
        machine.kernel.sync.resources.borrow_mut().insert(call.arg(0), Resource::default());
        0
    }),
    function!("ExDeleteResourceLite", 1, Dispatch, |machine, call| {
        let resource = machine.kernel.sync.resources.borrow_mut().remove(&call.arg(0));
        if resource.is_none_or(|resource| resource.owners != 0) {
            let text = "An executive resource is deleted that somebody owns, or that is none";
            machine.stop(&rule::OBJECT_INVALID, [call.arg(0), 0, 0], text);
        }
        0
    }),
    function!("ExAcquireResourceExclusiveLite", 2, Apc, RESOURCE_IRQL, |machine, call| {
        acquire_resource(machine, call, true)
    }),
    function!("ExAcquireResourceSharedLite", 2, Apc, RESOURCE_IRQL, |machine, call| {
        acquire_resource(machine, call, false)
    }),
    function!("ExReleaseResourceLite", 1, Dispatch, release_resource),
    function!("ExConvertExclusiveToSharedLite", 1, Dispatch, |machine, call| {
        if let Some(resource) = machine.kernel.sync.resources.borrow_mut().get_mut(&call.arg(0)) {
            resource.exclusive = None;
        }
        0
    }),
    function!("ExIsResourceAcquiredExclusiveLite", 1, Dispatch, |machine, call| {
        let this = machine.scheduler.thread_id();
        let resources = machine.kernel.sync.resources.borrow();
        u64::from(resources.get(&call.arg(0)).is_some_and(|resource| resource.exclusive == Some(this)))
    }),
    function!("ExAcquireSpinLockExclusive", 1, Dispatch, LOCK_ABOVE, |machine, call| {
        acquire_wide(machine, call.arg(0), true, true)
    }),
    function!("ExAcquireSpinLockShared", 1, Dispatch, LOCK_ABOVE, |machine, call| {
        acquire_wide(machine, call.arg(0), false, true)
    }),
    function!("ExAcquireSpinLockExclusiveAtDpcLevel", 1, Any, |machine, call| {
        acquire_wide(machine, call.arg(0), true, false)
    }),
    function!("ExAcquireSpinLockSharedAtDpcLevel", 1, Any, |machine, call| {
        acquire_wide(machine, call.arg(0), false, false)
    }),
    function!("ExReleaseSpinLockExclusive", 2, Any, |machine, call| {
        release_wide(machine, call.arg(0));
        machine.scheduler.set_irql(call.arg(1) as u8);
        0
    }),
    function!("ExReleaseSpinLockShared", 2, Any, |machine, call| {
        release_wide(machine, call.arg(0));
        machine.scheduler.set_irql(call.arg(1) as u8);
        0
    }),
    function!("ExReleaseSpinLockExclusiveFromDpcLevel", 1, Any, |machine, call| {
        release_wide(machine, call.arg(0));
        0
    }),
    function!("ExReleaseSpinLockSharedFromDpcLevel", 1, Any, |machine, call| {
        release_wide(machine, call.arg(0));
        0
    }),
];

/// Offset of `OldIrql` in a `FAST_MUTEX`.
const FAST_OLD_IRQL: u64 = 0x30;
/// Offset of `Owner` in a `FAST_MUTEX`.
const FAST_OWNER: u64 = 0x08;

#[derive(Debug, Default)]
struct Resource {
    exclusive: Option<u32>,
    owners: u32,
    /// Threads that own it, each as often as it acquired it.
    threads: Vec<u32>,
}

/// A lock of one writer or many readers.
#[derive(Debug, Default)]
pub(crate) struct Wide {
    writer: Option<u32>,
    readers: Vec<u32>,
}

impl Wide {
    /// Whether a thread holds it in a way that another acquisition cannot follow.
    pub(crate) fn is_held_by(&self, thread: u32, exclusive: bool) -> bool {
        self.writer == Some(thread) || exclusive && self.readers.contains(&thread)
    }
}

/// What locks there are, and the order in which they were taken.
#[derive(Default)]
pub(crate) struct Sync {
    fast: RefCell<FxHashMap<u64, u32>>,
    resources: RefCell<FxHashMap<u64, Resource>>,
    pub(crate) wide: RefCell<FxHashMap<u64, Wide>>,
    /// For each lock, those that were acquired while it was held.
    after: RefCell<FxHashMap<u64, FxHashSet<u64>>>,
}

impl Sync {
    /// The running thread is about to acquire a lock: what it holds comes before it, now and always.
    pub(crate) fn note_order(&self, machine: &Machine, lock: u64) {
        if !machine.verifier.deadlock {
            return;
        }
        let this = machine.scheduler.this();
        let held = this.held.borrow();
        if held.is_empty() {
            return;
        }
        machine.checked();
        for before in held.iter().map(|held| held.lock).filter(|before| *before != lock) {
            if self.leads_to(lock, before) {
                let text = format!(
                    "A lock is acquired while another is held, and elsewhere the other was acquired while it was: \
                     {:#x} before {:#x}",
                    machine.memory.areas.canonical(before),
                    machine.memory.areas.canonical(lock)
                );
                machine.stop(&rule::DEADLOCK_ORDER, [lock, before, 0], text);
            }
            self.after.borrow_mut().entry(before).or_default().insert(lock);
        }
    }

    fn leads_to(&self, from: u64, to: u64) -> bool {
        let after = self.after.borrow();
        let mut seen = BTreeSet::from([from]);
        let mut next = vec![from];
        while let Some(lock) = next.pop() {
            if lock == to {
                return true;
            }
            let following = after.get(&lock).into_iter().flatten().copied();
            next.extend(following.filter(|lock| seen.insert(*lock)));
        }
        false
    }
}

fn apcs_disabled(machine: &Machine, rule: &rule::Rule, lock: u64, what: &str) {
    machine.checked();
    let this = machine.scheduler.this();
    if this.critical.get() == 0 && this.guarded.get() == 0 && this.irql.get() < APC {
        let text = format!("{what} with APCs enabled: outside a critical region and below APC_LEVEL");
        machine.stop(rule, [u64::from(this.irql.get()), 0, lock], text);
    }
}

fn acquire_fast(machine: &Machine, mutex: u64) {
    machine.checked();
    wait::check_place(machine, mutex);
    let this = machine.scheduler.this();
    if machine.kernel.sync.fast.borrow().get(&mutex) == Some(&this.id) {
        let text = "A fast mutex is acquired by the thread that holds it";
        machine.stop(&rule::REENTRY, [mutex, 0, 0], text);
    }
    machine.kernel.sync.note_order(machine, mutex);
    machine
        .scheduler
        .wait("a fast mutex", None, move || !current().kernel.sync.fast.borrow().contains_key(&mutex));
    machine.kernel.sync.fast.borrow_mut().insert(mutex, this.id);
    this.held.borrow_mut().push(Held { lock: mutex, kind: LockKind::FastMutex });
    put::<i32>(mutex, 0);
    put::<u64>(mutex + FAST_OWNER, this.object.get());
}

fn release_fast(machine: &Machine, mutex: u64) {
    machine.checked();
    let this = machine.scheduler.this();
    let owner = machine.kernel.sync.fast.borrow_mut().remove(&mutex);
    match owner {
        Some(owner) if owner == this.id => {}
        Some(owner) => {
            let text = "A fast mutex is released by a thread that does not hold it";
            machine.stop(&rule::DEADLOCK_OTHER_THREAD, [mutex, u64::from(owner), u64::from(this.id)], text);
        }
        None => {
            let text = "A fast mutex is released that is not held";
            machine.stop(&rule::DEADLOCK_NOT_HELD, [mutex, 0, 0], text);
        }
    }
    this.held.borrow_mut().retain(|held| held.lock != mutex);
    put::<i32>(mutex, 1);
    put::<u64>(mutex + FAST_OWNER, 0);
}

fn change_guarded(machine: &Machine, by: i32) {
    let this = machine.scheduler.this();
    this.guarded.set(this.guarded.get() + by);
    if this.guarded.get() < 0 {
        let text = "A guarded region is left that was not entered";
        machine.stop(&rule::GUARDED_REGIONS, [this.guarded.get() as u64, 0, 0], text);
    }
}

fn leave_critical(machine: &Machine, _call: &Call<'_>) -> u64 {
    machine.checked();
    let this = machine.scheduler.this();
    if this.critical.get() == 0 {
        let text = "A critical region is left that was not entered";
        machine.stop(&rule::LEAVE_CRITICAL, [0, 0, 0], text);
    }
    this.critical.set(this.critical.get() - 1);
    0
}

fn acquire_resource(machine: &Machine, call: &Call<'_>, exclusive: bool) -> u64 {
    let (address, waits) = (call.arg(0), call.arg(1) as u8 != 0);
    apcs_disabled(machine, &rule::RESOURCE_ACQUIRE, address, "An executive resource is acquired");
    let this = machine.scheduler.thread_id();
    if !machine.kernel.sync.resources.borrow().contains_key(&address) {
        let text = "An executive resource is acquired that was not initialised";
        machine.stop(&rule::OBJECT_INVALID, [address, 0, 0], text);
        return 1;
    }
    let free = move || {
        let resources = current().kernel.sync.resources.borrow();
        resources.get(&address).is_none_or(|resource| match resource.exclusive {
            Some(owner) => owner == this,
            None => !exclusive || resource.threads.iter().all(|thread| *thread == this),
        })
    };
    if !free() && !waits {
        return 0;
    }
    machine.scheduler.wait("an executive resource", None, free);
    if let Some(resource) = machine.kernel.sync.resources.borrow_mut().get_mut(&address) {
        if exclusive {
            resource.exclusive = Some(this);
        }
        resource.owners += 1;
        resource.threads.push(this);
    }
    1
}

fn release_resource(machine: &Machine, call: &Call<'_>) -> u64 {
    let address = call.arg(0);
    apcs_disabled(machine, &rule::RESOURCE_RELEASE, address, "An executive resource is released");
    let this = machine.scheduler.thread_id();
    let mut resources = machine.kernel.sync.resources.borrow_mut();
    let place = resources
        .get(&address)
        .and_then(|resource| resource.threads.iter().position(|thread| *thread == this));
    if let (Some(place), Some(resource)) = (place, resources.get_mut(&address)) {
        resource.threads.remove(place);
        resource.owners -= 1;
        if resource.owners == 0 {
            resource.exclusive = None;
        }
    } else {
        drop(resources);
        let text = "An executive resource is released by a thread that does not own it";
        machine.stop_about(&rule::RESOURCE_NOT_OWNED, [address, u64::from(this), 0, 0], text, address);
    }
    0
}

/// Takes a reader-writer spin lock; the level before.
pub(crate) fn acquire_wide(machine: &Machine, lock: u64, exclusive: bool, raises: bool) -> u64 {
    machine.checked();
    machine.counts.locks.set(machine.counts.locks.get() + 1);
    let old = machine.scheduler.irql();
    if raises {
        ke::raise_to(machine, DISPATCH.max(old));
    }
    let this = machine.scheduler.thread_id();
    let wide = &machine.kernel.sync.wide;
    let held = wide.borrow().get(&lock).is_some_and(|state| state.is_held_by(this, exclusive));
    if held {
        let text = "A reader-writer spin lock is acquired by who holds it, or upgraded from read to write";
        machine.stop(&rule::DEADLOCK_SELF, [lock, 0, 0], text);
    }
    machine.scheduler.spin_until(lock, move || {
        let wide = current().kernel.sync.wide.borrow();
        wide.get(&lock).is_none_or(|state| state.writer.is_none() && (!exclusive || state.readers.is_empty()))
    });
    let mut all = wide.borrow_mut();
    let state = all.entry(lock).or_default();
    if exclusive {
        state.writer = Some(this);
    } else {
        state.readers.push(this);
    }
    u64::from(old)
}

/// Releases what [`acquire_wide`] took; false if the thread does not hold it.
pub(crate) fn release_wide_if_held(machine: &Machine, lock: u64) -> bool {
    let this = machine.scheduler.thread_id();
    let mut all = machine.kernel.sync.wide.borrow_mut();
    let Some(state) = all.get_mut(&lock) else { return false };
    let held = if state.writer == Some(this) {
        state.writer = None;
        true
    } else if let Some(place) = state.readers.iter().position(|reader| *reader == this) {
        state.readers.remove(place);
        true
    } else {
        false
    };
    if state.writer.is_none() && state.readers.is_empty() {
        all.remove(&lock);
    }
    held
}

fn release_wide(machine: &Machine, lock: u64) {
    machine.checked();
    if !release_wide_if_held(machine, lock) {
        let text = "A reader-writer spin lock is released by who does not hold it";
        machine.stop(&rule::DEADLOCK_NOT_HELD, [lock, 0, 0], text);
    }
}

/// Memory is about to be freed: no executive resource may be in it, and no fast mutex that is held.
pub(super) fn check_freed(machine: &Machine, start: u64, length: u64) {
    let sync = &machine.kernel.sync;
    let inside = |address: &u64| address.wrapping_sub(start) < length;
    let resource = sync.resources.borrow().keys().copied().find(|address| inside(address));
    if let Some(resource) = resource {
        let text = "Memory is freed that holds an executive resource which was not deleted";
        machine.stop(&rule::POOL_HOLDS_RESOURCE, [resource, start, length], text);
        sync.resources.borrow_mut().remove(&resource);
    }
    let mutex =
        sync.fast.borrow().iter().find(|(address, _)| inside(address)).map(|(at, owner)| (*at, *owner));
    if let Some((mutex, owner)) = mutex {
        let text = "Memory is freed that holds a fast mutex which somebody holds";
        machine.stop(&rule::DEADLOCK_FREED, [mutex, u64::from(owner), 0], text);
    }
    let mut after = sync.after.borrow_mut();
    if !after.is_empty() {
        after.retain(|lock, _| !inside(lock));
        after.values_mut().for_each(|locks| locks.retain(|lock| !inside(lock)));
    }
}

/// An image is about to go: no executive resource may be in it.
pub(super) fn check_unload(machine: &Machine, image: &Image) {
    check_freed(machine, image.base, image.length);
}

//! Interlocked lists.
use super::{Call, Function, function, ke};
use crate::machine::Machine;
use crate::memory::{get, put};
use crate::sched::{DISPATCH, LockKind};

pub(super) const FUNCTIONS: &[Function] = &[
    function!("ExInterlockedInsertTailList", 3, Any, |machine, call| insert(machine, call, true)),
    function!("ExInterlockedInsertHeadList", 3, Any, |machine, call| insert(machine, call, false)),
    function!("ExInterlockedRemoveHeadList", 2, Any, |machine, call| {
        locked(machine, call.arg(1), || {
            let head = call.arg(0);
            let first: u64 = get(head);
            if first == head {
                return 0;
            }
            let next: u64 = get(first);
            put(head, next);
            put(next + 8, head);
            first
        })
    }),
    function!("InitializeSListHead", 1, Any, |_, call| {
        put::<u64>(call.arg(0), 0);
        put::<u64>(call.arg(0) + 8, 0);
        0
    }),
    function!("ExpInterlockedPushEntrySList", 2, Any, |_, call| push(call)),
    function!("ExpInterlockedPopEntrySList", 1, Any, |_, call| pop(call)),
    function!("InterlockedPushEntrySList", 2, Any, |_, call| push(call)),
    function!("InterlockedPopEntrySList", 1, Any, |_, call| pop(call)),
    function!("ExpInterlockedFlushSList", 1, Any, |_, call| {
        let first: u64 = get(call.arg(0) + 8);
        put::<u64>(call.arg(0), 0);
        put::<u64>(call.arg(0) + 8, 0);
        first & !0xF
    }),
    function!("ExQueryDepthSList", 1, Any, |_, call| u64::from(get::<u16>(call.arg(0)))),
];

/// Does `work` with a spin lock held.
fn locked(machine: &Machine, lock: u64, work: impl FnOnce() -> u64) -> u64 {
    let old = machine.scheduler.irql();
    machine.scheduler.set_irql(old.max(DISPATCH));
    ke::acquire(machine, lock, LockKind::Spin);
    let result = work();
    machine.scheduler.release_lock(lock, LockKind::Spin);
    machine.scheduler.set_irql(old);
    result
}

fn insert(machine: &Machine, call: &Call<'_>, tail: bool) -> u64 {
    let (head, entry) = (call.arg(0), call.arg(1));
    locked(machine, call.arg(2), || {
        let (before, after): (u64, u64) = if tail { (get(head + 8), head) } else { (head, get(head)) };
        let previous_neighbour = if tail { before } else { after };
        put(entry, after);
        put(entry + 8, before);
        put(before, entry);
        put(after + 8, entry);
        if previous_neighbour == head { 0 } else { previous_neighbour }
    })
}

/// An `SLIST_HEADER` on x64: depth in the low 16 bits, the first entry in the upper word.
fn push(call: &Call<'_>) -> u64 {
    let (head, entry) = (call.arg(0), call.arg(1));
    let first = get::<u64>(head + 8) & !0xF;
    put::<u64>(entry, first);
    put::<u16>(head, get::<u16>(head).wrapping_add(1));
    put::<u64>(head + 8, entry);
    first
}

fn pop(call: &Call<'_>) -> u64 {
    let head = call.arg(0);
    let first = get::<u64>(head + 8) & !0xF;
    if first != 0 {
        put::<u16>(head, get::<u16>(head).wrapping_sub(1));
        put::<u64>(head + 8, get::<u64>(first));
    }
    first
}

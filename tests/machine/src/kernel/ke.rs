//! `Ke…`: IRQL, spin locks, processors, DPCs, time.
use super::{Call, Function, function};
use crate::machine::{Machine, current};
use crate::memory::{get, put};
use crate::rule::{self, Rule};
use crate::sched::{DISPATCH, Dpc, HIGH, LockKind};

pub(super) const FUNCTIONS: &[Function] = &[
    function!("KeGetCurrentIrql", 0, Any, |machine, _| u64::from(machine.scheduler.irql())),
    function!("KfRaiseIrql", 1, Any, raise),
    function!("KeRaiseIrqlToDpcLevel", 0, Any, |machine, _| raise_to(machine, DISPATCH)),
    function!("KeLowerIrql", 1, Any, lower),
    function!("KeInitializeSpinLock", 1, Any, initialize_lock),
    function!("KeAcquireSpinLockRaiseToDpc", 1, Dispatch, LOCK_ABOVE, |machine, call| {
        let old = machine.scheduler.irql();
        machine.scheduler.set_irql(DISPATCH.max(old));
        acquire(machine, call.arg(0), LockKind::Spin);
        u64::from(old)
    }),
    function!("KeReleaseSpinLock", 2, Any, |machine, call| {
        at_dispatch(machine, call, &rule::LOCK_RELEASE_LEVEL);
        let old = call.arg(1) as u8;
        if old > DISPATCH {
            bad_level(machine, &rule::LOWER, old, 0);
        }
        machine.scheduler.release_lock(call.arg(0), LockKind::Spin);
        machine.scheduler.set_irql(old);
        0
    }),
    function!("KeAcquireSpinLockAtDpcLevel", 1, Any, |machine, call| {
        at_dispatch(machine, call, &rule::LOCK_AT_DPC);
        acquire(machine, call.arg(0), LockKind::Spin);
        0
    }),
    function!("KeReleaseSpinLockFromDpcLevel", 1, Any, |machine, call| {
        at_dispatch(machine, call, &rule::LOCK_FROM_DPC);
        machine.scheduler.release_lock(call.arg(0), LockKind::Spin);
        0
    }),
    function!("KeTryToAcquireSpinLockAtDpcLevel", 1, Any, |machine, call| {
        at_dispatch(machine, call, &rule::LOCK_AT_DPC);
        u64::from(machine.scheduler.try_acquire_lock(call.arg(0), LockKind::Spin))
    }),
    function!("KeAcquireInStackQueuedSpinLock", 2, Dispatch, LOCK_ABOVE, |machine, call| {
        let (lock, handle) = (call.arg(0), call.arg(1));
        let old = machine.scheduler.irql();
        machine.scheduler.set_irql(DISPATCH.max(old));
        acquire(machine, lock, LockKind::Queued);
        put::<u64>(handle + QUEUE_LOCK, lock);
        put::<u8>(handle + QUEUE_IRQL, old);
        0
    }),
    function!("KeReleaseInStackQueuedSpinLock", 1, Any, |machine, call| {
        let handle = call.arg(0);
        let old: u8 = get(handle + QUEUE_IRQL);
        queued_at_dispatch(machine, get(handle + QUEUE_LOCK), old);
        machine.scheduler.release_lock(get(handle + QUEUE_LOCK), LockKind::Queued);
        machine.scheduler.set_irql(old);
        0
    }),
    function!("KeAcquireInStackQueuedSpinLockAtDpcLevel", 2, Any, |machine, call| {
        at_dispatch(machine, call, &rule::LOCK_AT_DPC);
        acquire(machine, call.arg(0), LockKind::Queued);
        put::<u64>(call.arg(1) + QUEUE_LOCK, call.arg(0));
        0
    }),
    function!("KeReleaseInStackQueuedSpinLockFromDpcLevel", 1, Any, |machine, call| {
        let lock: u64 = get(call.arg(0) + QUEUE_LOCK);
        queued_at_dispatch(machine, lock, DISPATCH);
        machine.scheduler.release_lock(lock, LockKind::Queued);
        0
    }),
    function!("KeTestSpinLock", 1, Any, |machine, call| u64::from(
        machine.scheduler.lock_in(call.arg(0), 1).is_none()
    )),
    function!("KeGetCurrentProcessorNumberEx", 1, Any, |machine, call| {
        let processor = machine.scheduler.processor() as u64;
        if call.arg(0) != 0 {
            // PROCESSOR_NUMBER: group, number, reserved.
            put::<u32>(call.arg(0), (processor as u32) << 16);
        }
        processor
    }),
    function!("KeQueryMaximumProcessorCountEx", 1, Any, |machine, _| machine.scheduler.processors() as u64),
    function!("KeQueryActiveProcessorCountEx", 1, Any, |machine, _| machine.scheduler.processors() as u64),
    function!("KeQueryMaximumProcessorCount", 0, Any, |machine, _| machine.scheduler.processors() as u64),
    function!("KeQueryActiveProcessorCount", 1, Any, |machine, call| {
        let count = machine.scheduler.processors();
        if call.arg(0) != 0 {
            put::<u64>(call.arg(0), (1 << count) - 1);
        }
        count as u64
    }),
    function!("KeGetProcessorNumberFromIndex", 2, Any, |_, call| {
        put::<u32>(call.arg(1), call.arg32(0) << 16);
        0
    }),
    function!("KeGetProcessorIndexFromNumber", 1, Any, |_, call| u64::from(get::<u8>(call.arg(0) + 2))),
    function!("KeInitializeDpc", 3, Any, |_, call| {
        let dpc = call.arg(0);
        put::<u8>(dpc, DPC_OBJECT);
        put::<u64>(dpc + DPC_ROUTINE, call.arg(1));
        put::<u64>(dpc + DPC_CONTEXT, call.arg(2));
        0
    }),
    function!("KeInsertQueueDpc", 3, Any, |machine, call| u64::from(insert_dpc(
        machine,
        call.arg(0),
        call.arg(1),
        call.arg(2)
    ))),
    function!("KeRemoveQueueDpc", 1, Any, |machine, call| u64::from(
        machine.scheduler.dpc_queued(call.arg(0), true)
    )),
    function!("KeSetTargetProcessorDpcEx", 2, Any, |_, call| {
        put::<u16>(call.arg(0) + DPC_NUMBER, DPC_TARGETED + u16::from(get::<u8>(call.arg(1) + 2)));
        0
    }),
    function!("KeSetImportanceDpc", 2, Any, |_, call| {
        put::<u8>(call.arg(0) + 1, call.arg(1) as u8);
        0
    }),
    function!("KeFlushQueuedDpcs", 0, Passive, |machine, _| {
        let next = machine.scheduler.next_dpc();
        machine.scheduler.wait("queued DPCs", None, move || !current().scheduler.dpcs_pending_before(next));
        0
    }),
    function!("KeStallExecutionProcessor", 1, Any, |machine, call| {
        let microseconds = u64::from(call.arg32(0));
        if microseconds > 50 {
            let text = format!("A driver stalls its processor for {microseconds} us; 50 are allowed");
            machine.stop(&rule::STALL, [microseconds, 0, 0], text);
        }
        machine.scheduler.stall(microseconds * 10);
        machine.scheduler.poll();
        0
    }),
    function!("KeQueryPerformanceCounter", 1, Any, |machine, call| {
        if call.arg(0) != 0 {
            put::<u64>(call.arg(0), 10_000_000);
        }
        machine.scheduler.now()
    }),
    function!("KeQueryInterruptTime", 0, Any, |machine, _| machine.scheduler.now()),
    function!("KeQueryInterruptTimePrecise", 1, Any, |machine, call| precise(machine, call, 0)),
    function!("KeQuerySystemTimePrecise", 1, Any, |machine, call| precise(machine, call, BOOT)),
    function!("KeQueryTickCount", 1, Any, |machine, call| {
        put::<u64>(call.arg(0), machine.scheduler.now() / TICK);
        0
    }),
    function!("KeQueryTimeIncrement", 0, Any, |_, _| TICK),
    function!("KeQueryUnbiasedInterruptTime", 0, Any, |machine, _| machine.scheduler.now()),
    function!("KeBugCheckEx", 5, Any, |machine, call| {
        let arguments = [call.arg(1), call.arg(2), call.arg(3), call.arg(4)];
        let text = "The driver stopped the system".to_owned();
        machine.bugcheck(call.arg32(0), "KeBugCheckEx", arguments, text, Vec::new())
    }),
    function!("KeBugCheck", 1, Any, |machine, call| {
        let text = "The driver stopped the system".to_owned();
        machine.bugcheck(call.arg32(0), "KeBugCheck", [0; 4], text, Vec::new())
    }),
];

/// `DpcObject` of `KOBJECTS`.
const DPC_OBJECT: u8 = 19;
/// Offsets in a `KDPC` on x64.
const DPC_NUMBER: u64 = 0x02;
const DPC_ROUTINE: u64 = 0x18;
const DPC_CONTEXT: u64 = 0x20;
/// What the number of a targeted DPC starts at.
const DPC_TARGETED: u16 = 0x800;
/// Offsets in a `KLOCK_QUEUE_HANDLE`.
const QUEUE_LOCK: u64 = 0x08;
const QUEUE_IRQL: u64 = 0x10;
/// 100 ns units of a clock tick.
const TICK: u64 = 156_250;
/// When the machine is switched on, in 100 ns since 1601: 2026-01-01.
pub(crate) const BOOT: u64 = 134_116_128_000_000_000;

fn precise(machine: &Machine, call: &Call<'_>, since: u64) -> u64 {
    let now = machine.scheduler.now() + since;
    if call.arg(0) != 0 {
        put::<u64>(call.arg(0), now);
    }
    now
}

fn initialize_lock(machine: &Machine, call: &Call<'_>) -> u64 {
    machine.checked();
    if let Some((lock, owner)) = machine.scheduler.lock_in(call.arg(0), 8) {
        let text = "A spin lock is initialised while somebody holds it";
        machine.stop(&rule::DEADLOCK_INITIALISED_TWICE, [lock, u64::from(owner), 0], text);
    }
    put::<u64>(call.arg(0), 0);
    0
}

/// Takes a spin lock at the current level.
pub(crate) fn acquire(machine: &Machine, lock: u64, kind: LockKind) {
    machine.checked();
    machine.counts.locks.set(machine.counts.locks.get() + 1);
    // A spin lock holds 0, or 1 while it is held: anything else was never initialised.
    let word: u64 = get(lock);
    if word > 1 {
        let text = format!("A spin lock that holds {word:#x} was never initialised");
        machine.stop(&rule::DEADLOCK_UNINITIALISED, [lock, word, 0], text);
    }
    machine.kernel.sync.note_order(machine, lock);
    machine.scheduler.acquire_lock(lock, kind);
}

fn at_dispatch(machine: &Machine, call: &Call<'_>, rule: &Rule) {
    machine.checked();
    let irql = machine.scheduler.irql();
    if irql < DISPATCH {
        let text = format!("{} is called below DISPATCH_LEVEL", call.function.name);
        machine.stop(rule, [u64::from(irql), call.arg(0), 0], text);
    }
}

fn queued_at_dispatch(machine: &Machine, lock: u64, old: u8) {
    machine.checked();
    let irql = machine.scheduler.irql();
    if irql < DISPATCH {
        let text = "A queued spin lock is released below DISPATCH_LEVEL";
        machine.stop(&rule::QUEUED_RELEASE_LEVEL, [u64::from(irql), lock, u64::from(old)], text);
    }
}

fn bad_level(machine: &Machine, rule: &Rule, level: u8, in_dpc: u64) {
    let current = u64::from(machine.scheduler.irql());
    machine.stop(
        rule,
        [current, u64::from(level), in_dpc],
        format!("The IRQL is set from {current} to {level}"),
    );
}

fn raise(machine: &Machine, call: &Call<'_>) -> u64 {
    raise_to(machine, call.arg(0) as u8)
}

/// Raises the IRQL and returns the old one.
pub(crate) fn raise_to(machine: &Machine, new: u8) -> u64 {
    machine.checked();
    let old = machine.scheduler.irql();
    if new < old || new > HIGH {
        bad_level(machine, &rule::RAISE, new, 0);
    }
    machine.scheduler.set_irql(new);
    u64::from(old)
}

fn lower(machine: &Machine, call: &Call<'_>) -> u64 {
    lower_to(machine, call.arg(0) as u8);
    0
}

/// Lowers the IRQL.
pub(crate) fn lower_to(machine: &Machine, new: u8) {
    machine.checked();
    let in_dpc = machine.scheduler.in_dpc() && new < DISPATCH;
    if new > machine.scheduler.irql() || in_dpc {
        bad_level(machine, &rule::LOWER, new, u64::from(in_dpc));
    }
    machine.scheduler.set_irql(new);
}

/// `KeInsertQueueDpc`: false if the DPC was queued already.
pub(crate) fn insert_dpc(machine: &Machine, object: u64, first: u64, second: u64) -> bool {
    machine.checked();
    if get::<u8>(object) != DPC_OBJECT {
        let text = "A DPC is queued that was not initialised";
        machine.stop(&rule::DPC_FREED, [object, object, object + 0x40], text);
    }
    if machine.scheduler.dpc_queued(object, false) {
        return false;
    }
    let target = get::<u16>(object + DPC_NUMBER).checked_sub(DPC_TARGETED).map(usize::from);
    let (routine, context) = (get::<u64>(object + DPC_ROUTINE), get::<u64>(object + DPC_CONTEXT));
    let work = move || {
        let machine = current();
        machine.call(routine, &[object, context, first, second]);
        after_dpc(machine);
    };
    machine.scheduler.queue_dpc(target, Dpc { object, work: Box::new(work) });
    true
}

/// The routine of a `KDPC`.
pub(crate) fn dpc_routine(object: u64) -> u64 {
    get(object + DPC_ROUTINE)
}

/// What must hold when a DPC returns.
pub(crate) fn after_dpc(machine: &Machine) {
    machine.checked();
    let this = machine.scheduler.this();
    let irql = this.irql.get();
    if irql != DISPATCH {
        machine.stop_about(
            &rule::DPC_IRQL,
            [u64::from(irql) << 16 | u64::from(DISPATCH) << 8, 0, 0, 0],
            "A DPC returned at another IRQL",
            0,
        );
    }
    if let Some(lock) = this.spin_lock() {
        machine.stop(&rule::SPIN_LOCK, [lock, 0, 0], "A DPC returned holding a spin lock");
    }
    if this.critical.get() != 0 || this.guarded.get() != 0 {
        let text = "A DPC returned with another APC disable count";
        machine.stop(&rule::DPC_APCS, [this.critical.get() as u64, 0, 0], text);
    }
}

//! `Ke…`: IRQL, spin locks, processors, DPCs.
use super::{Call, Function, function};
use crate::bugcheck::code;
use crate::machine::{Machine, current};
use crate::memory::{get, put};
use crate::sched::{DISPATCH, Dpc, HIGH};

pub(super) const FUNCTIONS: &[Function] = &[
    function!("KeGetCurrentIrql", Any, |machine, _| u64::from(machine.scheduler.irql())),
    function!("KfRaiseIrql", Any, raise),
    function!("KeLowerIrql", Any, lower),
    function!("KeInitializeSpinLock", Any, |_, call| {
        put::<u64>(call.arg(0), 0);
        0
    }),
    function!("KeAcquireSpinLockRaiseToDpc", Dispatch, Verifier(0x42), |machine, call| {
        let old = machine.scheduler.irql();
        machine.scheduler.set_irql(DISPATCH);
        acquire(machine, call.arg(0));
        u64::from(old)
    }),
    function!("KeReleaseSpinLock", Any, |machine, call| {
        at_dispatch(machine, call, 0x32, "KeReleaseSpinLock");
        let old = call.arg(1) as u8;
        if old > DISPATCH {
            bad_level(machine, 0x31, old);
        }
        machine.scheduler.release_lock(call.arg(0));
        machine.scheduler.set_irql(old);
        0
    }),
    function!("KeAcquireSpinLockAtDpcLevel", Any, |machine, call| {
        at_dispatch(machine, call, 0x40, "KeAcquireSpinLockAtDpcLevel");
        acquire(machine, call.arg(0));
        0
    }),
    function!("KeReleaseSpinLockFromDpcLevel", Any, |machine, call| {
        at_dispatch(machine, call, 0x41, "KeReleaseSpinLockFromDpcLevel");
        machine.scheduler.release_lock(call.arg(0));
        0
    }),
    function!("KeGetCurrentProcessorNumberEx", Any, |machine, call| {
        let processor = machine.scheduler.processor() as u64;
        if call.arg(0) != 0 {
            // PROCESSOR_NUMBER: group, number, reserved.
            put::<u32>(call.arg(0), (processor as u32) << 16);
        }
        processor
    }),
    function!("KeQueryMaximumProcessorCountEx", Any, |machine, _| machine.scheduler.processors() as u64),
    function!("KeQueryActiveProcessorCountEx", Any, |machine, _| machine.scheduler.processors() as u64),
    function!("KeInitializeDpc", Any, |_, call| {
        let dpc = call.arg(0);
        put::<u8>(dpc, DPC_OBJECT);
        put::<u64>(dpc + DPC_ROUTINE, call.arg(1));
        put::<u64>(dpc + DPC_CONTEXT, call.arg(2));
        0
    }),
    function!("KeInsertQueueDpc", Any, insert_dpc),
    function!("KeRemoveQueueDpc", Any, |machine, call| u64::from(
        machine.scheduler.dpc_queued(call.arg(0), true)
    )),
    function!("KeFlushQueuedDpcs", Passive, |machine, _| {
        machine.scheduler.wait("queued DPCs", None, || !current().scheduler.dpcs_pending());
        0
    }),
    function!("KeBugCheckEx", Any, |machine, call| {
        let arguments = [call.arg(1), call.arg(2), call.arg(3), call.arg(4)];
        machine.bugcheck(call.arg32(0), arguments, "The driver stopped the system")
    }),
];

/// `DpcObject` of `KOBJECTS`.
const DPC_OBJECT: u8 = 19;
/// Offsets in a `KDPC` on x64.
const DPC_ROUTINE: u64 = 0x18;
const DPC_CONTEXT: u64 = 0x20;

fn acquire(machine: &Machine, lock: u64) {
    machine.checked();
    machine.counts.locks.set(machine.counts.locks.get() + 1);
    machine.scheduler.acquire_lock(lock);
}

fn at_dispatch(machine: &Machine, call: &Call<'_>, subcode: u64, name: &str) {
    machine.checked();
    let irql = machine.scheduler.irql();
    if irql < DISPATCH {
        machine.bugcheck(
            code::DRIVER_VERIFIER_DETECTED_VIOLATION,
            [subcode, u64::from(irql), call.arg(0), 0],
            format!("{name} is called below DISPATCH_LEVEL"),
        );
    }
}

fn bad_level(machine: &Machine, subcode: u64, level: u8) -> ! {
    let current = u64::from(machine.scheduler.irql());
    machine.bugcheck(
        code::DRIVER_VERIFIER_DETECTED_VIOLATION,
        [subcode, current, u64::from(level), 0],
        format!("The IRQL is set from {current} to {level}"),
    )
}

fn raise(machine: &Machine, call: &Call<'_>) -> u64 {
    machine.checked();
    let new = call.arg(0) as u8;
    let old = machine.scheduler.irql();
    if new < old || new > HIGH {
        bad_level(machine, 0x30, new);
    }
    machine.scheduler.set_irql(new);
    u64::from(old)
}

fn lower(machine: &Machine, call: &Call<'_>) -> u64 {
    machine.checked();
    let new = call.arg(0) as u8;
    if new > machine.scheduler.irql() || (machine.scheduler.in_dpc() && new < DISPATCH) {
        bad_level(machine, 0x31, new);
    }
    machine.scheduler.set_irql(new);
    0
}

fn insert_dpc(machine: &Machine, call: &Call<'_>) -> u64 {
    machine.checked();
    let object = call.arg(0);
    if get::<u8>(object) != DPC_OBJECT {
        machine.bugcheck(
            code::TIMER_OR_DPC_INVALID,
            [1, object, object, object + 0x40],
            "A DPC is queued that was not initialised",
        );
    }
    if machine.scheduler.dpc_queued(object, false) {
        return 0;
    }
    let arguments = [object, get::<u64>(object + DPC_CONTEXT), call.arg(1), call.arg(2)];
    machine.scheduler.queue_dpc(
        None,
        Dpc {
            object,
            work: Box::new(move || {
                let machine = current();
                machine.call(get::<u64>(object + DPC_ROUTINE), &arguments);
                after_dpc(machine);
            }),
        },
    );
    1
}

/// What must hold when a DPC returns.
pub(crate) fn after_dpc(machine: &Machine) {
    machine.checked();
    let irql = machine.scheduler.irql();
    if irql != DISPATCH {
        machine.bugcheck(
            0xC8,
            [u64::from(irql) << 16 | u64::from(DISPATCH) << 8, 0, 0, 0],
            "A DPC returned at another IRQL",
        );
    }
    if let Some(lock) = machine.scheduler.locks_held().first() {
        machine.bugcheck(
            code::DRIVER_VERIFIER_DETECTED_VIOLATION,
            [0x40009, *lock, 0, 0],
            "A DPC returned holding a spin lock (rule SpinLock)",
        );
    }
}

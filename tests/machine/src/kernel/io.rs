//! `Io…` and `Mm…`: requests, cancel-safe queues, mappings, DMA adapters.
use super::{Call, Function, function};
use crate::io::IoManager;
use crate::kernel::objects::irp;
use crate::machine::Machine;
use crate::memory::{get, put};
use crate::sched::DISPATCH;

pub(super) const FUNCTIONS: &[Function] = &[
    function!("IofCompleteRequest", 2, Dispatch, IRP_COMPLETE_IRQL, |machine, call| {
        machine.io.complete(machine, call.arg(0));
        0
    }),
    function!("IoGetDmaAdapter", 3, Passive, IRQL_DMA_ADAPTER, super::dma::get_adapter),
    function!("IoAcquireCancelSpinLock", 1, Dispatch, |machine, call| {
        put::<u8>(call.arg(0), machine.io.acquire_cancel_lock(machine));
        0
    }),
    function!("IoReleaseCancelSpinLock", 1, Dispatch, |machine, call| {
        machine.io.release_cancel_lock(machine, call.arg(0) as u8);
        0
    }),
    function!("IoGetStackLimits", 2, Any, |_, call| {
        let (low, high) = call.stack_limits();
        put::<u64>(call.arg(0), low);
        put::<u64>(call.arg(1), high);
        0
    }),
    function!("IoGetRemainingStackSize", 0, Any, |_, call| call.stack_pointer() - call.stack_limits().0),
    function!("IoCsqInitialize", 7, Any, |_, call| csq_initialize(call, CSQ)),
    function!("IoCsqInitializeEx", 7, Any, |_, call| csq_initialize(call, CSQ_EX)),
    function!("IoCsqInsertIrp", 3, Dispatch, csq_insert),
    function!("IoCsqInsertIrpEx", 4, Dispatch, csq_insert),
    function!("IoCsqRemoveNextIrp", 2, Dispatch, csq_remove_next),
];

/// Offsets in an `IO_CSQ`.
const CSQ_INSERT: u64 = 0x08;
const CSQ_REMOVE: u64 = 0x10;
const CSQ_PEEK: u64 = 0x18;
const CSQ_ACQUIRE: u64 = 0x20;
const CSQ_RELEASE: u64 = 0x28;
const CSQ_COMPLETE: u64 = 0x30;
/// Types of an `IO_CSQ`.
const CSQ: u32 = 1;
const CSQ_EX: u32 = 3;

fn csq_initialize(call: &Call<'_>, kind: u32) -> u64 {
    let csq = call.arg(0);
    put::<u32>(csq, kind);
    for (argument, offset) in
        [CSQ_INSERT, CSQ_REMOVE, CSQ_PEEK, CSQ_ACQUIRE, CSQ_RELEASE, CSQ_COMPLETE].into_iter().enumerate()
    {
        put::<u64>(csq + offset, call.arg(argument + 1));
    }
    0
}

/// Where the level goes that a queue's lock callback returns: below the kernel stack's frames there is no
/// room that a callback may be given, so the machine keeps a word of its own.
fn with_csq_lock<R>(machine: &Machine, csq: u64, work: impl FnOnce() -> R) -> R {
    let level = machine.memory.allocate(8, crate::memory::Use::System("KIRQL"));
    machine.call(get(csq + CSQ_ACQUIRE), &[csq, level]);
    let result = work();
    machine.call(get(csq + CSQ_RELEASE), &[csq, u64::from(get::<u8>(level))]);
    machine.memory.free(level);
    result
}

fn csq_insert(machine: &Machine, call: &Call<'_>) -> u64 {
    let (csq, request, context) = (call.arg(0), call.arg(1), call.arg(3));
    let mut cancelled = false;
    let status = with_csq_lock(machine, csq, || {
        put::<u64>(request + irp::CSQ_CONTEXT, csq);
        IoManager::mark_pending(request);
        let status = if get::<u32>(csq) == CSQ_EX {
            machine.call(get(csq + CSQ_INSERT), &[csq, request, context]) as u32
        } else {
            machine.call(get(csq + CSQ_INSERT), &[csq, request]);
            0
        };
        if status == 0 {
            IoManager::set_cancel(request, Some(csq_cancel_marker()));
            // A request that was cancelled before it came here leaves at once.
            if get::<u8>(request + irp::CANCEL) != 0 && IoManager::set_cancel(request, None) {
                put::<u64>(request + irp::CSQ_CONTEXT, 0);
                machine.call(get(csq + CSQ_REMOVE), &[csq, request]);
                cancelled = true;
            }
        }
        status
    });
    if cancelled {
        machine.call(get(csq + CSQ_COMPLETE), &[csq, request]);
    }
    u64::from(status)
}

fn csq_remove_next(machine: &Machine, call: &Call<'_>) -> u64 {
    let (csq, peek) = (call.arg(0), call.arg(1));
    with_csq_lock(machine, csq, || {
        let mut request = machine.call(get(csq + CSQ_PEEK), &[csq, 0, peek]);
        while request != 0 {
            if IoManager::set_cancel(request, None) {
                put::<u64>(request + irp::CSQ_CONTEXT, 0);
                machine.call(get(csq + CSQ_REMOVE), &[csq, request]);
                return request;
            }
            // Its cancellation is under way and takes it out; look on behind it.
            request = machine.call(get(csq + CSQ_PEEK), &[csq, request, peek]);
        }
        0
    })
}

/// What the cancel routine of a queued request is: the queue's own, which no driver sees.
pub(crate) const fn csq_cancel_marker() -> u64 {
    0xFFFF_F800_0C59_0001
}

/// The cancel routine of a queued request, called with the cancel lock held.
pub(crate) fn csq_cancel(machine: &Machine, request: u64) {
    machine.io.release_cancel_lock(machine, get::<u8>(request + irp::CANCEL_IRQL));
    let csq: u64 = get(request + irp::CSQ_CONTEXT);
    debug_assert!(machine.scheduler.irql() <= DISPATCH, "a cancel routine runs at the level of the cancel");
    if csq == 0 {
        return;
    }
    with_csq_lock(machine, csq, || {
        put::<u64>(request + irp::CSQ_CONTEXT, 0);
        machine.call(get(csq + CSQ_REMOVE), &[csq, request]);
    });
    machine.call(get(csq + CSQ_COMPLETE), &[csq, request]);
}

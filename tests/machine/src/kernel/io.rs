//! `Io…` and `Mm…`: requests, cancel-safe queues, mappings, DMA adapters.
use super::{Call, Function, function};
use crate::bugcheck::code;
use crate::io::IoManager;
use crate::kernel::objects::irp;
use crate::machine::Machine;
use crate::memory::{field, get, put, set};
use crate::sched::DISPATCH;
use ndis_sys::MDL;

pub(super) const FUNCTIONS: &[Function] = &[
    function!("IofCompleteRequest", Dispatch, IoManager(0x0E), |machine, call| {
        machine.io.complete(machine, call.arg(0));
        0
    }),
    function!("IoGetDmaAdapter", Passive, Rule(0x2000E, "IrqlIoPassive5"), super::dma::get_adapter),
    function!("IoAcquireCancelSpinLock", Dispatch, |machine, call| {
        put::<u8>(call.arg(0), machine.io.acquire_cancel_lock(machine));
        0
    }),
    function!("IoReleaseCancelSpinLock", Dispatch, |machine, call| {
        machine.io.release_cancel_lock(machine, call.arg(0) as u8);
        0
    }),
    function!("MmMapLockedPagesSpecifyCache", Dispatch, map_locked_pages),
    function!("IoCsqInitialize", Any, |_, call| csq_initialize(call, CSQ)),
    function!("IoCsqInitializeEx", Any, |_, call| csq_initialize(call, CSQ_EX)),
    function!("IoCsqInsertIrp", Dispatch, csq_insert),
    function!("IoCsqInsertIrpEx", Dispatch, csq_insert),
    function!("IoCsqRemoveNextIrp", Dispatch, csq_remove_next),
];

/// `MDL_MAPPED_TO_SYSTEM_VA`, `MDL_PAGES_LOCKED`.
const MAPPED: i16 = 1;
const LOCKED: i16 = 2;

fn map_locked_pages(machine: &Machine, call: &Call<'_>) -> u64 {
    machine.checked();
    let mdl = call.arg(0);
    let flags = field!(mdl, MDL, MdlFlags, i16);
    if flags & LOCKED == 0 {
        machine.bugcheck(
            code::DRIVER_VERIFIER_DETECTED_VIOLATION,
            [0xB3, mdl, flags as u64, 0],
            "Pages are mapped that are not locked",
        );
    }
    if flags & MAPPED != 0 {
        machine.bugcheck(
            code::DRIVER_VERIFIER_DETECTED_VIOLATION,
            [0xB2, mdl, flags as u64, 0],
            "Pages are mapped that are mapped already",
        );
    }
    if machine.pool_fails() {
        return 0;
    }
    let address = field!(mdl, MDL, StartVa, u64) + u64::from(field!(mdl, MDL, ByteOffset, u32));
    set!(mdl, MDL, MappedSystemVa, address);
    set!(mdl, MDL, MdlFlags, flags | MAPPED);
    address
}

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

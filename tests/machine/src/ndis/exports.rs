//! `NdisF…`: what a filter driver calls about itself, its modules, and the lists and requests in its stack.
use std::cell::Cell;
use std::rc::Rc;

use ndis_sys::{
    NDIS_FILTER_DRIVER_CHARACTERISTICS as Characteristics, NDIS_FILTER_PARTIAL_CHARACTERISTICS as Partial,
    NDIS_OBJECT_TYPE_FILTER_DRIVER_CHARACTERISTICS, NDIS_OBJECT_TYPE_FILTER_PARTIAL_CHARACTERISTICS,
    NDIS_OID_REQUEST as Oid, NDIS_STATUS_BAD_CHARACTERISTICS, NDIS_STATUS_BAD_VERSION,
    NDIS_STATUS_INVALID_OID, NDIS_STATUS_INVALID_PARAMETER, NDIS_STATUS_NOT_SUPPORTED,
    OID_GEN_CURRENT_PACKET_FILTER,
};

use super::lists::{Owner, chain};
use super::module::{DataHandlers, FilterDriver, Handlers, Module, State};
use super::{stack, status};
use crate::bugcheck::{code, contract};
use crate::kernel::{Call, Function, function};
use crate::machine::{Machine, current};
use crate::memory::{field, get, put, set, text};
use crate::sched::DISPATCH;

pub(crate) const FUNCTIONS: &[Function] = &[
    function!("NdisFRegisterFilterDriver", Passive, register),
    function!("NdisFDeregisterFilterDriver", Passive, |machine, call| {
        machine.ndis.deregister(machine, call.arg(0));
        0
    }),
    function!("NdisFSetAttributes", Passive, |machine, call| {
        let module = machine.ndis.module(machine, call.arg(0), "NdisFSetAttributes");
        if module.state.get() != State::Attaching {
            return NDIS_STATUS_INVALID_PARAMETER as u32 as u64;
        }
        module.context.set(call.arg(1));
        module.attributes_set.set(true);
        0
    }),
    function!("NdisFRestartFilter", Dispatch, restart_filter),
    function!("NdisFPauseComplete", Dispatch, pause_complete),
    function!("NdisSetOptionalHandlers", Passive, set_optional_handlers),
    function!("NdisFSendNetBufferLists", Dispatch, send),
    function!("NdisFSendNetBufferListsComplete", Dispatch, send_complete),
    function!("NdisFCancelSendNetBufferLists", Dispatch, cancel_send),
    function!("NdisFOidRequest", Dispatch, oid_request),
    function!("NdisFOidRequestComplete", Dispatch, oid_request_complete),
    function!("NdisFCancelOidRequest", Dispatch, |machine, call| {
        // Miniports of this machine answer at once, so nothing is left to be cancelled.
        machine.ndis.module(machine, call.arg(0), "NdisFCancelOidRequest");
        0
    }),
    function!("NdisFIndicateStatus", Dispatch, |machine, call| {
        let module = machine.ndis.module(machine, call.arg(0), "NdisFIndicateStatus");
        may_indicate(machine, &module, "NdisFIndicateStatus");
        let adapter = module.adapter();
        let at = stack::position(&adapter, &module);
        stack::status_up(machine, &adapter, at + 1, call.arg(1));
        0
    }),
    function!("NdisFNetPnPEvent", Passive, |machine, call| {
        let module = machine.ndis.module(machine, call.arg(0), "NdisFNetPnPEvent");
        // Events from NDIS to a module end here; those on their way through a stack are forwarded by NDIS.
        may_indicate(machine, &module, "NdisFNetPnPEvent");
        0
    }),
    function!("NdisFDevicePnPEventNotify", Passive, |machine, call| {
        machine.ndis.module(machine, call.arg(0), "NdisFDevicePnPEventNotify");
        0
    }),
    function!("NdisGetVersion", Dispatch, |machine, _| u64::from(machine.configuration.ndis_version)),
];

/// `NdisFRegisterFilterDriver`: checks what is registered as NDIS does.
fn register(machine: &Machine, call: &Call<'_>) -> u64 {
    let (object, context, characteristics, out) = (call.arg(0), call.arg(1), call.arg(2), call.arg(3));
    let refused = |status: i32| u64::from(status as u32);
    let kind: u8 = get(characteristics);
    let (revision, size): (u8, u16) = (get(characteristics + 1), get(characteristics + 2));
    let major = field!(characteristics, Characteristics, MajorNdisVersion, u8);
    let minor = u32::from(field!(characteristics, Characteristics, MinorNdisVersion, u8));
    let running = machine.configuration.ndis_version;
    machine.checked();
    if major != 6 || (6 << 16 | minor) > running {
        return refused(NDIS_STATUS_BAD_VERSION);
    }
    let expected: (u8, u16) = match minor {
        0 => (1, 0xC8),
        1..=79 => (2, 0xE0),
        _ => (3, 0xF0),
    };
    // A newer driver may pass an older revision, never one that its version does not have.
    let size_of_revision = match revision {
        1 => 0xC8,
        2 => 0xE0,
        3 => 0xF0,
        _ => 0,
    };
    if kind != NDIS_OBJECT_TYPE_FILTER_DRIVER_CHARACTERISTICS
        || revision > expected.0
        || size < size_of_revision
        || size_of_revision == 0
    {
        return refused(NDIS_STATUS_BAD_CHARACTERISTICS);
    }
    let handlers = Handlers::read(characteristics);
    let mandatory = [handlers.attach, handlers.detach, handlers.restart, handlers.pause];
    let paired = (handlers.data.receive == 0 && handlers.data.receive_return == 0 || handlers.status != 0)
        && (handlers.oid_request_complete == 0 || handlers.oid_request != 0);
    let unique = characteristics + std::mem::offset_of!(Characteristics, UniqueName) as u64;
    let service = characteristics + std::mem::offset_of!(Characteristics, ServiceName) as u64;
    if mandatory.contains(&0) || !paired || text(unique).is_empty() || text(service).is_empty() {
        return refused(NDIS_STATUS_BAD_CHARACTERISTICS);
    }
    let handle = machine.ndis.new_handle();
    put(out, handle);
    let driver = FilterDriver { handle, object, context, handlers, registered: Cell::new(true) };
    machine.ndis.drivers.borrow_mut().push(Rc::new(driver));
    if handlers.set_options != 0 {
        let result = machine.call(handlers.set_options, &[handle, context]);
        if result as i32 != status::SUCCESS {
            machine.ndis.drivers.borrow_mut().retain(|driver| driver.handle != handle);
            return result;
        }
    }
    0
}

fn restart_filter(machine: &Machine, call: &Call<'_>) -> u64 {
    let module = machine.ndis.module(machine, call.arg(0), "NdisFRestartFilter");
    if module.state.get() == State::Attaching {
        return NDIS_STATUS_INVALID_PARAMETER as u32 as u64;
    }
    if machine.pool_fails() {
        return ndis_sys::NDIS_STATUS_RESOURCES as u32 as u64;
    }
    let adapter = module.adapter();
    // One restart that has not begun serves everybody who asked for it.
    if adapter.restart_queued.borrow().contains(&module.handle) {
        return 0;
    }
    adapter.restart_queued.borrow_mut().push(module.handle);
    let ticket = adapter.ticket();
    let handle = module.handle;
    machine.spawn(&format!("NDIS restarts adapter {}", adapter.index), move || {
        adapter.exclusively_with(ticket, || {
            let machine = current();
            let asked = adapter.restart_queued.borrow().contains(&handle);
            if asked && adapter.is_present() {
                stack::pause(machine, &adapter, ndis_sys::NDIS_PAUSE_FILTER_RESTART_STACK);
                stack::restart(machine, &adapter);
            }
            adapter.restart_queued.borrow_mut().retain(|queued| *queued != handle);
        });
    });
    0
}

fn pause_complete(machine: &Machine, call: &Call<'_>) -> u64 {
    let module = machine.ndis.module(machine, call.arg(0), "NdisFPauseComplete");
    machine.checked();
    if module.pause_completed.get() && module.state.get() == State::Pausing {
        machine.bugcheck(
            code::DRIVER_VERIFIER_DETECTED_VIOLATION,
            [0x92010, module.handle, 1, 0],
            "NdisFPauseComplete is called twice for one pause (rule NdisFilterTimedPauseComplete)",
        );
    }
    if module.state.get() != State::Pausing {
        machine.contract(
            contract::PAUSE_COMPLETE_WITHOUT_PAUSE,
            [module.handle, module.state.get() as u64, 0],
            format!("NdisFPauseComplete is called for a module that is {:?}", module.state.get()),
            Vec::new(),
        );
    }
    stack::check_nothing_out(machine, &module, "NdisFPauseComplete is called");
    module.pause_completed.set(true);
    0
}

fn set_optional_handlers(machine: &Machine, call: &Call<'_>) -> u64 {
    let (handle, handlers) = (call.arg(0), call.arg(1));
    let module = machine.ndis.module(machine, handle, "NdisSetOptionalHandlers");
    machine.checked();
    if get::<u8>(handlers) != NDIS_OBJECT_TYPE_FILTER_PARTIAL_CHARACTERISTICS {
        return NDIS_STATUS_NOT_SUPPORTED as u32 as u64;
    }
    if !module.in_options.get() {
        machine.contract(
            contract::INVALID_OBJECT,
            [handle, 0, 0],
            "NdisSetOptionalHandlers is called outside FilterSetModuleOptions",
            Vec::new(),
        );
    }
    let data = DataHandlers {
        send: field!(handlers, Partial, SendNetBufferListsHandler, u64),
        send_complete: field!(handlers, Partial, SendNetBufferListsCompleteHandler, u64),
        cancel_send: field!(handlers, Partial, CancelSendNetBufferListsHandler, u64),
        receive: field!(handlers, Partial, ReceiveNetBufferListsHandler, u64),
        receive_return: field!(handlers, Partial, ReturnNetBufferListsHandler, u64),
    };
    let needs = [
        (
            data.send != 0 && data.send_complete == 0,
            "FilterSendNetBufferLists without its completion handler",
        ),
        (
            data.receive != 0 && data.receive_return == 0,
            "FilterReceiveNetBufferLists without its return handler",
        ),
        (
            (data.receive != 0 || data.receive_return != 0) && module.driver.handlers.status == 0,
            "receive handlers without FilterStatus",
        ),
    ];
    if let Some((_, text)) = needs.iter().find(|(broken, _)| *broken) {
        machine.contract(
            contract::MISSING_HANDLER,
            [handle, 0, 0],
            format!("A module sets {text}"),
            Vec::new(),
        );
    }
    module.data.set(data);
    0
}

/// A flag that says `DISPATCH_LEVEL` has to be true.
fn check_dispatch_flag(machine: &Machine, flags: u64, name: &str) {
    machine.checked();
    let irql = machine.scheduler.irql();
    if flags & 1 != 0 && irql != DISPATCH {
        machine.contract(
            contract::IRQL,
            [u64::from(irql), flags, 0],
            format!("{name} is called with the flag for DISPATCH_LEVEL at IRQL {irql}"),
            Vec::new(),
        );
    }
}

fn send(machine: &Machine, call: &Call<'_>) -> u64 {
    let module = machine.ndis.module(machine, call.arg(0), "NdisFSendNetBufferLists");
    check_dispatch_flag(machine, call.arg(3), "NdisFSendNetBufferLists");
    check_no_locks(machine, "NdisFSendNetBufferLists");
    let lists = stack::check_sent(machine, &module, call.arg(1));
    let adapter = module.adapter();
    let from = stack::position(&adapter, &module);
    stack::send_down(machine, &adapter, from, &lists, call.arg(2), call.arg(3));
    0
}

/// NDIS may complete inside a send call, and calls the driver back: with a lock held that is a deadlock.
fn check_no_locks(machine: &Machine, name: &str) {
    machine.checked();
    if let Some(lock) = machine.scheduler.locks_held().first() {
        machine.contract(
            contract::LOCK_ACROSS_NDIS,
            [*lock, 0, 0],
            format!("{name} is called with a spin lock held: NDIS may complete inside the call"),
            Vec::new(),
        );
    }
}

fn send_complete(machine: &Machine, call: &Call<'_>) -> u64 {
    let module = machine.ndis.module(machine, call.arg(0), "NdisFSendNetBufferListsComplete");
    check_dispatch_flag(machine, call.arg(2), "NdisFSendNetBufferListsComplete");
    let lists = chain(machine, call.arg(1));
    for list in &lists {
        machine.checked();
        let owner = machine.ndis.lists.owner(*list);
        let source = field!(*list, ndis_sys::NET_BUFFER_LIST, SourceHandle, u64);
        if source == module.handle || owner != Some(Owner::Module(module.handle)) {
            machine.contract(
                contract::NBL_NOT_OWNED_AT_COMPLETE,
                [*list, module.handle, source],
                format!("A list is completed by a module that originated it or does not own it (completed twice?); owner: {owner:?}"),
                machine.ndis.lists.history(*list),
            );
        }
        machine.ndis.lists.give(
            machine,
            *list,
            Owner::Ndis,
            "completed with NdisFSendNetBufferListsComplete",
        );
    }
    let adapter = module.adapter();
    let above = stack::position(&adapter, &module) + 1;
    stack::complete_up(machine, &adapter, above, &lists);
    0
}

fn cancel_send(machine: &Machine, call: &Call<'_>) -> u64 {
    let module = machine.ndis.module(machine, call.arg(0), "NdisFCancelSendNetBufferLists");
    let adapter = module.adapter();
    let at = stack::position(&adapter, &module);
    let lower: Vec<Rc<Module>> = adapter.modules.borrow().iter().take(at).rev().cloned().collect();
    for module in lower {
        let handler = module.data.get().cancel_send;
        if handler != 0 {
            machine.call(handler, &[module.context.get(), call.arg(1)]);
            return 0;
        }
    }
    adapter.cancel(machine, call.arg(1));
    0
}

/// A module may indicate and request in every state but the first and the last.
fn may_indicate(machine: &Machine, module: &Module, name: &str) {
    machine.checked();
    if matches!(module.state.get(), State::Attaching | State::Detached) {
        machine.contract(
            contract::SEND_WHILE_NOT_RUNNING,
            [module.handle, 0, module.state.get() as u64],
            format!("{name} is called by a module that is {:?}", module.state.get()),
            Vec::new(),
        );
    }
}

fn oid_request(machine: &Machine, call: &Call<'_>) -> u64 {
    let module = machine.ndis.module(machine, call.arg(0), "NdisFOidRequest");
    may_indicate(machine, &module, "NdisFOidRequest");
    let request = call.arg(1);
    if get::<u8>(request) != ndis_sys::NDIS_OBJECT_TYPE_OID_REQUEST {
        return NDIS_STATUS_INVALID_PARAMETER as u32 as u64;
    }
    let adapter = module.adapter();
    let at = stack::position(&adapter, &module);
    let lower = adapter
        .modules
        .borrow()
        .iter()
        .take(at)
        .rev()
        .find(|module| module.driver.handlers.oid_request != 0)
        .cloned();
    match lower {
        Some(lower) => machine.call(lower.driver.handlers.oid_request, &[lower.context.get(), request]),
        None => u64::from(miniport_oid(request) as u32),
    }
}

/// The miniport's OID handler: it knows the packet filter.
pub(crate) fn miniport_oid(request: u64) -> i32 {
    let oid = field!(request, Oid, DATA.QUERY_INFORMATION.Oid, u32);
    let buffer = field!(request, Oid, DATA.QUERY_INFORMATION.InformationBuffer, u64);
    let length = field!(request, Oid, DATA.QUERY_INFORMATION.InformationBufferLength, u32);
    if oid != OID_GEN_CURRENT_PACKET_FILTER {
        return NDIS_STATUS_INVALID_OID;
    }
    if length < 4 {
        set!(request, Oid, DATA.QUERY_INFORMATION.BytesNeeded, 4u32);
        return ndis_sys::NDIS_STATUS_BUFFER_TOO_SHORT;
    }
    put::<u32>(buffer, 0x2B);
    set!(request, Oid, DATA.QUERY_INFORMATION.BytesWritten, 4u32);
    status::SUCCESS
}

fn oid_request_complete(machine: &Machine, call: &Call<'_>) -> u64 {
    let module = machine.ndis.module(machine, call.arg(0), "NdisFOidRequestComplete");
    let pending = module.oid.borrow_mut().take();
    machine.checked();
    match pending {
        Some((request, done)) if request == call.arg(1) => done.set(Some(call.arg(2) as i32)),
        _ => machine.bugcheck(
            code::DRIVER_VERIFIER_DETECTED_VIOLATION,
            [0x91002, call.arg(1), 0, 0],
            "An OID request is completed that is not pending (rule NdisOidDoubleComplete)",
        ),
    }
    0
}

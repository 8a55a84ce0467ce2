//! `NdisF…`: what a filter driver calls about itself, its modules, and the lists and requests in its stack.
use std::cell::Cell;
use std::rc::Rc;

use ndis_sys::{
    NDIS_FILTER_DRIVER_CHARACTERISTICS as Characteristics, NDIS_FILTER_PARTIAL_CHARACTERISTICS as Partial,
    NDIS_OBJECT_TYPE_FILTER_DRIVER_CHARACTERISTICS, NDIS_OBJECT_TYPE_FILTER_PARTIAL_CHARACTERISTICS,
    NDIS_STATUS_BAD_CHARACTERISTICS, NDIS_STATUS_BAD_VERSION, NDIS_STATUS_INDICATION as Indication,
    NDIS_STATUS_INVALID_PARAMETER, NDIS_STATUS_NOT_SUPPORTED, NET_PNP_EVENT_NOTIFICATION as Notification,
};

use super::lists::{Owner, chain};
use super::module::{DataHandlers, FilterDriver, Handlers, Module, State};
use super::{stack, status};
use crate::kernel::{Call, Function, function};
use crate::machine::{Machine, current};
use crate::memory::{field, get, put, text};
use crate::rule;
use crate::sched::DISPATCH;

pub(crate) const FUNCTIONS: &[Function] = &[
    function!("NdisFRegisterFilterDriver", 4, Passive, register),
    function!("NdisFDeregisterFilterDriver", 1, Passive, |machine, call| {
        machine.ndis.deregister(machine, call.arg(0));
        0
    }),
    function!("NdisFSetAttributes", 3, Passive, |machine, call| {
        let module = machine.ndis.module(machine, call.arg(0), "NdisFSetAttributes");
        if module.state.get() != State::Attaching {
            return NDIS_STATUS_INVALID_PARAMETER as u32 as u64;
        }
        let size = ndis_sys::NDIS_SIZEOF_FILTER_ATTRIBUTES_REVISION_1;
        check_header(machine, module.handle, call.arg(2), ndis_sys::NDIS_OBJECT_TYPE_FILTER_ATTRIBUTES, size);
        module.context.set(call.arg(1));
        module.attributes_set.set(true);
        0
    }),
    function!("NdisFRestartFilter", 1, Dispatch, restart_filter),
    function!("NdisFPauseComplete", 1, Dispatch, pause_complete),
    function!("NdisFRestartComplete", 2, Passive, restart_complete),
    function!("NdisSetOptionalHandlers", 2, Passive, set_optional_handlers),
    function!("NdisFSendNetBufferLists", 4, Dispatch, send),
    function!("NdisFSendNetBufferListsComplete", 3, Dispatch, send_complete),
    function!("NdisFCancelSendNetBufferLists", 2, Dispatch, cancel_send),
    function!("NdisFIndicateStatus", 2, Dispatch, indicate_status),
    function!("NdisFNetPnPEvent", 2, Passive, net_pnp_event),
    function!("NdisFDevicePnPEventNotify", 2, Passive, |machine, call| {
        let module = machine.ndis.module(machine, call.arg(0), "NdisFDevicePnPEventNotify");
        stack::may_indicate(machine, &module, "NdisFDevicePnPEventNotify");
        let adapter = module.adapter();
        let at = stack::position(&adapter, &module);
        stack::device_event_down(machine, &adapter, at, call.arg(1));
        0
    }),
    function!("NdisFGetOptionalSwitchHandlers", 3, Dispatch, |_, _| u64::from(
        NDIS_STATUS_NOT_SUPPORTED as u32
    )),
];

/// A structure for NDIS says what it is, and has the size of its revision at least.
pub(super) fn check_header(machine: &Machine, handle: u64, structure: u64, kind: u8, size: u16) {
    machine.checked();
    let (found, found_size): (u8, u16) = (get(structure), get(structure + 2));
    if found != kind || found_size < size {
        let text = format!("A structure for NDIS has the header {found:#x}, {found_size:#x} bytes");
        machine.stop(&rule::OBJECT_HEADER, [handle, structure, 0], text);
    }
}

/// `NdisFIndicateStatus`: of its own, or of what is below.
fn indicate_status(machine: &Machine, call: &Call<'_>) -> u64 {
    let module = machine.ndis.module(machine, call.arg(0), "NdisFIndicateStatus");
    stack::may_indicate(machine, &module, "NdisFIndicateStatus");
    let indication = call.arg(1);
    let size = ndis_sys::NDIS_SIZEOF_STATUS_INDICATION_REVISION_1;
    check_header(machine, module.handle, indication, ndis_sys::NDIS_OBJECT_TYPE_STATUS_INDICATION, size);
    let bytes = field!(indication, Indication, StatusBufferSize, u32);
    if bytes != 0 && field!(indication, Indication, StatusBuffer, u64) == 0 {
        let text = format!("A status indication says {bytes} bytes and has no buffer");
        machine.stop(&rule::STATUS_BUFFER, [0, module.handle, indication], text);
    }
    let source = field!(indication, Indication, SourceHandle, u64);
    if source != module.handle && !stack::is_source(machine, source) {
        let text = "The SourceHandle of a status indication is nobody's";
        machine.stop(&rule::STATUS_SOURCE, [indication, source, module.handle], text);
    }
    let adapter = module.adapter();
    let at = stack::position(&adapter, &module);
    stack::status_up(machine, &adapter, at + 1, indication);
    0
}

/// `NdisFNetPnPEvent`: an event goes on down the stack.
fn net_pnp_event(machine: &Machine, call: &Call<'_>) -> u64 {
    let module = machine.ndis.module(machine, call.arg(0), "NdisFNetPnPEvent");
    stack::may_indicate(machine, &module, "NdisFNetPnPEvent");
    let notification = call.arg(1);
    let event = field!(notification, Notification, NetPnPEvent.NetEvent, i32);
    // The last event that there is, and the ones that are NDIS's to send to a filter only.
    if !(0..=22).contains(&event) {
        let text = format!("A PnP event is passed on that is none: {event}");
        machine.stop(&rule::NET_PNP_EVENT, [module.handle, notification, 0], text);
    }
    let adapter = module.adapter();
    let at = stack::position(&adapter, &module);
    stack::net_event_down(machine, &adapter, at, notification) as u64
}

fn restart_complete(machine: &Machine, call: &Call<'_>) -> u64 {
    let module = machine.ndis.module(machine, call.arg(0), "NdisFRestartComplete");
    machine.checked();
    if module.state.get() != State::Restarting || module.restart_completed.get().is_some() {
        let text = format!("NdisFRestartComplete is called for a module that is {:?}", module.state.get());
        machine.stop(&rule::RESTART_UNASKED, [module.handle, module.state.get() as u64, 0], text);
    }
    let result = call.arg(1) as i32;
    module.restart_completed.set(Some(result));
    if result == status::SUCCESS {
        // The module runs before this returns; the rest of the stack follows.
        module.state.set(State::Running);
    }
    0
}

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
    let handlers = Handlers::read(characteristics, revision);
    let mandatory = [handlers.attach, handlers.detach, handlers.restart, handlers.pause];
    let paired = (handlers.data.receive == 0 && handlers.data.receive_return == 0 || handlers.status != 0)
        && (handlers.oid.complete == 0 || handlers.oid.request != 0);
    let unique = characteristics + std::mem::offset_of!(Characteristics, UniqueName) as u64;
    let service = characteristics + std::mem::offset_of!(Characteristics, ServiceName) as u64;
    if mandatory.contains(&0) || !paired || text(unique).is_empty() || text(service).is_empty() {
        return refused(NDIS_STATUS_BAD_CHARACTERISTICS);
    }
    let handle = machine.ndis.new_handle();
    put(out, handle);
    let flags = field!(characteristics, Characteristics, Flags, u32);
    let mandatory = flags & ndis_sys::NDIS_FILTER_DRIVER_MANDATORY != 0;
    let driver = FilterDriver { handle, object, context, handlers, registered: Cell::new(true), mandatory };
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
                // Whoever asks while it goes on asks for another.
                stack::restart(machine, &adapter);
            } else {
                adapter.restart_queued.borrow_mut().retain(|queued| *queued != handle);
            }
        });
    });
    0
}

fn pause_complete(machine: &Machine, call: &Call<'_>) -> u64 {
    let module = machine.ndis.module(machine, call.arg(0), "NdisFPauseComplete");
    machine.checked();
    if module.pause_completed.get() && module.state.get() == State::Pausing {
        let text = "NdisFPauseComplete is called twice for one pause (rule NdisFilterTimedPauseComplete)";
        machine.stop(&rule::PAUSE, [module.handle, 1, 0], text);
    }
    if module.state.get() != State::Pausing {
        let text = format!("NdisFPauseComplete is called for a module that is {:?}", module.state.get());
        machine.stop(&rule::PAUSE_UNASKED, [module.handle, module.state.get() as u64, 0], text);
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
        let text = "NdisSetOptionalHandlers is called outside FilterSetModuleOptions";
        machine.stop(&rule::OPTIONS, [handle, 0, 0], text);
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
        machine.stop(&rule::MISSING_HANDLER, [handle, 0, 0], format!("A module sets {text}"));
    }
    module.data.set(data);
    0
}

/// A flag that says `DISPATCH_LEVEL` has to be true.
pub(super) fn check_dispatch_flag(machine: &Machine, flags: u64, name: &str) {
    machine.checked();
    let irql = machine.scheduler.irql();
    if flags & 1 != 0 && irql != DISPATCH {
        let text = format!("{name} is called with the flag for DISPATCH_LEVEL at IRQL {irql}");
        machine.stop(&rule::DISPATCH_FLAG, [u64::from(irql), flags, 0], text);
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
pub(super) fn check_no_locks(machine: &Machine, name: &str) {
    machine.checked();
    if let Some(lock) = machine.scheduler.this().spin_lock() {
        let text = format!("{name} is called with a spin lock held: NDIS may complete inside the call");
        machine.stop(&rule::LOCK_ACROSS_NDIS, [lock, 0, 0], text);
    }
}

fn send_complete(machine: &Machine, call: &Call<'_>) -> u64 {
    let module = machine.ndis.module(machine, call.arg(0), "NdisFSendNetBufferListsComplete");
    check_dispatch_flag(machine, call.arg(2), "NdisFSendNetBufferListsComplete");
    let lists = chain(machine, call.arg(1));
    for list in &lists {
        machine.checked();
        let owner = machine.ndis.lists.owner(*list);
        let own = machine.ndis.lists.home(*list) == Some(Owner::Module(module.handle));
        if own || owner != Some(Owner::Module(module.handle)) {
            let text = format!(
                "A list is completed by a module that originated it or does not own it (completed twice?); owner: {owner:?}"
            );
            machine.stop_about(&rule::COMPLETE_NOT_OWNED, [2, *list, module.handle, 0], text, *list);
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

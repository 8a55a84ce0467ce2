//! A filter stack: attaching, pausing, restarting and detaching it, and the way of lists through it.
use std::rc::Rc;

use ndis_sys::{
    NDIS_FILTER_ATTACH_PARAMETERS as Attach, NDIS_FILTER_PAUSE_PARAMETERS as Pause,
    NDIS_FILTER_RESTART_PARAMETERS as Restart, NDIS_OID_REQUEST as Request,
    NDIS_RESTART_ATTRIBUTES as Attributes, NDIS_RESTART_GENERAL_ATTRIBUTES as General, NET_BUFFER_LIST,
    NET_PNP_EVENT_NOTIFICATION as Notification, NetEventFilterPreDetach,
};

use super::adapter::{Adapter, PauseRecord, State as AdapterState};
use super::lists::{self, Owner, chain, link};
use super::module::{FilterDriver, Module, State};
use super::{Ndis, status};
use crate::bugcheck::{code, contract};
use crate::machine::{Machine, current};
use crate::memory::{Use, field, set};
use crate::sched::DISPATCH;

/// Driver Verifier's limit for a pause (rule NdisFilterTimedPauseComplete): 10 s, in 100 ns.
const PAUSE_LIMIT: u64 = 10 * 10_000_000;

impl Ndis {
    /// A driver has registered and returned from `DriverEntry`: NDIS attaches it to every adapter.
    pub(crate) fn driver_loaded(&self, object: u64) {
        let machine = current();
        let found = self.drivers.borrow().iter().find(|driver| driver.object == object).cloned();
        let Some(driver) = found else { return };
        for adapter in self.adapters() {
            adapter.exclusively(|| {
                if adapter.is_present() {
                    pause(machine, &adapter, ndis_sys::NDIS_PAUSE_ATTACH_FILTER);
                    attach(machine, &adapter, &driver);
                    restart(machine, &adapter);
                }
            });
        }
    }

    /// A driver is about to be unloaded: NDIS detaches its modules and restarts the rest.
    pub(crate) fn detach_driver(&self, object: u64) {
        let machine = current();
        for adapter in self.adapters() {
            adapter.exclusively(|| {
                let own: Vec<Rc<Module>> = adapter
                    .modules
                    .borrow()
                    .iter()
                    .filter(|module| module.driver.object == object)
                    .cloned()
                    .collect();
                if own.is_empty() {
                    return;
                }
                pause(machine, &adapter, ndis_sys::NDIS_PAUSE_DETACH_FILTER);
                for module in own.iter().rev() {
                    detach(machine, &adapter, module);
                }
                restart(machine, &adapter);
            });
        }
    }

    /// `NdisFDeregisterFilterDriver`.
    pub(crate) fn deregister(&self, machine: &Machine, handle: u64) {
        machine.checked();
        let found = self.drivers.borrow().iter().find(|driver| driver.handle == handle).cloned();
        let Some(driver) = found.filter(|driver| driver.registered.get()) else {
            machine.contract(
                contract::INVALID_OBJECT,
                [handle, 0, 0],
                "A filter driver is deregistered that is not registered",
                Vec::new(),
            );
            return;
        };
        self.detach_driver(driver.object);
        driver.registered.set(false);
    }

    /// Looks for what a driver that is being unloaded has left with NDIS.
    pub(crate) fn check_unload(&self, object: u64) {
        let machine = current();
        machine.checked();
        let registered =
            self.drivers.borrow().iter().any(|driver| driver.object == object && driver.registered.get());
        if registered {
            machine.contract(
                contract::NOT_DEREGISTERED,
                [object, 0, 0],
                "A filter driver is unloaded without NdisFDeregisterFilterDriver",
                Vec::new(),
            );
        }
        self.drivers.borrow_mut().retain(|driver| driver.object != object);
        let pools = self.lists.pools_left();
        let left = self.support.left();
        let buffers = machine.dma.buffers_left();
        if pools + left + buffers != 0 {
            machine.bugcheck(
                code::DRIVER_VERIFIER_DETECTED_VIOLATION,
                [0x62, object, 0, (pools + left + buffers) as u64],
                format!("The driver is unloaded and leaves {pools} list pools, {left} timers, MDLs or clones, {buffers} common buffers"),
            );
        }
    }
}

/// Attaches a module on top of the stack.
fn attach(machine: &Machine, adapter: &Rc<Adapter>, driver: &Rc<FilterDriver>) {
    let ndis = &machine.ndis;
    let module = Rc::new(Module::new(ndis.new_handle(), driver.clone(), adapter));
    ndis.modules.borrow_mut().insert(module.handle, module.clone());
    adapter.modules.borrow_mut().push(module.clone());
    let parameters = attach_parameters(machine, adapter, &module);
    let result = machine.call(driver.handlers.attach, &[module.handle, driver.context, parameters]) as i32;
    machine.memory.free(parameters);
    after_callback(machine, "FilterAttach", 0);
    machine.checked();
    if result == status::SUCCESS {
        if !module.attributes_set.get() {
            machine.contract(
                contract::INVALID_OBJECT,
                [module.handle, 0, 0],
                "FilterAttach succeeded without NdisFSetAttributes",
                Vec::new(),
            );
        }
        module.state.set(State::Paused);
    } else {
        forget(machine, adapter, &module);
    }
}

fn forget(machine: &Machine, adapter: &Adapter, module: &Module) {
    module.state.set(State::Detached);
    adapter.modules.borrow_mut().retain(|other| other.handle != module.handle);
    machine.ndis.modules.borrow_mut().remove(&module.handle);
    machine.ndis.stale.borrow_mut().insert(module.handle);
}

fn attach_parameters(machine: &Machine, adapter: &Adapter, module: &Module) -> u64 {
    let parameters =
        machine.memory.allocate(size_of::<Attach>() as u64, Use::System("NDIS_FILTER_ATTACH_PARAMETERS"));
    header(
        parameters,
        ndis_sys::NDIS_OBJECT_TYPE_FILTER_ATTACH_PARAMETERS,
        ndis_sys::NDIS_FILTER_ATTACH_PARAMETERS_REVISION_4,
        ndis_sys::NDIS_SIZEOF_FILTER_ATTACH_PARAMETERS_REVISION_4,
    );
    let index = adapter.index as u32;
    let name = machine.unicode_string(&format!("{}-{:04}", adapter.guid(), module.handle >> 12 & 0xFFF));
    set!(parameters, Attach, IfIndex, 100 + index);
    set!(parameters, Attach, NetLuid, 0x0006_0000_0100_0000_u64 + u64::from(index));
    set!(parameters, Attach, FilterModuleGuidName, name);
    set!(parameters, Attach, BaseMiniportIfIndex, 10 + index);
    set!(parameters, Attach, BaseMiniportInstanceName, machine.unicode_string(&adapter.settings.name));
    set!(
        parameters,
        Attach,
        BaseMiniportName,
        machine.unicode_string(&format!("\\DEVICE\\{}", adapter.guid()))
    );
    set!(parameters, Attach, MediaConnectState, ndis_sys::MediaConnectStateConnected);
    set!(parameters, Attach, MediaDuplexState, ndis_sys::MediaDuplexStateFull);
    set!(parameters, Attach, XmitLinkSpeed, 1_000_000_000_u64);
    set!(parameters, Attach, RcvLinkSpeed, 1_000_000_000_u64);
    set!(parameters, Attach, MiniportMediaType, ndis_sys::NdisMedium802_3);
    set!(parameters, Attach, MiniportPhysicalMediaType, ndis_sys::NdisPhysicalMedium802_3);
    set!(parameters, Attach, MacAddressLength, 6u16);
    set!(parameters, Attach, CurrentMacAddress, adapter.mac());
    set!(parameters, Attach, BaseMiniportNetLuid, 0x0006_0000_0000_0000_u64 + u64::from(index));
    set!(parameters, Attach, LowerIfIndex, 10 + index);
    set!(
        parameters,
        Attach,
        MiniportPhysicalDeviceObject,
        if adapter.settings.dma { adapter.physical_device() } else { 0 }
    );
    set!(parameters, Attach, BaseMiniportIfConnectorPresent, 1u8);
    parameters
}

fn header(structure: u64, kind: u8, revision: u8, size: u16) {
    crate::memory::put::<u8>(structure, kind);
    crate::memory::put::<u8>(structure + 1, revision);
    crate::memory::put::<u16>(structure + 2, size);
}

/// What must hold when a callback at `PASSIVE_LEVEL` returns.
fn after_callback(machine: &Machine, name: &str, before: u8) {
    machine.checked();
    let after = machine.scheduler.irql();
    if after != before {
        machine.contract(
            contract::IRQL_ON_RETURN,
            [u64::from(before), u64::from(after), 0],
            format!("{name} returned at IRQL {after}; it was called at {before}"),
            Vec::new(),
        );
    }
    if let Some(lock) = machine.scheduler.locks_held().first() {
        machine.bugcheck(
            code::DRIVER_VERIFIER_DETECTED_VIOLATION,
            [0x40009, *lock, 0, 0],
            format!("{name} returned holding a spin lock (rule SpinLock)"),
        );
    }
}

/// Pauses a stack: the protocol, the filters from the top down, the miniport.
pub(crate) fn pause(machine: &Machine, adapter: &Rc<Adapter>, reason: u32) {
    adapter.protocol_running.set(false);
    let host = adapter.clone();
    machine.scheduler.wait("the protocol's sends", None, move || host.host_outstanding() == 0);
    let modules = adapter.modules.borrow().clone();
    for module in modules.iter().rev().filter(|module| module.state.get() == State::Running) {
        pause_module(machine, adapter, module, reason);
    }
    if adapter.state() == AdapterState::Running {
        adapter.set_state(AdapterState::Paused);
    }
}

fn pause_module(machine: &Machine, adapter: &Rc<Adapter>, module: &Rc<Module>, reason: u32) {
    let parameters =
        machine.memory.allocate(size_of::<Pause>() as u64, Use::System("NDIS_FILTER_PAUSE_PARAMETERS"));
    header(
        parameters,
        ndis_sys::NDIS_OBJECT_TYPE_FILTER_PAUSE_PARAMETERS,
        ndis_sys::NDIS_FILTER_PAUSE_PARAMETERS_REVISION_1,
        ndis_sys::NDIS_SIZEOF_FILTER_PAUSE_PARAMETERS_REVISION_1,
    );
    set!(parameters, Pause, PauseReason, reason);
    let began = machine.scheduler.now();
    let in_flight = module.out.get();
    module.pause_completed.set(false);
    module.state.set(State::Pausing);
    module.transition_thread.set(machine.scheduler.this().id);
    let result = machine.call(module.driver.handlers.pause, &[module.context.get(), parameters]) as i32;
    machine.memory.free(parameters);
    after_callback(machine, "FilterPause", 0);
    machine.checked();
    match result {
        status::SUCCESS => {
            if module.pause_completed.get() {
                machine.bugcheck(
                    code::DRIVER_VERIFIER_DETECTED_VIOLATION,
                    [0x92010, module.handle, 0, 0],
                    "FilterPause returned success and NdisFPauseComplete was called as well (rule NdisFilterTimedPauseComplete)",
                );
            }
            check_nothing_out(machine, module, "FilterPause returned success");
        }
        status::PENDING => {
            let waited = module.clone();
            let limit = machine.scheduler.now() + PAUSE_LIMIT;
            let completed = machine
                .scheduler
                .wait("NdisFPauseComplete", Some(limit), move || waited.pause_completed.get());
            machine.checked();
            if !completed {
                machine.bugcheck(
                    code::DRIVER_VERIFIER_DETECTED_VIOLATION,
                    [0x92010, module.handle, module.out.get(), 0],
                    format!(
                        "A pause was not completed within 10 s (rule NdisFilterTimedPauseComplete); {} lists are out, the adapter holds some of them: {}",
                        module.out.get(),
                        adapter.holds_of(module.handle)
                    ),
                );
            }
        }
        other => machine.bugcheck(
            code::DRIVER_VERIFIER_DETECTED_VIOLATION,
            [0x92010, module.handle, other as u64, 0],
            "FilterPause failed, which it may not (rule NdisFilterTimedPauseComplete)",
        ),
    }
    module.state.set(State::Paused);
    let microseconds = (machine.scheduler.now() - began) / 10;
    adapter.pauses.borrow_mut().push(PauseRecord { in_flight, microseconds });
}

/// A pause is reported complete: no list of the module may be out.
pub(crate) fn check_nothing_out(machine: &Machine, module: &Module, what: &str) {
    machine.checked();
    let out = module.out.get();
    if out != 0 {
        machine.contract(
            contract::PAUSED_WITH_NBLS_OUT,
            [module.handle, out, 0],
            format!("{what} while {out} lists that the module originated have not come back"),
            Vec::new(),
        );
    }
}

/// Restarts a stack: the miniport, the filters from the bottom up, the protocol.
pub(crate) fn restart(machine: &Machine, adapter: &Rc<Adapter>) {
    if !adapter.is_present() {
        return;
    }
    adapter.set_state(AdapterState::Running);
    adapter.restart_queued.borrow_mut().clear();
    let modules = adapter.modules.borrow().clone();
    for module in &modules {
        let handler = module.driver.handlers.set_module_options;
        if handler != 0 {
            module.in_options.set(true);
            machine.call(handler, &[module.context.get()]);
            module.in_options.set(false);
            after_callback(machine, "FilterSetModuleOptions", 0);
        }
    }
    for module in &modules {
        restart_module(machine, adapter, module);
    }
    adapter.protocol_running.set(true);
}

fn restart_module(machine: &Machine, adapter: &Rc<Adapter>, module: &Rc<Module>) {
    let parameters =
        machine.memory.allocate(size_of::<Restart>() as u64, Use::System("NDIS_FILTER_RESTART_PARAMETERS"));
    header(
        parameters,
        ndis_sys::NDIS_OBJECT_TYPE_FILTER_RESTART_PARAMETERS,
        ndis_sys::NDIS_FILTER_RESTART_PARAMETERS_REVISION_1,
        ndis_sys::NDIS_SIZEOF__FILTER_RESTART_PARAMETERS_REVISION_1,
    );
    let data = std::mem::offset_of!(Attributes, Data) as u64;
    let attributes =
        machine.memory.allocate(data + size_of::<General>() as u64, Use::System("NDIS_RESTART_ATTRIBUTES"));
    set!(attributes, Attributes, Oid, ndis_sys::OID_GEN_MINIPORT_RESTART_ATTRIBUTES);
    set!(
        attributes,
        Attributes,
        DataLength,
        u32::from(ndis_sys::NDIS_SIZEOF_RESTART_GENERAL_ATTRIBUTES_REVISION_2)
    );
    let general = attributes + data;
    header(
        general,
        ndis_sys::NDIS_OBJECT_TYPE_RESTART_GENERAL_ATTRIBUTES,
        ndis_sys::NDIS_RESTART_GENERAL_ATTRIBUTES_REVISION_2,
        ndis_sys::NDIS_SIZEOF_RESTART_GENERAL_ATTRIBUTES_REVISION_2,
    );
    set!(general, General, MtuSize, adapter.mtu.get());
    set!(general, General, DataBackFillSize, adapter.settings.backfill);
    set!(parameters, Restart, MiniportMediaType, ndis_sys::NdisMedium802_3);
    set!(parameters, Restart, RestartAttributes, attributes);
    module.state.set(State::Restarting);
    module.transition_thread.set(machine.scheduler.this().id);
    let result = machine.call(module.driver.handlers.restart, &[module.context.get(), parameters]) as i32;
    machine.memory.free(parameters);
    machine.memory.free(attributes);
    after_callback(machine, "FilterRestart", 0);
    if result == status::SUCCESS {
        module.state.set(State::Running);
    } else {
        module.state.set(State::Paused);
        detach(machine, adapter, module);
    }
}

/// Detaches a paused module.
fn detach(machine: &Machine, adapter: &Rc<Adapter>, module: &Rc<Module>) {
    let event = module.driver.handlers.net_pnp_event;
    if event != 0 {
        let notification = machine
            .memory
            .allocate(size_of::<Notification>() as u64, Use::System("NET_PNP_EVENT_NOTIFICATION"));
        header(
            notification,
            ndis_sys::NDIS_OBJECT_TYPE_DEFAULT,
            ndis_sys::NET_PNP_EVENT_NOTIFICATION_REVISION_2,
            ndis_sys::NDIS_SIZEOF_NET_PNP_EVENT_NOTIFICATION_REVISION_2,
        );
        set!(notification, Notification, NetPnPEvent.NetEvent, NetEventFilterPreDetach);
        machine.call(event, &[module.context.get(), notification]);
        machine.memory.free(notification);
        after_callback(machine, "FilterNetPnPEvent", 0);
    }
    machine.checked();
    let out = module.out.get();
    if out != 0 {
        machine.leaked_lists(module.handle, out);
    }
    machine.call(module.driver.handlers.detach, &[module.context.get()]);
    after_callback(machine, "FilterDetach", 0);
    forget(machine, adapter, module);
}

/// Tears a stack down: pause, detach from the top down, halt.
pub(crate) fn tear_down(machine: &Machine, adapter: &Rc<Adapter>, end: AdapterState) {
    if !adapter.is_present() {
        adapter.set_state(end);
        return;
    }
    pause(machine, adapter, ndis_sys::NDIS_PAUSE_MINIPORT_DEVICE_REMOVE);
    let modules = adapter.modules.borrow().clone();
    for module in modules.iter().rev() {
        detach(machine, adapter, module);
    }
    adapter.set_state(end);
}

/// Brings a stack up: initialise, attach every driver from the bottom up, restart.
pub(crate) fn bring_up(machine: &Machine, adapter: &Rc<Adapter>) {
    if adapter.is_present() {
        return;
    }
    adapter.set_state(AdapterState::Paused);
    let drivers = machine.ndis.drivers.borrow().clone();
    for driver in drivers.iter().filter(|driver| driver.registered.get()) {
        attach(machine, adapter, driver);
    }
    restart(machine, adapter);
}

/// Where a module stands in its stack.
pub(crate) fn position(adapter: &Adapter, module: &Module) -> usize {
    adapter.modules.borrow().iter().position(|other| other.handle == module.handle).unwrap_or(0)
}

/// Sends lists down, from above position `from`.
pub(crate) fn send_down(
    machine: &Machine,
    adapter: &Rc<Adapter>,
    from: usize,
    lists: &[u64],
    port: u64,
    flags: u64,
) {
    let lower = {
        let modules = adapter.modules.borrow();
        modules.iter().take(from).rev().find(|module| module.data.get().send != 0).cloned()
    };
    match lower {
        Some(module) => {
            for list in lists {
                machine.ndis.lists.give(
                    machine,
                    *list,
                    Owner::Module(module.handle),
                    "given to FilterSendNetBufferLists",
                );
            }
            let before = machine.scheduler.irql();
            machine.call(module.data.get().send, &[module.context.get(), link(lists), port, flags]);
            after_callback(machine, "FilterSendNetBufferLists", before);
        }
        None => adapter.transmit(machine, lists),
    }
}

/// Completes lists upwards, to the modules from position `from` on, and to the protocol.
///
/// A module that has a completion handler is given every list that passes it, its own and others', in one
/// chain, as NDIS does; what it does not own it completes further up.
pub(crate) fn complete_up(machine: &Machine, adapter: &Rc<Adapter>, from: usize, lists: &[u64]) {
    if lists.is_empty() {
        return;
    }
    machine.checked();
    let source = |list: u64| field!(list, NET_BUFFER_LIST, SourceHandle, u64);
    if let Some(list) = lists.iter().find(|list| machine.ndis.is_stale(source(**list))) {
        super::stale(machine, source(*list), "NdisMSendNetBufferListsComplete", true);
    }
    let modules: Vec<Rc<Module>> = adapter.modules.borrow().iter().skip(from).cloned().collect();
    for module in modules {
        let own: Vec<u64> = lists.iter().copied().filter(|list| source(*list) == module.handle).collect();
        let handler = module.data.get().send_complete;
        if handler == 0 {
            if !own.is_empty() {
                machine.contract(
                    contract::MISSING_HANDLER,
                    [module.handle, own.len() as u64, 0],
                    "Lists come back to a module without FilterSendNetBufferListsComplete",
                    Vec::new(),
                );
            }
            continue;
        }
        for list in lists {
            machine.ndis.lists.give(
                machine,
                *list,
                Owner::Module(module.handle),
                "given to FilterSendNetBufferListsComplete",
            );
        }
        module.out.set(module.out.get().saturating_sub(own.len() as u64));
        let irql = machine.scheduler.irql();
        let flags = u64::from(irql == DISPATCH);
        machine.call(handler, &[module.context.get(), link(lists), flags]);
        after_callback(machine, "FilterSendNetBufferListsComplete", irql);
        return;
    }
    for list in lists {
        machine.ndis.lists.give(machine, *list, Owner::Protocol(adapter.index), "completed to the protocol");
        adapter.host_completed(machine, *list);
    }
}

/// Checks lists that a module sends.
pub(crate) fn check_sent(machine: &Machine, module: &Module, first: u64) -> Vec<u64> {
    let lists = chain(machine, first);
    let mut originated = 0;
    for list in &lists {
        machine.checked();
        let owner = machine.ndis.lists.owner(*list);
        if owner != Some(Owner::Module(module.handle)) {
            machine.contract(
                contract::NBL_NOT_OWNED_AT_SEND,
                [*list, module.handle, 0],
                format!("A list is sent by a module that does not own it (sent twice?); owner: {owner:?}"),
                machine.ndis.lists.history(*list),
            );
        }
        let source = field!(*list, NET_BUFFER_LIST, SourceHandle, u64);
        if source != module.handle && !is_foreign(machine, source) {
            machine.contract(
                contract::SOURCE_HANDLE,
                [*list, source, module.handle],
                "The SourceHandle of a list is not the handle of the filter that originated it",
                machine.ndis.lists.history(*list),
            );
        }
        originated += u64::from(source == module.handle);
    }
    if originated != 0 {
        check_may_originate(machine, module, originated);
        module.out.set(module.out.get() + originated);
    }
    if module.data.get().send_complete == 0 {
        machine.contract(
            contract::MISSING_HANDLER,
            [module.handle, 0, 0],
            "NdisFSendNetBufferLists is called by a module without FilterSendNetBufferListsComplete",
            Vec::new(),
        );
    }
    for list in &lists {
        machine.ndis.lists.give(machine, *list, Owner::Ndis, "sent with NdisFSendNetBufferLists");
    }
    lists
}

fn is_foreign(machine: &Machine, source: u64) -> bool {
    machine.ndis.modules.borrow().contains_key(&source)
        || machine.ndis.adapters().iter().any(|adapter| lists::protocol_handle(adapter.index) == source)
}

/// A filter originates while it runs. Two moments cannot be told from those just before and after: what it
/// admitted before `FilterPause` was called may arrive while it is pausing, until the pause is complete; and
/// what it admits after `FilterRestart` has opened its gate may arrive before that call has returned. The
/// documents forbid both states; the machine forbids them to the thread that is inside the callback.
fn check_may_originate(machine: &Machine, module: &Module, lists: u64) {
    machine.checked();
    let state = module.state.get();
    let concurrent = module.transition_thread.get() != machine.scheduler.this().id;
    let may = match state {
        State::Running => true,
        State::Pausing => concurrent && !module.pause_completed.get(),
        State::Restarting => concurrent,
        _ => false,
    };
    if !may {
        machine.contract(
            contract::SEND_WHILE_NOT_RUNNING,
            [module.handle, lists, state as u64],
            format!("A module originates {lists} lists while it is {state:?}"),
            Vec::new(),
        );
    }
}

/// Indicates a status to the modules from position `from` on.
pub(crate) fn status_up(machine: &Machine, adapter: &Rc<Adapter>, from: usize, indication: u64) {
    let upper =
        adapter.modules.borrow().iter().skip(from).find(|module| module.driver.handlers.status != 0).cloned();
    if let Some(module) = upper {
        let before = machine.scheduler.irql();
        machine.call(module.driver.handlers.status, &[module.context.get(), indication]);
        after_callback(machine, "FilterStatus", before);
    }
}

/// The protocol queries an OID through the stack, on the running thread: status and answer.
pub(crate) fn query_oid(machine: &Machine, adapter: &Rc<Adapter>, oid: u32) -> (i32, u32) {
    let request = machine.memory.allocate(size_of::<Request>() as u64, Use::System("NDIS_OID_REQUEST"));
    let answer = machine.memory.allocate(4, Use::System("OID buffer"));
    header(
        request,
        ndis_sys::NDIS_OBJECT_TYPE_OID_REQUEST,
        ndis_sys::NDIS_OID_REQUEST_REVISION_2,
        ndis_sys::NDIS_SIZEOF_OID_REQUEST_REVISION_2,
    );
    set!(request, Request, RequestType, ndis_sys::NdisRequestQueryInformation);
    set!(request, Request, DATA.QUERY_INFORMATION.Oid, oid);
    set!(request, Request, DATA.QUERY_INFORMATION.InformationBuffer, answer);
    set!(request, Request, DATA.QUERY_INFORMATION.InformationBufferLength, 4u32);
    let top =
        adapter.modules.borrow().iter().rev().find(|module| module.driver.handlers.oid_request != 0).cloned();
    let status = match top {
        Some(module) => {
            let done = Rc::new(std::cell::Cell::new(None));
            module.oid.replace(Some((request, done.clone())));
            let status =
                machine.call(module.driver.handlers.oid_request, &[module.context.get(), request]) as i32;
            if status == super::status::PENDING {
                let waited = done.clone();
                machine.scheduler.wait("an OID request", None, move || waited.get().is_some());
                done.get().unwrap_or(status)
            } else {
                module.oid.replace(None);
                status
            }
        }
        None => super::exports::miniport_oid(request),
    };
    let value = crate::memory::get(answer);
    machine.memory.free(request);
    machine.memory.free(answer);
    (status, value)
}

//! A filter stack: attaching, pausing, restarting and detaching it, and the way of lists through it.
use std::rc::Rc;

use ndis_sys::{
    NDIS_FILTER_ATTACH_PARAMETERS as Attach, NDIS_FILTER_PAUSE_PARAMETERS as Pause,
    NDIS_FILTER_RESTART_PARAMETERS as Restart, NDIS_RESTART_ATTRIBUTES as Attributes,
    NDIS_RESTART_GENERAL_ATTRIBUTES as General, NDIS_STATUS_INDICATION as Indication, NET_BUFFER,
    NET_BUFFER_LIST, NET_DEVICE_PNP_EVENT as DeviceEvent, NET_PNP_EVENT_NOTIFICATION as Notification,
    NetEventFilterPreDetach,
};

use super::adapter::{Adapter, Attributed, PauseRecord, State as AdapterState};
use super::lists::{self, Owner, chain, link};
use super::module::{FilterDriver, Module, State};
use super::{Ndis, status};
use crate::kernel::after_callback;
use crate::machine::{Machine, current};
use crate::memory::{Use, field, set};
use crate::rule;
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
                    without_oids(machine, &adapter, || attach(machine, &adapter, &driver));
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
                without_oids(machine, &adapter, || {
                    for module in own.iter().rev() {
                        detach(machine, &adapter, module);
                    }
                });
                restart(machine, &adapter);
            });
        }
    }

    /// `NdisFDeregisterFilterDriver`.
    pub(crate) fn deregister(&self, machine: &Machine, handle: u64) {
        machine.checked();
        let found = self.drivers.borrow().iter().find(|driver| driver.handle == handle).cloned();
        let Some(driver) = found.filter(|driver| driver.registered.get()) else {
            let text = "A filter driver is deregistered that is not registered";
            machine.stop(&rule::OBJECT, [handle, 0, 0], text);
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
            let text = "A filter driver is unloaded without NdisFDeregisterFilterDriver";
            machine.stop(&rule::NOT_DEREGISTERED, [object, 0, 0], text);
        }
        self.drivers.borrow_mut().retain(|driver| driver.object != object);
        let pools = self.lists.pools_left();
        let left = self.support.left() + self.services.left() + self.oids.clones_left();
        let buffers = machine.dma.buffers_left();
        // Other drivers may have theirs.
        let last = machine.drivers.borrow().iter().all(|driver| driver.unloaded || driver.object == object);
        if last && pools + left + buffers != 0 {
            let text = format!(
                "The driver is unloaded and leaves {pools} list pools, {left} timers, MDLs, locks, work items or \
                 clones, {buffers} common buffers"
            );
            machine.stop(&rule::OBJECTS_LEFT, [object, 0, (pools + left + buffers) as u64], text);
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
            let text = "FilterAttach succeeded without NdisFSetAttributes";
            machine.stop(&rule::ATTACH_FAILED_STATE, [module.handle, 0, 0], text);
        }
        module.state.set(State::Paused);
    } else {
        forget(machine, adapter, &module);
        // Without a mandatory filter the rest of the stack is of no use: no protocol binds.
        if driver.mandatory {
            adapter.unusable.set(true);
        }
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
    let link = adapter.link_state();
    set!(parameters, Attach, MediaConnectState, link.connected);
    set!(parameters, Attach, MediaDuplexState, ndis_sys::MediaDuplexStateFull);
    set!(parameters, Attach, XmitLinkSpeed, link.speed);
    set!(parameters, Attach, RcvLinkSpeed, link.speed);
    set!(parameters, Attach, MiniportMediaType, adapter.settings.medium);
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

pub(super) fn header(structure: u64, kind: u8, revision: u8, size: u16) {
    crate::memory::put::<u8>(structure, kind);
    crate::memory::put::<u8>(structure + 1, revision);
    crate::memory::put::<u16>(structure + 2, size);
}

/// Pauses a stack: the protocol, the filters from the top down, the miniport.
pub(crate) fn pause(machine: &Machine, adapter: &Rc<Adapter>, reason: u32) {
    adapter.protocol_running.set(false);
    let host = adapter.clone();
    machine.scheduler.wait("the protocol's sends", None, move || host.host_outstanding() == 0);
    adapter.protocol_returns_all(machine);
    let modules = adapter.modules.borrow().clone();
    for module in modules.iter().rev().filter(|module| module.state.get() == State::Running) {
        pause_module(machine, adapter, module, reason);
    }
    if adapter.state() == AdapterState::Running {
        adapter.set_state(AdapterState::Paused);
    }
    adapter.receives_settle(machine);
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
    module.transition_thread.set(machine.scheduler.thread_id());
    let result = machine.call(module.driver.handlers.pause, &[module.context.get(), parameters]) as i32;
    machine.memory.free(parameters);
    after_callback(machine, "FilterPause", 0);
    machine.checked();
    match result {
        status::SUCCESS => {
            if module.pause_completed.get() {
                let text = "FilterPause returned success and NdisFPauseComplete was called as well (rule NdisFilterTimedPauseComplete)";
                machine.stop(&rule::PAUSE, [module.handle, 0, 0], text);
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
                let out = module.out.get() + module.received_out.get();
                let text = format!(
                    "A pause was not completed within 10 s (rule NdisFilterTimedPauseComplete); {out} lists are out, the adapter holds some of them: {}",
                    adapter.holds_of(module.handle)
                );
                machine.stop_with(
                    &rule::PAUSE,
                    [0x92010, module.handle, out, 0],
                    text,
                    lost(machine, module),
                );
            }
        }
        other => machine.stop(
            &rule::PAUSE,
            [module.handle, other as u64, 0],
            "FilterPause failed, which it may not (rule NdisFilterTimedPauseComplete)",
        ),
    }
    module.state.set(State::Paused);
    if machine.ndis.lists.foreign_of(module.handle) != 0 {
        // What passes through at this moment is not kept.
        let (inside, limit) = (module.clone(), machine.scheduler.now() + PAUSE_LIMIT);
        machine.scheduler.wait("calls into the module", Some(limit), move || inside.inside.get() == 0);
    }
    let foreign = machine.ndis.lists.foreign_of(module.handle);
    if foreign != 0 && module.inside.get() == 0 {
        let text = format!("A module is paused and keeps {foreign} lists of others");
        machine.stop(&rule::FOREIGN_KEPT, [module.handle, foreign as u64, 0], text);
    }
    let microseconds = (machine.scheduler.now() - began) / 10;
    adapter.pauses.borrow_mut().push(PauseRecord { in_flight, microseconds });
}

/// Who has the lists of a module that have not come back.
fn lost(machine: &Machine, module: &Module) -> Vec<String> {
    machine.ndis.lists.out_of(machine, module.handle)
}

/// A pause is reported complete: no list of the module may be out.
pub(crate) fn check_nothing_out(machine: &Machine, module: &Module, what: &str) {
    machine.checked();
    let out = module.out.get() + module.received_out.get();
    if out != 0 {
        let text = format!("{what} while {out} lists that the module originated have not come back");
        machine.stop_with(&rule::PAUSED_WITH_LISTS, [5, module.handle, out, 0], text, lost(machine, module));
    }
}

/// Restarts a stack: the miniport, the filters from the bottom up, the protocol.
pub(crate) fn restart(machine: &Machine, adapter: &Rc<Adapter>) {
    if !adapter.is_present() {
        return;
    }
    adapter.set_state(AdapterState::Running);
    adapter.medium_mtu.set(adapter.mtu.get());
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
    adapter.protocol_running.set(!adapter.unusable.get());
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
    set!(parameters, Restart, MiniportMediaType, adapter.settings.medium);
    let told = match adapter.settings.attributes {
        Attributed::Always => true,
        Attributed::First => module.restarts.get() == 0,
        Attributed::Never => false,
        Attributed::Any => machine.scheduler.choose(2) == 0,
    };
    set!(parameters, Restart, RestartAttributes, if told { attributes } else { 0 });
    module.state.set(State::Restarting);
    module.restart_completed.set(None);
    module.transition_thread.set(machine.scheduler.thread_id());
    let mut result = machine.call(module.driver.handlers.restart, &[module.context.get(), parameters]) as i32;
    after_callback(machine, "FilterRestart", 0);
    if result == status::PENDING {
        let waited = module.clone();
        machine
            .scheduler
            .wait("NdisFRestartComplete", None, move || waited.restart_completed.get().is_some());
        result = module.restart_completed.get().unwrap_or(status::FAILURE);
    } else if module.restart_completed.get().is_some() {
        let text = "FilterRestart did not pend and NdisFRestartComplete was called as well";
        machine.stop(&rule::RESTART_UNASKED, [module.handle, 0, 1], text);
    }
    machine.memory.free(parameters);
    machine.memory.free(attributes);
    module.restarts.set(module.restarts.get() + 1);
    if result == status::SUCCESS {
        module.state.set(State::Running);
    } else {
        module.state.set(State::Paused);
        detach(machine, adapter, module);
        if module.driver.mandatory {
            adapter.unusable.set(true);
        }
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
    let out = module.out.get() + module.received_out.get();
    if out != 0 {
        machine.leaked_lists(module.handle, out);
    }
    machine.call(module.driver.handlers.detach, &[module.context.get()]);
    after_callback(machine, "FilterDetach", 0);
    let requests = machine.ndis.oids.left_with(module.handle);
    if requests != 0 {
        let text = format!("A module is detached while {requests} OID requests of it are out");
        machine.stop(&rule::OID_LEFT, [module.handle, requests as u64, 0], text);
    }
    forget(machine, adapter, module);
}

/// Tears a stack down: pause, detach from the top down, halt.
pub(crate) fn tear_down(machine: &Machine, adapter: &Rc<Adapter>, end: AdapterState) {
    if !adapter.is_present() {
        adapter.set_state(end);
        return;
    }
    pause(machine, adapter, ndis_sys::NDIS_PAUSE_MINIPORT_DEVICE_REMOVE);
    // The protocol unbinds when its requests have been answered.
    without_oids(machine, adapter, || {
        let modules = adapter.modules.borrow().clone();
        for module in modules.iter().rev() {
            detach(machine, adapter, module);
        }
        adapter.teardowns.set(adapter.teardowns.get() + 1);
        adapter.set_state(end);
    });
}

/// Attaches or detaches modules, when every OID request of the protocol has been answered: a module gets none before
/// `FilterAttach` has returned, nor once `FilterDetach` is called.
fn without_oids(machine: &Machine, adapter: &Rc<Adapter>, work: impl FnOnce()) {
    adapter.oids_wait.set(true);
    let asked = adapter.clone();
    machine.scheduler.wait("the protocol's OID requests", None, move || asked.oids_out.get() == 0);
    work();
    adapter.oids_wait.set(false);
}

/// Brings a stack up: initialise, attach every driver from the bottom up, restart.
pub(crate) fn bring_up(machine: &Machine, adapter: &Rc<Adapter>) {
    if adapter.is_present() {
        return;
    }
    adapter.set_state(AdapterState::Paused);
    adapter.asleep.set(false);
    adapter.unusable.set(false);
    let drivers = machine.ndis.drivers.borrow().clone();
    without_oids(machine, adapter, || {
        for driver in drivers.iter().filter(|driver| driver.registered.get()) {
            attach(machine, adapter, driver);
        }
    });
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
            module.call_data(
                machine,
                module.data.get().send,
                &[module.context.get(), link(lists), port, flags],
            );
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
    let home = |list: u64| machine.ndis.lists.home(list);
    if let Some(list) = lists.iter().find(|list| machine.ndis.is_stale(source(**list))) {
        super::stale(machine, source(*list), "NdisMSendNetBufferListsComplete", true);
    }
    let modules: Vec<Rc<Module>> = adapter.modules.borrow().iter().skip(from).cloned().collect();
    for module in modules {
        let own: Vec<u64> =
            lists.iter().copied().filter(|list| home(*list) == Some(Owner::Module(module.handle))).collect();
        let handler = module.data.get().send_complete;
        if handler == 0 {
            if !own.is_empty() {
                let text = "Lists come back to a module without FilterSendNetBufferListsComplete";
                machine.stop(&rule::MISSING_HANDLER, [module.handle, own.len() as u64, 0], text);
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
        module.call_data(machine, handler, &[module.context.get(), link(lists), flags]);
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
        machine.ndis.lists.adopt(*list, module.driver.handle, module.handle);
        let owner = machine.ndis.lists.owner(*list);
        if owner != Some(Owner::Module(module.handle)) {
            let text =
                format!("A list is sent by a module that does not own it (sent twice?); owner: {owner:?}");
            machine.stop_about(&rule::SEND_NOT_OWNED, [1, *list, module.handle, 0], text, *list);
        }
        let own = machine.ndis.lists.home(*list) == Some(Owner::Module(module.handle));
        let source = field!(*list, NET_BUFFER_LIST, SourceHandle, u64);
        if own && source != module.handle || !own && !is_source(machine, source) {
            let text = "The SourceHandle of a list is not the handle of the filter that originated it";
            machine.stop_about(&rule::SOURCE_HANDLE, [8, *list, source, module.handle], text, *list);
        }
        originated += u64::from(own);
    }
    if originated != 0 {
        check_lengths(machine, module, &lists);
        check_may_originate(machine, module, originated);
        module.out.set(module.out.get() + originated);
    }
    if module.data.get().send_complete == 0 {
        let text = "NdisFSendNetBufferLists is called by a module without FilterSendNetBufferListsComplete";
        machine.stop(&rule::MISSING_HANDLER, [module.handle, 0, 0], text);
    }
    for list in &lists {
        machine.ndis.lists.give(machine, *list, Owner::Ndis, "sent with NdisFSendNetBufferLists");
    }
    lists
}

/// Frames that a module originates fit the medium: the bytes of a VLAN tag come on top for those that carry one.
fn check_lengths(machine: &Machine, module: &Module, sent: &[u64]) {
    const HEADER: u64 = 14;
    const TAG: u64 = 4;
    let adapter = module.adapter();
    if adapter.settings.medium != ndis_sys::NdisMedium802_3 {
        return;
    }
    machine.checked();
    let mtu = u64::from(adapter.medium_mtu.get());
    for list in sent {
        if machine.ndis.lists.home(*list) != Some(Owner::Module(module.handle)) {
            continue;
        }
        let mut buffer = field!(*list, NET_BUFFER_LIST, Header.Data.FirstNetBuffer, u64);
        while buffer != 0 {
            let length = u64::from(field!(buffer, NET_BUFFER, Head.Data.Length.DataLength, u32));
            let tagged = || matches!(lists::start_of::<14>(buffer)[12..], [0x81, 0x00] | [0x88, 0xA8]);
            if length > mtu + HEADER && (length > mtu + HEADER + TAG || !tagged()) {
                let text = format!("A frame of {length} bytes is sent through an adapter whose MTU is {mtu}");
                machine.stop_about(&rule::FRAME_TOO_LONG, [0x25, *list, length, mtu], text, *list);
            }
            buffer = field!(buffer, NET_BUFFER, Head.Data.Next, u64);
        }
    }
}

/// Whether a handle is that of somebody who originates.
pub(super) fn is_source(machine: &Machine, source: u64) -> bool {
    machine.ndis.modules.borrow().contains_key(&source)
        || machine.ndis.adapters().iter().any(|adapter| {
            lists::protocol_handle(adapter.index) == source || lists::adapter_handle(adapter.index) == source
        })
}

/// A filter originates while it runs. Two moments cannot be told from those just before and after: what it
/// admitted before `FilterPause` was called may arrive while it is pausing, until the pause is complete; and
/// what it admits after `FilterRestart` has opened its gate may arrive before that call has returned. The
/// documents forbid both states; the machine forbids them to the thread that is inside the callback.
pub(super) fn check_may_originate(machine: &Machine, module: &Module, lists: u64) {
    machine.checked();
    let state = module.state.get();
    let concurrent = module.transition_thread.get() != machine.scheduler.thread_id();
    let may = match state {
        State::Running => true,
        State::Pausing => concurrent && !module.pause_completed.get(),
        State::Restarting => {
            let early = &machine.counts.restarting_sends;
            early.set(early.get() + u64::from(concurrent) * lists);
            concurrent
        }
        _ => false,
    };
    if !may {
        let text = format!("A module originates {lists} lists while it is {state:?}");
        machine.stop(&rule::NOT_RUNNING, [module.handle, lists, state as u64], text);
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

/// A module may indicate and request in every state but the first and the last.
pub(super) fn may_indicate(machine: &Machine, module: &Module, name: &str) {
    machine.checked();
    if matches!(module.state.get(), State::Attaching | State::Detached) {
        let text = format!("{name} is called by a module that is {:?}", module.state.get());
        machine.stop(&rule::NOT_RUNNING, [module.handle, 0, module.state.get() as u64], text);
    }
}

/// The adapter indicates a status of its own.
pub(super) fn indicate_status(machine: &Machine, adapter: &Rc<Adapter>, status: i32, data: &[u8]) {
    let indication =
        machine.memory.allocate(size_of::<Indication>() as u64, Use::System("NDIS_STATUS_INDICATION"));
    let buffer = machine.memory.allocate(data.len() as u64, Use::System("status buffer"));
    crate::memory::put_bytes(buffer, data);
    header(
        indication,
        ndis_sys::NDIS_OBJECT_TYPE_STATUS_INDICATION,
        ndis_sys::NDIS_STATUS_INDICATION_REVISION_1,
        ndis_sys::NDIS_SIZEOF_STATUS_INDICATION_REVISION_1,
    );
    set!(indication, Indication, SourceHandle, lists::adapter_handle(adapter.index));
    set!(indication, Indication, StatusCode, status);
    set!(indication, Indication, StatusBuffer, if data.is_empty() { 0 } else { buffer });
    set!(indication, Indication, StatusBufferSize, data.len() as u32);
    status_up(machine, adapter, 0, indication);
    machine.memory.free(indication);
    machine.memory.free(buffer);
}

/// A PnP event of NDIS or of the protocol goes down the stack; its status.
pub(super) fn net_event(machine: &Machine, adapter: &Rc<Adapter>, event: i32) -> i32 {
    let notification =
        machine.memory.allocate(size_of::<Notification>() as u64, Use::System("NET_PNP_EVENT_NOTIFICATION"));
    header(
        notification,
        ndis_sys::NDIS_OBJECT_TYPE_DEFAULT,
        ndis_sys::NET_PNP_EVENT_NOTIFICATION_REVISION_2,
        ndis_sys::NDIS_SIZEOF_NET_PNP_EVENT_NOTIFICATION_REVISION_2,
    );
    set!(notification, Notification, NetPnPEvent.NetEvent, event);
    let top = adapter.modules.borrow().len();
    let status = net_event_down(machine, adapter, top, notification);
    machine.memory.free(notification);
    status
}

/// Gives a PnP event to the module below position `from` that wants it.
pub(super) fn net_event_down(
    machine: &Machine,
    adapter: &Rc<Adapter>,
    from: usize,
    notification: u64,
) -> i32 {
    let lower = {
        let modules = adapter.modules.borrow();
        modules.iter().take(from).rev().find(|module| module.driver.handlers.net_pnp_event != 0).cloned()
    };
    let Some(module) = lower else { return status::SUCCESS };
    let result =
        machine.call(module.driver.handlers.net_pnp_event, &[module.context.get(), notification]) as i32;
    after_callback(machine, "FilterNetPnPEvent", 0);
    result
}

/// A PnP event of the adapter's device goes down the stack.
pub(super) fn device_event(machine: &Machine, adapter: &Rc<Adapter>, event: i32) {
    let notification =
        machine.memory.allocate(size_of::<DeviceEvent>() as u64, Use::System("NET_DEVICE_PNP_EVENT"));
    header(
        notification,
        ndis_sys::NDIS_OBJECT_TYPE_DEFAULT,
        ndis_sys::NET_DEVICE_PNP_EVENT_REVISION_1,
        ndis_sys::NDIS_SIZEOF_NET_DEVICE_PNP_EVENT_REVISION_1,
    );
    set!(notification, DeviceEvent, DevicePnPEvent, event);
    let top = adapter.modules.borrow().len();
    device_event_down(machine, adapter, top, notification);
    machine.memory.free(notification);
}

/// Gives a device's PnP event to the module below position `from` that wants it.
pub(super) fn device_event_down(machine: &Machine, adapter: &Rc<Adapter>, from: usize, notification: u64) {
    let lower = {
        let modules = adapter.modules.borrow();
        modules.iter().take(from).rev().find(|module| module.driver.handlers.device_pnp_event != 0).cloned()
    };
    if let Some(module) = lower {
        machine.call(module.driver.handlers.device_pnp_event, &[module.context.get(), notification]);
        after_callback(machine, "FilterDevicePnPEventNotify", 0);
    }
}

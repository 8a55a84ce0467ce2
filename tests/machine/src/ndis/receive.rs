//! The way of lists up a stack and back: indications and returns.
use std::rc::Rc;

use ndis_sys::NET_BUFFER_LIST;

use super::adapter::Adapter;
use super::exports::{check_dispatch_flag, check_no_locks};
use super::lists::{Owner, chain, link};
use super::module::Module;
use super::stack;
use crate::kernel::{Call, Function, after_callback, function};
use crate::machine::Machine;
use crate::memory::field;
use crate::rule;

pub(crate) const FUNCTIONS: &[Function] = &[
    function!("NdisFIndicateReceiveNetBufferLists", 5, Dispatch, indicate),
    function!("NdisFReturnNetBufferLists", 3, Dispatch, give_back),
];

/// `NDIS_RECEIVE_FLAGS_RESOURCES`.
const RESOURCES: u64 = 2;

/// Indicates lists to the modules from position `from` on, and to the protocol. They are `by`'s again when the
/// call returns if the flags say RESOURCES.
pub(crate) fn receive_up(
    machine: &Machine,
    adapter: &Rc<Adapter>,
    from: usize,
    lists: &[u64],
    port: u64,
    flags: u64,
    by: Owner,
) {
    if lists.is_empty() {
        return;
    }
    let lends = flags & RESOURCES != 0;
    let before: Vec<Option<Owner>> = lists.iter().map(|list| machine.ndis.lists.resources(*list)).collect();
    for list in lists {
        machine.ndis.lists.set_received(*list, true);
        machine.ndis.lists.set_resources(*list, lends.then_some(by));
    }
    let upper = {
        let modules = adapter.modules.borrow();
        modules.iter().skip(from).find(|module| module.data.get().receive != 0).cloned()
    };
    match upper {
        Some(module) => {
            for list in lists {
                let owner = Owner::Module(module.handle);
                machine.ndis.lists.give(machine, *list, owner, "given to FilterReceiveNetBufferLists");
            }
            let irql = machine.scheduler.irql();
            let first = link(lists);
            let arguments = [module.context.get(), first, port, lists.len() as u64, flags];
            module.call_data(machine, module.data.get().receive, &arguments);
            after_callback(machine, "FilterReceiveNetBufferLists", irql);
            if lends {
                check_lent(machine, &module, first, lists);
            }
        }
        None => adapter.protocol_receives(machine, lists, lends),
    }
    if lends {
        for (list, before) in lists.iter().zip(before) {
            machine.ndis.lists.set_resources(*list, before);
            machine.ndis.lists.give(machine, *list, by, "back from an indication with RESOURCES");
        }
    }
}

/// Lists that were lent with RESOURCES come back as they went, when the call returns.
fn check_lent(machine: &Machine, module: &Module, first: u64, lists: &[u64]) {
    machine.checked();
    for list in lists {
        let owner = machine.ndis.lists.owner(*list);
        if owner != Some(Owner::Module(module.handle)) {
            let text =
                format!("A list that was lent with RESOURCES is not the filter's at return: {owner:?}");
            machine.stop_about(&rule::RESOURCES_KEPT, [19, *list, module.handle, 0], text, *list);
        }
    }
    if chain(machine, first) != lists {
        let text = "The chain of lists that were lent with RESOURCES is another at return";
        machine.stop_about(&rule::RESOURCES_KEPT, [19, first, module.handle, 1], text, first);
    }
}

/// Returns lists from above position `from` to who originated them.
pub(crate) fn return_down(machine: &Machine, adapter: &Rc<Adapter>, from: usize, lists: &[u64], flags: u64) {
    if lists.is_empty() {
        return;
    }
    // A module gets its own in any case, and those of others if it has a handler.
    let modules: Vec<Rc<Module>> = adapter.modules.borrow().iter().take(from).rev().cloned().collect();
    for module in modules {
        let handler = module.data.get().receive_return;
        let is_own = |list: &u64| machine.ndis.lists.home(*list) == Some(Owner::Module(module.handle));
        let own = lists.iter().filter(|list| is_own(list)).count() as u64;
        if handler == 0 {
            if own != 0 {
                let text = "Receives come back to a module without FilterReturnNetBufferLists";
                machine.stop(&rule::MISSING_HANDLER, [module.handle, own, 0], text);
            }
            continue;
        }
        for list in lists {
            let owner = Owner::Module(module.handle);
            machine.ndis.lists.give(machine, *list, owner, "given to FilterReturnNetBufferLists");
        }
        module.received_out.set(module.received_out.get().saturating_sub(own));
        let irql = machine.scheduler.irql();
        module.call_data(machine, handler, &[module.context.get(), link(lists), flags]);
        after_callback(machine, "FilterReturnNetBufferLists", irql);
        return;
    }
    for list in lists {
        let owner = Owner::Adapter(adapter.index);
        machine.ndis.lists.give(machine, *list, owner, "returned to the adapter");
        adapter.returned(machine, *list);
    }
}

/// `NdisFIndicateReceiveNetBufferLists`.
fn indicate(machine: &Machine, call: &Call<'_>) -> u64 {
    let module = machine.ndis.module(machine, call.arg(0), "NdisFIndicateReceiveNetBufferLists");
    let flags = u64::from(call.arg32(4));
    check_dispatch_flag(machine, flags, "NdisFIndicateReceiveNetBufferLists");
    check_no_locks(machine, "NdisFIndicateReceiveNetBufferLists");
    let lists = chain(machine, call.arg(1));
    let lends = flags & RESOURCES != 0;
    let owner = Owner::Module(module.handle);
    let mut originated = 0;
    for list in &lists {
        machine.checked();
        machine.ndis.lists.adopt(*list, module.driver.handle, module.handle);
        let found = machine.ndis.lists.owner(*list);
        if found != Some(owner) {
            let text = format!(
                "A list is indicated by a module that does not own it (indicated twice?); owner: {found:?}"
            );
            machine.stop_about(&rule::INDICATE_NOT_OWNED, [16, *list, module.handle, 0], text, *list);
        }
        let own = machine.ndis.lists.home(*list) == Some(owner);
        let source = field!(*list, NET_BUFFER_LIST, SourceHandle, u64);
        if own && source != module.handle {
            let text = "The SourceHandle of a list is not the handle of the filter that originated it";
            machine.stop_about(&rule::SOURCE_HANDLE, [8, *list, source, module.handle], text, *list);
        }
        let buffer = field!(*list, NET_BUFFER_LIST, Header.Data.FirstNetBuffer, u64);
        if buffer != 0 && field!(buffer, ndis_sys::NET_BUFFER, Head.Data.Next, u64) != 0 {
            let text = "A list is indicated with more than one NET_BUFFER";
            machine.stop_about(&rule::MANY_BUFFERS, [20, *list, 0, 0], text, *list);
        }
        originated += u64::from(own);
    }
    if originated != 0 {
        stack::check_may_originate(machine, &module, originated);
        if !lends {
            module.received_out.set(module.received_out.get() + originated);
        }
    }
    if module.data.get().receive_return == 0 {
        let text =
            "NdisFIndicateReceiveNetBufferLists is called by a module without FilterReturnNetBufferLists";
        machine.stop(&rule::MISSING_HANDLER, [module.handle, 0, 0], text);
    }
    for list in &lists {
        machine.ndis.lists.give(
            machine,
            *list,
            Owner::Ndis,
            "indicated with NdisFIndicateReceiveNetBufferLists",
        );
    }
    let adapter = module.adapter();
    let above = stack::position(&adapter, &module) + 1;
    receive_up(machine, &adapter, above, &lists, call.arg(2), flags, owner);
    0
}

/// `NdisFReturnNetBufferLists`.
fn give_back(machine: &Machine, call: &Call<'_>) -> u64 {
    let module = machine.ndis.module(machine, call.arg(0), "NdisFReturnNetBufferLists");
    check_dispatch_flag(machine, call.arg(2), "NdisFReturnNetBufferLists");
    check_no_locks(machine, "NdisFReturnNetBufferLists");
    let lists = chain(machine, call.arg(1));
    let owner = Owner::Module(module.handle);
    for list in &lists {
        machine.checked();
        if machine.ndis.lists.resources(*list).is_some() {
            let text = "A list is returned by call that was indicated with RESOURCES";
            machine.stop_about(&rule::RETURN_RESOURCES, [18, *list, module.handle, 0], text, *list);
        }
        let found = machine.ndis.lists.owner(*list);
        if found != Some(owner) || machine.ndis.lists.home(*list) == Some(owner) {
            let text = format!(
                "A list is returned by a module that originated it or does not own it (returned twice?); owner: {found:?}"
            );
            machine.stop_about(&rule::RETURN_NOT_OWNED, [17, *list, module.handle, 0], text, *list);
        }
        machine.ndis.lists.give(machine, *list, Owner::Ndis, "returned with NdisFReturnNetBufferLists");
    }
    let adapter = module.adapter();
    let at = stack::position(&adapter, &module);
    return_down(machine, &adapter, at, &lists, call.arg(2));
    0
}

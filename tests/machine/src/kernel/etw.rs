//! Event tracing: providers of drivers, and the events that they write.
use std::cell::{Cell, RefCell};

use rustc_hash::FxHashMap;

use super::{Call, Function, function};
use crate::image::Image;
use crate::machine::Machine;
use crate::memory::put;
use crate::rule;

pub(super) const FUNCTIONS: &[Function] = &[
    function!("EtwRegister", 4, Apc, |machine, call| {
        let etw = &machine.kernel.etw;
        let handle = etw.next.get() + 1;
        etw.next.set(handle);
        etw.providers.borrow_mut().insert(handle, call.caller());
        put::<u64>(call.arg(3), handle);
        0
    }),
    function!("EtwUnregister", 1, Apc, |machine, call| {
        machine.checked();
        if machine.kernel.etw.providers.borrow_mut().remove(&call.arg(0)).is_none() {
            let text = "EtwUnregister is given what is no registration";
            machine.stop(&rule::ETW_HANDLE, [call.arg(0), 0, 0], text);
        }
        0
    }),
    function!("EtwWrite", 5, Any, written),
    function!("EtwWriteTransfer", 6, Any, written),
    function!("EtwWriteEx", 8, Any, written),
    function!("EtwSetInformation", 4, Dispatch, |_, _| 0),
    // Nobody listens.
    function!("EtwEventEnabled", 2, Any, |_, _| 0),
    function!("EtwProviderEnabled", 3, Any, |_, _| 0),
];

/// Registrations by handle, with who made them.
#[derive(Debug, Default)]
pub(crate) struct Etw {
    providers: RefCell<FxHashMap<u64, u64>>,
    next: Cell<u64>,
    written: Cell<u64>,
}

fn written(machine: &Machine, _call: &Call<'_>) -> u64 {
    let etw = &machine.kernel.etw;
    etw.written.set(etw.written.get() + 1);
    0
}

/// An image is about to go: its providers are unregistered.
pub(super) fn check_unload(machine: &Machine, image: &Image) {
    machine.checked();
    let providers = machine.kernel.etw.providers.borrow();
    let left =
        providers.iter().find(|(_, caller)| image.contains(**caller)).map(|(at, caller)| (*at, *caller));
    drop(providers);
    if let Some((handle, caller)) = left {
        let text = "A driver is unloaded without unregistering its ETW provider";
        machine.stop(&rule::ETW_LEFT, [caller, image.base, handle], text);
    }
    super::mdl::check_left(machine, image);
}

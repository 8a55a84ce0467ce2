//! NDIS: adapters, filter stacks, and who owns which list.

pub mod adapter;
pub(crate) mod buffers;
pub(crate) mod exports;
mod lists;
mod module;
pub mod oid;
pub(crate) mod receive;
pub(crate) mod services;
mod stack;
pub(crate) mod support;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use anyhow::Result;

use self::adapter::{Adapter, Settings};
use self::lists::Lists;
use self::module::{FilterDriver, Module};
use self::oid::OidRequests;
use self::services::Services;
use self::support::Support;
use crate::machine::Machine;

/// Statuses that the machine itself gives.
pub(crate) mod status {
    pub(crate) use ndis_sys::{
        NDIS_STATUS_ADAPTER_REMOVED as ADAPTER_REMOVED, NDIS_STATUS_FAILURE as FAILURE,
        NDIS_STATUS_PAUSED as PAUSED, NDIS_STATUS_PENDING as PENDING,
        NDIS_STATUS_SEND_ABORTED as SEND_ABORTED, NDIS_STATUS_SUCCESS as SUCCESS,
    };
}

/// See the module's description.
#[derive(Default)]
pub(crate) struct Ndis {
    adapters: RefCell<Vec<Rc<Adapter>>>,
    drivers: RefCell<Vec<Rc<FilterDriver>>>,
    modules: RefCell<BTreeMap<u64, Rc<Module>>>,
    /// Handles of modules that were detached.
    stale: RefCell<BTreeSet<u64>>,
    pub(crate) lists: Lists,
    pub(crate) support: Support,
    pub(crate) services: Services,
    pub(crate) oids: OidRequests,
    next_handle: Cell<u64>,
    /// The longest that a work item waits for its turn, in 100 ns.
    longest_work_delay: Cell<u64>,
}

impl Ndis {
    pub(crate) fn add_adapter(&self, settings: Settings) -> Result<()> {
        let index = self.adapters.borrow().len();
        let adapter = Adapter::new(index, settings)?;
        self.adapters.borrow_mut().push(Rc::new(adapter));
        Ok(())
    }

    pub(crate) fn adapters(&self) -> Vec<Rc<Adapter>> {
        self.adapters.borrow().clone()
    }

    /// Whether an object is the physical device object of an adapter that is there.
    pub(crate) fn is_physical_device(&self, object: u64) -> bool {
        self.adapters
            .borrow()
            .iter()
            .any(|adapter| adapter.physical_device() == object && adapter.is_present())
    }

    /// How long a work item waits for its turn, and how late a timer is.
    pub(crate) fn work_delay(&self) -> u64 {
        match self.longest_work_delay.get() {
            0 => 0,
            longest => crate::machine::current().scheduler.choose(longest),
        }
    }

    /// Work items wait up to this many microseconds for their turn, and timers are as late.
    pub(crate) fn delay_work(&self, microseconds: u64) {
        self.longest_work_delay.set(microseconds * 10);
    }

    /// A handle that no driver may look behind.
    fn new_handle(&self) -> u64 {
        let number = self.next_handle.get() + 1;
        self.next_handle.set(number);
        0xFFFF_C000_0000_0000 + number * 0x1000
    }

    /// The module of a filter handle. A handle of a module that was detached stops the machine as NDIS's own
    /// access to freed memory does.
    fn module(&self, machine: &Machine, handle: u64, function: &str) -> Rc<Module> {
        machine.checked();
        if let Some(module) = self.modules.borrow().get(&handle) {
            return module.clone();
        }
        let was = self.stale.borrow().contains(&handle);
        stale(machine, handle, function, was)
    }

    fn is_stale(&self, handle: u64) -> bool {
        self.stale.borrow().contains(&handle)
    }
}

/// NDIS reads a filter block that is gone: what a user of a stale handle sees on Windows (seed 003).
fn stale(machine: &Machine, handle: u64, function: &str, was: bool) -> ! {
    use crate::rule::{ACCESS_RAISED, ACCESS_SERVICE};
    /// `STATUS_ACCESS_VIOLATION`.
    const ACCESS_VIOLATION: u64 = 0xC000_0005;
    /// Where the machine says that its NDIS lies.
    const NDIS: u64 = 0xFFFF_F807_45E9_0000;
    let what = if was { "a module that was detached" } else { "no module" };
    let text = format!("ndis!{function} uses the handle {handle:#x}, which belongs to {what}");
    let irql = machine.scheduler.irql();
    if irql >= crate::sched::DISPATCH {
        machine.stop_for_good(&ACCESS_RAISED, [handle, u64::from(irql), 0, NDIS], text)
    }
    machine.stop_for_good(&ACCESS_SERVICE, [ACCESS_VIOLATION, NDIS, handle, 0], text)
}

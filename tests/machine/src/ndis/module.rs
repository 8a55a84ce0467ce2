//! Filter drivers and their modules, as NDIS keeps them.
use std::cell::Cell;
use std::rc::{Rc, Weak};

use ndis_sys::NDIS_FILTER_DRIVER_CHARACTERISTICS as Characteristics;

use super::adapter::Adapter;
use crate::machine::Machine;
use crate::memory::field;

/// States of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// `FilterAttach` runs.
    Attaching,
    /// Attached, or paused.
    Paused,
    /// `FilterRestart` runs.
    Restarting,
    /// Frames flow.
    Running,
    /// `FilterPause` was called and is not complete.
    Pausing,
    /// Gone.
    Detached,
}

/// Handlers of a driver; 0 where there is none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Handlers {
    pub(crate) set_options: u64,
    pub(crate) set_module_options: u64,
    pub(crate) attach: u64,
    pub(crate) detach: u64,
    pub(crate) restart: u64,
    pub(crate) pause: u64,
    pub(crate) oid: OidHandlers,
    pub(crate) direct_oid: OidHandlers,
    /// Request, and its completion.
    pub(crate) synchronous_oid: (u64, u64),
    pub(crate) device_pnp_event: u64,
    pub(crate) net_pnp_event: u64,
    pub(crate) status: u64,
    pub(crate) data: DataHandlers,
}

/// Handlers of OID requests of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OidHandlers {
    pub(crate) request: u64,
    pub(crate) complete: u64,
    pub(crate) cancel: u64,
}

/// Data handlers, which a module may change.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DataHandlers {
    pub(crate) send: u64,
    pub(crate) send_complete: u64,
    pub(crate) cancel_send: u64,
    pub(crate) receive: u64,
    pub(crate) receive_return: u64,
}

impl Handlers {
    /// Reads them from what a driver registered in a revision.
    pub(crate) fn read(characteristics: u64, revision: u8) -> Self {
        macro_rules! handler {
            ($name:ident) => {
                field!(characteristics, Characteristics, $name, u64)
            };
        }
        Self {
            set_options: handler!(SetOptionsHandler),
            set_module_options: handler!(SetFilterModuleOptionsHandler),
            attach: handler!(AttachHandler),
            detach: handler!(DetachHandler),
            restart: handler!(RestartHandler),
            pause: handler!(PauseHandler),
            oid: OidHandlers {
                request: handler!(OidRequestHandler),
                complete: handler!(OidRequestCompleteHandler),
                cancel: handler!(CancelOidRequestHandler),
            },
            direct_oid: if revision < 2 {
                OidHandlers::default()
            } else {
                OidHandlers {
                    request: handler!(DirectOidRequestHandler),
                    complete: handler!(DirectOidRequestCompleteHandler),
                    cancel: handler!(CancelDirectOidRequestHandler),
                }
            },
            synchronous_oid: if revision < 3 {
                (0, 0)
            } else {
                (handler!(SynchronousOidRequestHandler), handler!(SynchronousOidRequestCompleteHandler))
            },
            device_pnp_event: handler!(DevicePnPEventNotifyHandler),
            net_pnp_event: handler!(NetPnPEventHandler),
            status: handler!(StatusHandler),
            data: DataHandlers {
                send: handler!(SendNetBufferListsHandler),
                send_complete: handler!(SendNetBufferListsCompleteHandler),
                cancel_send: handler!(CancelSendNetBufferListsHandler),
                receive: handler!(ReceiveNetBufferListsHandler),
                receive_return: handler!(ReturnNetBufferListsHandler),
            },
        }
    }
}

/// A registered filter driver.
pub(crate) struct FilterDriver {
    pub(crate) handle: u64,
    pub(crate) object: u64,
    pub(crate) context: u64,
    pub(crate) handlers: Handlers,
    pub(crate) registered: Cell<bool>,
    /// Whether a stack without the filter is of no use.
    pub(crate) mandatory: bool,
}

/// One module.
pub(crate) struct Module {
    pub(crate) handle: u64,
    pub(crate) driver: Rc<FilterDriver>,
    pub(crate) adapter: Weak<Adapter>,
    pub(crate) context: Cell<u64>,
    pub(crate) state: Cell<State>,
    pub(crate) data: Cell<DataHandlers>,
    /// Lists that this module sent of its own and that have not come back.
    pub(crate) out: Cell<u64>,
    /// Lists that this module indicated of its own and that have not come back.
    pub(crate) received_out: Cell<u64>,
    /// `NdisFPauseComplete` was called for the pause that is going on.
    pub(crate) pause_completed: Cell<bool>,
    /// The thread that runs, or ran, the last of `FilterPause` and `FilterRestart`.
    pub(crate) transition_thread: Cell<u32>,
    /// How often it was restarted.
    pub(crate) restarts: Cell<u32>,
    /// `FilterSetModuleOptions` runs.
    pub(crate) in_options: Cell<bool>,
    pub(crate) attributes_set: Cell<bool>,
    /// `NdisFRestartComplete` was called for the restart that is going on, with this status.
    pub(crate) restart_completed: Cell<Option<i32>>,
    /// Calls of its data handlers that have not returned: what passes through is its for a moment.
    pub(crate) inside: Cell<u32>,
    /// The OID request of its own that is out, or 0.
    pub(crate) own_oid: Cell<u64>,
}

impl Module {
    pub(crate) fn new(handle: u64, driver: Rc<FilterDriver>, adapter: &Rc<Adapter>) -> Self {
        let data = driver.handlers.data;
        Self {
            handle,
            driver,
            adapter: Rc::downgrade(adapter),
            context: Cell::new(0),
            state: Cell::new(State::Attaching),
            data: Cell::new(data),
            out: Cell::new(0),
            received_out: Cell::new(0),
            pause_completed: Cell::new(false),
            transition_thread: Cell::new(0),
            restarts: Cell::new(0),
            in_options: Cell::new(false),
            attributes_set: Cell::new(false),
            restart_completed: Cell::new(None),
            inside: Cell::new(0),
            own_oid: Cell::new(0),
        }
    }

    /// Calls a data handler.
    pub(crate) fn call_data(&self, machine: &Machine, handler: u64, arguments: &[u64]) {
        self.inside.set(self.inside.get() + 1);
        machine.call(handler, arguments);
        self.inside.set(self.inside.get() - 1);
    }

    pub(crate) fn adapter(&self) -> Rc<Adapter> {
        self.adapter.upgrade().unwrap_or_else(|| panic!("adapters outlive their modules"))
    }
}

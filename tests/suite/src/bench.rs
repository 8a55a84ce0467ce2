//! A machine with the driver, and a client on it: what most scenarios begin with.
use std::cell::RefCell;
use std::rc::Rc;

use sluice_client::Error;
use sluice_client::adapter::{self, Adapter};
use sluice_client::device::{Device, Driver};
use sluice_client::send::{self, Answer, Outcome};
use sluice_machine::ndis::adapter::{Completes, Settings};
use sluice_machine::{Configuration, Machine};

use crate::client::Local;
use crate::image::{self, Build};

/// A machine with the driver loaded.
pub struct Bench {
    /// The machine.
    pub machine: Box<Machine>,
}

/// Settings of one adapter.
pub fn adapter_that(completes: Completes) -> Configuration {
    Configuration {
        adapters: vec![Settings { completes, ..Settings::default() }],
        ..Configuration::default()
    }
}

impl Bench {
    /// Starts a machine with the checked build of the driver.
    pub fn new(configuration: Configuration) -> Self {
        Self::with(configuration, Build::Checked)
    }

    /// Starts a machine with a build of the driver.
    pub fn with(configuration: Configuration, build: Build) -> Self {
        let machine = Machine::start(configuration).unwrap_or_else(|error| panic!("{error:#}"));
        machine.load_driver(&image::path(build)).unwrap_or_else(|error| panic!("{error}"));
        Self { machine }
    }

    /// Starts a client; its answer is there when the machine has come to rest.
    pub fn client<R: 'static>(&self, work: impl FnOnce() -> R + 'static) -> Rc<RefCell<Option<R>>> {
        let result = Rc::new(RefCell::new(None));
        let place = result.clone();
        self.machine.spawn("client", move || {
            let value = work();
            place.replace(Some(value));
        });
        result
    }

    /// Runs until nothing happens any more.
    pub fn settle(&self) {
        if let Err(bugcheck) = self.machine.run_until_idle() {
            panic!("{bugcheck}");
        }
    }

    /// Runs one client to its end.
    pub fn run<R: 'static>(&self, work: impl FnOnce() -> R + 'static) -> R {
        let result = self.client(work);
        self.settle();
        let value = result.borrow_mut().take();
        value.unwrap_or_else(|| panic!("the client hangs: {:?}", self.machine.waiting_threads()))
    }

    /// Unloads the driver: nothing may be left behind, and nobody may wait.
    pub fn finish(self) {
        if let Err(bugcheck) = self.machine.unload_driver() {
            panic!("{bugcheck}");
        }
        assert_eq!(self.machine.waiting_threads(), Vec::<String>::new());
        assert_eq!(self.machine.common_buffers(), 0);
    }
}

/// Opens a handle as an administrator.
pub fn open() -> Box<dyn Device> {
    Local { administrator: true }.open().unwrap_or_else(|error| panic!("{error}"))
}

/// The adapter with this number.
pub fn adapter(device: &dyn Device, number: usize) -> Adapter {
    let adapters = adapter::list(device).unwrap_or_else(|error| panic!("{error}"));
    adapters.get(number).cloned().unwrap_or_else(|| panic!("there are {} adapters", adapters.len()))
}

/// Opens a handle and binds it to adapter 0.
pub fn bound() -> Box<dyn Device> {
    let device = open();
    let found = adapter(device.as_ref(), 0);
    adapter::bind(device.as_ref(), &found).unwrap_or_else(|error| panic!("{error}"));
    device
}

/// Sends frames in one request and waits.
pub fn send(device: &dyn Device, frames: Vec<Vec<u8>>) -> Result<Vec<Outcome>, Error> {
    match send::start(device, frames)?.wait()? {
        (_, Answer::Frames(outcomes)) => Ok(outcomes),
        (_, Answer::Removed) => Err(Error::Removed),
    }
}

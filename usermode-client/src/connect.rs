//! Finds and binds the adapter.
use std::time::Duration;

use sluice_client::adapter::{self, Adapter};
use sluice_client::device::Device;
use sluice_client::patience::{POLL, Patience};
use sluice_client::run::{Connect, Connection};
use sluice_client::select::Limits;
use sluice_client::stop::Stop;
use sluice_client::{Error, text};

use crate::arguments::{Arguments, SendArguments};
use crate::open;

/// What the driver takes for an adapter.
pub(crate) fn limits(found: &Adapter) -> Result<Limits, Error> {
    if found.mtu == 0 { Err(Error::NoMtu(text::clean(&found.name))) } else { Ok(Limits::of_mtu(found.mtu)) }
}

/// Finds and binds the adapter, the first time and again.
pub(crate) struct Connector<'a> {
    arguments: &'a Arguments,
    wanted: String,
    /// The adapter that was found once, which no other replaces.
    found: Option<Adapter>,
    bind_timeout: Duration,
}

impl<'a> Connector<'a> {
    pub(crate) fn new(arguments: &'a Arguments, options: &SendArguments) -> Self {
        let (wanted, bind_timeout) = (options.adapter.clone(), options.bind_timeout());
        Self { arguments, wanted, found: None, bind_timeout }
    }
}

impl Connector<'_> {
    fn find(&mut self) -> Result<(Box<dyn Device>, Adapter), Error> {
        let device = open(self.arguments)?;
        let wanted = self.found.as_ref().map_or(&self.wanted, |found| &found.guid);
        let found = adapter::find(device.as_ref(), wanted)?;
        limits(&found)?;
        self.found = Some(found.clone());
        Ok((device, found))
    }

    /// Finds the adapter, and waits for it if it is away.
    pub(crate) fn wait_for_adapter(
        &mut self,
        patience: &mut Patience,
        stop: &Stop,
    ) -> Result<(Box<dyn Device>, Adapter), Error> {
        loop {
            if stop.is_stopped() {
                return Err(Error::Stopped);
            }
            match self.find() {
                Err(error) if error.is_absence() && !patience.is_over() => {}
                other => return other,
            }
            let step = patience.poll(POLL);
            std::thread::sleep(step);
            patience.spend(step);
        }
    }

    /// Binds a handle; without an absence before it, its limit is its own.
    fn bind(
        &self,
        device: &dyn Device,
        found: &Adapter,
        limit: Duration,
        stop: &Stop,
    ) -> (Duration, Result<(), Error>) {
        let mut patience = Patience::new(limit.min(self.bind_timeout));
        let bound = adapter::bind_within(device, found, &mut patience, stop);
        (patience.spent(), bound)
    }

    /// Binds the handle of the first look, or another one if the adapter goes away meanwhile.
    pub(crate) fn bind_first(
        &mut self,
        mut device: Box<dyn Device>,
        found: &Adapter,
        patience: &mut Patience,
        stop: &Stop,
    ) -> Result<Box<dyn Device>, Error> {
        loop {
            match self.bind(device.as_ref(), found, Duration::MAX, stop).1 {
                Ok(()) => return Ok(device),
                Err(error) if error.is_absence() && !patience.is_over() => {}
                Err(error) => return Err(error),
            }
            patience.spend(POLL);
            std::thread::sleep(POLL);
            device = self.wait_for_adapter(patience, stop)?.0;
        }
    }
}

impl Connect for Connector<'_> {
    fn connect(&mut self, patience: &mut Patience, stop: &Stop) -> Result<Connection, Error> {
        let (device, found) = self.find()?;
        let (spent, bound) = self.bind(device.as_ref(), &found, patience.left(), stop);
        patience.spend(spent);
        bound?;
        Ok(Connection { device, limits: limits(&found)? })
    }

    fn limits(&mut self, device: &dyn Device) -> Result<Limits, Error> {
        let wanted = self.found.as_ref().map_or(&self.wanted, |found| &found.guid);
        limits(&adapter::find(device, wanted)?)
    }

    fn name(&self) -> String {
        text::clean(self.found.as_ref().map_or(&self.wanted, |found| &found.name))
    }
}

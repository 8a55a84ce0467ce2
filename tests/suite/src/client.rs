//! The client library on a thread of a machine: the same code as the command line's, another [`Driver`].
use std::time::Duration;

use sluice_abi::WIN32_NAME;
use sluice_client::Error;
use sluice_client::device::{Device, Driver, Pending, Reply};
use sluice_machine::user;

/// Opens handles on the machine that runs.
#[derive(Clone, Copy, Debug)]
pub struct Local {
    /// Whether the program runs as an administrator.
    pub administrator: bool,
}

impl Driver for Local {
    fn open(&self) -> Result<Box<dyn Device>, Error> {
        let handle = user::Handle::open(WIN32_NAME, self.administrator)
            .map_err(|status| Error::of_status(status as u32))?;
        Ok(Box::new(Open(Some(handle))))
    }
}

struct Open(Option<user::Handle>);

impl Device for Open {
    fn start(&self, code: u32, input: Vec<u8>, data: Vec<u8>) -> Result<Box<dyn Pending>, Error> {
        let handle = self.0.as_ref().ok_or_else(|| Error::Broken("the handle is closed".to_owned()))?;
        Ok(Box::new(Request(handle.control(code, &input, data))))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(handle) = self.0.take() {
            handle.close();
        }
    }
}

struct Request(user::Pending);

impl Pending for Request {
    fn wait(self: Box<Self>) -> Result<Reply, Error> {
        let done = self.0.wait();
        Ok(Reply { status: done.status as u32, output: done.output })
    }

    /// The machine has its own time: its thread sleeps in steps of it.
    fn wait_for(&mut self, limit: Duration) -> Result<bool, Error> {
        let mut left = limit.as_micros() as u64;
        while self.0.result().is_none() && left != 0 {
            let step = left.min(100);
            user::sleep(step);
            left -= step;
        }
        Ok(self.0.result().is_some())
    }

    fn cancel(&self) -> Result<(), Error> {
        self.0.cancel();
        Ok(())
    }
}

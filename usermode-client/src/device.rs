//! An open handle to the driver, wherever it runs.
use std::time::Duration;

use crate::Error;

/// What came back from a control request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// `NTSTATUS` of the request.
    pub status: u32,
    /// Output: the answer of a buffered request, or all of a direct request's buffer.
    pub output: Vec<u8>,
}

/// A request on its way.
pub trait Pending {
    /// Waits until the request has completed.
    fn wait(self: Box<Self>) -> Result<Reply, Error>;

    /// Waits up to `limit` for the request to complete, and returns whether it has. [`Pending::wait`] then returns at once.
    fn wait_for(&mut self, limit: Duration) -> Result<bool, Error>;

    /// Asks for the request to be cancelled; it completes all the same.
    fn cancel(&self) -> Result<(), Error>;
}

/// An open handle. Dropping it closes it.
pub trait Device {
    /// Starts a control request. `data` is the output buffer: room for the answer of a buffered request, or
    /// the memory of a direct one.
    fn start(&self, code: u32, input: Vec<u8>, data: Vec<u8>) -> Result<Box<dyn Pending>, Error>;

    /// Sends a control request and waits for it; a status of failure is an error.
    fn control(&self, code: u32, input: Vec<u8>, data: Vec<u8>) -> Result<Vec<u8>, Error> {
        let reply = self.start(code, input, data)?.wait()?;
        if reply.status == 0 { Ok(reply.output) } else { Err(Error::of_status(reply.status)) }
    }
}

/// Where handles come from.
pub trait Driver {
    /// Opens a handle.
    fn open(&self) -> Result<Box<dyn Device>, Error>;
}

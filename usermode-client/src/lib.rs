//! Client of the Sluice driver.
//!
//! [`device::Device`] is an open handle to the driver, whether on Windows or on a simulated machine;
//! everything above it is the same on both.

pub mod adapter;
pub mod device;
mod error;
pub mod frames;
#[cfg(unix)]
pub mod machine;
pub mod send;
#[cfg(windows)]
pub mod windows;

pub use error::{Error, status};

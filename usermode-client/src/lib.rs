//! Client of the Sluice driver.
//!
//! [`device::Device`] is an open handle to the driver, whether on Windows or on a simulated machine; everything above
//! it is the same on both. [`capture`] reads captures, [`select`] tells which frames can be sent, [`supply`] hands
//! them out, and [`run`] sends them and accounts for each.

pub mod adapter;
pub mod capture;
pub mod device;
mod error;
pub mod frames;
pub mod hex;
#[cfg(unix)]
pub mod machine;
pub mod naming;
pub mod outcomes;
pub mod patience;
pub mod run;
pub mod select;
pub mod send;
pub mod stop;
pub mod supply;
pub mod text;
#[cfg(windows)]
pub mod windows;

pub use error::{Error, status};

//! Scenarios against the shipped `sluice.sys` on the simulated machine.

pub mod bench;
pub mod bugs;
pub mod captures;
pub mod client;
pub mod explore;
pub mod image;
pub mod lab;
pub mod scenario;
pub mod shared_handle;

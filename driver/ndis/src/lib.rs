//! Safe NDIS objects over `ndis-sys`: the driver and its callbacks, a module's handle, lists and their memory,
//! requests that pass, and reader-writer locks.
//!
//! What NDIS and a device may touch is owned here, so that the driver itself needs no `unsafe`: it implements
//! [`driver::Driver`] and [`driver::Filter`], and decides.
#![no_std]

pub mod driver;
pub mod filter;
pub mod list;
pub mod oid;
pub mod path;
pub mod rwlock;
pub mod slab;
pub mod trace;
mod transfer;
pub mod work;

pub use ndis_sys::NDIS_STATUS as Status;

//! Safe NDIS objects over `ndis-sys`.
#![no_std]

pub mod filter;
pub mod list;
pub mod oid;
pub mod timer;

pub use ndis_sys::NDIS_STATUS as Status;

//! The contract between `sluice.sys` and its clients: names, control codes, and the records that cross.
//!
//! Every record is plain data with a fixed layout. Numbers that name a choice are plain integers with
//! constants, not enums: what comes from the other side may hold any value.
#![no_std]
#![forbid(unsafe_code)]

mod control;
mod names;
mod record;
mod send;

pub use control::*;
pub use names::*;
pub use record::*;
pub use send::*;

/// Version of this contract. The driver refuses requests of another major version.
pub const ABI_MAJOR: u16 = 1;
/// Counts additions that older clients need not know.
pub const ABI_MINOR: u16 = 0;

//! The rules of Sluice, and nothing else: the gate, slots, a module's states, requests, statistics.
//!
//! No foreign functions, no Windows types, no unsafe code; generic over its atomics ([`Word`]), so that the
//! same lines run in the driver, under `cargo test` and Miri, and under loom.
#![no_std]
#![forbid(unsafe_code)]

pub mod counters;
pub mod gate;
pub mod guid;
pub mod layout;
pub mod lifecycle;
pub mod request;
pub mod slot;
pub mod transfer;
mod word;

pub use word::Word;

//! A simulated Windows computer that runs NDIS filter drivers on Linux.
//!
//! It loads a shipped `.sys`, offers it `ntoskrnl.exe` and `ndis.sys`, plays adapters, protocols and clients
//! against it under schedules that a seed chooses, and stops with a Windows bugcheck on the first rule broken.
//! A driver runs as it is: its code on its own kernel stack of 24 KiB, its memory in special pool.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![expect(clippy::indexing_slicing, reason = "the machine's own tables; a wrong index stops a test")]

pub mod bugcheck;
pub mod card;
mod emulate;
mod fault;
mod image;
mod io;
mod kernel;
pub mod life;
mod loader;
mod log;
mod machine;
mod memory;
pub mod ndis;
mod processor;
pub mod recording;
mod region;
mod report;
pub mod rule;
mod sched;
pub mod server;
mod stack;
pub mod system;
pub mod user;
pub mod verifier;

pub use image::missing_imports;
pub use kernel::exports;
pub use machine::{Configuration, Counts, Event, LoadError, LowResources, Machine, Session};
pub use sched::{Decision, Schedule, Strategy};
pub use verifier::Verifier;

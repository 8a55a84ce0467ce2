//! Safe kernel primitives over `wdk-sys`, typed by IRQL.
//!
//! The level that code runs at is a value: a callback receives [`irql::Passive`] or [`irql::Dispatch`] from
//! the glue, and a function that needs a level takes the token. A token borrows the callback's frame and is
//! neither `Send` nor `'static`, so it cannot outlive the level that it stands for.
#![no_std]

/// Asserts the IRQL in debug builds, as `NT_ASSERT(KeGetCurrentIrql() …)` does; nothing in release builds.
#[macro_export]
macro_rules! assert_irql {
    (<= $level:expr) => {
        debug_assert!($crate::irql::current() <= $level, "IRQL above {}", $level)
    };
    (== $level:expr) => {
        debug_assert!($crate::irql::current() == $level, "IRQL is not {}", $level)
    };
}

pub mod dma;
pub mod dpc;
pub mod irp;
pub mod irql;
pub mod lock;
pub mod pool;
pub mod processor;
pub mod queue;
pub mod rundown;
pub mod shared;

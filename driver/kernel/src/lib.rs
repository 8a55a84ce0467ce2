//! Safe kernel primitives over `wdk-sys`, typed by IRQL.
//!
//! The level that code runs at is a value: a callback receives [`irql::Passive`], [`irql::Dispatch`] or another
//! token from the glue, and a function that needs a level takes the token. A token borrows the callback's frame
//! and is neither `Send` nor `'static`, so it cannot outlive the level that it stands for.
//!
//! - Levels: [`irql`], and the order of locks: [`rank`].
//! - At `DISPATCH_LEVEL`: [`lock`], [`dpc`], [`timer`], [`interlocked`].
//! - Below: [`event`], [`mutex`], [`semaphore`], [`resource`] in a [`region`], [`work`], [`wait`].
//! - Lifetimes: [`rundown`], [`remove_lock`], [`shared`], [`pool`].
//! - Requests: [`device`], [`irp`], [`queue`]; memory for devices: [`dma`], [`mdl`].
//!
//! What two of them share: work inside a lock, a region or a raised level is a closure, so that what was begun
//! is ended in the same function; what the system keeps a pointer to is a part of a [`shared::Shared`] value, and
//! is stopped before that value is freed; memory comes from fallible, tagged allocations only.
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

pub mod device;
pub mod dma;
pub mod dpc;
pub mod embedded;
pub mod event;
pub mod interlocked;
pub mod irp;
pub mod irql;
mod layout;
pub mod list;
pub mod lock;
pub mod mdl;
pub mod mutex;
pub mod pool;
pub mod processor;
pub mod queue;
pub mod rank;
pub mod region;
pub mod remove_lock;
pub mod resource;
pub mod rundown;
pub mod semaphore;
pub mod shared;
pub mod stack;
pub mod text;
pub mod time;
pub mod timer;
pub mod wait;
pub mod work;

//! Interlocked operations (page "Interlocked variable access").
//!
//! The `Interlocked…` names of the headers are compiler intrinsics; Rust's atomics compile to the same
//! instructions, `lock xadd` for a counter. This module gives them the documents' names for counters, where a
//! plain `+= 1` of two processors loses one of the two.
use core::sync::atomic::{AtomicI64, Ordering::SeqCst};

/// A 64-bit counter that any processor changes at any level (`InterlockedIncrement64` and its kin).
#[derive(Debug, Default)]
pub struct Counter(AtomicI64);

impl Counter {
    /// A counter that starts at `value`.
    pub const fn new(value: i64) -> Self {
        Self(AtomicI64::new(value))
    }

    /// Adds one; returns the new value.
    pub fn increment(&self) -> i64 {
        self.0.fetch_add(1, SeqCst).wrapping_add(1)
    }

    /// Subtracts one; returns the new value.
    pub fn decrement(&self) -> i64 {
        self.0.fetch_sub(1, SeqCst).wrapping_sub(1)
    }

    /// Adds; returns the new value.
    pub fn add(&self, amount: i64) -> i64 {
        self.0.fetch_add(amount, SeqCst).wrapping_add(amount)
    }

    /// Stores; returns the old value.
    pub fn exchange(&self, value: i64) -> i64 {
        self.0.swap(value, SeqCst)
    }

    /// Stores `value` if the counter is `expected`; returns the old value.
    pub fn compare_exchange(&self, value: i64, expected: i64) -> i64 {
        self.0.compare_exchange(expected, value, SeqCst, SeqCst).unwrap_or_else(|found| found)
    }

    /// The value at this moment.
    pub fn get(&self) -> i64 {
        self.0.load(SeqCst)
    }
}

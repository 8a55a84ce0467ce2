//! The atomic word that everything here is generic over.
use core::sync::atomic::{AtomicU64, Ordering};

/// A 64-bit atomic: `AtomicU64` in the driver, a model checker's own in its tests.
pub trait Word: Send + Sync {
    /// A word that holds `value`.
    fn new(value: u64) -> Self;
    /// Reads.
    fn load(&self, order: Ordering) -> u64;
    /// Writes.
    fn store(&self, value: u64, order: Ordering);
    /// Adds, and returns what was there before.
    fn fetch_add(&self, value: u64, order: Ordering) -> u64;
    /// Subtracts, and returns what was there before.
    fn fetch_sub(&self, value: u64, order: Ordering) -> u64;
    /// Sets bits, and returns what was there before.
    fn fetch_or(&self, value: u64, order: Ordering) -> u64;
    /// Keeps bits, and returns what was there before.
    fn fetch_and(&self, value: u64, order: Ordering) -> u64;
    /// Writes `new` if the word holds `current`; otherwise returns what it holds.
    fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64>;
}

impl Word for AtomicU64 {
    fn new(value: u64) -> Self {
        Self::new(value)
    }
    fn load(&self, order: Ordering) -> u64 {
        Self::load(self, order)
    }
    fn store(&self, value: u64, order: Ordering) {
        Self::store(self, value, order);
    }
    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        Self::fetch_add(self, value, order)
    }
    fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
        Self::fetch_sub(self, value, order)
    }
    fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
        Self::fetch_or(self, value, order)
    }
    fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
        Self::fetch_and(self, value, order)
    }
    fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        Self::compare_exchange(self, current, new, success, failure)
    }
}

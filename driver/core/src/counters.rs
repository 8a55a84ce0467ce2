//! What a module counts.
use core::sync::atomic::Ordering::Relaxed;

use crate::Word;

/// One counter. Updates are exact; a reader sees each at some moment of its own.
#[derive(Debug)]
pub struct Counter<W>(W);

impl<W: Word> Counter<W> {
    /// Zero.
    pub fn new() -> Self {
        Self(W::new(0))
    }

    /// Adds.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Relaxed);
    }

    /// Subtracts.
    pub fn sub(&self, amount: u64) {
        self.0.fetch_sub(amount, Relaxed);
    }

    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl<W: Word> Default for Counter<W> {
    fn default() -> Self {
        Self::new()
    }
}

/// The counters of a module; their meaning is that of the fields of [`sluice_abi::Statistics`].
#[derive(Debug)]
#[expect(missing_docs, reason = "named and described as in the record")]
pub struct Counters<W: Word> {
    pub frames_submitted: Counter<W>,
    pub frames_sent: Counter<W>,
    pub frames_paused: Counter<W>,
    pub frames_failed: Counter<W>,
    pub frames_waiting: Counter<W>,
    pub bytes_sent: Counter<W>,
    pub requests: Counter<W>,
    pub pauses: Counter<W>,
    pub pauses_pending: Counter<W>,
    pub passed_through: Counter<W>,
}

impl<W: Word> Counters<W> {
    /// All zero.
    pub fn new() -> Self {
        Self {
            frames_submitted: Counter::new(),
            frames_sent: Counter::new(),
            frames_paused: Counter::new(),
            frames_failed: Counter::new(),
            frames_waiting: Counter::new(),
            bytes_sent: Counter::new(),
            requests: Counter::new(),
            pauses: Counter::new(),
            pauses_pending: Counter::new(),
            passed_through: Counter::new(),
        }
    }
}

impl<W: Word> Default for Counters<W> {
    fn default() -> Self {
        Self::new()
    }
}

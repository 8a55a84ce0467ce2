//! The life of what the system keeps a pointer to and a shared value has as a part: DPCs, timers, work items. For types
//! that wrap such an object; a driver uses [`crate::dpc`], [`crate::timer`], [`crate::work`].
use core::sync::atomic::{AtomicU8, Ordering};

use crate::irql::Passive;
use crate::rundown::Rundown;
use crate::shared::Shared;

const NEW: u8 = 0;
const STARTED: u8 = 1;
const STOPPED: u8 = 2;

/// From `new` over `start` and `stop` to the end. Uses between `start` and `stop` hold off `stop`; all others
/// are refused.
///
/// # Invariants
/// A part that was started is stopped before it is dropped: `drop` sees to it.
pub struct Embedded {
    stage: AtomicU8,
    uses: Rundown,
}

impl Embedded {
    /// A part that is not started.
    pub fn new() -> Self {
        Self { stage: AtomicU8::new(NEW), uses: Rundown::new() }
    }

    /// Begins to start `part` of `host`; [`Embedded::admit`] ends it.
    ///
    /// # Panics
    /// If `part` does not lie inside `host`, or was started before.
    pub fn start<P, T>(&self, part: &P, host: &Shared<T>) {
        assert!(host.contains(part), "only a part of a value can be started with that value");
        assert!(self.stage.load(Ordering::Relaxed) == NEW, "a part is started once");
    }

    /// The part is ready to be used.
    pub fn admit(&self) {
        self.stage.store(STARTED, Ordering::Release);
    }

    /// Runs `work` if the part is started and not stopped; it is not stopped meanwhile.
    pub fn enter<R>(&self, work: impl FnOnce() -> R) -> Option<R> {
        if self.stage.load(Ordering::Acquire) != STARTED {
            return None;
        }
        self.uses.enter(work)
    }

    /// Begins a use that ends elsewhere, with [`Embedded::release`].
    pub fn acquire(&self) -> bool {
        self.stage.load(Ordering::Acquire) == STARTED && self.uses.acquire()
    }

    /// Ends a use. Nothing of the part may be touched afterwards.
    pub fn release(&self) {
        self.uses.release();
    }

    /// Refuses uses from now on and waits for those that are on, at `PASSIVE_LEVEL`; true if the part was started.
    pub fn stop(&self, passive: &mut Passive<'_>) -> bool {
        if self.stage.load(Ordering::Acquire) != STARTED {
            return false;
        }
        self.uses.run_down(passive);
        self.stage.store(STOPPED, Ordering::Release);
        true
    }
}

impl Default for Embedded {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        assert!(
            *self.stage.get_mut() != STARTED,
            "a DPC, timer or work item is freed that was not stopped: the system may still have it queued"
        );
    }
}

//! The life of what the system keeps a pointer to and a shared value has as a part: DPCs, timers, work items. For types
//! that wrap such an object; a driver uses [`crate::dpc`], [`crate::timer`], [`crate::work`].
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};

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
pub(crate) struct Embedded {
    stage: AtomicU8,
    uses: Rundown,
}

impl Embedded {
    /// A part that is not started.
    pub(crate) fn new() -> Self {
        Self { stage: AtomicU8::new(NEW), uses: Rundown::new() }
    }

    /// Begins to start `part` of `host`; [`Embedded::admit`] ends it.
    ///
    /// # Panics
    /// If `part` does not lie inside `host`, or was started before.
    pub(crate) fn start<P, T>(&self, part: &P, host: &Shared<T>) {
        assert!(host.contains(part), "only a part of a value can be started with that value");
        assert!(self.stage.load(Ordering::Relaxed) == NEW, "a part is started once");
    }

    /// The part is ready to be used.
    pub(crate) fn admit(&self) {
        self.stage.store(STARTED, Ordering::Release);
    }

    /// Runs `work` if the part is started and not stopped; it is not stopped meanwhile.
    pub(crate) fn enter<R>(&self, work: impl FnOnce() -> R) -> Option<R> {
        if self.stage.load(Ordering::Acquire) != STARTED {
            return None;
        }
        self.uses.enter(work)
    }

    /// Begins a use that ends elsewhere, with [`Embedded::release`].
    fn acquire(&self) -> bool {
        self.stage.load(Ordering::Acquire) == STARTED && self.uses.acquire()
    }

    /// Ends a use. Nothing of the part may be touched afterwards.
    fn release(&self) {
        self.uses.release();
    }

    /// Refuses uses from now on and waits for those that are on, at `PASSIVE_LEVEL`; true if the part was started.
    pub(crate) fn stop(&self, passive: &mut Passive<'_>) -> bool {
        if self.stage.load(Ordering::Acquire) != STARTED {
            return false;
        }
        self.uses.run_down(passive);
        self.stage.store(STOPPED, Ordering::Release);
        true
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

/// The life of a work item: a part whose routine is queued at most once, and holds off `stop` from then until it has run.
pub struct QueuedOnce {
    life: Embedded,
    queued: AtomicBool,
}

impl QueuedOnce {
    /// An item that is not started.
    pub fn new() -> Self {
        Self { life: Embedded::new(), queued: AtomicBool::new(false) }
    }

    /// Begins to start `part` of `host`; [`QueuedOnce::admit`] ends it.
    ///
    /// # Panics
    /// If `part` does not lie inside `host`, or was started before.
    pub fn start<P, T>(&self, part: &P, host: &Shared<T>) {
        self.life.start(part, host);
    }

    /// The item is ready to be queued.
    pub fn admit(&self) {
        self.life.admit();
    }

    /// Calls `queue` unless the routine is queued and has not begun, or the item is not started, or stopped: an item that is
    /// queued twice corrupts the system's queue.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`, if `queue` may run there.
    pub fn queue(&self, queue: impl FnOnce()) {
        if !self.life.acquire() {
            return;
        }
        if self.queued.swap(true, Ordering::AcqRel) {
            self.life.release();
        } else {
            queue();
        }
    }

    /// Runs the routine's work. From its beginning on the item may be queued again; after it, nothing of the item is
    /// touched.
    pub fn run(&self, work: impl FnOnce()) {
        self.queued.store(false, Ordering::Release);
        work();
        self.life.release();
    }

    /// Refuses to be queued from now on and waits for a routine that is queued or running, at `PASSIVE_LEVEL`; true if the
    /// item was started.
    pub fn stop(&self, passive: &mut Passive<'_>) -> bool {
        self.life.stop(passive)
    }
}

impl Default for QueuedOnce {
    fn default() -> Self {
        Self::new()
    }
}

//! Processors as host threads: code of drivers runs at the same time on all of them, and the machine's own under
//! one lock. A thread stays on the processor that it was started on.
#![expect(unsafe_code, reason = "shares a machine between host threads, under its lock")]
use std::cell::Cell;
use std::time::Duration;

use parking_lot::RawMutex;
use parking_lot::lock_api::RawMutex as _;

use super::{PROCESSOR, Processor, Scheduler};
use crate::machine::{Machine, current};

/// The lock that the machine's own code runs under.
pub(crate) struct Giant(RawMutex);

impl Giant {
    pub(super) const fn new() -> Self {
        Self(RawMutex::INIT)
    }

    pub(crate) fn acquire(&self) {
        self.0.lock();
    }

    pub(crate) fn release(&self) {
        // SAFETY: whoever runs code of the machine holds the lock.
        unsafe { self.0.unlock() };
    }
}

/// A machine that several host threads may reach, one at a time.
struct Shared<'a>(&'a Machine);
// SAFETY: whoever uses the machine holds its lock.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

impl Scheduler {
    /// A scheduling point: interrupts and DPCs go first, and a machine that has stopped does not go on.
    pub(super) fn parallel_point(&self) {
        self.advance();
        if current().stopped.borrow().is_some() {
            self.halt();
        }
        let this = self.this();
        let processor = self.processor();
        let interrupted = self.processors.borrow().get(processor).is_some_and(Processor::is_interrupted);
        // Now and then a thread gives its processor to another.
        let ends = this.irql.get() < super::DISPATCH && self.steps.get().is_multiple_of(64);
        if interrupted || ends || self.yields.take() {
            self.suspend();
        }
    }

    /// Runs all processors until nothing can happen any more, `done` says so, or the machine stops.
    pub(crate) fn run_parallel(&self, machine: &Machine, done: &mut dyn FnMut() -> bool) {
        let shared = Shared(machine);
        let idle = Cell::new(0usize);
        let over = Cell::new(false);
        let state = State { idle: &idle, over: &over };
        std::thread::scope(|scope| {
            for processor in 1..self.processors() {
                let (shared, state) = (&shared, &state);
                scope.spawn(move || {
                    let machine = shared.0;
                    machine.enter_host_thread();
                    PROCESSOR.set(processor);
                    machine.scheduler.work(processor, state, None);
                    machine.leave_host_thread();
                });
            }
            PROCESSOR.set(0);
            self.work(0, &state, Some(done));
        });
        PROCESSOR.set(0);
    }

    fn work(&self, processor: usize, state: &State<'_>, mut done: Option<&mut dyn FnMut() -> bool>) {
        let Some(giant) = &self.giant else { return };
        giant.acquire();
        let mut was_idle = false;
        loop {
            let stopped = current().stopped.borrow().is_some();
            if stopped || done.as_mut().is_some_and(|done| done()) {
                state.over.set(true);
            }
            if state.over.get() {
                break;
            }
            self.advance();
            self.wake();
            let next = {
                let mut candidates = self.scratch.borrow_mut();
                self.candidates(&mut candidates);
                candidates.retain(|candidate| candidate.processor == processor);
                let others = candidates.iter().filter(|one| one.action == super::Action::Switch).count();
                // A thread that gave its processor up is followed by another, if there is one.
                if others == 0 {
                    candidates.first().copied()
                } else {
                    let index = self.choose(candidates.len() as u64) as usize;
                    candidates.get(index).copied()
                }
            };
            if was_idle {
                state.idle.set(state.idle.get() - 1);
                was_idle = false;
            }
            if let Some(candidate) = next {
                self.run(candidate);
            } else {
                state.idle.set(state.idle.get() + 1);
                was_idle = true;
                // What another processor was given a moment ago it has not seen yet.
                let anything = {
                    let mut candidates = self.scratch.borrow_mut();
                    self.candidates(&mut candidates);
                    !candidates.is_empty()
                };
                let all = state.idle.get() == self.processors() && !anything;
                if all && !self.jump() {
                    self.check_hang(true);
                    state.over.set(true);
                }
                if !all {
                    giant.release();
                    std::thread::sleep(Duration::from_micros(5));
                    giant.acquire();
                }
            }
        }
        if was_idle {
            state.idle.set(state.idle.get() - 1);
        }
        giant.release();
    }
}

/// What the host threads of a run share, under the lock.
struct State<'a> {
    /// Processors that have nothing to do.
    idle: &'a Cell<usize>,
    /// Whether the run is over.
    over: &'a Cell<bool>,
}
// SAFETY: whoever uses it holds the machine's lock.
unsafe impl Sync for State<'_> {}

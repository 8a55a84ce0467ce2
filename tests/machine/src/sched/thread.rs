//! Kernel threads, and DPCs and interrupts at work.
use std::cell::{Cell, RefCell};

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, Yielder};

use crate::stack::KernelStack;

/// Why a thread does not run.
pub(super) enum State {
    Ready,
    /// At a lock, until it is free, or until something else holds.
    Spinning(u64, Option<Box<dyn Fn() -> bool>>),
    Waiting {
        what: String,
        ready: Box<dyn Fn() -> bool>,
        until: Option<u64>,
    },
    Done,
    /// It ended itself in the middle of its code.
    Ended,
}

pub(super) type Body = Coroutine<(), (), (), DefaultStack>;

/// What a thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Thread,
    Dpc,
    Interrupt,
}

/// A lock that a thread holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) lock: u64,
    pub(crate) kind: LockKind,
}

/// Kinds of locks whose owners the machine knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockKind {
    /// `KSPIN_LOCK` taken as such.
    Spin,
    /// `KSPIN_LOCK` taken through a queue handle.
    Queued,
    /// `FAST_MUTEX` or `KGUARDED_MUTEX`.
    FastMutex,
    /// `KMUTEX`.
    Mutex,
}

/// See [`crate::user::stall`].
pub(crate) struct Stall {
    /// Scheduling points to go.
    pub(crate) points: u32,
    pub(crate) until: Box<dyn Fn() -> bool>,
}

/// A kernel thread, or a DPC or an interrupt at work.
pub(crate) struct Thread {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(super) body: RefCell<Option<Body>>,
    pub(super) yielder: Cell<*const Yielder<(), ()>>,
    pub(crate) stack: RefCell<Option<KernelStack>>,
    /// Where the next call into a driver starts on the kernel stack.
    pub(super) stack_pointer: Cell<u64>,
    pub(crate) irql: Cell<u8>,
    pub(super) state: RefCell<State>,
    /// Calls of drivers that are being served, innermost last: frame and export.
    pub(crate) calls: RefCell<Vec<(u64, &'static str)>>,
    /// Calls into drivers that have not returned.
    pub(super) depth: Cell<u32>,
    /// Whether the thread is inside a system service, as a program's is that has sent a request.
    pub(crate) in_service: Cell<bool>,
    /// Processor that it stays on.
    pub(super) affinity: Option<usize>,
    /// Locks that it holds, in the order in which it took them.
    pub(crate) held: RefCell<Vec<Held>>,
    /// Critical regions, and guarded regions, that it is in.
    pub(crate) critical: Cell<i32>,
    pub(crate) guarded: Cell<i32>,
    /// Its `KTHREAD`, made when a driver asks for it.
    pub(crate) object: Cell<u64>,
    /// What happens when it ends.
    pub(crate) on_end: RefCell<Option<Box<dyn FnOnce()>>>,
    /// A delay that the thread meets at one of its next scheduling points inside a call into the kernel.
    pub(crate) stall: RefCell<Option<Stall>>,
    /// When it began to spin, the last time that it did.
    pub(crate) spins_since: Cell<u64>,
    /// Processor time that it has used, in 100 ns: see [`super::Scheduler::charge`].
    pub(crate) spent: Cell<u64>,
}

impl Thread {
    /// Spin locks that it holds.
    pub(crate) fn spin_lock(&self) -> Option<u64> {
        let held = self.held.borrow();
        held.iter().find(|held| matches!(held.kind, LockKind::Spin | LockKind::Queued)).map(|held| held.lock)
    }
}

impl Thread {
    /// Whether a callback that returns now is the outermost call into a driver.
    pub(crate) fn depth_is_one(&self) -> bool {
        self.depth.get() == 0
    }
}

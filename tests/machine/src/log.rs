//! What happened: the last events of every object, and, when a run is recorded, all of its events for traces and
//! timelines.
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::machine::Machine;

/// Events that an object remembers.
pub(crate) const HISTORY: usize = 32;
/// Events that are kept of a run that is not recorded.
const KEPT: usize = 1 << 18;
/// No earlier event.
const NONE: u64 = u64::MAX;

/// What an event is.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// A processor goes on with a thread.
    Runs {
        /// Which processor.
        processor: usize,
        /// Number of the thread.
        thread: u32,
    },
    /// The level of the processor changes.
    Irql(u8),
    /// Something happens to the object.
    Object(&'static str),
    /// A driver calls a function of the kernel.
    Call {
        /// Its name.
        function: &'static str,
        /// As many of its arguments as it has.
        arguments: Vec<u64>,
    },
    /// The call returns.
    Returned {
        /// Its name.
        function: &'static str,
        /// What it returns.
        value: u64,
    },
}

/// One event.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// 100 ns units of simulated time.
    pub(crate) time: u64,
    /// Address or handle, 0 for none.
    pub(crate) object: u64,
    pub(crate) thread: u32,
    pub(crate) processor: usize,
    pub(crate) irql: u8,
    pub(crate) what: What,
    previous: u64,
}

/// See the module's description.
#[derive(Debug, Default)]
pub(crate) struct Log {
    recording: bool,
    /// Number of the first event that is kept.
    first: Cell<u64>,
    events: RefCell<Vec<Event>>,
    last: RefCell<FxHashMap<u64, u64>>,
    kinds: RefCell<FxHashMap<u64, &'static str>>,
    names: RefCell<Vec<(u32, String)>>,
}

impl Log {
    pub(crate) fn new(recording: bool) -> Self {
        let log = Self { recording, ..Self::default() };
        // Objects come by the thousand.
        log.last.borrow_mut().reserve(4096);
        log
    }

    /// Whether everything is recorded.
    pub(crate) fn records(&self) -> bool {
        self.recording
    }

    /// Something happens to an object, or to the processor.
    pub(crate) fn note(&self, machine: &Machine, object: u64, what: What) {
        if object != 0 || self.recording {
            self.push(machine, object, what, false);
        }
    }

    fn push(&self, machine: &Machine, object: u64, what: What, first: bool) {
        let (thread, irql) = machine.scheduler.with(|this| (this.id, this.irql.get())).unwrap_or((0, 0));
        let mut events = self.events.borrow_mut();
        if !self.recording && events.len() >= KEPT {
            // The older half is forgotten.
            events.drain(..KEPT / 2);
            self.first.set(self.first.get() + KEPT as u64 / 2);
        }
        let number = self.first.get() + events.len() as u64;
        let before = if object == 0 { None } else { self.last.borrow_mut().insert(object, number) };
        let previous = if first { NONE } else { before.unwrap_or(NONE) };
        let (time, processor) = (machine.scheduler.now(), machine.scheduler.processor());
        events.push(Event { time, object, thread, processor, irql, what, previous });
    }

    /// Says what an object is, for timelines.
    pub(crate) fn kind(&self, object: u64, kind: &'static str) {
        if self.recording {
            self.kinds.borrow_mut().insert(object, kind);
        }
    }

    /// Says what a thread is called, for timelines.
    pub(crate) fn name(&self, thread: u32, name: &str) {
        if self.recording {
            self.names.borrow_mut().push((thread, name.to_owned()));
        }
    }

    /// An object begins its life, perhaps at an address that another had.
    pub(crate) fn begin(&self, machine: &Machine, object: u64, kind: &'static str, what: &'static str) {
        self.kind(object, kind);
        self.push(machine, object, What::Object(what), true);
    }

    /// The last events of an object, oldest first.
    pub(crate) fn history(&self, object: u64) -> Vec<String> {
        let Ok(events) = self.events.try_borrow() else { return Vec::new() };
        let mut lines = Vec::new();
        let mut number = self.last.borrow().get(&object).copied().unwrap_or(NONE);
        while lines.len() < HISTORY
            && number != NONE
            && let Some(index) = number.checked_sub(self.first.get())
            && let Some(event) = events.get(index as usize)
        {
            if let What::Object(what) = event.what {
                let (time, thread) = (event.time / 10, event.thread);
                lines.push(format!(
                    "{time} us: {what} (thread {thread}, processor {}, IRQL {})",
                    event.processor, event.irql
                ));
            }
            number = event.previous;
        }
        lines.reverse();
        lines
    }

    /// Everything that was recorded, which is forgotten here.
    pub(crate) fn take_events(&self) -> Vec<Event> {
        self.last.borrow_mut().clear();
        self.events.take()
    }

    /// What objects are.
    pub(crate) fn kinds(&self) -> BTreeMap<u64, &'static str> {
        self.kinds.borrow().iter().map(|(object, kind)| (*object, *kind)).collect()
    }

    /// Names of threads by number.
    pub(crate) fn names(&self) -> BTreeMap<u32, String> {
        self.names.borrow().iter().cloned().collect()
    }
}

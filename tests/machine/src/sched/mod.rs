//! Processors, threads, interrupts, DPCs and time.
//!
//! Threads are coroutines. One step runs one thread from one scheduling point to the next; every call into
//! the kernel has a scheduling point before and after it. What runs next is chosen from all that may run by the
//! rules of IRQL: at `DISPATCH_LEVEL` nothing replaces a thread on its processor, below it DPCs come first, and
//! device interrupts before them. Time is simulated: a step takes a microsecond, and when nothing can run time
//! jumps to what is due.
#![expect(unsafe_code, reason = "resumes and abandons coroutines")]
mod parallel;
mod policy;
mod thread;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use rustc_hash::FxHashMap;

pub(crate) use self::parallel::Giant;
use self::policy::Policy;
pub use self::policy::{Decision, Schedule, Strategy};
use self::thread::State;
pub(crate) use self::thread::{Held, Kind, LockKind, Stall, Thread};
use crate::log::What;
use crate::machine::{current, try_current};
use crate::memory::{self, Memory};
use crate::rule;
use crate::stack::{Arguments, CallFrame, StackPool, call_on};

/// `APC_LEVEL`.
pub(crate) const APC: u8 = 1;
/// `DISPATCH_LEVEL`.
pub(crate) const DISPATCH: u8 = 2;
/// The level of the adapters' interrupts.
const DEVICE: u8 = 8;
/// `HIGH_LEVEL`.
pub(crate) const HIGH: u8 = 15;
/// 100 ns units of one step.
const STEP: u64 = 10;
/// Units of processor time that a step uses. A step moves the clock by more, so that many things can happen while one goes
/// on; what a real call into the kernel takes is nearer to this.
const STEP_SPENT: u64 = 1;
/// Bytes that are copied in one unit: some 5 GB/s, as between caches and memory.
const COPIED_PER_UNIT: u64 = 512;
/// Bytes of stack for the machine's own code.
const HOST_STACK: usize = 512 * 1024;
/// A thread stalls for no longer than this: 5 ms. What it waits for may wait for it.
const STALL_LIMIT: u64 = 5 * 10_000;
/// A spin that lasts this long is a hang (`KeQueryDpcWatchdogInformation`: two minutes).
const HANG: u64 = 120 * 10_000_000;
/// A DPC that runs for 20 seconds ends in the system's watchdog.
pub(crate) const DPC_LIMIT: u64 = 20 * 10_000_000;

thread_local! {
    static SPARE: RefCell<Vec<DefaultStack>> = const { RefCell::new(Vec::new()) };
    /// The processor that this host thread plays, and the thread that runs on it.
    static PROCESSOR: Cell<usize> = const { Cell::new(0) };
    static THIS: Cell<*const Thread> = const { Cell::new(std::ptr::null()) };
}

/// Work for a processor that comes before its threads.
pub(crate) struct Dpc {
    /// Its `KDPC`, or 0 for one of the machine's own.
    pub(crate) object: u64,
    pub(crate) work: Box<dyn FnOnce()>,
}

#[derive(Default)]
struct Processor {
    thread: Option<Rc<Thread>>,
    dpc: Option<Rc<Thread>>,
    interrupt: Option<Rc<Thread>>,
    queue: VecDeque<(u32, Dpc)>,
    /// Number of the DPC at work.
    at_work: u32,
    interrupts: VecDeque<(u32, Box<dyn FnOnce()>)>,
}

impl Processor {
    /// What runs on it: an interrupt, else a DPC, else a thread.
    fn top(&self) -> Option<&Rc<Thread>> {
        self.interrupt.as_ref().or(self.dpc.as_ref()).or(self.thread.as_ref())
    }

    fn level(&self) -> u8 {
        self.top().map_or(0, |thread| thread.irql.get())
    }

    /// Whether something has to run before what runs goes on.
    fn is_interrupted(&self) -> bool {
        let level = self.level();
        !self.interrupts.is_empty() && level < DEVICE || !self.queue.is_empty() && level < DISPATCH
    }
}

/// What happens when: by time, and by the order in which it was promised.
type Events = BTreeMap<(u64, u64), Box<dyn FnOnce()>>;

/// What may happen next on a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate {
    processor: usize,
    action: Action,
    thread: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Action {
    /// The processor goes on with what it runs.
    Continue,
    /// The processor takes the first interrupt that waits.
    Interrupt,
    /// The processor starts the first DPC of its queue.
    Dpc,
    /// The processor switches to a thread that is ready.
    Switch,
}

/// See the module's description.
pub(crate) struct Scheduler {
    processors: RefCell<Vec<Processor>>,
    ready: RefCell<Vec<Rc<Thread>>>,
    waiting: RefCell<Vec<Rc<Thread>>>,
    /// What each processor executes at this moment.
    running: RefCell<Vec<Option<Rc<Thread>>>>,
    policy: RefCell<Policy>,
    data: RefCell<fastrand::Rng>,
    last: Cell<(usize, u32)>,
    chosen: Cell<Option<Candidate>>,
    scratch: RefCell<Vec<Candidate>>,
    windowed: Cell<bool>,
    yields: Cell<bool>,
    /// Interrupts and DPCs that are queued.
    queued: Cell<u32>,
    now: Cell<u64>,
    events: RefCell<Events>,
    next_due: Cell<u64>,
    next_event: Cell<u64>,
    next_thread: Cell<u32>,
    locks: RefCell<FxHashMap<u64, (u32, LockKind)>>,
    hash: Cell<u64>,
    /// Bytes that were copied and have not made a unit.
    copied: Cell<u64>,
    /// Processor time of the DPC that used the most, in units.
    longest_dpc: Cell<u64>,
    stacks: StackPool,
    /// Present when processors are host threads.
    pub(crate) giant: Option<Giant>,
    pub(crate) steps: Cell<u64>,
}

impl Scheduler {
    pub(crate) fn new(processors: usize, schedule: &Schedule, record: bool, parallel: bool) -> Self {
        let processors = processors.max(1);
        Self {
            processors: RefCell::new((0..processors).map(|_| Processor::default()).collect()),
            ready: RefCell::default(),
            waiting: RefCell::default(),
            running: RefCell::new(vec![None; processors]),
            policy: RefCell::new(Policy::new(schedule, record)),
            data: RefCell::new(fastrand::Rng::with_seed(schedule.seed)),
            last: Cell::new((0, 0)),
            chosen: Cell::new(None),
            scratch: RefCell::default(),
            windowed: Cell::new(true),
            yields: Cell::new(false),
            queued: Cell::new(0),
            now: Cell::new(0),
            events: RefCell::default(),
            next_due: Cell::new(u64::MAX),
            next_event: Cell::new(0),
            next_thread: Cell::new(1),
            locks: RefCell::default(),
            hash: Cell::new(0xCBF2_9CE4_8422_2325),
            copied: Cell::new(0),
            longest_dpc: Cell::new(0),
            stacks: StackPool::new(record),
            giant: parallel.then(Giant::new),
            steps: Cell::new(0),
        }
    }

    fn thread(&self, name: &str, irql: u8, kind: Kind, work: impl FnOnce() + 'static) -> Rc<Thread> {
        let host = SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| {
            DefaultStack::new(HOST_STACK).unwrap_or_else(|error| panic!("no stack for a thread: {error}"))
        });
        let kernel = self.stacks.take();
        let id = self.next_id();
        let body = Coroutine::with_stack(host, move |yielder: &Yielder<(), ()>, ()| {
            current().scheduler.this().yielder.set(yielder);
            work();
        });
        if let Some(machine) = try_current() {
            machine.log.name(id, name);
        }
        let affinity =
            (self.giant.is_some() && kind == Kind::Thread).then(|| id as usize % self.processors());
        Rc::new(Thread {
            id,
            name: name.to_owned(),
            kind,
            body: RefCell::new(Some(body)),
            yielder: Cell::new(std::ptr::null()),
            stack_pointer: Cell::new(kernel.top()),
            stack: RefCell::new(Some(kernel)),
            irql: Cell::new(irql),
            state: RefCell::new(State::Ready),
            calls: RefCell::default(),
            depth: Cell::new(0),
            in_service: Cell::new(false),
            affinity,
            held: RefCell::default(),
            critical: Cell::new(0),
            guarded: Cell::new(0),
            object: Cell::new(0),
            on_end: RefCell::new(None),
            stall: RefCell::new(None),
            spins_since: Cell::new(0),
            spent: Cell::new(0),
        })
    }

    fn next_id(&self) -> u32 {
        let id = self.next_thread.get();
        self.next_thread.set(id + 1);
        id
    }

    /// Starts a thread at `PASSIVE_LEVEL`.
    pub(crate) fn spawn(&self, name: &str, work: impl FnOnce() + 'static) -> Rc<Thread> {
        let thread = self.thread(name, 0, Kind::Thread, work);
        self.ready.borrow_mut().push(thread.clone());
        thread
    }

    /// Queues a DPC on a processor, or on the current one.
    pub(crate) fn queue_dpc(&self, processor: Option<usize>, dpc: Dpc) {
        let number = self.next_id();
        let mut processors = self.processors.borrow_mut();
        let count = processors.len();
        if let Some(place) = processors.get_mut(processor.unwrap_or_else(|| self.processor()) % count) {
            place.queue.push_back((number, dpc));
            self.queued.set(self.queued.get() + 1);
        }
    }

    /// A device interrupts a processor.
    pub(crate) fn interrupt(&self, processor: usize, work: impl FnOnce() + 'static) {
        let number = self.next_id();
        if let Some(place) = self.processors.borrow_mut().get_mut(processor) {
            place.interrupts.push_back((number, Box::new(work)));
            self.queued.set(self.queued.get() + 1);
        }
    }

    /// Whether a `KDPC` is queued; takes it off its queue if asked.
    pub(crate) fn dpc_queued(&self, object: u64, remove: bool) -> bool {
        self.processors.borrow_mut().iter_mut().any(|processor| {
            let found = processor.queue.iter().position(|(_, dpc)| dpc.object == object);
            if let (Some(index), true) = (found, remove) {
                processor.queue.remove(index);
                self.queued.set(self.queued.get() - 1);
            }
            found.is_some()
        })
    }

    /// A queued `KDPC` that lies in a range of memory.
    pub(crate) fn dpc_in(&self, start: u64, length: u64) -> Option<u64> {
        let processors = self.processors.borrow();
        let queued = processors.iter().flat_map(|processor| &processor.queue);
        queued.map(|(_, dpc)| dpc.object).find(|object| object.wrapping_sub(start) < length)
    }

    /// The number that the next DPC will have.
    pub(crate) fn next_dpc(&self) -> u32 {
        self.next_thread.get()
    }

    /// Whether any DPC with a lower number is queued or at work.
    pub(crate) fn dpcs_pending_before(&self, number: u32) -> bool {
        self.processors.borrow().iter().any(|processor| {
            processor.queue.iter().any(|(queued, _)| *queued < number)
                || processor.dpc.is_some() && processor.at_work < number
        })
    }

    /// Does `work` after `delay` (100 ns), outside any thread; returns a number to cancel it with.
    pub(crate) fn after(&self, delay: u64, work: impl FnOnce() + 'static) -> (u64, u64) {
        let number = self.next_event.get();
        self.next_event.set(number + 1);
        let key = (self.now.get().saturating_add(delay), number);
        self.events.borrow_mut().insert(key, Box::new(work));
        self.next_due.set(self.next_due.get().min(key.0));
        key
    }

    /// Cancels what [`Scheduler::after`] promised; false if it has happened.
    pub(crate) fn cancel_event(&self, key: (u64, u64)) -> bool {
        let found = self.events.borrow_mut().remove(&key).is_some();
        self.note_due();
        found
    }

    fn note_due(&self) {
        let due = self.events.borrow().keys().next().map_or(u64::MAX, |(due, _)| *due);
        self.next_due.set(due);
    }

    pub(crate) fn now(&self) -> u64 {
        self.now.get()
    }

    /// Time passes while a processor stalls.
    pub(crate) fn stall(&self, units: u64) {
        self.now.set(self.now.get() + units);
        self.charge(units);
    }

    /// Time passes while a processor copies or fills bytes.
    pub(crate) fn copied(&self, bytes: u64) {
        let all = self.copied.get() + bytes;
        self.copied.set(all % COPIED_PER_UNIT);
        self.stall(all / COPIED_PER_UNIT);
    }

    /// The running thread has used its processor for so many units.
    fn charge(&self, units: u64) {
        self.with(|this| this.spent.set(this.spent.get() + units));
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.get()
    }

    pub(crate) fn decisions(&self) -> Vec<Decision> {
        self.policy.borrow().decisions()
    }

    /// Outside the window nothing is left to the schedule: the running thread goes on while it can.
    pub(crate) fn window(&self, open: bool) {
        self.windowed.set(open);
    }

    /// A number below `bound`, from the seed.
    pub(crate) fn choose(&self, bound: u64) -> u64 {
        self.data.borrow_mut().u64(..bound.max(1))
    }

    /// The thread that runs.
    pub(crate) fn this(&self) -> Rc<Thread> {
        self.try_this().unwrap_or_else(|| panic!("this is done on a thread of the machine"))
    }

    pub(crate) fn try_this(&self) -> Option<Rc<Thread>> {
        self.running.try_borrow().ok()?.get(PROCESSOR.get())?.clone()
    }

    pub(crate) fn thread_name(&self) -> String {
        self.try_this().map_or_else(|| "none".to_owned(), |thread| thread.name.clone())
    }

    pub(crate) fn thread_id(&self) -> u32 {
        self.with(|thread| thread.id).unwrap_or(0)
    }

    /// Looks at the thread that runs, if one does.
    #[expect(clippy::unused_self, reason = "there is one scheduler on a host thread")]
    pub(crate) fn with<R>(&self, look: impl FnOnce(&Thread) -> R) -> Option<R> {
        // SAFETY: the thread runs, so its processor keeps it.
        unsafe { THIS.get().as_ref() }.map(look)
    }

    #[expect(clippy::unused_self, reason = "there is one scheduler on a host thread")]
    pub(crate) fn processor(&self) -> usize {
        PROCESSOR.get()
    }

    pub(crate) fn processors(&self) -> usize {
        self.processors.borrow().len()
    }

    pub(crate) fn irql(&self) -> u8 {
        self.with(|thread| thread.irql.get()).unwrap_or(0)
    }

    pub(crate) fn set_irql(&self, irql: u8) {
        let this = self.this();
        let before = this.irql.replace(irql);
        if before != irql {
            let machine = current();
            machine.log.note(machine, 0, What::Irql(irql));
            if (before < DISPATCH) != (irql < DISPATCH) {
                self.open_paged(&machine.memory, irql);
            }
        }
    }

    /// Paged memory is there or not, as the level wants it. Processors on host threads share one page table, so
    /// there it always is.
    fn open_paged(&self, memory: &Memory, irql: u8) {
        if self.giant.is_none() && current().verifier.force_irql {
            memory.open_paged(irql < DISPATCH);
        }
    }

    pub(crate) fn in_dpc(&self) -> bool {
        self.with(|thread| thread.kind == Kind::Dpc).unwrap_or(false)
    }

    /// Gives others a chance.
    pub(crate) fn point(&self) {
        if self.giant.is_some() {
            return self.parallel_point();
        }
        self.advance();
        let (stays, looks) = {
            let mut policy = self.policy.borrow_mut();
            (policy.stays(), policy.looks_at_all())
        };
        let (processor, thread) = self.last.get();
        let interrupted = self.queued.get() != 0
            && self.processors.borrow().get(processor).is_some_and(Processor::is_interrupted);
        if !interrupted && (stays && !looks || !self.windowed.get()) && !self.yields.get() {
            self.mix(processor, thread);
            return;
        }
        self.wake();
        match self.decide(stays) {
            Some(candidate)
                if candidate.action == Action::Continue
                    && (candidate.processor, candidate.thread) == (processor, thread) => {}
            chosen => {
                self.chosen.set(chosen);
                self.suspend();
            }
        }
    }

    /// Gives others a chance before itself: the thread polls.
    pub(crate) fn poll(&self) {
        self.policy.borrow_mut().polls(self.thread_id());
        self.yields.set(true);
        self.point();
    }

    fn mix(&self, processor: usize, thread: u32) {
        let value = (processor as u64) << 32 | u64::from(thread);
        self.hash.set((self.hash.get() ^ value).wrapping_mul(0x0100_0000_01B3));
    }

    fn advance(&self) {
        self.now.set(self.now.get() + STEP);
        self.charge(STEP_SPENT);
        self.steps.set(self.steps.get() + 1);
        if self.now.get() >= self.next_due.get() {
            self.fire_events();
        }
    }

    fn suspend(&self) {
        let yielder = self.with(|this| this.yielder.get()).unwrap_or_else(|| panic!("a thread runs"));
        // SAFETY: the thread runs, so its coroutine and the yielder on its stack are alive.
        unsafe { &*yielder }.suspend(());
    }

    /// Never goes on: the machine has stopped.
    pub(crate) fn halt(&self) -> ! {
        if let Some(thread) = self.try_this() {
            thread.state.replace(State::Done);
            loop {
                self.chosen.set(None);
                self.suspend();
            }
        }
        panic!("the machine stopped outside its threads: {:?}", current().stopped.borrow());
    }

    /// Ends the running thread where it stands.
    pub(crate) fn end_thread(&self) -> ! {
        self.this().state.replace(State::Ended);
        self.chosen.set(None);
        self.suspend();
        unreachable!("a thread that has ended does not go on")
    }

    /// Waits until `ready`, at most until a time.
    pub(crate) fn wait(&self, what: &str, until: Option<u64>, ready: impl Fn() -> bool + 'static) -> bool {
        if ready() {
            return true;
        }
        let ready: Rc<dyn Fn() -> bool> = Rc::new(ready);
        let again = ready.clone();
        // Time has to come to the end of the wait.
        let alarm = until.map(|until| self.after(until.saturating_sub(self.now.get()), || ()));
        let this = self.this();
        // Another may have been faster to what both waited for.
        while !ready() && until.is_none_or(|until| until > self.now.get()) {
            let again = again.clone();
            let state = State::Waiting { what: what.to_owned(), ready: Box::new(move || again()), until };
            this.state.replace(state);
            self.chosen.set(None);
            self.suspend();
        }
        if let Some(alarm) = alarm {
            self.cancel_event(alarm);
        }
        ready()
    }

    /// The running thread is at a scheduling point of a call: it may have to stall there, if other threads can run.
    pub(crate) fn may_stall(&self) {
        let due = |this: &Thread| {
            let mut stall = this.stall.borrow_mut();
            let left = stall.as_mut()?;
            if left.points != 0 {
                left.points -= 1;
                return None;
            }
            stall.take_if(|_| this.irql.get() < DISPATCH && this.held.borrow().is_empty())
        };
        if let Some(Some(Stall { until, .. })) = self.with(due) {
            self.wait("its time", Some(self.now.get() + STALL_LIMIT), until);
        }
    }

    /// Takes a lock at its address for the running thread, which spins until it is free.
    pub(crate) fn acquire_lock(&self, lock: u64, kind: LockKind) {
        let this = self.this();
        loop {
            let holder = self.locks.borrow().get(&lock).copied();
            match holder {
                None => break,
                Some((thread, _)) if thread == this.id => {
                    let text = "Self-deadlock: the processor acquires a spin lock that it holds";
                    current().stop(&rule::DEADLOCK_SELF, [lock, 0, 0], text);
                    // Without the rule the processor spins for ever.
                    this.state.replace(State::Spinning(lock, None));
                    self.chosen.set(None);
                    self.suspend();
                }
                Some(_) => {
                    this.state.replace(State::Spinning(lock, None));
                    this.spins_since.set(self.now.get());
                    self.chosen.set(None);
                    self.suspend();
                    self.spun(&this);
                }
            }
        }
        self.locks.borrow_mut().insert(lock, (this.id, kind));
        this.held.borrow_mut().push(Held { lock, kind });
        memory::put::<u64>(lock, 1);
    }

    /// Spins at a lock until a condition holds, and stays on the processor.
    pub(crate) fn spin_until(&self, lock: u64, ready: impl Fn() -> bool + 'static) {
        if ready() {
            return;
        }
        let this = self.this();
        this.state.replace(State::Spinning(lock, Some(Box::new(ready))));
        this.spins_since.set(self.now.get());
        self.chosen.set(None);
        self.suspend();
        self.spun(&this);
    }

    /// The thread has spun: its processor did nothing else. What others did meanwhile took steps, of which a part counts.
    fn spun(&self, this: &Thread) {
        let units = (self.now.get() - this.spins_since.get()) * STEP_SPENT / STEP;
        this.spent.set(this.spent.get() + units);
    }

    /// Takes a lock if it is free.
    pub(crate) fn try_acquire_lock(&self, lock: u64, kind: LockKind) -> bool {
        if self.locks.borrow().contains_key(&lock) {
            return false;
        }
        self.acquire_lock(lock, kind);
        true
    }

    /// Releases a spin lock.
    pub(crate) fn release_lock(&self, lock: u64, kind: LockKind) {
        let machine = current();
        let this = self.this();
        let holder = self.locks.borrow_mut().remove(&lock);
        match holder {
            Some((thread, taken)) if thread == this.id => {
                if taken != kind {
                    let text = "A spin lock is released in another way than it was acquired";
                    machine.stop(&rule::DEADLOCK_RELEASE_API, [lock, 0, 0], text);
                }
            }
            Some((owner, _)) => machine.stop(
                &rule::DEADLOCK_OTHER_THREAD,
                [lock, u64::from(owner), u64::from(this.id)],
                "A spin lock is released by a thread that does not hold it",
            ),
            None => machine.stop(
                &rule::DEADLOCK_NOT_HELD,
                [lock, 0, 0],
                "A spin lock is released that is not held",
            ),
        }
        let mut held = this.held.borrow_mut();
        if let Some(place) = held.iter().rposition(|held| held.lock == lock) {
            held.remove(place);
        }
        memory::put::<u64>(lock, 0);
    }

    /// A lock that is held in a range of memory, and by whom.
    pub(crate) fn lock_in(&self, start: u64, length: u64) -> Option<(u64, u32)> {
        let locks = self.locks.borrow();
        let found = locks.iter().find(|(lock, _)| lock.wrapping_sub(start) < length);
        found.map(|(lock, (thread, _))| (*lock, *thread))
    }

    /// Calls code of a driver on the running thread's kernel stack, at its current level.
    pub(crate) fn call(&self, function: u64, arguments: &[u64]) -> u64 {
        let this = self.this();
        let mut all: Arguments = [0; 8];
        for (place, argument) in all.iter_mut().zip(arguments) {
            *place = *argument;
        }
        let before = this.stack_pointer.get();
        let (host, has_host) = {
            let stack = this.stack.borrow();
            let stack = stack.as_ref().unwrap_or_else(|| panic!("a running thread has a stack"));
            (stack.host_pointer(), this.depth.get() > 0)
        };
        this.depth.set(this.depth.get() + 1);
        if let Some(giant) = &self.giant {
            giant.release();
        }
        // SAFETY: the function is the driver's, as the machine was told; the stack is this thread's own, and
        // what is in use of it lies above `before`.
        let result = unsafe { call_on(function, &raw const all, before) };
        if let Some(giant) = &self.giant {
            giant.acquire();
        }
        this.depth.set(this.depth.get() - 1);
        if has_host && let Some(stack) = this.stack.borrow().as_ref() {
            stack.set_host_pointer(host);
        }
        this.stack_pointer.set(before);
        result
    }

    /// A driver calls into the kernel: what it calls next runs below its frame.
    pub(crate) fn enter_call(&self, frame: &CallFrame, name: &'static str) -> u64 {
        let at: *const CallFrame = frame;
        let enter = |this: &Thread| {
            this.calls.borrow_mut().push((at as u64, name));
            this.stack_pointer.replace(at as u64)
        };
        self.with(enter).unwrap_or_else(|| panic!("a driver runs on a thread"))
    }

    /// Ends what [`Scheduler::enter_call`] began.
    pub(crate) fn leave_call(&self, before: u64) {
        self.with(|this| {
            this.calls.borrow_mut().pop();
            this.stack_pointer.set(before);
        });
    }

    /// Threads that wait.
    pub(crate) fn waiting(&self) -> Vec<String> {
        let describe = |thread: &Rc<Thread>| match &*thread.state.borrow() {
            State::Waiting { what, .. } => Some(format!("{} waits for {what}", thread.name)),
            State::Spinning(lock, _) => Some(format!("{} spins on {lock:#x}", thread.name)),
            _ => None,
        };
        self.waiting.borrow().iter().filter_map(describe).collect()
    }

    /// One step of one processor; false if nothing can happen any more.
    pub(crate) fn step(&self) -> bool {
        if let Some(candidate) = self.chosen.take() {
            self.run(candidate);
            return true;
        }
        self.advance();
        loop {
            self.wake();
            if let Some(candidate) = self.decide(false) {
                self.run(candidate);
                return true;
            }
            if !self.jump() {
                self.check_hang(true);
                return false;
            }
            if current().stopped.borrow().is_some() {
                return false;
            }
        }
    }

    /// Moves time to the next thing that is due; false if there is none.
    fn jump(&self) -> bool {
        let next = self.next_due.get();
        if next == u64::MAX {
            return false;
        }
        self.now.set(self.now.get().max(next));
        self.fire_events();
        self.check_hang(false);
        true
    }

    fn fire_events(&self) {
        loop {
            let due = {
                let mut events = self.events.borrow_mut();
                match events.first_key_value() {
                    Some(((due, _), _)) if *due <= self.now.get() => events.pop_first(),
                    _ => None,
                }
            };
            match due {
                Some((_, work)) => work(),
                None => break,
            }
        }
        self.note_due();
    }

    /// Moves waiting threads whose wait is over to the ready ones.
    fn wake(&self) {
        if self.waiting.borrow().is_empty() {
            return;
        }
        let now = self.now.get();
        let over = |thread: &Rc<Thread>| match &*thread.state.borrow() {
            State::Waiting { ready, until, .. } => ready() || until.is_some_and(|until| until <= now),
            _ => true,
        };
        let mut index = 0;
        loop {
            let thread = match self.waiting.borrow().get(index) {
                Some(thread) => thread.clone(),
                None => return,
            };
            if over(&thread) {
                thread.state.replace(State::Ready);
                self.waiting.borrow_mut().remove(index);
                self.ready.borrow_mut().push(thread);
            } else {
                index += 1;
            }
        }
    }

    fn may_run(&self, thread: &Thread) -> bool {
        match &*thread.state.borrow() {
            State::Ready => true,
            State::Spinning(_, Some(ready)) => ready(),
            State::Spinning(lock, None) => !self.locks.borrow().contains_key(lock),
            State::Waiting { .. } | State::Done | State::Ended => false,
        }
    }

    /// What may happen next: which processor goes on with what. The first is the last thread, if it may go on.
    fn candidates(&self, candidates: &mut Vec<Candidate>) -> bool {
        candidates.clear();
        let ready = self.ready.borrow();
        for (index, processor) in self.processors.borrow().iter().enumerate() {
            let level = processor.level();
            let mut add = |action: Action, thread: u32| {
                candidates.push(Candidate { processor: index, action, thread });
            };
            if level < DEVICE
                && let Some((number, _)) = processor.interrupts.front()
            {
                add(Action::Interrupt, *number);
                continue;
            }
            if level < DISPATCH
                && let Some((number, _)) = processor.queue.front()
            {
                add(Action::Dpc, *number);
                continue;
            }
            if let Some(thread) = processor.top().filter(|thread| self.may_run(thread)) {
                add(Action::Continue, thread.id);
            }
            if level < DISPATCH {
                for thread in ready.iter().filter(|thread| thread.affinity.is_none_or(|on| on == index)) {
                    add(Action::Switch, thread.id);
                }
            }
        }
        if ready.len() > 1 {
            candidates.sort_unstable();
        }
        let (processor, thread) = self.last.get();
        let goes_on = |candidate: &Candidate| {
            candidate.action == Action::Continue
                && (candidate.processor, candidate.thread) == (processor, thread)
        };
        let Some(place) = candidates.iter().position(goes_on) else {
            self.yields.set(false);
            return false;
        };
        let candidate = candidates.remove(place);
        // Once: the next decision is another's.
        if self.yields.take() {
            candidates.push(candidate);
            return false;
        }
        candidates.insert(0, candidate);
        true
    }

    fn decide(&self, stays: bool) -> Option<Candidate> {
        let mut candidates = self.scratch.borrow_mut();
        let goes_on = self.candidates(&mut candidates);
        if candidates.is_empty() {
            return None;
        }
        let index =
            if self.windowed.get() { self.policy.borrow_mut().pick(&candidates, goes_on, stays) } else { 0 };
        let chosen = candidates[index];
        self.mix(chosen.processor, chosen.thread);
        Some(chosen)
    }

    fn run(&self, candidate: Candidate) {
        let processor = candidate.processor;
        let thread = match candidate.action {
            Action::Continue => self.processors.borrow().get(processor).and_then(|at| at.top().cloned()),
            Action::Dpc => {
                let next =
                    self.processors.borrow_mut().get_mut(processor).and_then(|at| at.queue.pop_front());
                next.map(|(number, dpc)| {
                    self.queued.set(self.queued.get() - 1);
                    let name = format!("DPC on processor {processor}");
                    let thread = self.thread(&name, DISPATCH, Kind::Dpc, dpc.work);
                    if let Some(place) = self.processors.borrow_mut().get_mut(processor) {
                        place.at_work = number;
                        place.dpc = Some(thread.clone());
                    }
                    thread
                })
            }
            Action::Interrupt => {
                let next =
                    self.processors.borrow_mut().get_mut(processor).and_then(|at| at.interrupts.pop_front());
                next.map(|(_, work)| {
                    self.queued.set(self.queued.get() - 1);
                    let name = format!("interrupt on processor {processor}");
                    let thread = self.thread(&name, DEVICE, Kind::Interrupt, work);
                    if let Some(place) = self.processors.borrow_mut().get_mut(processor) {
                        place.interrupt = Some(thread.clone());
                    }
                    thread
                })
            }
            Action::Switch => {
                let found = {
                    let mut ready = self.ready.borrow_mut();
                    let place = ready.iter().position(|thread| thread.id == candidate.thread);
                    place.map(|place| ready.remove(place))
                };
                if let Some(thread) = &found {
                    let mut processors = self.processors.borrow_mut();
                    let before =
                        processors.get_mut(processor).and_then(|at| at.thread.replace(thread.clone()));
                    if let Some(before) = before {
                        self.ready.borrow_mut().push(before);
                    }
                }
                found
            }
        };
        let Some(thread) = thread else { return };
        let machine = current();
        if self.last.replace((processor, thread.id)) != (processor, thread.id) {
            machine.log.note(machine, 0, What::Runs { processor, thread: thread.id });
        }
        PROCESSOR.set(processor);
        thread.state.replace(State::Ready);
        if let Some(place) = self.running.borrow_mut().get_mut(processor) {
            *place = Some(thread.clone());
        }
        self.open_paged(&machine.memory, thread.irql.get());
        machine.processor_block.switch(&thread, processor);
        let body = thread.body.borrow_mut().take();
        let Some(mut body) = body else { return };
        THIS.set(Rc::as_ptr(&thread));
        let result = body.resume(());
        THIS.set(std::ptr::null());
        if let Some(place) = self.running.borrow_mut().get_mut(processor) {
            *place = None;
        }
        match result {
            CoroutineResult::Yield(()) if matches!(&*thread.state.borrow(), State::Ended) => {
                // SAFETY: nothing on the coroutine's stack is used again; what it owns is leaked.
                unsafe { body.force_reset() };
                self.ended(processor, &thread, body.into_stack());
            }
            CoroutineResult::Yield(()) => {
                thread.body.replace(Some(body));
                if matches!(&*thread.state.borrow(), State::Waiting { .. }) {
                    self.take_off(processor, &thread);
                    self.waiting.borrow_mut().push(thread);
                }
            }
            CoroutineResult::Return(()) => {
                self.ended(processor, &thread, body.into_stack());
            }
        }
    }

    fn ended(&self, processor: usize, thread: &Thread, host: DefaultStack) {
        SPARE.with_borrow_mut(|spare| spare.push(host));
        if let Some(stack) = thread.stack.borrow_mut().take() {
            self.stacks.give_back(stack);
        }
        thread.state.replace(State::Done);
        self.take_off(processor, thread);
        current().processor_block.forget(thread);
    }

    fn take_off(&self, processor: usize, thread: &Thread) {
        if let Some(place) = self.processors.borrow_mut().get_mut(processor) {
            for slot in [&mut place.thread, &mut place.dpc, &mut place.interrupt] {
                if slot.as_ref().is_some_and(|other| other.id == thread.id) {
                    *slot = None;
                }
            }
        }
    }

    /// Processor time that the running DPC has used, in units; 0 on other threads. Looked at whenever it calls the kernel.
    pub(crate) fn dpc_spent(&self) -> u64 {
        let spent = self.with(|this| if this.kind == Kind::Dpc { this.spent.get() } else { 0 }).unwrap_or(0);
        self.longest_dpc.set(self.longest_dpc.get().max(spent));
        spent
    }

    /// Processor time of the DPC that used the most so far, in units.
    pub(crate) fn longest_dpc(&self) -> u64 {
        self.longest_dpc.get()
    }

    /// Whether a thread spins for ever: if nothing else can happen, or for very long.
    fn check_hang(&self, nothing_else: bool) {
        let processors = self.processors.borrow();
        let spinning =
            processors.iter().filter_map(Processor::top).find_map(|thread| match &*thread.state.borrow() {
                State::Spinning(lock, _)
                    if nothing_else || self.now.get() - thread.spins_since.get() > HANG =>
                {
                    Some((thread.name.clone(), *lock))
                }
                _ => None,
            });
        drop(processors);
        if let Some((name, lock)) = spinning {
            let text = format!("{name} spins for ever on a lock that nobody will release");
            current().stop_outside(
                &rule::SPINS_FOR_EVER,
                [HANG, 0, lock],
                text,
                (&name, DISPATCH),
                Vec::new(),
            );
        }
    }

    /// Drops every thread where it stands.
    pub(crate) fn abandon(&self) {
        let mut threads: Vec<Rc<Thread>> = self.ready.borrow_mut().drain(..).collect();
        threads.extend(self.waiting.borrow_mut().drain(..));
        for processor in self.processors.borrow_mut().drain(..) {
            threads.extend(processor.thread);
            threads.extend(processor.dpc);
            threads.extend(processor.interrupt);
        }
        for thread in threads {
            if let Some(mut body) = thread.body.borrow_mut().take() {
                if body.started() && !body.done() {
                    // SAFETY: nothing on the coroutine's stack is used again; what it owns is leaked.
                    unsafe { body.force_reset() };
                }
                if body.done() {
                    SPARE.with_borrow_mut(|spare| spare.push(body.into_stack()));
                }
            }
            thread.stack.borrow_mut().take();
        }
        self.events.borrow_mut().clear();
    }
}

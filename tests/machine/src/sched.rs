//! Processors, threads, DPCs and time.
//!
//! Threads are coroutines. One step runs one thread from one scheduling point to the next; every call into
//! the kernel has a scheduling point before and after it. Which thread runs next is chosen from all that may
//! run by the rules of IRQL: at `DISPATCH_LEVEL` nothing replaces a thread on its processor, below it DPCs come
//! first. Time is simulated: a step takes a microsecond, and when nothing can run time jumps to what is due.
#![expect(unsafe_code, reason = "resumes and abandons coroutines")]
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};

use crate::bugcheck::code;
use crate::machine::current;
use crate::memory;
use crate::stack::{Arguments, CallFrame, KernelStack, call_on};

/// `DISPATCH_LEVEL`.
pub(crate) const DISPATCH: u8 = 2;
/// `HIGH_LEVEL`.
pub(crate) const HIGH: u8 = 15;
/// 100 ns units of one step.
const STEP: u64 = 10;
/// Bytes of stack for the machine's own code.
const HOST_STACK: usize = 512 * 1024;
/// A wait or spin that lasts this long with nothing else to do is a hang.
const HANG: u64 = 600 * 10_000_000;

thread_local! {
    static SPARE: RefCell<Vec<DefaultStack>> = const { RefCell::new(Vec::new()) };
}

/// Why a thread does not run.
enum State {
    Ready,
    Spinning(u64),
    Waiting { what: String, ready: Box<dyn Fn() -> bool>, until: Option<u64> },
    Done,
}

type Body = Coroutine<(), (), (), DefaultStack>;

/// A kernel thread, or a DPC at work.
pub(crate) struct Thread {
    pub(crate) id: u32,
    pub(crate) name: String,
    body: RefCell<Option<Body>>,
    yielder: Cell<*const Yielder<(), ()>>,
    pub(crate) stack: RefCell<Option<KernelStack>>,
    /// Where the next call into a driver starts on the kernel stack.
    stack_pointer: Cell<u64>,
    pub(crate) irql: Cell<u8>,
    state: RefCell<State>,
    /// Calls of drivers that are being served, innermost last: frame and export.
    pub(crate) calls: RefCell<Vec<(u64, &'static str)>>,
    /// Calls into drivers that have not returned.
    depth: Cell<u32>,
    /// Whether the thread is inside a system service, as a program's is that has sent a request.
    pub(crate) in_service: Cell<bool>,
    is_dpc: bool,
}

#[derive(Default)]
struct Processor {
    thread: Option<Rc<Thread>>,
    dpc: Option<Rc<Thread>>,
    queue: VecDeque<Dpc>,
}

/// A queued DPC.
pub(crate) struct Dpc {
    /// Its `KDPC`, or 0 for one of the machine's own.
    pub(crate) object: u64,
    pub(crate) work: Box<dyn FnOnce()>,
}

/// Something that happens at a time.
struct Event {
    work: Box<dyn FnOnce()>,
}

/// See the module's description.
pub(crate) struct Scheduler {
    processors: RefCell<Vec<Processor>>,
    ready: RefCell<Vec<Rc<Thread>>>,
    waiting: RefCell<Vec<Rc<Thread>>>,
    running: RefCell<Option<Rc<Thread>>>,
    processor: Cell<usize>,
    random: RefCell<fastrand::Rng>,
    /// Of 256: how often the last thread goes on if it may.
    sticky: u8,
    last: Cell<(usize, u32)>,
    now: Cell<u64>,
    events: RefCell<BTreeMap<(u64, u64), Event>>,
    next_event: Cell<u64>,
    next_thread: Cell<u32>,
    locks: RefCell<BTreeMap<u64, (u32, usize)>>,
    hash: Cell<u64>,
}

impl Scheduler {
    pub(crate) fn new(processors: usize, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let sticky = *random.choice(&[0, 96, 176, 224, 248]).unwrap_or(&176);
        Self {
            processors: RefCell::new((0..processors.max(1)).map(|_| Processor::default()).collect()),
            ready: RefCell::default(),
            waiting: RefCell::default(),
            running: RefCell::default(),
            processor: Cell::new(0),
            random: RefCell::new(random),
            sticky,
            last: Cell::new((0, 0)),
            now: Cell::new(0),
            events: RefCell::default(),
            next_event: Cell::new(0),
            next_thread: Cell::new(1),
            locks: RefCell::default(),
            hash: Cell::new(0xCBF2_9CE4_8422_2325),
        }
    }

    fn thread(&self, name: &str, irql: u8, is_dpc: bool, work: impl FnOnce() + 'static) -> Rc<Thread> {
        let host = SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| {
            DefaultStack::new(HOST_STACK).unwrap_or_else(|error| panic!("no stack for a thread: {error}"))
        });
        let kernel = KernelStack::take();
        let id = self.next_thread.get();
        self.next_thread.set(id + 1);
        let body = Coroutine::with_stack(host, move |yielder: &Yielder<(), ()>, ()| {
            current().scheduler.this().yielder.set(yielder);
            work();
        });
        Rc::new(Thread {
            id,
            name: name.to_owned(),
            body: RefCell::new(Some(body)),
            yielder: Cell::new(std::ptr::null()),
            stack_pointer: Cell::new(kernel.top()),
            stack: RefCell::new(Some(kernel)),
            irql: Cell::new(irql),
            state: RefCell::new(State::Ready),
            calls: RefCell::default(),
            depth: Cell::new(0),
            in_service: Cell::new(false),
            is_dpc,
        })
    }

    /// Starts a thread at `PASSIVE_LEVEL`.
    pub(crate) fn spawn(&self, name: &str, work: impl FnOnce() + 'static) {
        let thread = self.thread(name, 0, false, work);
        self.ready.borrow_mut().push(thread);
    }

    /// Queues a DPC on a processor, or on the current one.
    pub(crate) fn queue_dpc(&self, processor: Option<usize>, dpc: Dpc) {
        let mut processors = self.processors.borrow_mut();
        let count = processors.len();
        if let Some(place) = processors.get_mut(processor.unwrap_or(self.processor.get()) % count) {
            place.queue.push_back(dpc);
        }
    }

    /// Whether a `KDPC` is queued; takes it off its queue if asked.
    pub(crate) fn dpc_queued(&self, object: u64, remove: bool) -> bool {
        self.processors.borrow_mut().iter_mut().any(|processor| {
            let found = processor.queue.iter().position(|dpc| dpc.object == object);
            if let (Some(index), true) = (found, remove) {
                processor.queue.remove(index);
            }
            found.is_some()
        })
    }

    /// Whether any DPC is queued or at work, other than the current one.
    pub(crate) fn dpcs_pending(&self) -> bool {
        self.processors
            .borrow()
            .iter()
            .any(|processor| !processor.queue.is_empty() || processor.dpc.is_some())
    }

    /// Does `work` after `delay` (100 ns), outside any thread; returns a number to cancel it with.
    pub(crate) fn after(&self, delay: u64, work: impl FnOnce() + 'static) -> (u64, u64) {
        let number = self.next_event.get();
        self.next_event.set(number + 1);
        let key = (self.now.get() + delay, number);
        self.events.borrow_mut().insert(key, Event { work: Box::new(work) });
        key
    }

    /// Cancels what [`Scheduler::after`] promised; false if it has happened.
    pub(crate) fn cancel_event(&self, key: (u64, u64)) -> bool {
        self.events.borrow_mut().remove(&key).is_some()
    }

    pub(crate) fn now(&self) -> u64 {
        self.now.get()
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.get()
    }

    /// A number below `bound`, from the seed.
    pub(crate) fn choose(&self, bound: u64) -> u64 {
        self.random.borrow_mut().u64(..bound.max(1))
    }

    /// The thread that runs.
    pub(crate) fn this(&self) -> Rc<Thread> {
        let running = self.running.borrow();
        running.as_ref().unwrap_or_else(|| panic!("this is done on a thread of the machine")).clone()
    }

    pub(crate) fn try_this(&self) -> Option<Rc<Thread>> {
        self.running.try_borrow().ok()?.clone()
    }

    pub(crate) fn thread_name(&self) -> String {
        self.try_this().map_or_else(|| "none".to_owned(), |thread| thread.name.clone())
    }

    pub(crate) fn thread_id(&self) -> u32 {
        self.try_this().map_or(0, |thread| thread.id)
    }

    pub(crate) fn processor(&self) -> usize {
        self.processor.get()
    }

    pub(crate) fn processors(&self) -> usize {
        self.processors.borrow().len()
    }

    pub(crate) fn irql(&self) -> u8 {
        self.try_this().map_or(0, |thread| thread.irql.get())
    }

    pub(crate) fn set_irql(&self, irql: u8) {
        self.this().irql.set(irql);
    }

    pub(crate) fn in_dpc(&self) -> bool {
        self.try_this().is_some_and(|thread| thread.is_dpc)
    }

    /// Gives others a chance.
    pub(crate) fn point(&self) {
        self.suspend();
    }

    fn suspend(&self) {
        let yielder = self.this().yielder.get();
        // SAFETY: the thread runs, so its coroutine and the yielder on its stack are alive.
        unsafe { &*yielder }.suspend(());
    }

    /// Never goes on: the machine has stopped.
    pub(crate) fn halt(&self) -> ! {
        if let Some(thread) = self.try_this() {
            thread.state.replace(State::Done);
            loop {
                self.suspend();
            }
        }
        panic!("the machine stopped outside its threads: {:?}", current().stopped.borrow());
    }

    /// Waits until `ready`, at most until a time.
    pub(crate) fn wait(&self, what: &str, until: Option<u64>, ready: impl Fn() -> bool + 'static) -> bool {
        if ready() {
            return true;
        }
        let ready: Rc<dyn Fn() -> bool> = Rc::new(ready);
        let again = ready.clone();
        let state = State::Waiting { what: what.to_owned(), ready: Box::new(move || again()), until };
        self.this().state.replace(state);
        self.suspend();
        ready()
    }

    /// Takes a spin lock at its address for the running thread.
    pub(crate) fn acquire_lock(&self, lock: u64) {
        let this = self.this();
        loop {
            let holder = self.locks.borrow().get(&lock).copied();
            match holder {
                None => break,
                Some((thread, _)) if thread == this.id => {
                    let machine = current();
                    machine.bugcheck(
                        code::DRIVER_VERIFIER_DETECTED_VIOLATION,
                        [0x1000, lock, 0, 0],
                        "Self-deadlock: the processor acquires a spin lock that it holds",
                    )
                }
                Some(_) => {
                    this.state.replace(State::Spinning(lock));
                    self.suspend();
                }
            }
        }
        self.locks.borrow_mut().insert(lock, (this.id, self.processor.get()));
        memory::put::<u64>(lock, 1);
    }

    /// Releases a spin lock.
    pub(crate) fn release_lock(&self, lock: u64) {
        let machine = current();
        let this = self.this();
        let holder = self.locks.borrow_mut().remove(&lock);
        match holder {
            Some((thread, _)) if thread == this.id => {}
            Some(_) => machine.bugcheck(
                code::DRIVER_VERIFIER_DETECTED_VIOLATION,
                [0x1005, lock, u64::from(this.id), 0],
                "A spin lock is released by a thread that does not hold it",
            ),
            None => machine.bugcheck(
                code::DRIVER_VERIFIER_DETECTED_VIOLATION,
                [0x1007, lock, 0, 0],
                "A spin lock is released that is not held",
            ),
        }
        memory::put::<u64>(lock, 0);
    }

    /// Locks that the running thread holds.
    pub(crate) fn locks_held(&self) -> Vec<u64> {
        let this = self.this().id;
        self.locks.borrow().iter().filter(|(_, (thread, _))| *thread == this).map(|(lock, _)| *lock).collect()
    }

    /// Calls code of a driver on the running thread's kernel stack, at its current level.
    pub(crate) fn call(&self, function: u64, arguments: &[u64]) -> u64 {
        let this = self.this();
        let mut all: Arguments = [0; 6];
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
        // SAFETY: the function is the driver's, as the machine was told; the stack is this thread's own, and
        // what is in use of it lies above `before`.
        let result = unsafe { call_on(function, &raw const all, before) };
        this.depth.set(this.depth.get() - 1);
        if has_host && let Some(stack) = this.stack.borrow().as_ref() {
            stack.set_host_pointer(host);
        }
        this.stack_pointer.set(before);
        result
    }

    /// A driver calls into the kernel: what it calls next runs below its frame.
    pub(crate) fn enter_call(&self, frame: &CallFrame, name: &'static str) -> u64 {
        let this = self.this();
        let at: *const CallFrame = frame;
        this.calls.borrow_mut().push((at as u64, name));
        this.stack_pointer.replace(at as u64)
    }

    /// Ends what [`Scheduler::enter_call`] began.
    pub(crate) fn leave_call(&self, before: u64) {
        let this = self.this();
        this.calls.borrow_mut().pop();
        this.stack_pointer.set(before);
    }

    /// Threads that wait.
    pub(crate) fn waiting(&self) -> Vec<String> {
        let describe = |thread: &Rc<Thread>| match &*thread.state.borrow() {
            State::Waiting { what, .. } => Some(format!("{} waits for {what}", thread.name)),
            State::Spinning(lock) => Some(format!("{} spins on {lock:#x}", thread.name)),
            _ => None,
        };
        self.waiting.borrow().iter().filter_map(describe).collect()
    }

    /// One step of one processor; false if nothing can happen any more.
    pub(crate) fn step(&self) -> bool {
        self.fire_events();
        self.wake();
        loop {
            let candidates = self.candidates();
            if let Some((processor, candidate)) = self.pick(candidates) {
                self.now.set(self.now.get() + STEP);
                self.run(processor, candidate);
                return true;
            }
            if !self.jump() {
                self.check_hang();
                return false;
            }
        }
    }

    /// Moves time to the next thing that is due; false if there is none.
    fn jump(&self) -> bool {
        let event = self.events.borrow().keys().next().map(|(due, _)| *due);
        let timeout = self
            .waiting
            .borrow()
            .iter()
            .filter_map(|thread| match &*thread.state.borrow() {
                State::Waiting { until, .. } => *until,
                _ => None,
            })
            .min();
        let Some(next) = event.into_iter().chain(timeout).min() else { return false };
        self.now.set(self.now.get().max(next));
        self.fire_events();
        self.wake();
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
                Some((_, event)) => (event.work)(),
                None => return,
            }
        }
    }

    /// Moves waiting threads whose wait is over to the ready ones.
    fn wake(&self) {
        let now = self.now.get();
        let over = |thread: &Rc<Thread>| match &*thread.state.borrow() {
            State::Waiting { ready, until, .. } => ready() || until.is_some_and(|until| until <= now),
            _ => true,
        };
        let woken: Vec<Rc<Thread>> = {
            let mut waiting = self.waiting.borrow_mut();
            let (woken, rest) = waiting.drain(..).partition(over);
            *waiting = rest;
            woken
        };
        for thread in woken {
            thread.state.replace(State::Ready);
            self.ready.borrow_mut().push(thread);
        }
    }

    fn may_run(&self, thread: &Thread) -> bool {
        match &*thread.state.borrow() {
            State::Ready => true,
            State::Spinning(lock) => !self.locks.borrow().contains_key(lock),
            State::Waiting { .. } | State::Done => false,
        }
    }

    /// What may happen next: which processor goes on with what.
    fn candidates(&self) -> Vec<(usize, Candidate)> {
        let mut candidates = Vec::new();
        let ready = self.ready.borrow();
        for (index, processor) in self.processors.borrow().iter().enumerate() {
            if let Some(dpc) = &processor.dpc {
                if self.may_run(dpc) {
                    candidates.push((index, Candidate::Continue(dpc.clone())));
                }
                continue;
            }
            let raised = processor.thread.as_ref().filter(|thread| thread.irql.get() >= DISPATCH);
            if let Some(thread) = raised {
                if self.may_run(thread) {
                    candidates.push((index, Candidate::Continue(thread.clone())));
                }
                continue;
            }
            if !processor.queue.is_empty() {
                candidates.push((index, Candidate::Dpc));
                continue;
            }
            if let Some(thread) = processor.thread.as_ref().filter(|thread| self.may_run(thread)) {
                candidates.push((index, Candidate::Continue(thread.clone())));
            }
            candidates.extend(ready.iter().map(|thread| (index, Candidate::Switch(thread.clone()))));
        }
        candidates
    }

    fn pick(&self, mut candidates: Vec<(usize, Candidate)>) -> Option<(usize, Candidate)> {
        if candidates.is_empty() {
            return None;
        }
        let mut random = self.random.borrow_mut();
        let last = self.last.get();
        let same = candidates.iter().position(|(processor, candidate)| {
            matches!(candidate, Candidate::Continue(thread) if (*processor, thread.id) == last)
        });
        let index = match same {
            Some(index) if candidates.len() == 1 || random.u8(..) < self.sticky => index,
            _ => random.usize(..candidates.len()),
        };
        let chosen = candidates.swap_remove(index);
        let number = match &chosen.1 {
            Candidate::Continue(thread) | Candidate::Switch(thread) => u64::from(thread.id),
            Candidate::Dpc => 0,
        };
        for value in [chosen.0 as u64, number] {
            self.hash.set((self.hash.get() ^ value).wrapping_mul(0x0100_0000_01B3));
        }
        Some(chosen)
    }

    fn run(&self, processor: usize, candidate: Candidate) {
        let thread = match candidate {
            Candidate::Continue(thread) => thread,
            Candidate::Dpc => {
                let Some(dpc) =
                    self.processors.borrow_mut().get_mut(processor).and_then(|at| at.queue.pop_front())
                else {
                    return;
                };
                let thread = self.thread(&format!("DPC on processor {processor}"), DISPATCH, true, dpc.work);
                if let Some(place) = self.processors.borrow_mut().get_mut(processor) {
                    place.dpc = Some(thread.clone());
                }
                thread
            }
            Candidate::Switch(thread) => {
                self.ready.borrow_mut().retain(|other| other.id != thread.id);
                let before = self
                    .processors
                    .borrow_mut()
                    .get_mut(processor)
                    .and_then(|at| at.thread.replace(thread.clone()));
                if let Some(before) = before {
                    self.ready.borrow_mut().push(before);
                }
                thread
            }
        };
        self.last.set((processor, thread.id));
        self.processor.set(processor);
        thread.state.replace(State::Ready);
        self.running.replace(Some(thread.clone()));
        let body = thread.body.borrow_mut().take();
        let Some(mut body) = body else { return };
        let result = body.resume(());
        self.running.replace(None);
        match result {
            CoroutineResult::Yield(()) => {
                thread.body.replace(Some(body));
                if matches!(&*thread.state.borrow(), State::Waiting { .. }) {
                    self.take_off(processor, &thread);
                    self.waiting.borrow_mut().push(thread);
                }
            }
            CoroutineResult::Return(()) => {
                SPARE.with_borrow_mut(|spare| spare.push(body.into_stack()));
                if let Some(stack) = thread.stack.borrow_mut().take() {
                    stack.give_back();
                }
                thread.state.replace(State::Done);
                self.take_off(processor, &thread);
            }
        }
    }

    fn take_off(&self, processor: usize, thread: &Thread) {
        if let Some(place) = self.processors.borrow_mut().get_mut(processor) {
            for slot in [&mut place.thread, &mut place.dpc] {
                if slot.as_ref().is_some_and(|other| other.id == thread.id) {
                    *slot = None;
                }
            }
        }
    }

    /// Nothing can run: a thread that spins will spin for ever.
    fn check_hang(&self) {
        let processors = self.processors.borrow();
        let spinning =
            processors.iter().flat_map(|processor| [&processor.thread, &processor.dpc]).flatten().find_map(
                |thread| match &*thread.state.borrow() {
                    State::Spinning(lock) => Some((thread.name.clone(), *lock)),
                    _ => None,
                },
            );
        let Some((name, lock)) = spinning else { return };
        let machine = current();
        if machine.stopped.borrow().is_none() {
            machine.stopped.replace(Some(crate::bugcheck::Bugcheck {
                code: code::DPC_WATCHDOG_VIOLATION,
                name: crate::bugcheck::Bugcheck::name_of(code::DPC_WATCHDOG_VIOLATION),
                arguments: [1, HANG, 0, lock],
                text: format!("{name} spins for ever on a lock that nobody will release"),
                irql: DISPATCH,
                processor: 0,
                thread: name,
                stack: Vec::new(),
                history: Vec::new(),
            }));
        }
    }

    /// Drops every thread where it stands.
    pub(crate) fn abandon(&self) {
        let mut threads: Vec<Rc<Thread>> = self.ready.borrow_mut().drain(..).collect();
        threads.extend(self.waiting.borrow_mut().drain(..));
        for processor in self.processors.borrow_mut().drain(..) {
            threads.extend(processor.thread);
            threads.extend(processor.dpc);
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
            if let Some(stack) = thread.stack.borrow_mut().take() {
                stack.give_back();
            }
        }
        self.events.borrow_mut().clear();
    }
}

#[derive(Clone)]
enum Candidate {
    /// The processor goes on with what it runs.
    Continue(Rc<Thread>),
    /// The processor starts the first DPC of its queue.
    Dpc,
    /// The processor switches to a thread that is ready.
    Switch(Rc<Thread>),
}

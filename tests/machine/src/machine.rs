//! The simulated computer: what it consists of, and its life.
#![expect(unsafe_code, reason = "code on coroutine stacks reaches its machine through the host thread")]
use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};

use crate::bugcheck::Bugcheck;
use crate::card::Cards;
use crate::image::Image;
use crate::io::IoManager;
use crate::kernel::Kernel;
use crate::kernel::dma::Dma;
pub use crate::kernel::etw::{Event, Session};
use crate::kernel::pool::Pool;
use crate::log::{Log, What};
use crate::memory::{self, Memory, Use};
use crate::ndis::Ndis;
use crate::processor::ProcessorBlock;
use crate::rule::{self, Rule};
use crate::sched::{Decision, Schedule, Scheduler};
use crate::verifier::Verifier;
use crate::{fault, kernel, ndis};

/// Which allocations of drivers fail: pool, lists, MDLs, mappings, locked pages, timers, work items, IRPs, clones of
/// requests, common buffers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LowResources {
    /// None.
    #[default]
    Off,
    /// The n-th, counted from 1.
    Nth(u64),
    /// One in so many, by the seed.
    OneIn(u32),
}

/// How a machine is built.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// Processors.
    pub processors: usize,
    /// What chooses everything that the machine leaves open.
    pub schedule: Schedule,
    /// Whether every event is recorded, for traces and timelines, and every decision of the schedule.
    pub record: bool,
    /// Prints kernel calls on standard error as they return: those that contain this text.
    pub trace: Option<String>,
    /// Whether processors are host threads. Then the schedule is not the machine's to choose.
    pub parallel: bool,
    /// `NdisGetVersion`: `(6 << 16) | minor`.
    pub ndis_version: u32,
    /// What is checked.
    pub verifier: Verifier,
    /// Which allocations fail.
    pub low_resources: LowResources,
    /// Adapters.
    pub adapters: Vec<ndis::adapter::Settings>,
    /// Which events of drivers are listened to, if any.
    pub etw: Option<Session>,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            processors: 2,
            schedule: Schedule::default(),
            record: false,
            trace: None,
            parallel: false,
            ndis_version: 6 << 16 | 89,
            verifier: Verifier::default(),
            low_resources: LowResources::Off,
            adapters: vec![ndis::adapter::Settings::default(), ndis::adapter::Settings::default()],
            etw: None,
        }
    }
}

/// A simulated computer. It runs on the host thread that made it.
pub struct Machine {
    pub(crate) configuration: Configuration,
    pub(crate) verifier: Verifier,
    pub(crate) memory: Memory,
    pub(crate) scheduler: Scheduler,
    pub(crate) processor_block: ProcessorBlock,
    pub(crate) log: Log,
    pub(crate) pool: Pool,
    pub(crate) kernel: Kernel,
    pub(crate) io: IoManager,
    pub(crate) dma: Dma,
    pub(crate) ndis: Ndis,
    pub(crate) drivers: RefCell<Vec<Driver>>,
    pub(crate) loader_log: RefCell<Vec<String>>,
    pub(crate) cards: Cards,
    pub(crate) stopped: RefCell<Option<Bugcheck>>,
    pub(crate) debug_output: RefCell<Vec<String>>,
    pub(crate) echo_debug_output: Cell<bool>,
    pub(crate) counts: Counts,
    hold: RefCell<Vec<Hold>>,
}

/// A thread that is held back when it calls a function.
struct Hold {
    thread: String,
    function: String,
    /// Whether it is held back when the function has done its work, and not before.
    after: bool,
    until: Box<dyn Fn() -> bool>,
}

/// What the machine counts of a driver's doings.
#[derive(Debug, Default)]
pub struct Counts {
    /// Pool allocations.
    pub allocations: Cell<u64>,
    /// Spin locks taken.
    pub locks: Cell<u64>,
    /// Calls into the kernel and into NDIS.
    pub calls: Cell<u64>,
    /// Rules checked.
    pub checks: Cell<u64>,
    /// NBLs that modules originated while they were restarting, on another thread than the one inside `FilterRestart`.
    /// NDIS cannot tell such a send from one a moment later, so it breaks no rule; a driver can avoid it by a restart
    /// that pends.
    pub restarting_sends: Cell<u64>,
}

/// A loaded driver.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) image: Rc<Image>,
    /// Its `DRIVER_OBJECT`.
    pub(crate) object: u64,
    pub(crate) service: String,
    /// Whether its `DriverEntry` has returned.
    pub(crate) initialised: bool,
    pub(crate) unloaded: bool,
    /// Whether it was loaded for another image, and not as a driver.
    pub(crate) library: bool,
}

thread_local! {
    static CURRENT: Cell<*const Machine> = const { Cell::new(std::ptr::null()) };
}

/// The machine that this host thread runs.
pub(crate) fn current() -> &'static Machine {
    let machine = CURRENT.get();
    assert!(!machine.is_null(), "no machine runs on this thread");
    // SAFETY: `Machine::start` set the pointer to a boxed machine, whose `Drop` clears it.
    unsafe { &*machine }
}

/// The machine that this host thread runs, if one does.
pub(crate) fn try_current() -> Option<&'static Machine> {
    // SAFETY: as for `current`.
    unsafe { CURRENT.get().as_ref() }
}

impl Machine {
    /// Switches a machine on. One host thread runs one machine at a time.
    pub fn start(configuration: Configuration) -> Result<Box<Self>> {
        if !CURRENT.get().is_null() {
            bail!("this thread runs a machine already");
        }
        fault::install();
        let verifier = configuration.verifier.clone();
        let Configuration { processors, schedule, record, parallel, .. } = &configuration;
        let memory = Memory::new(verifier.special_pool);
        let machine = Box::new(Self {
            processor_block: ProcessorBlock::new(&memory, *processors, *parallel),
            memory,
            scheduler: Scheduler::new(*processors, schedule, *record, *parallel),
            log: Log::new(*record),
            pool: Pool::default(),
            kernel: Kernel::default(),
            io: IoManager::default(),
            dma: Dma::default(),
            ndis: Ndis::default(),
            drivers: RefCell::default(),
            loader_log: RefCell::default(),
            cards: Cards::default(),
            stopped: RefCell::default(),
            debug_output: RefCell::default(),
            echo_debug_output: Cell::new(false),
            counts: Counts::default(),
            hold: RefCell::default(),
            verifier,
            configuration,
        });
        machine.enter_host_thread();
        for settings in &machine.configuration.adapters {
            machine.ndis.add_adapter(settings.clone())?;
        }
        Ok(machine)
    }

    /// This host thread runs the machine, or one of its processors, from now on.
    pub(crate) fn enter_host_thread(&self) {
        CURRENT.set(std::ptr::from_ref(self));
        fault::install();
        self.processor_block.enter(self.scheduler.processor());
    }

    /// This host thread has nothing to do with the machine any more.
    #[expect(clippy::unused_self, reason = "the counterpart of entering")]
    pub(crate) fn leave_host_thread(&self) {
        ProcessorBlock::leave();
        CURRENT.set(std::ptr::null());
    }

    /// What the machine was built with.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// What the machine counted.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What drivers printed with `DbgPrint`.
    pub fn debug_output(&self) -> Vec<String> {
        self.debug_output.borrow().clone()
    }

    /// Prints `DbgPrint`'s output on standard error as it comes.
    pub fn echo_debug_output(&self, echo: bool) {
        self.echo_debug_output.set(echo);
    }

    /// Loads a driver, runs its `DriverEntry` and attaches it to the adapters' stacks.
    pub fn load_driver(&self, path: &Path) -> Result<(), LoadError> {
        let service = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        self.load_driver_as(path, &service)
    }

    /// Loads a driver as the service of a name, which its registry path ends with.
    pub fn load_driver_as(&self, path: &Path, service: &str) -> Result<(), LoadError> {
        self.memory.open_paged(true);
        let outcome: Rc<RefCell<Option<Result<i32, anyhow::Error>>>> = Rc::default();
        let (path, service, result) = (path.to_path_buf(), service.to_owned(), outcome.clone());
        self.scheduler.spawn("DriverEntry", move || {
            let machine = current();
            let status = machine.load_image(&path, &service, 0).map(|(image, object)| {
                let registry_path = machine.registry_path(&service);
                let status = machine.call(image.entry, &[object, registry_path]) as i32;
                kernel::after_callback(machine, "DriverEntry", 0);
                machine.set_initialised(object);
                if status >= 0 {
                    image.discard_init();
                    machine.ndis.driver_loaded(object);
                } else {
                    machine.drop_driver(object);
                }
                status
            });
            result.replace(Some(status));
        });
        let over = outcome.clone();
        // A driver may have begun what never ends.
        self.run_until(|| over.borrow().is_some()).map_err(LoadError::Stopped)?;
        match outcome.take() {
            Some(Ok(status)) if status >= 0 => Ok(()),
            Some(Ok(status)) => Err(LoadError::Refused(status)),
            Some(Err(error)) => Err(LoadError::Image(error)),
            None => Err(LoadError::Image(anyhow!("DriverEntry never returned"))),
        }
    }

    fn set_initialised(&self, object: u64) {
        if let Some(driver) = self.drivers.borrow_mut().iter_mut().find(|driver| driver.object == object) {
            driver.initialised = true;
        }
    }

    /// Whether an address lies in a driver whose `DriverEntry` has returned.
    pub(crate) fn is_initialised(&self, address: u64) -> bool {
        let drivers = self.drivers.borrow();
        drivers.iter().any(|driver| driver.initialised && driver.image.contains(address))
    }

    /// The build of Windows that the machine is.
    pub fn build(&self) -> u32 {
        crate::system::build_of(self.configuration.ndis_version)
    }

    /// `DriverEntry` failed: the image goes, and nothing of it is called.
    fn drop_driver(&self, object: u64) {
        if let Some(driver) = self.drivers.borrow_mut().iter_mut().find(|driver| driver.object == object) {
            driver.image.unload();
            driver.unloaded = true;
        }
        self.unload_libraries();
    }

    /// Unloads the driver that was loaded last: detaches it from every stack, calls its unload routine, and
    /// looks at what it left behind.
    pub fn unload_driver(&self) -> Result<(), Bugcheck> {
        let index = self.drivers.borrow().iter().rposition(|driver| !driver.unloaded && !driver.library);
        let Some(index) = index else { return Ok(()) };
        self.scheduler.spawn("DriverUnload", move || current().unload(index));
        self.run_until_idle()
    }

    /// Unloads the driver of a service, on a thread of its own.
    pub(crate) fn start_unload(&self, service: &str) {
        let found =
            self.drivers.borrow().iter().rposition(|driver| !driver.unloaded && driver.service == service);
        if let Some(index) = found {
            self.scheduler.spawn("DriverUnload", move || current().unload(index));
        }
    }

    fn unload(&self, index: usize) {
        let (object, image) = {
            let drivers = self.drivers.borrow();
            let Some(driver) = drivers.get(index) else { return };
            (driver.object, driver.image.clone())
        };
        // The I/O manager keeps a driver whose devices are open, and opens them no more.
        if kernel::objects::driver_unload(object) != 0 {
            self.io.refuse_opens(object);
        }
        self.scheduler.wait("handles to close", None, move || current().io.open_files(object) == 0);
        self.ndis.detach_driver(object);
        let unload = kernel::objects::driver_unload(object);
        if unload == 0 {
            return;
        }
        self.call(unload, &[object]);
        kernel::after_callback(self, "DriverUnload", 0);
        if let Some(driver) = self.drivers.borrow_mut().get_mut(index) {
            driver.unloaded = true;
        }
        kernel::work::io_returns(self, &image);
        self.ndis.check_unload(object);
        self.io.check_unload(object);
        kernel::check_unload(self, &image);
        self.pool.check_unload(&image);
        image.unload();
        self.unload_libraries();
    }

    /// Runs until nothing can happen any more, or a bugcheck.
    pub fn run_until_idle(&self) -> Result<(), Bugcheck> {
        self.run_until(|| false)
    }

    /// Runs until `done` says so, nothing can happen any more, or a bugcheck.
    pub fn run_until(&self, mut done: impl FnMut() -> bool) -> Result<(), Bugcheck> {
        if self.configuration.parallel {
            self.scheduler.run_parallel(self, &mut done);
            return self.stopped.borrow().as_ref().map_or(Ok(()), |bugcheck| Err(bugcheck.clone()));
        }
        loop {
            if let Some(bugcheck) = self.stopped.borrow().as_ref() {
                return Err(bugcheck.clone());
            }
            self.cards.look(self);
            if done() || !self.scheduler.step() {
                let stopped = self.stopped.borrow();
                return stopped.as_ref().map_or(Ok(()), |bugcheck| Err(bugcheck.clone()));
            }
        }
    }

    /// Runs for at most `steps` steps; false if nothing can happen any more.
    pub fn run_steps(&self, steps: u32) -> Result<bool, Bugcheck> {
        let mut left = steps;
        self.run_until(|| {
            left = left.saturating_sub(1);
            left == 0
        })?;
        Ok(left == 0)
    }

    /// Processor time of the DPC that used the most so far.
    pub fn longest_dpc(&self) -> Duration {
        Duration::from_nanos(self.scheduler.longest_dpc() * 100)
    }

    /// Holds a thread back when it next calls a function, until a condition holds: for a race that is known.
    pub fn hold(&self, thread: &str, function: &str, until: impl Fn() -> bool + 'static) {
        self.hold_at(thread, function, false, until);
    }

    /// As [`Machine::hold`], when the function has done its work.
    pub fn hold_after(&self, thread: &str, function: &str, until: impl Fn() -> bool + 'static) {
        self.hold_at(thread, function, true, until);
    }

    fn hold_at(&self, thread: &str, function: &str, after: bool, until: impl Fn() -> bool + 'static) {
        let (thread, function) = (thread.to_owned(), function.to_owned());
        self.hold.borrow_mut().push(Hold { thread, function, after, until: Box::new(until) });
    }

    /// A thread is about to call a function, or has called it.
    pub(crate) fn may_hold(&self, function: &str, after: bool) {
        if self.hold.borrow().is_empty() {
            return;
        }
        let matches = |hold: &Hold| {
            hold.function == function && hold.after == after && hold.thread == self.scheduler.thread_name()
        };
        let hold = {
            let mut holds = self.hold.borrow_mut();
            holds.iter().position(matches).map(|place| holds.remove(place))
        };
        if let Some(hold) = hold {
            self.scheduler.wait("its time", None, hold.until);
        }
    }

    /// Starts a thread of a client or of the system.
    pub fn spawn(&self, name: &str, work: impl FnOnce() + 'static) {
        self.scheduler.spawn(name, work);
    }

    /// Threads that wait, and for what.
    pub fn waiting_threads(&self) -> Vec<String> {
        self.scheduler.waiting()
    }

    /// Simulated time, in microseconds.
    pub fn microseconds(&self) -> u64 {
        self.scheduler.now() / 10
    }

    /// Work items wait up to this many microseconds for their turn, and timers are as late.
    pub fn delay_work(&self, microseconds: u64) {
        self.ndis.delay_work(microseconds);
    }

    /// Decisions of the schedule so far, if the run is recorded.
    pub fn decisions(&self) -> Vec<Decision> {
        self.scheduler.decisions()
    }

    /// From here on the schedule is explored, or not: outside the window the running thread goes on while it can.
    pub fn window(&self, open: bool) {
        self.scheduler.window(open);
    }

    /// A number that tells the schedule of this run from others.
    pub fn schedule_hash(&self) -> u64 {
        self.scheduler.hash()
    }

    /// The adapters.
    pub fn adapters(&self) -> Vec<Rc<ndis::adapter::Adapter>> {
        self.ndis.adapters()
    }

    /// Whether the next allocation of anything that may run out fails; pool counts itself.
    pub(crate) fn pool_fails(&self) -> bool {
        self.pool.next_fails(self)
    }

    /// Allocations so far, of everything that [`LowResources`] counts.
    pub fn allocations(&self) -> u64 {
        self.pool.allocations()
    }

    /// Events that drivers wrote and somebody listened to.
    pub fn events(&self) -> Vec<Event> {
        self.kernel.etw.events()
    }

    /// How many events drivers wrote, listened to or not.
    pub fn events_written(&self) -> u64 {
        self.kernel.etw.written()
    }

    /// Common buffers that were allocated and freed, with times and addresses.
    pub fn dma_history(&self) -> Vec<String> {
        self.dma.history()
    }

    /// Common buffers that are allocated.
    pub fn common_buffers(&self) -> usize {
        self.dma.buffers_left()
    }

    /// Calls code of a driver on the current thread's kernel stack.
    pub(crate) fn call(&self, function: u64, arguments: &[u64]) -> u64 {
        self.scheduler.call(function, arguments)
    }

    /// A counted string in system memory.
    pub(crate) fn unicode_string(&self, text: &str) -> u64 {
        let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let length = units.len() as u64;
        // The system terminates what it gives, and drivers rely on it. Memory is zero when it is allocated.
        let string = self.memory.allocate(16 + length + 2, Use::System("UNICODE_STRING"));
        memory::put::<u16>(string, length as u16);
        memory::put::<u16>(string + 2, length as u16 + 2);
        memory::put::<u64>(string + 8, string + 16);
        memory::put_bytes(string + 16, &units);
        string
    }

    /// One rule was looked at.
    pub(crate) fn checked(&self) {
        self.counts.checks.set(self.counts.checks.get() + 1);
    }

    /// An event of an object.
    pub(crate) fn event(&self, object: u64, what: &'static str) {
        self.log.note(self, object, What::Object(what));
    }

    /// A rule was broken: the machine stops, and the thread never goes on; unless the rule's option is off. The
    /// arguments are those after the first, which is the rule's.
    pub(crate) fn stop(&self, rule: &Rule, arguments: [u64; 3], text: impl Into<String>) {
        let [second, third, fourth] = arguments;
        self.stop_about(rule, [rule.first.unwrap_or(0), second, third, fourth], text, 0);
    }

    /// As [`Machine::stop`], with all four arguments and the object at fault, whose history is reported.
    pub(crate) fn stop_about(&self, rule: &Rule, arguments: [u64; 4], text: impl Into<String>, object: u64) {
        let history = self.log.history(object);
        self.stop_with(rule, arguments, text, history);
    }

    /// As [`Machine::stop_about`], with lines about the object.
    pub(crate) fn stop_with(
        &self,
        rule: &Rule,
        arguments: [u64; 4],
        text: impl Into<String>,
        history: Vec<String>,
    ) {
        if !self.verifier.enforces(rule.option) {
            return;
        }
        self.bugcheck(rule.bugcheck, rule.name, arguments, text.into(), history);
    }

    /// A rule was broken, and nothing sensible could follow if its option were off.
    pub(crate) fn stop_for_good(&self, rule: &Rule, arguments: [u64; 4], text: impl Into<String>) -> ! {
        self.bugcheck(rule.bugcheck, rule.name, arguments, text.into(), Vec::new())
    }

    /// Stops the machine. The thread that does so never goes on.
    pub(crate) fn bugcheck(
        &self,
        code: u32,
        rule: &'static str,
        arguments: [u64; 4],
        text: String,
        history: Vec<String>,
    ) -> ! {
        self.memory.settle_late();
        let stack = crate::report::stack(self);
        let bugcheck = self.describe(code, rule, arguments, text, history, stack);
        if let Ok(mut stopped) = self.stopped.try_borrow_mut() {
            stopped.get_or_insert(bugcheck);
        }
        self.scheduler.halt()
    }

    /// Stops the machine for what no thread did at this moment, unless the rule's option is off; `who` did it, at a
    /// level.
    pub(crate) fn stop_outside(
        &self,
        rule: &Rule,
        arguments: [u64; 3],
        text: String,
        (who, irql): (&str, u8),
        history: Vec<String>,
    ) {
        if !self.verifier.enforces(rule.option) {
            return;
        }
        let [second, third, fourth] = arguments;
        let arguments = [rule.first.unwrap_or(0), second, third, fourth];
        let mut bugcheck = self.describe(rule.bugcheck, rule.name, arguments, text, history, Vec::new());
        bugcheck.irql = irql;
        who.clone_into(&mut bugcheck.thread);
        self.stopped.borrow_mut().get_or_insert(bugcheck);
    }

    fn describe(
        &self,
        code: u32,
        rule: &'static str,
        arguments: [u64; 4],
        text: String,
        history: Vec<String>,
        stack: Vec<String>,
    ) -> Bugcheck {
        Bugcheck {
            code,
            name: Bugcheck::name_of(code),
            arguments: arguments.map(|argument| self.memory.areas.canonical(argument)),
            rule,
            text,
            irql: self.scheduler.irql(),
            processor: self.scheduler.processor(),
            thread: self.scheduler.thread_name(),
            microseconds: self.microseconds(),
            schedule: self.configuration.schedule.to_string(),
            stack,
            history,
        }
    }

    /// A module is detached while lists of it are out: NDIS's own tracker stops for it, where it is on.
    pub(crate) fn leaked_lists(&self, module: u64, out: u64) {
        if self.verifier.list_tracking {
            self.stop(
                &rule::LEAKED_NBL,
                [1, 0, 0],
                format!(
                    "LEAKED_NBL: module {module:#x} is detached while {out} of its lists have not come back"
                ),
            );
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.configuration.record {
            crate::recording::keep(self);
        }
        self.scheduler.abandon();
        self.leave_host_thread();
    }
}

/// Why a driver did not load.
#[derive(Debug)]
pub enum LoadError {
    /// The file is not a driver that this machine can load.
    Image(anyhow::Error),
    /// `DriverEntry` returned this status.
    Refused(i32),
    /// The machine stopped.
    Stopped(Bugcheck),
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Image(error) => write!(f, "{error:#}"),
            Self::Refused(status) => write!(f, "DriverEntry returned {:#010x}", *status as u32),
            Self::Stopped(bugcheck) => bugcheck.fmt(f),
        }
    }
}

impl std::error::Error for LoadError {}

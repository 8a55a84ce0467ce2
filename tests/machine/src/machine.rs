//! The simulated computer: what it consists of, and its life.
#![expect(unsafe_code, reason = "code on coroutine stacks reaches its machine through the host thread")]
use std::cell::{Cell, RefCell};
use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Result, bail};

use crate::bugcheck::Bugcheck;
use crate::image::Image;
use crate::io::IoManager;
use crate::kernel;
use crate::kernel::dma::Dma;
use crate::kernel::pool::Pool;
use crate::memory::{self, Memory, Use};
use crate::ndis::Ndis;
use crate::sched::Scheduler;
use crate::{fault, ndis};

/// How a machine is built.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// Processors.
    pub processors: usize,
    /// Seed of every choice that the machine makes.
    pub seed: u64,
    /// `NdisGetVersion`: `(6 << 16) | minor`.
    pub ndis_version: u32,
    /// Whether contract rules without a documented bugcheck stop the machine. Off, the machine goes on as
    /// Windows would, until something breaks.
    pub contract_rules: bool,
    /// Whether NDIS tracks lists and stops for those that are out at detach, as newer versions of Windows do.
    pub list_tracking: bool,
    /// The n-th pool allocation of a driver fails, counted from 1.
    pub fail_allocation: Option<u64>,
    /// Adapters.
    pub adapters: Vec<ndis::adapter::Settings>,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            processors: 2,
            seed: 1,
            ndis_version: 6 << 16 | 89,
            contract_rules: true,
            list_tracking: true,
            fail_allocation: None,
            adapters: vec![ndis::adapter::Settings::default(), ndis::adapter::Settings::default()],
        }
    }
}

/// A simulated computer. It runs on the host thread that made it.
pub struct Machine {
    pub(crate) configuration: Configuration,
    pub(crate) memory: Memory,
    pub(crate) scheduler: Scheduler,
    pub(crate) pool: Pool,
    pub(crate) io: IoManager,
    pub(crate) dma: Dma,
    /// Entries of the DMA operations' table.
    pub(crate) hidden_entries: u64,
    pub(crate) ndis: Ndis,
    pub(crate) drivers: RefCell<Vec<Driver>>,
    pub(crate) stopped: RefCell<Option<Bugcheck>>,
    pub(crate) debug_output: RefCell<Vec<String>>,
    pub(crate) echo_debug_output: Cell<bool>,
    pub(crate) counts: Counts,
    hold: RefCell<Option<Hold>>,
}

/// A thread that is held back when it calls a function.
struct Hold {
    thread: String,
    function: String,
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
}

/// A loaded driver.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) image: std::rc::Rc<Image>,
    /// Its `DRIVER_OBJECT`.
    pub(crate) object: u64,
    pub(crate) unloaded: bool,
}

thread_local! {
    static CURRENT: Cell<*const Machine> = const { Cell::new(std::ptr::null()) };
}

/// Entries of the DMA operations, made once: they are the same for every machine.
fn hidden_entries() -> u64 {
    static ENTRIES: OnceLock<u64> = OnceLock::new();
    *ENTRIES.get_or_init(|| crate::image::entries(kernel::hidden_numbers()))
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
        let machine = Box::new(Self {
            memory: Memory::new(),
            scheduler: Scheduler::new(configuration.processors, configuration.seed),
            pool: Pool::default(),
            io: IoManager::default(),
            dma: Dma::default(),
            hidden_entries: hidden_entries(),
            ndis: Ndis::default(),
            drivers: RefCell::default(),
            stopped: RefCell::default(),
            debug_output: RefCell::default(),
            echo_debug_output: Cell::new(false),
            counts: Counts::default(),
            hold: RefCell::default(),
            configuration,
        });
        CURRENT.set(&raw const *machine);
        for settings in &machine.configuration.adapters {
            machine.ndis.add_adapter(settings.clone())?;
        }
        Ok(machine)
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
        let image = Image::load(path, &kernel::resolve).map_err(LoadError::Image)?;
        let image = std::rc::Rc::new(image);
        let object = kernel::objects::driver_object(&image);
        self.drivers.borrow_mut().push(Driver { image: image.clone(), object, unloaded: false });
        let registry_path =
            self.unicode_string(&format!("\\REGISTRY\\MACHINE\\SYSTEM\\ControlSet001\\Services\\{service}"));
        let entry = image.entry;
        let status = std::rc::Rc::new(Cell::new(0));
        let result = status.clone();
        self.scheduler.spawn("DriverEntry", move || {
            let machine = current();
            result.set(machine.call(entry, &[object, registry_path]) as i32);
            if result.get() >= 0 {
                machine.ndis.driver_loaded(object);
            }
        });
        self.run_until_idle().map_err(LoadError::Stopped)?;
        if status.get() < 0 {
            return Err(LoadError::Refused(status.get()));
        }
        Ok(())
    }

    /// Unloads the driver that was loaded last: detaches it from every stack, calls its unload routine, and
    /// looks at what it left behind.
    pub fn unload_driver(&self) -> Result<(), Bugcheck> {
        let index = self.drivers.borrow().iter().rposition(|driver| !driver.unloaded);
        let Some(index) = index else { return Ok(()) };
        self.scheduler.spawn("DriverUnload", move || current().unload(index));
        self.run_until_idle()
    }

    fn unload(&self, index: usize) {
        let (object, image) = {
            let drivers = self.drivers.borrow();
            let Some(driver) = drivers.get(index) else { return };
            (driver.object, driver.image.clone())
        };
        // The I/O manager keeps a driver whose devices are open.
        self.scheduler.wait("handles to close", None, || current().io.open_files() == 0);
        self.ndis.detach_driver(object);
        let unload = kernel::objects::driver_unload(object);
        if unload != 0 {
            self.call(unload, &[object]);
        }
        if let Some(driver) = self.drivers.borrow_mut().get_mut(index) {
            driver.unloaded = true;
        }
        self.ndis.check_unload(object);
        self.io.check_unload(object);
        self.pool.check_unload(&image);
        image.unload();
    }

    /// Runs until nothing can happen any more, or a bugcheck.
    pub fn run_until_idle(&self) -> Result<(), Bugcheck> {
        self.run_until(|| false)
    }

    /// Runs until `done` says so, nothing can happen any more, or a bugcheck.
    pub fn run_until(&self, mut done: impl FnMut() -> bool) -> Result<(), Bugcheck> {
        loop {
            if let Some(bugcheck) = self.stopped.borrow().as_ref() {
                return Err(bugcheck.clone());
            }
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

    /// Holds a thread back when it next calls a function, until a condition holds: for a race that is known.
    pub fn hold(&self, thread: &str, function: &str, until: impl Fn() -> bool + 'static) {
        let (thread, function) = (thread.to_owned(), function.to_owned());
        self.hold.replace(Some(Hold { thread, function, until: Box::new(until) }));
    }

    /// A thread is about to call a function.
    pub(crate) fn may_hold(&self, function: &str) {
        let matches = |hold: &Hold| hold.function == function && hold.thread == self.scheduler.thread_name();
        let hold = self.hold.borrow_mut().take_if(|hold| matches(hold));
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

    /// A number that tells the schedule of this run from others.
    pub fn schedule_hash(&self) -> u64 {
        self.scheduler.hash()
    }

    /// The adapters.
    pub fn adapters(&self) -> Vec<std::rc::Rc<ndis::adapter::Adapter>> {
        self.ndis.adapters()
    }

    /// Whether the next allocation of anything that may run out fails; pool counts itself.
    pub(crate) fn pool_fails(&self) -> bool {
        self.pool.next_fails(self)
    }

    /// Allocations so far, of everything that [`Configuration::fail_allocation`] counts.
    pub fn allocations(&self) -> u64 {
        self.pool.allocations()
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
        let string = self.memory.allocate(16 + length, Use::System("UNICODE_STRING"));
        memory::put::<u16>(string, length as u16);
        memory::put::<u16>(string + 2, length as u16);
        memory::put::<u64>(string + 8, string + 16);
        memory::put_bytes(string + 16, &units);
        string
    }

    /// One rule was looked at.
    pub(crate) fn checked(&self) {
        self.counts.checks.set(self.counts.checks.get() + 1);
    }

    /// Stops the machine. The thread that does so never goes on.
    pub(crate) fn bugcheck(&self, code: u32, arguments: [u64; 4], text: impl Into<String>) -> ! {
        self.bugcheck_with_history(code, arguments, text, Vec::new())
    }

    /// Stops the machine, with the last events of the object at fault.
    pub(crate) fn bugcheck_with_history(
        &self,
        code: u32,
        arguments: [u64; 4],
        text: impl Into<String>,
        history: Vec<String>,
    ) -> ! {
        let bugcheck = Bugcheck {
            code,
            name: Bugcheck::name_of(code),
            arguments,
            text: text.into(),
            irql: self.scheduler.irql(),
            processor: self.scheduler.processor(),
            thread: self.scheduler.thread_name(),
            stack: crate::report::stack(self),
            history,
        };
        if let Ok(mut stopped) = self.stopped.try_borrow_mut() {
            stopped.get_or_insert(bugcheck);
        }
        self.scheduler.halt()
    }

    /// A module is detached while lists of it are out: NDIS's own tracker stops for it, where it is on.
    pub(crate) fn leaked_lists(&self, module: u64, out: u64) {
        if self.configuration.list_tracking {
            self.bugcheck(
                crate::bugcheck::code::BUGCODE_NDIS_DRIVER,
                [0x27, 1, 0, 0],
                format!(
                    "LEAKED_NBL: module {module:#x} is detached while {out} of its lists have not come back"
                ),
            );
        }
    }

    /// A contract rule without a documented bugcheck was broken: stops the machine, if such rules are on.
    pub(crate) fn contract(
        &self,
        rule: u64,
        arguments: [u64; 3],
        text: impl Into<String>,
        history: Vec<String>,
    ) {
        if self.configuration.contract_rules {
            let [second, third, fourth] = arguments;
            self.bugcheck_with_history(
                crate::bugcheck::code::SLUICE_CONTRACT_VIOLATION,
                [rule, second, third, fourth],
                text,
                history,
            );
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.scheduler.abandon();
        CURRENT.set(std::ptr::null());
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

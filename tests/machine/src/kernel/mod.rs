//! What drivers import from `ntoskrnl.exe`, `hal.dll` and `ndis.sys`: one table of functions, each with the
//! IRQL that its page allows.

pub(crate) mod device;
pub(crate) mod dma;
pub(crate) mod etw;
mod executive;
pub(crate) mod io;
pub(crate) mod ke;
mod lists;
mod lookaside;
pub(crate) mod mdl;
pub(crate) mod objects;
pub(crate) mod pool;
mod rtl;
mod runtime;
pub(crate) mod sync;
pub(crate) mod timer;
pub(crate) mod wait;
pub(crate) mod work;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use rustc_hash::FxHashMap;

use crate::image::Image;
use crate::log::What;
use crate::machine::{Machine, current};
use crate::rule::{self, Rule};
use crate::sched::{APC, DISPATCH, DPC_LIMIT};
use crate::stack::{self, CallFrame};
use crate::system;

/// What the kernel keeps, by part.
#[derive(Default)]
pub(crate) struct Kernel {
    pub(crate) objects: wait::Objects,
    pub(crate) sync: sync::Sync,
    pub(crate) timers: timer::Timers,
    pub(crate) work: work::Work,
    pub(crate) lookasides: lookaside::Lookasides,
    pub(crate) mdls: mdl::Mdls,
    pub(crate) devices: device::Devices,
    pub(crate) etw: etw::Etw,
}

/// The IRQL that a function may be called at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Irql {
    /// Any.
    Any,
    /// `PASSIVE_LEVEL`.
    Passive,
    /// Up to `APC_LEVEL`.
    Apc,
    /// Up to `DISPATCH_LEVEL`.
    Dispatch,
    /// `DISPATCH_LEVEL`.
    AtDispatch,
}

impl Irql {
    fn allows(self, irql: u8) -> bool {
        match self {
            Self::Any => true,
            Self::Passive => irql == 0,
            Self::Apc => irql <= APC,
            Self::Dispatch => irql <= DISPATCH,
            Self::AtDispatch => irql == DISPATCH,
        }
    }
}

/// One exported function.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    /// How many arguments it takes; of those with any number, the fixed ones.
    pub(crate) arguments: usize,
    pub(crate) irql: Irql,
    /// The rule that a call at another IRQL breaks.
    pub(crate) breach: &'static Rule,
    pub(crate) run: fn(&Machine, &Call<'_>) -> u64,
}

/// A call of a driver that is being served.
pub(crate) struct Call<'a> {
    frame: &'a CallFrame,
    pub(crate) function: &'static Function,
}

impl Call<'_> {
    /// Argument `index`.
    pub(crate) fn arg(&self, index: usize) -> u64 {
        self.frame.argument(index)
    }

    /// Where the caller's kernel stack ends and begins.
    pub(crate) fn stack_limits(&self) -> (u64, u64) {
        self.frame.stack_limits()
    }

    /// The caller's stack pointer.
    pub(crate) fn stack_pointer(&self) -> u64 {
        self.frame.stack_pointer()
    }

    /// Where the call returns to.
    pub(crate) fn caller(&self) -> u64 {
        self.frame.return_address
    }

    /// Argument `index`, of 32 bits.
    pub(crate) fn arg32(&self, index: usize) -> u32 {
        self.arg(index) as u32
    }
}

/// A function of the table: name, arguments, IRQL, the rule that stands for the IRQL where it is not the general
/// one, and what it does.
macro_rules! function {
    ($name:literal, $arguments:literal, $irql:ident, $rule:ident, $run:expr) => {
        $crate::kernel::Function {
            name: $name,
            arguments: $arguments,
            irql: $crate::kernel::Irql::$irql,
            breach: &$crate::rule::$rule,
            run: $run,
        }
    };
    ($name:literal, $arguments:literal, $irql:ident, $run:expr) => {
        $crate::kernel::function!($name, $arguments, $irql, IRQL, $run)
    };
}
pub(crate) use function;

/// Modules and their functions.
const MODULES: &[(&str, &[Function])] = &[
    ("ntoskrnl.exe", ke::FUNCTIONS),
    ("ntoskrnl.exe", wait::FUNCTIONS),
    ("ntoskrnl.exe", sync::FUNCTIONS),
    ("ntoskrnl.exe", timer::FUNCTIONS),
    ("ntoskrnl.exe", work::FUNCTIONS),
    ("ntoskrnl.exe", lists::FUNCTIONS),
    ("ntoskrnl.exe", lookaside::FUNCTIONS),
    ("ntoskrnl.exe", executive::FUNCTIONS),
    ("ntoskrnl.exe", mdl::FUNCTIONS),
    ("ntoskrnl.exe", device::FUNCTIONS),
    ("ntoskrnl.exe", io::FUNCTIONS),
    ("ntoskrnl.exe", crate::card::FUNCTIONS),
    ("ntoskrnl.exe", etw::FUNCTIONS),
    ("ntoskrnl.exe", rtl::FUNCTIONS),
    ("ntoskrnl.exe", runtime::FUNCTIONS),
    ("hal.dll", dma::HAL_FUNCTIONS),
    ("ndis.sys", crate::ndis::exports::FUNCTIONS),
    ("ndis.sys", crate::ndis::receive::FUNCTIONS),
    ("ndis.sys", crate::ndis::oid::FUNCTIONS),
    ("ndis.sys", crate::ndis::buffers::FUNCTIONS),
    ("ndis.sys", crate::ndis::services::FUNCTIONS),
    ("ndis.sys", crate::ndis::support::FUNCTIONS),
    // Functions that drivers reach through a table of pointers and not by name.
    ("", dma::OPERATIONS),
];

/// Every function, numbered.
fn functions() -> &'static [&'static Function] {
    static ALL: OnceLock<Vec<&'static Function>> = OnceLock::new();
    ALL.get_or_init(|| MODULES.iter().flat_map(|(_, functions)| functions.iter()).collect())
}

/// Numbers by name, with their modules.
fn numbers() -> &'static FxHashMap<&'static str, (&'static str, u32)> {
    static NUMBERS: OnceLock<FxHashMap<&'static str, (&'static str, u32)>> = OnceLock::new();
    NUMBERS.get_or_init(|| {
        let named =
            MODULES.iter().flat_map(|(module, functions)| functions.iter().map(move |one| (module, one)));
        named
            .enumerate()
            .map(|(number, (module, function))| (function.name, (*module, number as u32)))
            .collect()
    })
}

/// Where the code of a function lies that drivers call: an import, or a pointer that they were given.
pub(crate) fn entry(number: u32) -> u64 {
    static ENTRIES: OnceLock<u64> = OnceLock::new();
    *ENTRIES.get_or_init(|| crate::image::entries(functions().len() as u32))
        + u64::from(number) * crate::image::THUNK
}

/// The entry of a function by its name.
pub(crate) fn entry_of(name: &str) -> Option<u64> {
    numbers().get(name).map(|(_, number)| entry(*number))
}

/// Where a function lies that a driver asks for by name; 0 if this system's build does not export it.
pub(crate) fn routine_address(machine: &Machine, name: &str) -> u64 {
    if system::exports(machine.build(), name) { entry_of(name).unwrap_or(0) } else { 0 }
}

/// Finds an export for an image's import.
pub(crate) fn resolve(module: &str, name: &str) -> Option<u64> {
    if name == "__chkstk" {
        return Some(stack::check_stack as *const () as u64);
    }
    if let Some(address) = runtime::data(name) {
        return Some(address);
    }
    let (found, number) = *numbers().get(name)?;
    // The HAL's functions moved into the kernel image in Windows 10 2004; both names stayed.
    let kernel = |name: &str| matches!(name, "ntoskrnl.exe" | "hal.dll");
    (found == module || kernel(found) && kernel(module)).then(|| entry(number))
}

/// Whether a module is one of the system's, which the machine provides.
pub(crate) fn has_module(module: &str) -> bool {
    MODULES.iter().any(|(name, _)| *name == module)
}

/// Names of every export, by module.
pub fn exports() -> Vec<(&'static str, &'static str)> {
    let named = MODULES.iter().filter(|(module, _)| !module.is_empty());
    let mut all: Vec<_> = named
        .flat_map(|(module, functions)| functions.iter().map(move |function| (*module, function.name)))
        .chain(runtime::DATA.iter().map(|name| ("ntoskrnl.exe", *name)))
        .chain([("ntoskrnl.exe", "__chkstk")])
        .collect();
    all.sort_unstable();
    all
}

/// An argument as traces show it. The upper half of a narrow argument on the stack is whatever lay there before, which
/// differs from run to run: what is neither an address nor a sign goes.
fn recorded(machine: &Machine, index: usize, value: u64) -> u64 {
    const REGISTERS: usize = 4;
    let upper = value >> 32;
    let wide = upper == 0 || upper >= 0xFFFF_0000 || machine.memory.areas.canonical(value) != value;
    if index < REGISTERS || wide { value } else { value & u64::from(u32::MAX) }
}

/// Serves a call that a driver made, on the host's stack.
pub(crate) extern "sysv64" fn dispatch(number: u32, frame: &CallFrame) -> u64 {
    let machine = current();
    if let Some(giant) = &machine.scheduler.giant {
        giant.acquire();
    }
    let Some(function) = functions().get(number as usize) else {
        machine.stop_for_good(&rule::INTERNAL, [99, u64::from(number), 0, 0], "unknown export")
    };
    frame.use_stack();
    let before = machine.scheduler.enter_call(frame, function.name);
    let call = Call { frame, function };
    machine.counts.calls.set(machine.counts.calls.get() + 1);
    if machine.log.records() {
        let arguments =
            (0..function.arguments).map(|index| recorded(machine, index, call.arg(index))).collect();
        machine.log.note(machine, 0, What::Call { function: function.name, arguments });
    }
    machine.scheduler.point();
    machine.may_hold(function.name, false);
    machine.scheduler.may_stall();
    check_irql(machine, &call);
    let result = catch_unwind(AssertUnwindSafe(|| (function.run)(machine, &call)));
    let value = result.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default();
        let text = format!("{} failed inside the machine: {text}", function.name);
        machine.stop_for_good(&rule::INTERNAL, [99, 0, 0, 0], text)
    });
    machine.scheduler.point();
    machine.may_hold(function.name, true);
    machine.scheduler.may_stall();
    check_dpc(machine, function.name);
    if machine.log.records() {
        machine.log.note(machine, 0, What::Returned { function: function.name, value });
    }
    if let Some(filter) = &machine.configuration.trace {
        print_call(machine, &call, value, filter);
    }
    machine.scheduler.leave_call(before);
    if let Some(giant) = &machine.scheduler.giant {
        giant.release();
    }
    value
}

/// A DPC keeps everything else from its processor: it has a budget (page "Guidelines for Writing DPC Routines": 100
/// microseconds), and the system's watchdog.
fn check_dpc(machine: &Machine, called: &str) {
    let spent = machine.scheduler.dpc_spent();
    let budget = machine.verifier.dpc_budget;
    if spent > DPC_LIMIT {
        let text = format!("A DPC has run for more than 20 seconds; it calls {called}");
        machine.stop(&rule::DPC_TOO_LONG, [20_000, 20_000, 0], text);
    } else if spent > budget * 10 {
        machine.checked();
        let text =
            format!("A DPC has run for {} µs, its budget is {budget} µs; it calls {called}", spent / 10);
        machine.stop(&rule::DPC_BUDGET, [spent / 10, budget, 0], text);
    }
}

/// Prints a call that returns, as `strace` does.
fn print_call(machine: &Machine, call: &Call<'_>, value: u64, filter: &str) {
    let shown = |value: u64| crate::report::value(machine, value);
    let arguments: Vec<String> = (0..call.function.arguments).map(|index| shown(call.arg(index))).collect();
    let line = format!("{}({}) = {}", call.function.name, arguments.join(", "), shown(value));
    if line.contains(filter) {
        let (time, scheduler) = (machine.scheduler.now() as f64 / 10.0, &machine.scheduler);
        let (processor, irql, thread) = (scheduler.processor(), scheduler.irql(), scheduler.thread_name());
        eprintln!("{time:>12.1} cpu{processor} irql{irql} [{thread}] {line}");
    }
}

fn check_irql(machine: &Machine, call: &Call<'_>) {
    machine.checked();
    let function = call.function;
    let irql = machine.scheduler.irql();
    if function.irql.allows(irql) {
        return;
    }
    let rule = function.breach;
    let text = format!(
        "{} is called at IRQL {irql}; it may be called at {:?} (rule {})",
        function.name, function.irql, rule.name
    );
    let level = u64::from(irql);
    let arguments = if rule.name == rule::DMA_IRQL.name {
        let expected = if function.irql == Irql::Passive { 0 } else { u64::from(DISPATCH) };
        [2, expected, level]
    } else if matches!(rule.first, Some(0x2_0000..=0x2_FFFF)) || rule.name == rule::IRQL.name {
        [level, call.caller(), 0]
    } else {
        [level, call.arg(0), 0]
    };
    machine.stop(rule, arguments, text);
}

/// What must hold when a callback of a driver returns that was called at a level.
pub(crate) fn after_callback(machine: &Machine, name: &str, before: u8) {
    machine.checked();
    let this = machine.scheduler.this();
    let after = this.irql.get();
    if after != before {
        machine.stop(
            &rule::IRQL_ON_RETURN,
            [u64::from(before), u64::from(after), 0],
            format!("{name} returned at IRQL {after}; it was called at {before}"),
        );
    }
    if let Some(lock) = this.spin_lock() {
        machine.stop(&rule::SPIN_LOCK, [lock, 0, 0], format!("{name} returned holding a spin lock"));
    }
    if this.critical.get() != 0 && this.depth_is_one() {
        let text = format!("{name} returned inside {} critical regions", this.critical.get());
        machine.stop(&rule::CRITICAL_REGIONS, [this.critical.get() as u64, 0, 0], text);
    }
    if this.guarded.get() != 0 && this.depth_is_one() {
        let text = format!("{name} returned inside {} guarded regions", this.guarded.get());
        machine.stop(&rule::GUARDED_REGIONS, [this.guarded.get() as u64, 0, 0], text);
    }
}

/// Looks for what an image that is being unloaded has left with the kernel.
pub(crate) fn check_unload(machine: &Machine, image: &Image) {
    timer::check_unload(machine, image);
    work::check_unload(machine, image);
    etw::check_unload(machine, image);
    sync::check_unload(machine, image);
}

/// Memory is about to be freed: what of the kernel's objects is in it must be at rest.
pub(crate) fn check_freed(machine: &Machine, start: u64, length: u64) {
    machine.checked();
    timer::check_freed(machine, start, length);
    work::check_freed(machine, start, length);
    wait::check_freed(machine, start, length);
    sync::check_freed(machine, start, length);
    lookaside::check_freed(machine, start, length);
    if let Some(dpc) = machine.scheduler.dpc_in(start, length) {
        let text = "Memory is freed that holds a queued DPC";
        machine.stop(&rule::DPC_FREED, [dpc, start, start + length], text);
    }
    if let Some((lock, owner)) = machine.scheduler.lock_in(start, length) {
        let text = "Memory is freed that holds a lock which somebody holds";
        machine.stop(&rule::DEADLOCK_FREED, [lock, u64::from(owner), 0], text);
    }
}

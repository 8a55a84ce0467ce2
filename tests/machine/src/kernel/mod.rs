//! What drivers import from `ntoskrnl.exe`, `hal.dll` and `ndis.sys`: one table of functions, each with the
//! IRQL that its page allows.

pub(crate) mod dma;
mod executive;
pub(crate) mod io;
pub(crate) mod ke;
pub(crate) mod objects;
pub(crate) mod pool;
mod runtime;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::bugcheck::{code, contract};
use crate::image::Export;
use crate::machine::{Machine, current};
use crate::sched::DISPATCH;
use crate::stack::{self, CallFrame};

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
}

impl Irql {
    fn allows(self, irql: u8) -> bool {
        match self {
            Self::Any => true,
            Self::Passive => irql == 0,
            Self::Apc => irql <= 1,
            Self::Dispatch => irql <= DISPATCH,
        }
    }
}

/// What a breach of a function's IRQL stops the machine with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Breach {
    /// No documented code: the machine's own.
    Contract,
    /// 0xC4 with this rule of DDI compliance checking.
    Rule(u64, &'static str),
    /// 0xC4 with this subcode, the level and the first argument.
    Verifier(u64),
    /// 0xC9 with this subcode.
    IoManager(u64),
    /// 0xE6/13: the level is too high for a DMA function.
    Dma,
}

/// One exported function.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) irql: Irql,
    pub(crate) breach: Breach,
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

    /// Where the call returns to.
    pub(crate) fn caller(&self) -> u64 {
        self.frame.return_address
    }

    /// Argument `index`, of 32 bits.
    pub(crate) fn arg32(&self, index: usize) -> u32 {
        self.arg(index) as u32
    }
}

/// A function of the table.
macro_rules! function {
    ($name:literal, $irql:ident, $breach:ident $(($($value:expr),+))?, $run:expr) => {
        $crate::kernel::Function {
            name: $name,
            irql: $crate::kernel::Irql::$irql,
            breach: $crate::kernel::Breach::$breach $(($($value),+))?,
            run: $run,
        }
    };
    ($name:literal, $irql:ident, $run:expr) => {
        $crate::kernel::function!($name, $irql, Contract, $run)
    };
}
pub(crate) use function;

/// Modules and their functions.
const MODULES: [(&str, &[Function]); 7] = [
    ("ntoskrnl.exe", ke::FUNCTIONS),
    ("ntoskrnl.exe", executive::FUNCTIONS),
    ("ntoskrnl.exe", io::FUNCTIONS),
    ("ntoskrnl.exe", runtime::FUNCTIONS),
    ("hal.dll", dma::HAL_FUNCTIONS),
    ("ndis.sys", crate::ndis::exports::FUNCTIONS),
    ("ndis.sys", crate::ndis::support::FUNCTIONS),
];
/// Functions that drivers reach through a table of pointers and not by name.
const HIDDEN: usize = 1000;

/// Every function, numbered.
fn by_number(number: u32) -> Option<&'static Function> {
    let number = number as usize;
    if let Some(index) = number.checked_sub(HIDDEN) {
        return dma::OPERATIONS.get(index);
    }
    MODULES.iter().flat_map(|(_, functions)| functions.iter()).nth(number)
}

/// Numbers of the functions of the DMA operations' table.
pub(crate) fn hidden_numbers() -> impl Iterator<Item = u32> {
    (0..dma::OPERATIONS.len()).map(|index| (HIDDEN + index) as u32)
}

/// Finds an export for an image's import.
pub(crate) fn resolve(module: &str, name: &str) -> Option<Export> {
    if name == "__chkstk" {
        return Some(Export::Direct(stack::check_stack as *const () as u64));
    }
    let numbered = MODULES
        .iter()
        .flat_map(|(module, functions)| functions.iter().map(move |function| (*module, function)));
    // The HAL's functions moved into the kernel image in Windows 10 2004; both names stayed.
    let is_module = |found: &str| found == module || (found == "hal.dll" && module == "ntoskrnl.exe");
    numbered
        .enumerate()
        .find(|(_, (found, function))| is_module(found) && function.name == name)
        .map(|(number, _)| Export::Function(number as u32))
}

/// Names of every export, by module.
pub fn exports() -> Vec<(&'static str, &'static str)> {
    MODULES
        .iter()
        .flat_map(|(module, functions)| functions.iter().map(move |function| (*module, function.name)))
        .collect()
}

/// Serves a call that a driver made, on the host's stack.
pub(crate) extern "sysv64" fn dispatch(number: u32, frame: &CallFrame) -> u64 {
    let machine = current();
    let Some(function) = by_number(number) else {
        machine.bugcheck(
            code::SLUICE_CONTRACT_VIOLATION,
            [contract::INTERNAL, u64::from(number), 0, 0],
            "unknown export",
        )
    };
    let before = machine.scheduler.enter_call(frame, function.name);
    machine.counts.calls.set(machine.counts.calls.get() + 1);
    machine.scheduler.point();
    machine.may_hold(function.name);
    let call = Call { frame, function };
    check_irql(machine, &call);
    let result = catch_unwind(AssertUnwindSafe(|| (function.run)(machine, &call)));
    let value = result.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default();
        machine.bugcheck(
            code::SLUICE_CONTRACT_VIOLATION,
            [contract::INTERNAL, 0, 0, 0],
            format!("{} failed inside the machine: {text}", function.name),
        )
    });
    machine.scheduler.point();
    machine.scheduler.leave_call(before);
    value
}

fn check_irql(machine: &Machine, call: &Call<'_>) {
    machine.checked();
    let function = call.function;
    let irql = machine.scheduler.irql();
    if function.irql.allows(irql) {
        return;
    }
    let text = format!("{} is called at IRQL {irql}; it may be called at {:?}", function.name, function.irql);
    let level = u64::from(irql);
    match function.breach {
        Breach::Contract => machine.contract(contract::IRQL, [level, call.caller(), 0], text, Vec::new()),
        Breach::Rule(rule, name) => machine.bugcheck(
            code::DRIVER_VERIFIER_DETECTED_VIOLATION,
            [rule, level, call.caller(), 0],
            format!("{text} (rule {name})"),
        ),
        Breach::Verifier(subcode) => machine.bugcheck(
            code::DRIVER_VERIFIER_DETECTED_VIOLATION,
            [subcode, level, call.arg(0), call.arg(1)],
            text,
        ),
        Breach::IoManager(subcode) => machine.bugcheck(
            code::DRIVER_VERIFIER_IOMANAGER_VIOLATION,
            [subcode, level, call.arg(0), 0],
            text,
        ),
        Breach::Dma => machine.bugcheck(code::DRIVER_VERIFIER_DMA_VIOLATION, [0x13, 2, 0, level], text),
    }
}

//! Bugchecks: Windows' stop codes with their four arguments, and the machine's own for contract rules that
//! have no documented code.
use std::fmt;

use serde::Serialize;

macro_rules! codes {
    ($($name:ident = $value:literal, $words:expr;)*) => {
        /// Codes of Windows that the machine stops with (page "Bug Check Code Reference").
        #[expect(missing_docs, reason = "the names are Microsoft's")]
        pub mod code {
            $(pub const $name: u32 = $value;)*
        }
        const NAMES: &[(u32, &str, [&str; 4])] = &[$(($value, stringify!($name), $words)),*];
    };
}

const FAULT: [&str; 4] =
    ["address referenced", "operation: 0 read, 1 write, 8 execute", "address of the instruction", "reserved"];
const SUBCODE: [&str; 4] =
    ["subcode: which rule", "as its page says", "as its page says", "as its page says"];

codes! {
    IRQL_NOT_LESS_OR_EQUAL = 0x0A,
        ["address referenced", "IRQL", "operation: 0 read, 1 write, 8 execute", "address of the instruction"];
    SYSTEM_SERVICE_EXCEPTION = 0x3B, ["exception code", "address of the instruction", "address referenced", "0"];
    MULTIPLE_IRP_COMPLETE_REQUESTS = 0x44, ["the IRP", "0", "0", "0"];
    PFN_LIST_CORRUPT = 0x4E, ["9A: locked pages are freed", "address of the pages", "locks", "0"];
    PAGE_FAULT_IN_NONPAGED_AREA = 0x50,
        ["address referenced", "operation: 0 read, 1 write, 8 execute", "address of the instruction", "kind of memory"];
    BUGCODE_NDIS_DRIVER = 0x7C, SUBCODE;
    SYSTEM_THREAD_EXCEPTION_NOT_HANDLED = 0x7E,
        ["exception code", "address of the instruction", "address referenced", "0"];
    UNEXPECTED_KERNEL_MODE_TRAP = 0x7F, ["8: double fault", "0", "0", "0"];
    ATTEMPTED_SWITCH_FROM_DPC = 0xB8, ["thread that was to wait", "thread that was to run", "stack", "0"];
    ATTEMPTED_WRITE_TO_READONLY_MEMORY = 0xBE, ["address", "page table entry", "address of the instruction", "0"];
    SPECIAL_POOL_DETECTED_MEMORY_CORRUPTION = 0xC1,
        ["address of the block", "first wrong address", "bytes of the block", "23: around it, 24: behind it"];
    BAD_POOL_CALLER = 0xC2, SUBCODE;
    DRIVER_VERIFIER_DETECTED_VIOLATION = 0xC4, SUBCODE;
    TIMER_OR_DPC_INVALID = 0xC7, ["0 timer, 1 DPC, 2 DPC routine, 4 APCs", "object", "start of the range", "its end"];
    DRIVER_CAUGHT_MODIFYING_FREED_POOL = 0xC6,
        ["address referenced", "operation: 0 read, 1 write", "mode", "reserved"];
    IRQL_UNEXPECTED_VALUE = 0xC8, ["current << 16 | expected << 8", "0", "0", "0"];
    DRIVER_VERIFIER_IOMANAGER_VIOLATION = 0xC9, SUBCODE;
    PNP_DETECTED_FATAL_ERROR = 0xCA, ["2: no physical device object", "the object", "0", "0"];
    DRIVER_LEFT_LOCKED_PAGES_IN_PROCESS = 0xCB, ["caller", "caller's caller", "MDL", "pages"];
    PAGE_FAULT_IN_FREED_SPECIAL_POOL = 0xCC, FAULT;
    PAGE_FAULT_BEYOND_END_OF_ALLOCATION = 0xCD, FAULT;
    DRIVER_UNLOADED_WITHOUT_CANCELLING_PENDING_OPERATIONS = 0xCE,
        ["address referenced, or object left", "operation", "address of the instruction", "0"];
    DRIVER_IRQL_NOT_LESS_OR_EQUAL = 0xD1,
        ["address referenced", "IRQL", "operation: 0 read, 1 write, 8 execute", "address of the instruction"];
    DRIVER_PAGE_FAULT_IN_FREED_SPECIAL_POOL = 0xD5, FAULT;
    DRIVER_PAGE_FAULT_BEYOND_END_OF_ALLOCATION = 0xD6, FAULT;
    WORKER_THREAD_RETURNED_AT_BAD_IRQL = 0xE1, ["worker routine", "IRQL", "work item", "work item"];
    RESOURCE_NOT_OWNED = 0xE3, ["resource", "thread", "owners", "0"];
    WORKER_INVALID = 0xE4, SUBCODE;
    DRIVER_VERIFIER_DMA_VIOLATION = 0xE6, SUBCODE;
    ATTEMPTED_EXECUTE_OF_NOEXECUTE_MEMORY = 0xFC, ["address", "page table entry", "0", "0"];
    INVALID_MDL_RANGE = 0x12E, ["source MDL", "target MDL", "address", "bytes"];
    DPC_WATCHDOG_VIOLATION = 0x133, ["0: one DPC, 1: at DISPATCH_LEVEL in all", "ticks or time", "limit", "0"];
    KERNEL_SECURITY_CHECK_FAILURE = 0x139, ["kind of failure; 3: a list is corrupt", "0", "0", "0"];
    SLUICE_CONTRACT_VIOLATION = 0x51C0_0000, ["which rule", "as it says", "as it says", "as it says"];
}

/// A stop of the machine.
#[derive(Clone, Debug, Serialize)]
pub struct Bugcheck {
    /// Code.
    pub code: u32,
    /// Its name.
    pub name: &'static str,
    /// Its arguments.
    pub arguments: [u64; 4],
    /// The rule that was broken.
    pub rule: &'static str,
    /// What happened, in words.
    pub text: String,
    /// Level of the processor.
    pub irql: u8,
    /// Which processor.
    pub processor: usize,
    /// Which thread or DPC.
    pub thread: String,
    /// Simulated microseconds since the start.
    pub microseconds: u64,
    /// Token of the schedule.
    pub schedule: String,
    /// Stack of the simulated kernel, innermost call first.
    pub stack: Vec<String>,
    /// What the object at fault is, and its last events.
    pub history: Vec<String>,
}

impl Bugcheck {
    /// The name of a code.
    pub fn name_of(code: u32) -> &'static str {
        NAMES.iter().find(|(value, ..)| *value == code).map_or("BUGCHECK", |(_, name, _)| name)
    }

    fn words(&self) -> [&'static str; 4] {
        NAMES.iter().find(|(value, ..)| *value == self.code).map_or([""; 4], |(_, _, words)| *words)
    }

    /// The first line of the stack that belongs to a driver.
    pub fn driver_frame(&self) -> Option<&str> {
        self.stack.iter().map(String::as_str).find(|frame| frame.contains('!') && !frame.starts_with("nt!"))
    }
}

impl fmt::Display for Bugcheck {
    /// In the order of a debugger's `!analyze -v`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({:x})", self.name, self.code)?;
        writeln!(f, "{}", self.text)?;
        writeln!(f, "Arguments:")?;
        for (index, (argument, words)) in self.arguments.iter().zip(self.words()).enumerate() {
            writeln!(f, "Arg{}: {argument:016x}, {words}", index + 1)?;
        }
        writeln!(f)?;
        writeln!(f, "RULE:  {}", self.rule)?;
        writeln!(f, "CURRENT_IRQL:  {}", self.irql)?;
        writeln!(f, "PROCESSOR:  {}", self.processor)?;
        writeln!(f, "THREAD:  {}", self.thread)?;
        writeln!(f, "TIME:  {} us", self.microseconds)?;
        if !self.history.is_empty() {
            writeln!(f, "OBJECT_HISTORY:")?;
            for event in &self.history {
                writeln!(f, "    {event}")?;
            }
        }
        writeln!(f, "STACK_TEXT:")?;
        for frame in &self.stack {
            writeln!(f, "    {frame}")?;
        }
        if let Some(frame) = self.driver_frame() {
            writeln!(f, "SYMBOL_NAME:  {frame}")?;
        }
        writeln!(f, "SCHEDULE:  {}", self.schedule)
    }
}

//! Bugchecks: Windows' stop codes with their four arguments, and the machine's own for contract rules that
//! have no documented code.
use std::fmt;

use serde::Serialize;

/// Codes of Windows that the machine stops with (page "Bug Check Code Reference").
#[expect(missing_docs, reason = "the names are Microsoft's")]
pub mod code {
    pub const IRQL_NOT_LESS_OR_EQUAL: u32 = 0x0A;
    pub const SYSTEM_SERVICE_EXCEPTION: u32 = 0x3B;
    pub const MULTIPLE_IRP_COMPLETE_REQUESTS: u32 = 0x44;
    pub const PAGE_FAULT_IN_NONPAGED_AREA: u32 = 0x50;
    pub const BUGCODE_NDIS_DRIVER: u32 = 0x7C;
    pub const SYSTEM_THREAD_EXCEPTION_NOT_HANDLED: u32 = 0x7E;
    pub const UNEXPECTED_KERNEL_MODE_TRAP: u32 = 0x7F;
    pub const ATTEMPTED_SWITCH_FROM_DPC: u32 = 0xB8;
    pub const BAD_POOL_CALLER: u32 = 0xC2;
    pub const SPECIAL_POOL_DETECTED_MEMORY_CORRUPTION: u32 = 0xC1;
    pub const DRIVER_VERIFIER_DETECTED_VIOLATION: u32 = 0xC4;
    pub const TIMER_OR_DPC_INVALID: u32 = 0xC7;
    pub const DRIVER_VERIFIER_IOMANAGER_VIOLATION: u32 = 0xC9;
    pub const DRIVER_IRQL_NOT_LESS_OR_EQUAL: u32 = 0xD1;
    pub const DRIVER_PAGE_FAULT_IN_FREED_SPECIAL_POOL: u32 = 0xD5;
    pub const DRIVER_PAGE_FAULT_BEYOND_END_OF_ALLOCATION: u32 = 0xD6;
    pub const DRIVER_VERIFIER_DMA_VIOLATION: u32 = 0xE6;
    pub const ATTEMPTED_EXECUTE_OF_NOEXECUTE_MEMORY: u32 = 0xFC;
    pub const DPC_WATCHDOG_VIOLATION: u32 = 0x133;
    /// No code of Windows: a contract rule whose breach Windows does not stop for. The first argument is one
    /// of [`super::contract`].
    pub const SLUICE_CONTRACT_VIOLATION: u32 = 0x51C0_0000;
}

/// Contract rules without a documented bugcheck: first argument of `SLUICE_CONTRACT_VIOLATION`.
#[expect(missing_docs, reason = "the names say it, and the texts of the bugchecks say more")]
pub mod contract {
    pub const NBL_NOT_OWNED_AT_SEND: u64 = 1;
    pub const NBL_NOT_OWNED_AT_COMPLETE: u64 = 2;
    pub const NBL_FREED_WHILE_OUT: u64 = 3;
    pub const SEND_WHILE_NOT_RUNNING: u64 = 4;
    pub const PAUSED_WITH_NBLS_OUT: u64 = 5;
    pub const PAUSE_COMPLETE_WITHOUT_PAUSE: u64 = 6;
    pub const SOURCE_HANDLE: u64 = 8;
    pub const MISSING_HANDLER: u64 = 9;
    pub const IRQL: u64 = 10;
    pub const INVALID_OBJECT: u64 = 12;
    pub const NOT_DEREGISTERED: u64 = 13;
    pub const LOCK_ACROSS_NDIS: u64 = 14;
    pub const IRQL_ON_RETURN: u64 = 15;
    pub const INTERNAL: u64 = 99;
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
    /// What happened, in words.
    pub text: String,
    /// Level of the processor.
    pub irql: u8,
    /// Which processor.
    pub processor: usize,
    /// Which thread or DPC.
    pub thread: String,
    /// Stack of the simulated kernel, innermost call first.
    pub stack: Vec<String>,
    /// Last events of the object at fault.
    pub history: Vec<String>,
}

impl Bugcheck {
    /// The name of a code.
    pub fn name_of(code: u32) -> &'static str {
        match code {
            code::IRQL_NOT_LESS_OR_EQUAL => "IRQL_NOT_LESS_OR_EQUAL",
            code::SYSTEM_SERVICE_EXCEPTION => "SYSTEM_SERVICE_EXCEPTION",
            code::MULTIPLE_IRP_COMPLETE_REQUESTS => "MULTIPLE_IRP_COMPLETE_REQUESTS",
            code::PAGE_FAULT_IN_NONPAGED_AREA => "PAGE_FAULT_IN_NONPAGED_AREA",
            code::BUGCODE_NDIS_DRIVER => "BUGCODE_NDIS_DRIVER",
            code::SYSTEM_THREAD_EXCEPTION_NOT_HANDLED => "SYSTEM_THREAD_EXCEPTION_NOT_HANDLED",
            code::UNEXPECTED_KERNEL_MODE_TRAP => "UNEXPECTED_KERNEL_MODE_TRAP",
            code::ATTEMPTED_SWITCH_FROM_DPC => "ATTEMPTED_SWITCH_FROM_DPC",
            code::BAD_POOL_CALLER => "BAD_POOL_CALLER",
            code::SPECIAL_POOL_DETECTED_MEMORY_CORRUPTION => "SPECIAL_POOL_DETECTED_MEMORY_CORRUPTION",
            code::DRIVER_VERIFIER_DETECTED_VIOLATION => "DRIVER_VERIFIER_DETECTED_VIOLATION",
            code::TIMER_OR_DPC_INVALID => "TIMER_OR_DPC_INVALID",
            code::DRIVER_VERIFIER_IOMANAGER_VIOLATION => "DRIVER_VERIFIER_IOMANAGER_VIOLATION",
            code::DRIVER_IRQL_NOT_LESS_OR_EQUAL => "DRIVER_IRQL_NOT_LESS_OR_EQUAL",
            code::DRIVER_PAGE_FAULT_IN_FREED_SPECIAL_POOL => "DRIVER_PAGE_FAULT_IN_FREED_SPECIAL_POOL",
            code::DRIVER_PAGE_FAULT_BEYOND_END_OF_ALLOCATION => "DRIVER_PAGE_FAULT_BEYOND_END_OF_ALLOCATION",
            code::DRIVER_VERIFIER_DMA_VIOLATION => "DRIVER_VERIFIER_DMA_VIOLATION",
            code::ATTEMPTED_EXECUTE_OF_NOEXECUTE_MEMORY => "ATTEMPTED_EXECUTE_OF_NOEXECUTE_MEMORY",
            code::DPC_WATCHDOG_VIOLATION => "DPC_WATCHDOG_VIOLATION",
            code::SLUICE_CONTRACT_VIOLATION => "SLUICE_CONTRACT_VIOLATION",
            _ => "BUGCHECK",
        }
    }
}

impl fmt::Display for Bugcheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({:x})", self.name, self.code)?;
        writeln!(f, "{}", self.text)?;
        writeln!(f, "Arguments:")?;
        for (index, argument) in self.arguments.iter().enumerate() {
            writeln!(f, "Arg{}: {argument:016x}", index + 1)?;
        }
        writeln!(f, "CURRENT_IRQL:  {}", self.irql)?;
        writeln!(f, "PROCESSOR:  {}", self.processor)?;
        writeln!(f, "THREAD:  {}", self.thread)?;
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
        Ok(())
    }
}

//! The crash lab: each case of the five documents, the bugcheck that its wrong pattern must end with, and its safe
//! pattern. The drivers are `tests/lab/crashes/examples`.
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use sluice_machine::bugcheck::Bugcheck;
use sluice_machine::ndis::adapter::{Completes, Settings};
use sluice_machine::{Configuration, LoadError, Machine, Schedule, user};

/// What happens to a driver of the lab once it is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It does what it does while it is loaded.
    Load,
    /// A client sends a request with its own memory, and unmaps that.
    UserMemory,
    /// The machine has a card that receives by DMA.
    Card,
    /// A client sends frames while the adapter is disabled and enabled.
    Disable,
    /// A client sends one frame on an adapter that completes inline.
    Inline,
    /// Two images import from each other; this one is loaded first.
    Images,
    /// The counter that the driver shows at the end is what is looked at.
    Counter,
}

/// One case.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The document, by its number in `seeds/`.
    pub document: &'static str,
    /// Name of the case, and of its image.
    pub name: &'static str,
    /// What it shows.
    pub shows: &'static str,
    /// The type or rule that prevents it.
    pub prevented_by: &'static str,
    /// What the document itself shows, in a line or two.
    pub figures: &'static str,
    /// The bugcheck that the wrong pattern ends with: code, name and arguments, addresses by what they are.
    pub expected: &'static str,
    /// Options of the verifier that are off.
    pub without: &'static str,
    /// What happens.
    pub stage: Stage,
    /// The image of the safe pattern, if it is another; else empty.
    pub safe: &'static str,
}

macro_rules! cases {
    ($(document $document:literal: $($name:literal, $stage:ident, $expected:literal, $shows:literal, $prevented:literal,
        $figures:literal $(, without $without:literal)? $(, safe $safe:literal)?;)*)*) => {
        /// All cases.
        pub const CASES: &[Case] = &[$($(Case {
            document: $document,
            name: $name,
            shows: $shows,
            prevented_by: $prevented,
            figures: $figures,
            expected: $expected,
            without: concat!($($without)?),
            stage: Stage::$stage,
            safe: concat!($($safe)?),
        },)*)*];
    };
}

cases! {
    document "000 DMA":
        "dma_freed_too_early", Card, "0xE6 DRIVER_VERIFIER_DMA_VIOLATION (26, memory, 100000800, 2)",
            "a DPC takes the first interrupt for the last, the buffer is freed, the card writes the rest",
            "receiver::Receiving has no free; the gate's Drained proof",
            "0xA (fffff800a2b3c000, 2, 0, fffff800a1c56120) in the DMA completion routine: memory of the card's, freed";
        "dma_beyond_the_buffer", Card, "0xE6 DRIVER_VERIFIER_DMA_VIOLATION (26, memory, 100000820, 2)",
            "the card is told of more bytes than the buffer has",
            "the length is the buffer's own; guard pages on both sides",
            "DRIVER_CORRUPTED_EXPOOL when the neighbour's pool header is found broken";
        "dma_before_the_mapping", Card, "0xE6 DRIVER_VERIFIER_DMA_VIOLATION (26, memory, 0, 2)",
            "the card is started before its memory is mapped",
            "dma::CommonBuffer: there is no address without a mapping",
            "PAGE_FAULT_IN_NONPAGED_AREA after a write to an illegal physical address";
        "guard_page_in_front", Card, "0x7E SYSTEM_THREAD_EXCEPTION_NOT_HANDLED (C0000005, image, 0, 0)",
            "the document's guard page as printed lies in front of the buffer; the card runs over the end",
            "receiver.rs: pages with a pattern on both sides, looked at afterwards; they find, and do not stop",
            "userBuffer = fullBuffer + PAGE_SIZE: \"a page left for protection\", said to be at the end",
            without "dma,special-pool";
        "guard_page_of_the_processor", Card, "0x7E SYSTEM_THREAD_EXCEPTION_NOT_HANDLED (C0000005, image, 0, 0)",
            "an inaccessible page behind the buffer does not stop a device",
            "the length is the buffer's own; only an IOMMU stops a card that does not keep to it",
            "\"a device that writes beyond the end triggers a page fault at once\"",
            without "dma";
    document "001 kernel mechanisms":
        "paged_read", Load, "0xD1 DRIVER_IRQL_NOT_LESS_OR_EQUAL (memory, 2, 0, image)",
            "paged memory is read at DISPATCH_LEVEL", "PagedBox::get wants a token that may wait",
            "0xD1 (ffffd907b0dc7660, 2, 0, fffff80375261530): paged pool, read by myfault+1530";
        "paged_write", Load, "0xD1 DRIVER_IRQL_NOT_LESS_OR_EQUAL (memory, 2, 1, image)",
            "paged memory is written under a spin lock", "PagedBox::get_mut wants a token that may wait",
            "as above, with 1 for a write";
        "wait_at_dispatch", Load, "0xC4 DRIVER_VERIFIER_DETECTED_VIOLATION (121, 2, memory, 0)",
            "a wait without limit at DISPATCH_LEVEL", "MayWait is not implemented for Dispatch",
            "\"waiting for any dispatcher object crashes the system, unless the timeout is zero\"";
        "irql_not_restored", Load, "0xC4 DRIVER_VERIFIER_DETECTED_VIOLATION (2001D, 0, 2, 0)",
            "the IRQL is raised and not restored", "raising takes a closure",
            "\"raising it without lowering it in the same function is very dangerous\"";
        "mutex_of_another_thread", Load, "0x7E SYSTEM_THREAD_EXCEPTION_NOT_HANDLED (C0000046, image, memory, 0)",
            "a mutex is released by a thread that does not own it", "Mutex::with takes and releases in one call",
            "\"the owner is the only thread that can release the mutex\"";
        "fast_mutex_twice", Load, "0xC4 DRIVER_VERIFIER_DETECTED_VIOLATION (1000, memory, 0, 0)",
            "a fast mutex is taken again by its owner", "ranks: no lock comes after itself",
            "\"cannot be taken recursively, or it deadlocks\"";
        "resource_without_region", Load, "0xC4 DRIVER_VERIFIER_DETECTED_VIOLATION (37, 0, 0, memory)",
            "an executive resource is taken outside a critical region", "Resource wants the region's token",
            "\"APCs must be disabled, which a critical region does\"";
        "dpc_freed", Load, "0xC7 TIMER_OR_DPC_INVALID (1, memory, memory, memory)",
            "a DPC object is freed while it is queued", "Dpc::stop, and a drop that looks",
            "\"allocate the KDPC from nonpaged pool\": it must stay there";
        "timer_freed", Load, "0xC4 DRIVER_VERIFIER_DETECTED_VIOLATION (15, memory, 0, memory)",
            "a timer is freed while it is set", "Timer::stop, and a drop that looks",
            "as above, for the KTIMER";
        "event_freed", Load, "0x51C00000 SLUICE_CONTRACT_VIOLATION (1F, memory, memory, 18)",
            "an event is freed while a thread waits for it", "a wait borrows the event",
            "\"waitable objects\": the waiter is linked into the object";
        "user_buffer_unmapped", UserMemory, "0x3B SYSTEM_SERVICE_EXCEPTION (C0000005, image, user, 0)",
            "a client unmaps its buffer while the driver reads it", "Irp::locked_pages; no way to read a bare address",
            "\"another thread may free the buffer before the driver reads it: the system crashes\"";
        "interlocked", Counter, "counter too small",
            "two processors increment a counter", "interlocked::Counter",
            "two threads add 1, and the result is 1 more, not 2";
        "assertion", Load, "0xC4 DRIVER_VERIFIER_DETECTED_VIOLATION (122, 2, memory, memory)",
            "code claims a level that it does not run at", "tokens come from the glue; debug builds assert them",
            "NT_ASSERT(KeGetCurrentIrql() == DISPATCH_LEVEL)";
    document "002 code that is not there":
        "late_code_first", Images, "0xD1 DRIVER_IRQL_NOT_LESS_OR_EQUAL (image, 2, 8, image)",
            "DllInitialize releases a lock of an image whose sections are not resident yet",
            "no DllInitialize, no exports: cargo xtask build checks the image",
            "0xD1 (FFFFF803467B59D0, 2, 8, FFFFF803467B59D0): NdisReleaseRWLock, called by netio's DllInitialize",
            safe "resident_first";
    document "003 disabling an adapter":
        "pause_nothing", Disable, "0x3B SYSTEM_SERVICE_EXCEPTION (C0000005, image, handle, 0)",
            "a pause handler that does nothing", "the gate closes in every pause, and lists leave through it",
            "0x3B (C0000005, NdisFSendNetBufferLists+c0, context, 0), called by NPF_Write", without "contract,ndis,list-tracking";
        "pause_sketch", Disable, "0x3B SYSTEM_SERVICE_EXCEPTION (C0000005, image, handle, 0)",
            "the answer's sketch: the flag is set only where something is in flight",
            "the gate closes whether or not anything is out",
            "\"I changed my code as Jeffrey suggested, and the same BSoD still happens\"", without "contract,ndis,list-tracking";
    document "004 re-entrancy":
        "completion_sends_again", Inline, "0x7F UNEXPECTED_KERNEL_MODE_TRAP (8, 0, 0, 0)",
            "a send completion sends again, inline", "completions queue a DPC; stack::remaining",
            "0x1000007F (8, ...): a callback triggers itself through the service it calls, until the stack is gone";
}

/// What an argument is, where it is an address.
pub fn class(argument: u64) -> String {
    match argument {
        0xFFFF_F800_0000_0000..0xFFFF_F880_0000_0000 => "image".to_owned(),
        0xFFFF_8000_0000_0000..0xFFFF_9000_0000_0000 => "memory".to_owned(),
        0x0000_0200_0000_0000..0x0000_0300_0000_0000 => "user".to_owned(),
        0xFFFF_B000_0000_0000..0xFFFF_F000_0000_0000 => "handle".to_owned(),
        0x0F00_0000_0000..0x0F01_0000_0000 => "export".to_owned(),
        // What of the machine's own code faulted.
        0x5000_0000_0000..0x8000_0000_0000 => "system".to_owned(),
        other => format!("{other:X}"),
    }
}

/// A bugcheck in one line, as [`Case::expected`] has it.
pub fn line(bugcheck: &Bugcheck) -> String {
    let arguments = bugcheck.arguments.map(class).join(", ");
    format!("0x{:X} {} ({arguments})", bugcheck.code, bugcheck.name)
}

/// How one run ended.
#[derive(Clone, Debug)]
pub struct Run {
    /// The bugcheck, or what was wrong without one.
    pub failure: Option<String>,
    /// The bugcheck, if there was one.
    pub bugcheck: Option<Bugcheck>,
    /// What the driver printed.
    pub output: Vec<String>,
    /// The loader's steps.
    pub loader: Vec<String>,
    /// What the card did.
    pub card: Vec<String>,
}

impl Case {
    /// A case by its name.
    pub fn named(name: &str) -> Result<&'static Self> {
        let names = || CASES.iter().map(|case| case.name).collect::<Vec<_>>().join(", ");
        let found = CASES.iter().find(|case| case.name == name);
        found.with_context(|| format!("\"{name}\" is no case of the lab; there are: {}", names()))
    }

    fn image(&self, folder: &Path, safe: bool) -> std::path::PathBuf {
        let name = if safe && !self.safe.is_empty() { self.safe } else { self.name };
        folder.join(name).with_extension("sys")
    }

    /// Runs the wrong or the safe pattern once.
    pub fn run(&self, folder: &Path, safe: bool, seed: u64) -> Result<Run> {
        let image = self.image(folder, safe);
        if !image.exists() {
            bail!("{} is not there; build it with: cargo xtask build --all", image.display());
        }
        let completes = if self.stage == Stage::Inline { Completes::Inline } else { Completes::Late(2, 40) };
        let machine = Machine::start(Configuration {
            schedule: Schedule::random(seed),
            adapters: vec![Settings { completes, ..Settings::default() }],
            verifier: self.without.parse()?,
            ..Configuration::default()
        })?;
        if self.stage == Stage::Card {
            machine.plug_card();
        }
        let ended = self.live(&machine, &image, safe);
        let mut run = Run {
            failure: None,
            bugcheck: None,
            output: machine.debug_output(),
            loader: machine.loader_log(),
            card: machine.card_history(),
        };
        match ended {
            Ok(()) if self.stage == Stage::Counter => run.failure = lost(&run.output),
            Ok(()) => {}
            Err(LoadError::Stopped(bugcheck)) => {
                run.failure = Some(line(&bugcheck));
                run.bugcheck = Some(bugcheck);
            }
            Err(other) => bail!("{}: {other}", self.name),
        }
        Ok(run)
    }

    fn live(&self, machine: &Machine, image: &Path, safe: bool) -> Result<(), LoadError> {
        let service = if safe { "lab-safe" } else { "lab" };
        machine.load_driver_as(image, service)?;
        let stopped = LoadError::Stopped;
        match self.stage {
            Stage::UserMemory => unmap(machine, safe),
            Stage::Disable => disable(machine),
            Stage::Inline => machine.spawn("client", || {
                let handle = user::Handle::open("\\\\.\\Lab", true);
                if let Ok(handle) = handle {
                    handle.control(SEND, &[], Vec::new()).wait();
                    handle.close();
                }
            }),
            Stage::Load | Stage::Card | Stage::Images | Stage::Counter => {}
        }
        machine.run_until_idle().map_err(stopped)?;
        machine.unload_driver().map_err(stopped)
    }

    /// Runs the wrong pattern until it fails; how many schedules that took, and the run. None if none of them did.
    pub fn fail(&self, folder: &Path, most: u64) -> Result<Option<(u64, Run)>> {
        for seed in 1..=most {
            let run = self.run(folder, false, seed)?;
            if run.failure.is_some() {
                return Ok(Some((seed, run)));
            }
        }
        Ok(None)
    }

    /// Both patterns: one wrong run that fails, and so many safe ones.
    pub fn outcome(&self, folder: &Path, schedules: u64) -> Result<Outcome> {
        let (schedules_to_fail, got) = match self.fail(folder, MOST)? {
            Some((schedules, run)) => (schedules, run.failure.unwrap_or_default()),
            None => (MOST, "nothing".to_owned()),
        };
        let mut safe_violations = Vec::new();
        for seed in 1..=schedules {
            if let Some(failure) = self.run(folder, true, seed)?.failure {
                safe_violations.push(format!("schedule {seed}: {failure}"));
            }
        }
        Ok(Outcome {
            document: self.document,
            case: self.name,
            shows: self.shows,
            expected: self.expected,
            got,
            schedules_to_fail,
            safe_schedules: schedules,
            safe_violations: safe_violations.len() as u64,
            first_violation: safe_violations.into_iter().next(),
            prevented_by: self.prevented_by,
        })
    }
}

/// Schedules within which a wrong pattern must fail.
pub const MOST: u64 = 2000;

/// A buffered control code.
const SEND: u32 = 0x0012_C000;

/// What a case showed.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// See [`Case::document`].
    pub document: &'static str,
    /// See [`Case::name`].
    pub case: &'static str,
    /// See [`Case::shows`].
    pub shows: &'static str,
    /// See [`Case::expected`].
    pub expected: &'static str,
    /// What the wrong pattern ended with.
    pub got: String,
    /// Schedules until the wrong pattern failed.
    pub schedules_to_fail: u64,
    /// Schedules of the safe pattern.
    pub safe_schedules: u64,
    /// How many of them failed.
    pub safe_violations: u64,
    /// The first of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_violation: Option<String>,
    /// See [`Case::prevented_by`].
    pub prevented_by: &'static str,
}

impl Outcome {
    /// Whether the case showed what it should.
    pub fn holds(&self) -> bool {
        self.got == self.expected && self.safe_violations == 0
    }
}

/// Whether the counter that a driver shows is smaller than what was counted.
fn lost(output: &[String]) -> Option<String> {
    let shown = output.iter().find_map(|line| line.strip_prefix("counter: "))?;
    let (counted, expected) = shown.trim().split_once(" of ")?;
    let smaller = counted.parse::<u64>().ok()? < expected.parse::<u64>().ok()?;
    smaller.then(|| "counter too small".to_owned())
}

/// A client sends a request with its own memory, and another of its threads unmaps that.
fn unmap(machine: &Machine, safe: bool) {
    // The transfer method: METHOD_OUT_DIRECT or METHOD_NEITHER.
    let code = SEND | if safe { 2 } else { 3 };
    let memory = user::SharedMemory::default();
    let same = memory.clone();
    machine.spawn("client", move || {
        let Ok(handle) = user::Handle::open("\\\\.\\Lab", true) else { return };
        handle.control_at(code, &[], vec![7; 64], &memory).wait();
        handle.close();
    });
    machine.spawn("client's other thread", move || {
        while !same.unmap() {
            user::sleep(10);
        }
    });
}

/// Clients send while the adapter goes and comes.
fn disable(machine: &Machine) {
    let Some(adapter) = machine.adapters().into_iter().next() else { return };
    for client in 0..2 {
        machine.spawn(&format!("client {client}"), || {
            let Ok(handle) = user::Handle::open("\\\\.\\Lab", true) else { return };
            for _ in 0..12 {
                handle.control(SEND, &[], Vec::new()).wait();
                user::sleep(3);
            }
            handle.close();
        });
    }
    machine.spawn("administrator", move || {
        for _ in 0..2 {
            user::sleep(10);
            adapter.disable();
            user::sleep(30);
            adapter.enable();
        }
    });
}

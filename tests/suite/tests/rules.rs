//! Every rule of the machine is alive: for each, a driver that breaks just that rule stops it with just that
//! bugcheck; and a driver that sails close to all of them passes.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that finds nothing there has failed"
)]
use std::path::{Path, PathBuf};

use sluice_machine::bugcheck::{Bugcheck, code, contract};
use sluice_machine::ndis::adapter::{Completes, Settings};
use sluice_machine::{Configuration, LoadError, Machine, user};

fn wrong() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/lab/wrong.sys");
    assert!(path.exists(), "{} is not there; build it with: cargo xtask build --all", path.display());
    path
}

/// Runs the wrong driver as a case through all that can happen, and returns the bugcheck that it ends with. Some
/// need their moment, which one of a few schedules has.
fn run(case: &str, configuration: Configuration) -> Option<Bugcheck> {
    (1..=20).find_map(|seed| run_once(case, Configuration { seed, ..configuration.clone() }))
}

fn run_once(case: &str, configuration: Configuration) -> Option<Bugcheck> {
    let machine = Machine::start(configuration).unwrap();
    live(&machine, case).err()
}

fn live(machine: &Machine, case: &str) -> Result<(), Bugcheck> {
    machine.load_driver_as(&wrong(), case).map_err(|error| match error {
        LoadError::Stopped(bugcheck) => bugcheck,
        other => panic!("{case}: {other}"),
    })?;
    let adapter = machine.adapters()[0].clone();
    let (host, paused) = (adapter.clone(), adapter.clone());
    adapter.when_in_flight(2, move || {
        paused.disable();
        paused.enable();
    });
    machine.spawn("host", move || host.host_send(&[0x55; 60]));
    machine.run_until_idle()?;
    machine.spawn("client", || {
        let handle = user::Handle::open("\\\\.\\Wrong", true).unwrap();
        // METHOD_OUT_DIRECT, so that there are locked pages.
        let pending = handle.control(0x0012_E00E, &[1, 2, 3, 4], vec![0; 64]);
        user::sleep(10);
        pending.cancel();
        pending.wait();
        handle.close();
    });
    machine.run_until_idle()?;
    adapter.restart();
    machine.run_until_idle()?;
    machine.unload_driver()
}

fn configuration() -> Configuration {
    let settings = Settings { completes: Completes::Late(200, 3000), ..Settings::default() };
    Configuration { adapters: vec![settings], ..Configuration::default() }
}

const VERIFIER: u32 = code::DRIVER_VERIFIER_DETECTED_VIOLATION;
const IO: u32 = code::DRIVER_VERIFIER_IOMANAGER_VIOLATION;
const DMA: u32 = code::DRIVER_VERIFIER_DMA_VIOLATION;
const OWN: u32 = code::SLUICE_CONTRACT_VIOLATION;

/// Case, bugcheck, first argument where it tells rules apart.
const CASES: &[(&str, u32, Option<u64>)] = &[
    ("nbl-sent-twice", OWN, Some(contract::NBL_NOT_OWNED_AT_SEND)),
    ("own-completed-upward", OWN, Some(contract::NBL_NOT_OWNED_AT_COMPLETE)),
    ("foreign-completed-twice", OWN, Some(contract::NBL_NOT_OWNED_AT_COMPLETE)),
    ("nbl-freed-while-out", OWN, Some(contract::NBL_FREED_WHILE_OUT)),
    ("send-in-restart", OWN, Some(contract::SEND_WHILE_NOT_RUNNING)),
    ("send-in-detach", OWN, Some(contract::SEND_WHILE_NOT_RUNNING)),
    ("paused-with-lists", OWN, Some(contract::PAUSED_WITH_NBLS_OUT)),
    ("pause-complete-unasked", OWN, Some(contract::PAUSE_COMPLETE_WITHOUT_PAUSE)),
    ("source-handle", OWN, Some(contract::SOURCE_HANDLE)),
    ("no-completion-handler", OWN, Some(contract::MISSING_HANDLER)),
    ("dispatch-flag", OWN, Some(contract::IRQL)),
    ("ndis-above-its-irql", OWN, Some(contract::IRQL)),
    ("no-attributes", OWN, Some(contract::INVALID_OBJECT)),
    ("handlers-outside-options", OWN, Some(contract::INVALID_OBJECT)),
    ("pool-freed-with-lists", OWN, Some(contract::INVALID_OBJECT)),
    ("not-deregistered", OWN, Some(contract::NOT_DEREGISTERED)),
    ("send-with-lock", OWN, Some(contract::LOCK_ACROSS_NDIS)),
    ("irql-on-return", OWN, Some(contract::IRQL_ON_RETURN)),
    ("stale-handle", code::SYSTEM_SERVICE_EXCEPTION, Some(0xC000_0005)),
    ("pause-twice", VERIFIER, Some(0x92010)),
    ("pause-success-completed", VERIFIER, Some(0x92010)),
    ("pause-fails", VERIFIER, Some(0x92010)),
    ("pause-forever", VERIFIER, Some(0x92010)),
    ("slab-freed-in-flight", DMA, Some(0x26)),
    ("dma-put-with-buffers", DMA, Some(0x07)),
    ("dma-freed-twice", DMA, Some(0x03)),
    ("dma-other-length", DMA, Some(0x00)),
    ("dma-freed-at-dispatch", DMA, Some(0x13)),
    ("dma-adapter-after-put", DMA, Some(0x18)),
    ("dma-version", DMA, Some(0x25)),
    ("dma-no-device", 0xCA, Some(2)),
    ("dma-adapter-at-dispatch", VERIFIER, Some(0x2000E)),
    ("pool-zero-bytes", VERIFIER, Some(0x00)),
    ("pool-above-dispatch", VERIFIER, Some(0x02)),
    ("pool-never-allocated", VERIFIER, Some(0x10)),
    ("pool-freed-above-dispatch", VERIFIER, Some(0x12)),
    ("pool-leak", VERIFIER, Some(0x60)),
    ("pool-tag-zero", code::BAD_POOL_CALLER, Some(0x9B)),
    ("pool-freed-twice", code::BAD_POOL_CALLER, Some(0x07)),
    ("pool-wrong-tag", code::BAD_POOL_CALLER, Some(0x0A)),
    ("pool-overrun", code::DRIVER_PAGE_FAULT_BEYOND_END_OF_ALLOCATION, None),
    ("pool-underrun", code::SPECIAL_POOL_DETECTED_MEMORY_CORRUPTION, None),
    ("pool-used-after-free", code::DRIVER_PAGE_FAULT_IN_FREED_SPECIAL_POOL, None),
    ("lock-twice", VERIFIER, Some(0x1000)),
    ("lock-not-held", VERIFIER, Some(0x1007)),
    ("lock-released-at-passive", VERIFIER, Some(0x32)),
    ("lock-at-dpc-below", VERIFIER, Some(0x40)),
    ("lock-from-dpc-below", VERIFIER, Some(0x41)),
    ("lock-above-dispatch", VERIFIER, Some(0x42)),
    ("lock-on-return", VERIFIER, Some(0x40009)),
    ("lock-released-too-high", VERIFIER, Some(0x31)),
    ("irp-lock-on-return", VERIFIER, Some(0x40009)),
    ("dpc-lock", VERIFIER, Some(0x40009)),
    ("dpc-irql", 0xC8, None),
    ("oid-completed-unasked", VERIFIER, Some(0x91002)),
    ("mdl-left", VERIFIER, Some(0x62)),
    ("mdl-mapped-unlocked", VERIFIER, Some(0xB3)),
    ("mdl-freed-twice", OWN, Some(contract::INVALID_OBJECT)),
    ("dma-overrun", DMA, Some(0x0F)),
    ("dma-no-adapter", DMA, Some(0x19)),
    ("irql-raised-down", VERIFIER, Some(0x30)),
    ("irql-lowered-up", VERIFIER, Some(0x31)),
    ("irp-twice", code::MULTIPLE_IRP_COMPLETE_REQUESTS, None),
    ("irp-irql", IO, Some(0x05)),
    ("irp-completed-pending", IO, Some(0x06)),
    ("irp-cancel-routine-left", IO, Some(0x07)),
    ("cancel-lock-kept", IO, Some(0x1B)),
    ("irp-other-status", IO, Some(0x224)),
    ("irp-neither", IO, Some(0x226)),
    ("irp-pending-unmarked", IO, Some(0x23D)),
    ("irp-marked-not-pending", IO, Some(0x23E)),
    ("irp-information", IO, Some(0x312)),
    ("mdl-mapped-twice", VERIFIER, Some(0xB2)),
    ("device-left", 0xCE, None),
    ("dpc-uninitialised", code::TIMER_OR_DPC_INVALID, Some(1)),
    ("timer-freed-while-set", code::TIMER_OR_DPC_INVALID, Some(0)),
    ("stack-overflow", code::UNEXPECTED_KERNEL_MODE_TRAP, Some(8)),
    ("null-read", code::SYSTEM_THREAD_EXCEPTION_NOT_HANDLED, Some(0xC000_0005)),
];

#[test]
fn each_wrong_driver_stops_the_machine_with_its_own_bugcheck() {
    let mut faults = Vec::new();
    for (case, code, argument) in CASES {
        match run(case, configuration()) {
            None => faults.push(format!("{case}: nothing stopped it")),
            Some(found)
                if found.code == *code && argument.is_none_or(|first| found.arguments[0] == first) => {}
            Some(found) => faults.push(format!("{case}: {code:x} {argument:x?} expected, found\n{found}")),
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_driver_that_does_the_same_things_right_passes() {
    let found = run("correct", configuration());
    assert!(found.is_none(), "{}", found.unwrap());
}

/// With the machine's own rules off, NDIS's tracker of lists still finds what a module leaves behind.
#[test]
fn lists_that_are_out_at_detach_are_found_by_ndis() {
    let found = run("paused-with-lists", Configuration { contract_rules: false, ..configuration() }).unwrap();
    assert_eq!((found.code, found.arguments), (code::BUGCODE_NDIS_DRIVER, [0x27, 1, 0, 0]));
}

#[test]
fn a_report_names_the_function_that_broke_the_rule() {
    let found = run("pool-used-after-free", configuration()).unwrap();
    assert!(found.stack[0].starts_with("wrong!"), "{found}");
    assert!(
        found.stack.iter().any(|frame| frame.contains("cases::pool") && frame.contains("cases.rs @")),
        "{found}"
    );
    assert!(found.text.contains("freed"), "{found}");
}

#[test]
fn a_report_shows_what_happened_to_the_list() {
    let found = run("nbl-sent-twice", configuration()).unwrap();
    assert!(found.history.iter().any(|event| event.contains("sent with NdisFSendNetBufferLists")), "{found}");
    assert_eq!(found.stack[0], "NdisFSendNetBufferLists");
}

//! The crash lab: each wrong pattern ends as its document says, and each safe one does not.
use std::path::PathBuf;

use sluice_machine::{Configuration, LoadError, Machine};
use sluice_suite::image;
use sluice_suite::lab::{CASES, Case};

/// Schedules of each safe pattern here; `cargo xtask lab` runs a thousand.
const SCHEDULES: u64 = 60;

fn folder(name: &str) -> PathBuf {
    image::built(&format!("lab/{name}"))
}

#[test]
fn every_case_is_as_its_document_says() {
    let folder = folder("crashes");
    for case in CASES {
        let outcome = case.outcome(&folder, SCHEDULES).unwrap();
        assert!(outcome.holds(), "{outcome:#?}");
    }
}

#[test]
fn every_document_has_its_cases() {
    let count = |document: &str| CASES.iter().filter(|case| case.document.starts_with(document)).count();
    assert_eq!(["000", "001", "002", "003", "004"].map(count), [5, 13, 1, 2, 1]);
}

#[test]
fn images_are_loaded_in_the_order_that_the_document_logs() {
    let case = Case::named("late_code_first").unwrap();
    let (_, run) = case.fail(&folder("crashes"), 1).unwrap().unwrap();
    let steps: Vec<_> = run.loader.iter().map(|line| line.trim()).collect();
    assert_eq!(
        steps,
        [
            "MmLoadSystemImageEx: late_code_first.sys",
            "MiConstructLoaderEntry: late_code_first.sys",
            "MiResolveImageImports: late_code_first.sys",
            "MiLoadImportDll: late_code_second.sys",
            "MmLoadSystemImageEx: late_code_second.sys",
            "MiConstructLoaderEntry: late_code_second.sys",
            "MiResolveImageImports: late_code_second.sys",
            "MiHandleDriverNonPagedSections: late_code_second.sys",
            "MiDriverLoadSucceeded: late_code_second.sys",
            "MmCallDllInitialize: late_code_second.sys",
        ]
    );
    let bugcheck = run.bugcheck.unwrap();
    assert_eq!(bugcheck.arguments[0], bugcheck.arguments[3], "{bugcheck}");
    assert!(bugcheck.stack.iter().any(|frame| frame.contains("lab_release_lock")), "{bugcheck}");
    assert!(bugcheck.stack.iter().any(|frame| frame.contains("dll_initialize")), "{bugcheck}");
}

#[test]
fn the_same_images_in_the_other_order_load_without_a_crash() {
    let machine = Machine::start(Configuration::default()).unwrap();
    machine.load_driver(&folder("crashes").join("late_code_second.sys")).unwrap();
    let steps = machine.loader_log();
    let resident =
        steps.iter().position(|line| line.contains("MiHandleDriverNonPagedSections: late_code_first.sys"));
    let second =
        steps.iter().position(|line| line.contains("MiHandleDriverNonPagedSections: late_code_second.sys"));
    assert!(resident.unwrap() < second.unwrap(), "{steps:#?}");
    machine.unload_driver().unwrap();
}

#[test]
fn a_debug_build_stops_at_the_assertion_and_not_later() {
    let case = Case::named("assertion").unwrap();
    let (_, run) = case.fail(&folder("crashes-checked"), 1).unwrap().unwrap();
    let bugcheck = run.bugcheck.unwrap();
    assert!(bugcheck.text.contains("an assertion or a panic"), "{bugcheck}");
    assert!(bugcheck.stack.iter().any(|frame| frame.contains("assume")), "{bugcheck}");
}

#[test]
fn the_stack_that_is_gone_shows_the_frames_that_repeat() {
    let case = Case::named("completion_sends_again").unwrap();
    let (_, run) = case.fail(&folder("crashes"), 1).unwrap().unwrap();
    let bugcheck = run.bugcheck.unwrap();
    let repeats = bugcheck.stack.iter().filter(|frame| frame.contains("send_complete")).count();
    assert!(repeats > 10, "{bugcheck}");
}

#[test]
fn the_report_of_a_late_write_has_the_transfers_history() {
    let case = Case::named("dma_freed_too_early").unwrap();
    let (_, run) = case.fail(&folder("crashes"), 20).unwrap().unwrap();
    let bugcheck = run.bugcheck.unwrap();
    let at = |what: &str| bugcheck.history.iter().position(|line| line.contains(what));
    let (starts, freed) = (at("DMA starts").unwrap(), at("freed").unwrap());
    assert!(starts < freed, "{bugcheck}");
    let after = bugcheck.history.iter().skip(freed).any(|line| line.contains("DMA writes"));
    assert!(after, "{bugcheck}");
}

#[test]
fn a_guard_page_in_front_is_intact_when_the_card_has_run_over_the_end() {
    let case = Case::named("guard_page_in_front").unwrap();
    let (_, run) = case.fail(&folder("crashes"), 1).unwrap().unwrap();
    assert!(run.output.iter().any(|line| line == "the guard in front: intact 1"), "{:?}", run.output);
    // Pages on both sides find it, when it is done.
    let safe = case.run(&folder("crashes"), true, 1).unwrap();
    assert!(safe.failure.is_none() && safe.output.iter().any(|line| line.ends_with("intact 0")), "{safe:?}");
}

#[test]
fn only_an_iommu_stops_a_card_that_runs_over_the_end() {
    for name in ["guard_page_in_front", "guard_page_of_the_processor"] {
        let case = Case { without: "", ..*Case::named(name).unwrap() };
        let (_, run) = case.fail(&folder("crashes"), 1).unwrap().unwrap();
        let bugcheck = run.bugcheck.unwrap();
        assert_eq!((bugcheck.code, bugcheck.arguments[0]), (0xE6, 0x26), "{name}: {bugcheck}");
    }
    // Not where the pages around it are a part of the mapping.
    let case = Case { without: "", ..*Case::named("guard_page_in_front").unwrap() };
    let safe = case.run(&folder("crashes"), true, 1).unwrap();
    assert!(safe.failure.is_none() && safe.output.iter().any(|line| line.ends_with("intact 0")), "{safe:?}");
}

#[test]
fn a_debug_build_finds_locks_that_are_taken_against_their_order() {
    let stopped = |service: &str| {
        let machine = Machine::start(Configuration::default()).unwrap();
        machine.load_driver_as(&folder("crashes-checked").join("lock_order.sys"), service)
    };
    assert!(stopped("lab-safe").is_ok());
    match stopped("lab") {
        Err(LoadError::Stopped(bugcheck)) => {
            assert!(bugcheck.stack.iter().any(|frame| frame.contains("rank::held::take")), "{bugcheck}");
        }
        other => panic!("{other:?}"),
    }
}

//! Negative controls: the driver with its gate bypassed must not get away with it.
#![expect(clippy::unwrap_used, reason = "a test that finds nothing there has failed")]
use sluice_machine::Verifier;
use sluice_machine::bugcheck::code;
use sluice_suite::explore::{Failure, Plan, explore, minimise};
use sluice_suite::image::{Build, path};
use sluice_suite::scenario::{Run, Stop, lifecycle};

fn first_failure(verifier: Verifier) -> Failure {
    let driver = path(Build::GateBypass);
    let summary = explore(&Plan { verifier, ..Plan::new(&driver, "lifecycle", lifecycle, 200) });
    println!("{} of 200 schedules find a driver without a gate", summary.violations);
    assert!(summary.violations > 100, "only {} of 200 schedules find it", summary.violations);
    summary.first_failure.unwrap()
}

#[test]
fn a_driver_without_a_gate_breaks_the_contract_of_pause() {
    let failure = first_failure(Verifier::default());
    assert_eq!(failure.bugcheck.unwrap().0, code::SLUICE_CONTRACT_VIOLATION);
    // A pause that returns with frames outstanding stops in NDIS; a send on a paused module stops in the driver.
    let driver = path(Build::GateBypass);
    let in_driver = (1..=200).find_map(|seed| match lifecycle(&Run::random(&driver, seed)) {
        Err(Stop::Bugcheck(bugcheck, _)) => {
            Some(bugcheck.to_string()).filter(|text| text.contains("sluice!"))
        }
        _ => None,
    });
    let text = in_driver.unwrap();
    assert!(text.contains("NdisFSendNetBufferLists"), "{text}");
}

/// Without the machine's own rules the run goes on as it does on Windows, to the blue screen of seed 003:
/// an access violation inside `ndis!NdisFSendNetBufferLists`.
#[test]
fn a_driver_without_a_gate_meets_the_blue_screen_of_seed_003() {
    let driver = path(Build::GateBypass);
    let verifier = Verifier { contract: false, list_tracking: false, ..Verifier::default() };
    let found = (1..=200).find(|seed| {
        let run = Run { verifier: verifier.clone(), ..Run::random(&driver, *seed) };
        let Err(Stop::Bugcheck(bugcheck, _)) = lifecycle(&run) else { return false };
        let in_send = bugcheck.stack.iter().any(|frame| frame.contains("NdisFSendNetBufferLists"));
        bugcheck.code == code::SYSTEM_SERVICE_EXCEPTION && bugcheck.arguments[0] == 0xC000_0005 && in_send
    });
    println!("0x3B, c0000005 in NdisFSendNetBufferLists after {found:?} schedules");
    assert!(found.is_some(), "no schedule of 200 ends in 0x3B, c0000005 in NdisFSendNetBufferLists");
}

/// A failing schedule becomes one with few preemptions, whose token replays to the same bugcheck.
#[test]
fn a_failing_schedule_is_made_small() {
    let driver = path(Build::GateBypass);
    let plan = Plan::new(&driver, "lifecycle", lifecycle, 1);
    let failing = (1..=200).map(sluice_machine::Schedule::random).find_map(|schedule| {
        let Err(Stop::Bugcheck(bugcheck, _)) =
            lifecycle(&Run { schedule: schedule.clone(), ..Run::random(&driver, 0) })
        else {
            return None;
        };
        Some((schedule, bugcheck.rule))
    });
    let (schedule, rule) = failing.unwrap();
    let small = minimise(&plan, &schedule, 400).unwrap();
    println!("{} of {} changes left, {} preemptions", small.changes.1, small.changes.0, small.preemptions);
    assert!(small.changes.1 * 2 <= small.changes.0, "{small:?}");
    let token = small.schedule.to_string();
    let Err(Stop::Bugcheck(bugcheck, _)) =
        lifecycle(&Run { schedule: token.parse().unwrap(), ..Run::random(&driver, 0) })
    else {
        panic!("{token} does not fail")
    };
    assert_eq!(bugcheck.rule, rule);
}

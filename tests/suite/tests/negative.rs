//! Negative controls: the driver with its gate bypassed must not get away with it.
#![expect(clippy::unwrap_used, reason = "a test that finds nothing there has failed")]
use sluice_machine::bugcheck::code;
use sluice_suite::explore::{Failure, Plan, explore};
use sluice_suite::image::{Build, path};
use sluice_suite::scenario::lifecycle;

fn first_failure(contract_rules: bool) -> Failure {
    let summary = explore(Plan {
        driver: &path(Build::GateBypass),
        name: "lifecycle",
        scenario: lifecycle,
        schedules: 200,
        seed: 1,
        stop_at_first: false,
        contract_rules,
    });
    assert!(
        summary.violations > 100,
        "only {} of 200 schedules find a driver without a gate",
        summary.violations
    );
    summary.first_failure.unwrap()
}

#[test]
fn a_driver_without_a_gate_breaks_the_contract_of_pause() {
    let bugcheck = first_failure(true).bugcheck.unwrap();
    assert_eq!(bugcheck.code, code::SLUICE_CONTRACT_VIOLATION);
    assert!(bugcheck.stack.iter().any(|frame| frame.starts_with("sluice!")), "{bugcheck}");
}

/// Without the machine's own rules the run goes on as it does on Windows, to the blue screen of seed 003:
/// an access violation inside `ndis!NdisFSendNetBufferLists`.
#[test]
fn a_driver_without_a_gate_meets_the_blue_screen_of_seed_003() {
    let mut found = false;
    for seed in 1..=200 {
        let Err(sluice_suite::scenario::Stop::Bugcheck(bugcheck)) =
            lifecycle(&path(Build::GateBypass), seed, false)
        else {
            continue;
        };
        let in_send = bugcheck.stack.iter().any(|frame| frame.contains("NdisFSendNetBufferLists"));
        if bugcheck.code == code::SYSTEM_SERVICE_EXCEPTION && bugcheck.arguments[0] == 0xC000_0005 && in_send
        {
            found = true;
            break;
        }
    }
    assert!(found, "no schedule of 200 ends in 0x3B, c0000005 in NdisFSendNetBufferLists");
}

//! Every rule of the machine is alive: for each, a driver that breaks just that rule stops it with just that
//! bugcheck and its arguments; and a driver that sails close to all of them passes.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that finds nothing there has failed"
)]
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use sluice_machine::bugcheck::{Bugcheck, code};
use sluice_machine::ndis::adapter::{Completes, Oids, Settings};
use sluice_machine::rule::{RULES, Rule};
use sluice_machine::{Configuration, LoadError, Machine, Schedule, Verifier, user};
use sluice_suite::image;
use sluice_suite::lab::class;

/// Each case, its bugcheck and its four arguments. Written by the test itself when `SLUICE_UPDATE` is set.
const EXPECTED: &str = include_str!("rules.tsv");

/// Cases of rules that have more than one way to be broken: the rule's name, and the cases.
const MORE: &[(&str, &[&str])] = &[
    ("DeviceNameTerminated", &["symbolic-name-open", "sddl-open", "device-name-without-room"]),
    ("NblNotOwnedAtComplete", &["foreign-completed-twice"]),
    ("SendWhileNotRunning", &["send-in-detach"]),
    ("NdisFilterTimedPauseComplete", &["pause-success-completed", "pause-fails", "pause-forever"]),
    ("SpinLock", &["irp-lock-on-return", "dpc-lock"]),
    ("IrqlLower", &["lock-released-too-high"]),
    ("PagedMemoryAtDispatch", &["paged-write-at-dispatch", "paged-code-at-dispatch"]),
    ("UnloadedWithPendingOperations", &["unloaded-with-thread"]),
    ("InvalidObject", &["pool-freed-with-lists"]),
    ("AccessViolationSystemThread", &["null-to-system"]),
];

/// Rules that another rule hides, and the options that have to be off for them to be seen: what Windows does
/// without them.
const HIDDEN: &[(&str, &str)] = &[
    ("wait-in-dpc", "ddi"),
    ("lists-out-at-detach", "contract"),
    ("lock-never-released", "deadlock"),
    ("callback-after-unload", "pool-tracking"),
    ("dpc-too-long", "contract"),
    ("dpc-apcs", "force-irql"),
    ("pool-modified-after-free", "special-pool"),
];

const _: () = {
    let mut index = 0;
    while index < RULES.len() {
        assert!(!RULES[index].tripped_by.is_empty(), "a rule without a driver that trips it");
        index += 1;
    }
};

fn configuration(case: &str) -> Configuration {
    let settings = Settings {
        completes: Completes::Late(200, 3000),
        oids: if matches!(case, "oid-two-at-once" | "oid-left") { Oids::Late } else { Oids::Inline },
        resources: if case.starts_with("resources") { 100 } else { 0 },
        ..Settings::default()
    };
    let off = HIDDEN.iter().find(|(hidden, _)| *hidden == case).map_or("", |(_, option)| option);
    Configuration {
        adapters: vec![settings],
        verifier: off.parse().unwrap(),
        // A worker that runs at once would end what these cases need.
        processors: if case.starts_with("work") { 1 } else { 2 },
        ..Configuration::default()
    }
}

/// Runs the wrong driver as a case through all that can happen, and returns the bugcheck that it ends with. Some
/// need their moment, which one of a few schedules has.
fn run(case: &str, configuration: Configuration) -> Option<Bugcheck> {
    (1..=20).find_map(|seed| live_with(&configuration, case, seed).err())
}

fn live_with(configuration: &Configuration, case: &str, seed: u64) -> Result<(), Bugcheck> {
    let schedule = Schedule::random(seed);
    let machine = Machine::start(Configuration { schedule, ..configuration.clone() }).unwrap();
    live(&machine, case)
}

fn live(machine: &Machine, case: &str) -> Result<(), Bugcheck> {
    machine.load_driver_as(&image::lab("wrong"), case).map_err(|error| match error {
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
    adapter.receive(vec![vec![0x66; 60]; 3]);
    machine.run_until_idle()?;
    let asker = adapter.clone();
    machine.spawn("host", move || {
        asker.query_oid(ndis_sys::OID_GEN_CURRENT_PACKET_FILTER);
    });
    machine.run_until_idle()?;
    machine.spawn("client", || {
        // Without its rule a name that has no terminator is read on into the next, and the device is not there.
        let Ok(handle) = user::Handle::open("\\\\.\\Wrong", true) else { return };
        // METHOD_OUT_DIRECT, so that there are locked pages.
        let pending = handle.control(0x0012_E00E, &[1, 2, 3, 4], vec![0; 64]);
        user::sleep(10);
        pending.cancel();
        pending.wait();
        handle.close();
    });
    machine.run_until_idle()?;
    adapter.restart();
    adapter.sleep();
    adapter.wake();
    adapter.reset();
    machine.run_until_idle()?;
    machine.unload_driver()
}

/// Every case with its rule.
fn cases() -> BTreeMap<&'static str, &'static Rule> {
    let mut cases: BTreeMap<_, _> = RULES.iter().map(|rule| (rule.tripped_by, *rule)).collect();
    for (name, more) in MORE {
        let rule = RULES.iter().find(|rule| rule.name == *name).unwrap();
        cases.extend(more.iter().map(|case| (*case, *rule)));
    }
    cases
}

#[test]
fn each_wrong_driver_stops_the_machine_with_its_own_rule_and_arguments() {
    let (mut faults, mut table) = (Vec::new(), String::new());
    for (case, rule) in cases() {
        let Some(found) = run(case, configuration(case)) else {
            faults.push(format!("{case}: nothing stopped it"));
            continue;
        };
        if found.rule != rule.name || found.code != rule.bugcheck {
            faults.push(format!("{case}: {} ({:x}) expected, found\n{found}", rule.name, rule.bugcheck));
        }
        if rule.first.is_some_and(|first| first != found.arguments[0]) {
            faults.push(format!("{case}: the first argument is {:x?}, found\n{found}", rule.first));
        }
        let arguments = found.arguments.map(class).join("\t");
        writeln!(table, "{case}\t{:x}\t{arguments}", found.code).unwrap();
    }
    if std::env::var_os("SLUICE_UPDATE").is_some() {
        std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules.tsv"), &table).unwrap();
    } else {
        for (line, expected) in
            table.lines().zip(EXPECTED.lines()).filter(|(line, expected)| line != expected)
        {
            faults.push(format!("arguments: {expected} expected, found {line}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_driver_that_does_the_same_things_right_passes_wherever_wrong_ones_ran() {
    for (case, _) in cases() {
        let found = live_with(&configuration(case), "correct", 1);
        assert!(found.is_ok(), "as {case}: {}", found.unwrap_err());
    }
    let found = run("correct", configuration("correct"));
    assert!(found.is_none(), "{}", found.unwrap());
}

/// Functions for which there is no right way to call them here, and why.
const NEVER_RIGHT: &[(&str, &str)] = &[
    ("HalGetAdapter", "calling it is the fault"),
    ("MmMapLockedPages", "calling it is the fault"),
    ("IofCallDriver", "no driver below would complete the request"),
];

/// Functions that a driver called, in any of six schedules, half of them with an adapter that answers late.
fn calls(case: &str) -> BTreeSet<String> {
    let mut calls = BTreeSet::new();
    for seed in 1..=6 {
        let mut configuration = configuration(case);
        configuration.record = true;
        if seed % 2 == 0 {
            configuration.adapters[0].oids = Oids::Late;
        }
        // It stops, or not: what it called until then counts.
        let _ = live_with(&configuration, case, seed);
        let trace = sluice_machine::recording::take().unwrap().trace(None);
        let call = |line: &str| Some(line.split_once("] ")?.1.trim_start().split_once('(')?.0.to_owned());
        calls.extend(trace.lines().filter_map(call));
    }
    calls
}

#[test]
fn what_a_wrong_driver_calls_wrongly_the_right_one_calls_too() {
    let right = calls("correct");
    let mut missing: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (case, _) in cases() {
        for call in calls(case).difference(&right) {
            missing.entry(call.clone()).or_default().push(case);
        }
    }
    let missing: Vec<_> = missing.iter().map(|(call, cases)| (call.as_str(), cases)).collect();
    let expected: BTreeSet<_> = NEVER_RIGHT.iter().map(|(call, _)| *call).collect();
    let found: BTreeSet<_> = missing.iter().map(|(call, _)| *call).collect();
    assert_eq!(found, expected, "{missing:?}");
}

#[test]
fn no_two_rules_are_alike() {
    let names: BTreeSet<_> = RULES.iter().map(|rule| rule.name).collect();
    let cases: BTreeSet<_> = RULES.iter().map(|rule| rule.tripped_by).collect();
    assert_eq!((names.len(), cases.len()), (RULES.len(), RULES.len()));
}

#[test]
fn a_rule_whose_option_is_off_stops_nothing() {
    let off = Configuration { verifier: Verifier::off(), ..configuration("pool-leak") };
    assert!(run("pool-leak", off).is_none());
    let off = Configuration { verifier: "ddi".parse().unwrap(), ..configuration("region-kept") };
    assert!(run("region-kept", off).is_none_or(|found| found.rule != "CriticalRegions"));
}

#[test]
fn a_rule_that_is_found_broken_later_can_be_switched_off_too() {
    for (case, option) in [("irp-cancel-ignored", "io"), ("send-kept", "ndis"), ("receive-kept", "ndis")] {
        let rule = cases()[case].name;
        let off = Configuration { verifier: option.parse().unwrap(), ..configuration(case) };
        assert!(run(case, off).is_none_or(|found| found.rule != rule), "{rule} stops without {option}");
    }
}

#[test]
fn no_wrong_driver_brings_the_machine_itself_down_when_an_option_is_off() {
    for off in Verifier::NAMES.iter().chain(&["list-tracking", "all"]) {
        for (case, _) in cases() {
            let verifier = off.parse().unwrap();
            // It ends, with a bugcheck of Windows' own or with none.
            let _ = live_with(&Configuration { verifier, ..configuration(case) }, case, 1);
        }
    }
}

#[test]
fn a_report_names_the_function_that_broke_the_rule() {
    let found = run("pool-used-after-free", configuration("")).unwrap();
    assert!(found.stack[0].starts_with("wrong!"), "{found}");
    assert!(
        found.stack.iter().any(|frame| frame.contains("cases::pool") && frame.contains("cases.rs @")),
        "{found}"
    );
    assert!(found.text.contains("freed"), "{found}");
}

#[test]
fn a_report_shows_what_happened_to_the_list() {
    let found = run("nbl-sent-twice", configuration("")).unwrap();
    assert!(found.history.iter().any(|event| event.contains("sent with NdisFSendNetBufferLists")), "{found}");
    assert_eq!(found.stack[0], "NdisFSendNetBufferLists");
    assert_eq!(found.code, code::SLUICE_CONTRACT_VIOLATION);
}

//! Drivers in C, built with clang against nothing of this project: the correct ones pass, their faults are found.
#![expect(clippy::unwrap_used, reason = "a test that finds nothing there has failed")]
use sluice_machine::bugcheck::Bugcheck;
use sluice_machine::ndis::adapter::{Completes, Oids, Settings};
use sluice_machine::ndis::oid::Ask;
use sluice_machine::{Configuration, LoadError, Machine, Schedule, user};
use sluice_suite::image::lab;

/// Everything that a filter meets: traffic both ways, OID requests, restarts, a disable, an unplug.
fn live(name: &str, seed: u64, above: Option<&str>) -> Result<(), Bugcheck> {
    let settings =
        Settings { completes: Completes::Any, oids: Oids::Any, resources: 40, ..Settings::default() };
    let configuration = Configuration {
        schedule: Schedule::random(seed),
        adapters: vec![settings],
        ..Configuration::default()
    };
    let machine = Machine::start(configuration).unwrap();
    for name in [Some(name), above].into_iter().flatten() {
        machine.load_driver_as(&lab(name), name).map_err(|error| match error {
            LoadError::Stopped(bugcheck) => bugcheck,
            other => panic!("{name}: {other}"),
        })?;
    }
    let adapter = machine.adapters().into_iter().next().unwrap();
    let (host, wire, asker, pnp) = (adapter.clone(), adapter.clone(), adapter.clone(), adapter.clone());
    machine.spawn("host", move || {
        for _ in 0..10 {
            host.host_send(&[0x55; 60]);
            user::sleep(40);
        }
    });
    machine.spawn("wire", move || {
        for _ in 0..10 {
            wire.receive(vec![vec![0x66; 60]; 3]);
            user::sleep(40);
        }
    });
    machine.spawn("OID requests", move || {
        for how in [Ask::Query, Ask::Set(1), Ask::QueryCancelled, Ask::Query] {
            asker.ask_oid(ndis_sys::OID_GEN_CURRENT_PACKET_FILTER, how);
        }
    });
    machine.spawn("plug and play", move || {
        user::sleep(200 + seed * 37 % 500);
        for change in [0, 1, 2] {
            match change {
                0 => pnp.restart(),
                1 => pnp.disable(),
                _ => pnp.unplug(),
            }
            let watched = pnp.clone();
            user::wait_for("the stack", move || watched.is_settled());
            user::sleep(100);
            pnp.enable();
        }
        user::sleep(500);
        // A driver that sends for ever is unloaded while it does.
        for name in ["c-originate", "c-originate-1", "c-originate-2", "c-originate-3", "c-originate-4"] {
            user::unload(name);
        }
    });
    machine.run_until_idle()?;
    assert_eq!(machine.waiting_threads(), Vec::<String>::new(), "{name}, seed {seed}");
    machine.unload_driver()?;
    machine.unload_driver()
}

fn first_fault(name: &str, most: u64) -> Option<(u64, Bugcheck)> {
    (1..=most).find_map(|seed| live(name, seed, None).err().map(|bugcheck| (seed, bugcheck)))
}

#[test]
fn a_pass_through_filter_in_c_passes() {
    for seed in 1..=100 {
        live("c-pass", seed, None).unwrap_or_else(|bugcheck| panic!("seed {seed}: {bugcheck}"));
    }
}

#[test]
fn a_filter_in_c_that_originates_passes() {
    for seed in 1..=100 {
        live("c-originate", seed, None).unwrap_or_else(|bugcheck| panic!("seed {seed}: {bugcheck}"));
    }
}

#[test]
fn two_filters_of_one_stack_pass() {
    for seed in 1..=50 {
        live("c-originate", seed, Some("c-pass"))
            .unwrap_or_else(|bugcheck| panic!("seed {seed}: {bugcheck}"));
    }
}

/// A second copy of one image, as another service.
#[test]
fn two_copies_of_one_driver_pass() {
    for seed in 1..=50 {
        live("c-pass", seed, Some("c-pass")).unwrap_or_else(|bugcheck| panic!("seed {seed}: {bugcheck}"));
    }
}

#[test]
fn faults_of_drivers_in_c_are_found() {
    let expected = [
        ("c-pass-1", "NdisWatchdogOid"),
        ("c-pass-2", "OidOriginalForwarded"),
        ("c-pass-3", "NblReturnedWithResources"),
        ("c-pass-4", "NblNotOwnedAtComplete"),
        ("c-originate-1", "PausedWithNblsOut"),
        ("c-originate-2", "DmaIommu"),
        ("c-originate-3", "NblNotOwnedAtComplete"),
        // The race ends in either, whichever comes first.
        ("c-originate-4", "NdisFilterTimedPauseComplete PauseCompleteWithoutPause"),
    ];
    let mut faults = Vec::new();
    for (name, rule) in expected {
        match first_fault(name, 2000) {
            Some((seed, bugcheck)) => {
                println!("{name}: {} after {seed} schedules", bugcheck.rule);
                if !rule.split(' ').any(|rule| rule == bugcheck.rule) {
                    faults.push(format!("{name}: {rule} expected, found\n{bugcheck}"));
                }
            }
            None => faults.push(format!("{name}: nothing stopped it")),
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

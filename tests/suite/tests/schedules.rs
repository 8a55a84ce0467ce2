//! Schedulers, on a toy driver whose bug needs three preemptions at the right calls; the same token gives the same
//! run; and processors as host threads.
#![expect(clippy::unwrap_used, reason = "a test that finds nothing there has failed")]
use std::path::Path;

use sluice_machine::{Configuration, LoadError, Machine, Schedule, Strategy, Verifier, recording, user};
use sluice_suite::explore::{Plan, explore, minimise, search};
use sluice_suite::image::{self, Build, lab};
use sluice_suite::scenario::{Outcomes, Run, Stop, lifecycle};

/// The requests of the toy.
const FIRST: u32 = 0x22_2000;
const SECOND: u32 = 0x22_2004;
const COUNT: u32 = 0x22_2008;
const READ: u32 = 0x22_200C;

/// Two programs send one request each; only then is anything left to the schedule.
fn toy(run: &Run<'_>) -> Result<Outcomes, Stop> {
    let configuration = Configuration {
        processors: 1,
        schedule: run.schedule.clone(),
        verifier: Verifier { special_pool: false, ..run.verifier.clone() },
        record: run.record,
        adapters: Vec::new(),
        ..Configuration::default()
    };
    let machine = Machine::start(configuration).unwrap();
    machine.window(false);
    let stopped = |error: LoadError| Stop::Load(error.to_string());
    machine.load_driver(run.driver).map_err(stopped)?;
    for code in [FIRST, SECOND] {
        machine.spawn("program", move || {
            let handle = user::Handle::open("\\\\.\\Toy", true).unwrap();
            user::pause();
            user::window(true);
            handle.control(code, &[], Vec::new()).wait();
            user::window(false);
            handle.close();
        });
    }
    let result = machine.run_until_idle();
    if let Err(bugcheck) = result {
        return Err(Stop::Bugcheck(Box::new(bugcheck), machine.decisions()));
    }
    Ok(Outcomes {
        totals: sluice_client::send::Totals::default(),
        schedule: machine.schedule_hash(),
        decisions: machine.decisions(),
        allocations: machine.allocations(),
        faults: Vec::new(),
    })
}

fn plan(driver: &Path) -> Plan<'_> {
    Plan { workers: 1, ..Plan::new(driver, "toy", toy, 1) }
}

#[test]
fn exhaustive_search_finds_a_bug_of_three_preemptions_and_not_with_two() {
    let driver = lab("c-toy");
    let two = search(&plan(&driver), 1, 2, 1_000_000);
    assert!(two.complete && two.failure.is_none(), "{two:?}");
    let three = search(&plan(&driver), 1, 3, 1_000_000);
    println!("no bug in {} runs with 2 preemptions; found after {} runs with 3", two.runs, three.runs);
    let (schedule, _) = three.failure.unwrap();
    let small = minimise(&plan(&driver), &schedule, 200).unwrap();
    assert_eq!(small.preemptions, 3, "{small:?}");
}

/// The paper's bound: a bug of depth d is found with a probability of at least 1 in n·k^(d-1) runs, for n threads
/// and k steps. Three preemptions order four steps: depth 4.
#[test]
fn pct_finds_it_within_its_bound_and_chance_is_measured() {
    let driver = lab("c-toy");
    let decisions = |seed| match toy(&Run { record: true, ..Run::random(&driver, seed) }) {
        Ok(outcomes) => outcomes.decisions.len() as u64,
        Err(_) => 0,
    };
    let steps = (1..=200).map(decisions).max().unwrap();
    let bound = 2 * steps.pow(3);
    // So many runs miss it with a probability of one in a thousand at most.
    let runs = bound * 7;
    let find = |strategy: Strategy| {
        (1..=runs).find(|seed| {
            let schedule = Schedule { seed: *seed, strategy: strategy.clone() };
            matches!(toy(&Run { schedule, ..Run::random(&driver, 1) }), Err(Stop::Bugcheck(..)))
        })
    };
    let pct = find(Strategy::Pct { depth: 4, steps });
    let chance = find(Strategy::Random);
    println!("n = 2, k = {steps}: bound {bound} runs; PCT took {pct:?}, chance {chance:?}");
    assert!(pct.is_some(), "PCT did not find it in {runs} runs");
}

/// Every byte of a trace: addresses, times, threads, results.
fn trace(driver: &Path, schedule: &str) -> String {
    let run = Run { schedule: schedule.parse().unwrap(), record: true, ..Run::random(driver, 0) };
    let _ = lifecycle(&run);
    recording::take().unwrap().trace(None)
}

#[test]
fn the_same_token_gives_the_same_trace_a_thousand_times() {
    let driver = image::path(Build::Release);
    let token = "0x2a";
    let first = trace(&driver, token);
    assert!(first.lines().count() > 1000, "{first}");
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (driver, first) = (driver.clone(), first.clone());
            std::thread::spawn(move || (0..500).all(|_| trace(&driver, token) == first))
        })
        .collect();
    assert!(threads.into_iter().all(|thread| thread.join().unwrap()), "a run differs from the first");
    println!("{} lines, the same a thousand times", first.lines().count());
}

#[test]
fn a_told_schedule_runs_as_it_was_recorded() {
    let driver = image::path(Build::Release);
    let run = |schedule: Schedule| {
        lifecycle(&Run { schedule, record: true, ..Run::random(&driver, 0) })
            .unwrap_or_else(|_| panic!("it fails"))
    };
    let first = run(Schedule::random(7));
    let changes = first.decisions.iter().enumerate().filter(|(_, one)| one.chosen != 0);
    let changes = changes.map(|(number, one)| (number as u64, one.chosen)).collect();
    let again = run(Schedule { seed: 7, strategy: Strategy::Told(changes) });
    assert_eq!((first.schedule, first.decisions), (again.schedule, again.decisions));
}

#[test]
fn pct_explores_the_driver_as_chance_does() {
    let driver = image::path(Build::Checked);
    let strategy = Strategy::Pct { depth: 4, steps: 20_000 };
    let mut summary = explore(&Plan { strategy, ..Plan::new(&driver, "lifecycle", lifecycle, 100) });
    summary.settle();
    assert_eq!(summary.violations, 0, "{:?}", summary.first_failure);
    assert!(summary.distinct >= 95, "{}", summary.distinct);
}

/// On host threads the driver's code runs at the same time: nothing is lost, and nothing breaks.
#[test]
fn the_driver_holds_on_processors_that_are_host_threads() {
    let driver = image::path(Build::Checked);
    for seed in 1..=20 {
        let result = lifecycle(&Run { parallel: true, ..Run::random(&driver, seed) });
        match result {
            Ok(outcomes) => assert_eq!(outcomes.faults, Vec::<String>::new(), "seed {seed}"),
            Err(Stop::Bugcheck(bugcheck, _)) => panic!("seed {seed}: {bugcheck}"),
            Err(Stop::Load(error)) => panic!("seed {seed}: {error}"),
        }
    }
}

/// A counter that is not interlocked loses counts there, which steps taken in turn never show.
#[test]
fn a_counter_without_interlocked_operations_loses_counts_on_host_threads_only() {
    let count = |parallel: bool| {
        let configuration = Configuration { parallel, adapters: Vec::new(), ..Configuration::default() };
        let machine = Machine::start(configuration).unwrap();
        machine.load_driver(&lab("c-toy")).unwrap();
        for _ in 0..2 {
            machine.spawn("program", || {
                let handle = user::Handle::open("\\\\.\\Toy", true).unwrap();
                handle.control(COUNT, &[], Vec::new()).wait();
                handle.close();
            });
        }
        machine.run_until_idle().unwrap();
        let result = std::rc::Rc::new(std::cell::Cell::new(0));
        let place = result.clone();
        machine.spawn("program", move || {
            let handle = user::Handle::open("\\\\.\\Toy", true).unwrap();
            let answer = handle.control(READ, &[], vec![0; 4]).wait();
            place.set(u32::from_le_bytes(answer.output.try_into().unwrap()));
            handle.close();
        });
        machine.run_until_idle().unwrap();
        machine.unload_driver().unwrap();
        result.get()
    };
    assert_eq!(count(false), 20_000_000);
    // A busy host may run one after the other, now and then.
    let left = (0..20).map(|_| count(true)).find(|left| *left < 20_000_000);
    println!("20,000,000 counts by two processors: {left:?} are left");
    assert!(left.is_some(), "no count was lost in twenty runs");
}

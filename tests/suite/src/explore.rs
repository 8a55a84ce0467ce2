//! Many runs of a scenario, each under another schedule.
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::Serialize;
use sluice_machine::bugcheck::Bugcheck;

use crate::scenario::{Scenario, Stop};

/// The first run that failed.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// Replays the run: `scenario/seed`.
    pub replay: String,
    /// The bugcheck, if the machine stopped.
    pub bugcheck: Option<Bugcheck>,
    /// What else is wrong.
    pub faults: Vec<String>,
    #[serde(skip)]
    order: u64,
}

/// What came of the runs.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Runs.
    pub schedules: u64,
    /// Schedules that differ.
    pub distinct: u64,
    /// Runs that failed.
    pub violations: u64,
    /// The first run that failed, in the order of seeds.
    pub first_failure: Option<Failure>,
    /// Seconds that it took.
    pub seconds: f64,
    /// Frames that clients submitted, over all runs.
    pub frames_submitted: u64,
    /// Frames that were sent.
    pub frames_sent: u64,
    /// Frames that were refused because the module was paused.
    pub frames_paused: u64,
    /// Frames that came back with an error.
    pub frames_failed: u64,
}

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// The driver.
    pub driver: &'a Path,
    /// Name of the scenario, for replays.
    pub name: &'a str,
    /// The scenario.
    pub scenario: Scenario,
    /// How many runs.
    pub schedules: u64,
    /// Seed of the first run.
    pub seed: u64,
    /// Stop at the first failure.
    pub stop_at_first: bool,
    /// Contract rules without a documented bugcheck.
    pub contract_rules: bool,
}

/// Runs the scenario under every seed of the plan, on every processor of the host.
pub fn explore(plan: Plan<'_>) -> Summary {
    let began = Instant::now();
    let next = AtomicU64::new(0);
    let stop = AtomicU64::new(u64::MAX);
    let shared = Mutex::new((BTreeSet::new(), Vec::<Failure>::new(), [0u64; 4], 0u64));
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= plan.schedules || number > stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let seed = plan.seed.wrapping_add(number);
                    let result = (plan.scenario)(plan.driver, seed, plan.contract_rules);
                    let mut shared = shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    shared.3 += 1;
                    let mut fail = |bugcheck: Option<Bugcheck>, faults: Vec<String>| {
                        let replay = format!("{}/{seed:#x}", plan.name);
                        shared.1.push(Failure { replay, bugcheck, faults, order: number });
                        if plan.stop_at_first {
                            stop.fetch_min(number, Ordering::Relaxed);
                        }
                    };
                    match result {
                        Ok(outcome) => {
                            if !outcome.faults.is_empty() {
                                fail(None, outcome.faults);
                            }
                            shared.0.insert(outcome.schedule);
                            let totals = outcome.totals;
                            let sums = [totals.submitted, totals.sent, totals.paused, totals.failed];
                            for (sum, value) in shared.2.iter_mut().zip(sums) {
                                *sum += value;
                            }
                        }
                        Err(Stop::Bugcheck(bugcheck)) => fail(Some(bugcheck), Vec::new()),
                        Err(Stop::Load(error)) => fail(None, vec![error]),
                    }
                }
            });
        }
    });
    let (distinct, mut failures, sums, runs) =
        shared.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    failures.sort_by_key(|failure| failure.order);
    let [frames_submitted, frames_sent, frames_paused, frames_failed] = sums;
    Summary {
        schedules: runs,
        distinct: distinct.len() as u64,
        violations: failures.len() as u64,
        first_failure: failures.into_iter().next(),
        seconds: began.elapsed().as_secs_f64(),
        frames_submitted,
        frames_sent,
        frames_paused,
        frames_failed,
    }
}

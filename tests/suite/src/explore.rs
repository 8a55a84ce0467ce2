//! Many runs of a scenario, each under another schedule; and the smallest schedule that still fails.
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use sluice_machine::bugcheck::Bugcheck;
use sluice_machine::{Decision, LowResources, Schedule, Strategy, Verifier};

use crate::scenario::{Run, Scenario, Stop};

/// A run that failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// Replays the run: `scenario/schedule`.
    pub replay: String,
    /// The code of the bugcheck, if the machine stopped, and the rule that was broken.
    pub bugcheck: Option<(u32, String)>,
    /// What is wrong, in words.
    pub text: String,
    /// Which run, in the order of seeds.
    pub order: u64,
}

/// What came of the runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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
    /// What tells the schedules apart.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub hashes: Vec<u64>,
}

impl Summary {
    /// Adds the runs of another.
    pub fn add(&mut self, other: Self) {
        self.schedules += other.schedules;
        self.violations += other.violations;
        self.frames_submitted += other.frames_submitted;
        self.frames_sent += other.frames_sent;
        self.frames_paused += other.frames_paused;
        self.frames_failed += other.frames_failed;
        self.hashes.extend(other.hashes);
        let first = [self.first_failure.take(), other.first_failure];
        self.first_failure = first.into_iter().flatten().min_by_key(|failure| failure.order);
    }

    /// Counts the schedules that differ, and forgets what tells them apart.
    pub fn settle(&mut self) {
        self.distinct = std::mem::take(&mut self.hashes).into_iter().collect::<BTreeSet<_>>().len() as u64;
    }
}

/// What to run.
#[derive(Clone, Debug)]
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
    /// What the machine checks.
    pub verifier: Verifier,
    /// What chooses the schedules.
    pub strategy: Strategy,
    /// Host threads.
    pub workers: usize,
    /// Which allocations fail, if not those that the scenario says.
    pub low_resources: Option<LowResources>,
}

impl<'a> Plan<'a> {
    /// A plan by chance, with everything checked, on every processor of the host.
    pub fn new(driver: &'a Path, name: &'a str, scenario: Scenario, schedules: u64) -> Self {
        Self {
            driver,
            name,
            scenario,
            schedules,
            seed: 1,
            stop_at_first: false,
            verifier: Verifier::default(),
            strategy: Strategy::Random,
            workers: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            low_resources: None,
        }
    }

    fn run(&self, schedule: Schedule, record: bool) -> Run<'a> {
        Run {
            schedule,
            verifier: self.verifier.clone(),
            record,
            low_resources: self.low_resources,
            ..Run::random(self.driver, 0)
        }
    }
}

/// What is wrong with a run, if anything.
fn verdict(result: &Result<crate::scenario::Outcomes, Stop>) -> Option<(Option<&Bugcheck>, String)> {
    match result {
        Ok(outcomes) if outcomes.faults.is_empty() => None,
        Ok(outcomes) => Some((None, outcomes.faults.join("\n"))),
        Err(Stop::Bugcheck(bugcheck, _)) => Some((Some(bugcheck), bugcheck.to_string())),
        Err(Stop::Load(error)) => Some((None, error.clone())),
    }
}

/// Runs the scenario under every seed of the plan.
pub fn explore(plan: &Plan<'_>) -> Summary {
    let began = Instant::now();
    let next = AtomicU64::new(0);
    let stop = AtomicU64::new(u64::MAX);
    let shared = Mutex::new(Summary::default());
    let work = || {
        let mut own = Summary::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= plan.schedules || number > stop.load(Ordering::Relaxed) {
                break;
            }
            let seed = plan.seed.wrapping_add(number);
            let schedule = Schedule { seed, strategy: plan.strategy.clone() };
            let result = (plan.scenario)(&plan.run(schedule.clone(), false));
            own.schedules += 1;
            if let Some((bugcheck, text)) = verdict(&result) {
                own.violations += 1;
                let replay = format!("{}/{schedule}", plan.name);
                let bugcheck = bugcheck.map(|bugcheck| (bugcheck.code, bugcheck.rule.to_owned()));
                let failure = Failure { replay, bugcheck, text, order: number };
                own.add(Summary { first_failure: Some(failure), ..Summary::default() });
                if plan.stop_at_first {
                    stop.fetch_min(number, Ordering::Relaxed);
                }
            }
            if let Ok(outcomes) = result {
                own.hashes.push(outcomes.schedule);
                let totals = outcomes.totals;
                own.frames_submitted += totals.submitted;
                own.frames_sent += totals.sent;
                own.frames_paused += totals.paused;
                own.frames_failed += totals.failed;
            }
        }
        shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(own);
    };
    if plan.workers <= 1 {
        work();
    } else {
        std::thread::scope(|scope| {
            for _ in 0..plan.workers {
                scope.spawn(work);
            }
        });
    }
    let mut summary = shared.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    summary.seconds = began.elapsed().as_secs_f64();
    summary
}

/// Fails each allocation of a run alone, one run for each: how many there are, and the first run that goes wrong.
pub fn starve(plan: &Plan<'_>) -> (u64, Option<(u64, String)>) {
    let mut number = 0;
    loop {
        number += 1;
        let plan = Plan { low_resources: Some(LowResources::Nth(number)), ..plan.clone() };
        let result = (plan.scenario)(&plan.run(Schedule::random(plan.seed), false));
        if let Some((_, text)) = verdict(&result) {
            return (number, Some((number, text)));
        }
        if result.is_ok_and(|outcomes| outcomes.allocations < number) {
            return (number - 1, None);
        }
    }
}

/// A schedule that fails, made as small as can be: fewest changes to the schedule in which each thread goes on
/// while it can.
#[derive(Clone, Debug, Serialize)]
pub struct Minimised {
    /// The schedule.
    #[serde(serialize_with = "as_text")]
    pub schedule: Schedule,
    /// Changes that were there at first, and those that are left.
    pub changes: (usize, usize),
    /// Of those that are left, the ones that replace a thread which could have gone on.
    pub preemptions: usize,
    /// Runs that it took.
    pub runs: u32,
}

fn as_text<S: serde::Serializer>(schedule: &Schedule, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(schedule)
}

fn changes(decisions: &[Decision]) -> Vec<(u64, u16)> {
    let chosen = decisions.iter().enumerate().filter(|(_, decision)| decision.chosen != 0);
    chosen.map(|(number, decision)| (number as u64, decision.chosen)).collect()
}

/// A schedule as a list of changes, and how many of them are preemptions.
#[derive(Clone, Debug)]
struct Candidate {
    changes: Vec<(u64, u16)>,
    preemptions: usize,
    /// Decisions in all.
    steps: u64,
}

impl Candidate {
    fn of(decisions: &[Decision]) -> Self {
        let steps = decisions.len() as u64;
        let preemptions = decisions.iter().filter(|one| one.chosen != 0 && one.preempts).count();
        Self { changes: changes(decisions), preemptions, steps }
    }
}

/// Runs schedules and says which fail for the rule that is looked for.
struct Judge<'a, 'b> {
    plan: &'a Plan<'b>,
    seed: u64,
    rule: Option<&'static str>,
    runs: u32,
    most_runs: u32,
}

impl Judge<'_, '_> {
    fn fails(&mut self, strategy: Strategy) -> Option<Candidate> {
        self.runs += 1;
        let schedule = Schedule { seed: self.seed, strategy };
        let result = (self.plan.scenario)(&self.plan.run(schedule, true));
        let found = verdict(&result)?.0.map_or("", |bugcheck| bugcheck.rule);
        if *self.rule.get_or_insert(found) != found {
            return None;
        }
        match result {
            Ok(outcomes) => Some(Candidate::of(&outcomes.decisions)),
            Err(Stop::Bugcheck(_, decisions)) => Some(Candidate::of(&decisions)),
            Err(Stop::Load(_)) => None,
        }
    }

    const fn may_go_on(&self) -> bool {
        self.runs < self.most_runs
    }

    /// Leaves changes out by halves, quarters and so on, as long as the run still fails.
    fn reduce(&mut self, mut best: Candidate) -> Candidate {
        let mut part = best.changes.len().div_ceil(2);
        while part > 0 && self.may_go_on() {
            let (mut start, mut smaller) = (0, false);
            while start < best.changes.len() && self.may_go_on() {
                let end = (start + part).min(best.changes.len());
                let list = &best.changes;
                let without: Vec<_> = list.iter().take(start).chain(list.iter().skip(end)).copied().collect();
                match self.fails(Strategy::Told(without.clone())) {
                    // The decisions say what was left of the changes; what could not be chosen is gone.
                    Some(found) if found.changes.len() < best.changes.len() => {
                        (best, smaller) = (found, true);
                    }
                    _ => start = end,
                }
            }
            if part == 1 && !smaller {
                break;
            }
            part = if part == 1 { 1 } else { part.div_ceil(2) };
        }
        best
    }
}

/// Makes a failing schedule small: leaves out changes as long as the run still fails for the same rule, and looks
/// for failing schedules of few preemptions by priorities, to make those small as well. Nothing if the schedule
/// does not fail.
pub fn minimise(plan: &Plan<'_>, schedule: &Schedule, most_runs: u32) -> Option<Minimised> {
    let mut judge = Judge { plan, seed: schedule.seed, rule: None, runs: 0, most_runs };
    let first = judge.fails(schedule.strategy.clone())?;
    let mut best = judge.reduce(first.clone());
    for depth in 1..=4 {
        for variant in 0..40 {
            if !judge.may_go_on() || best.preemptions <= depth as usize {
                break;
            }
            // The number of steps tells the draws of one run from those of another.
            if let Some(found) = judge.fails(Strategy::Pct { depth, steps: first.steps + variant })
                && found.preemptions < best.preemptions
            {
                let reduced = judge.reduce(found);
                if reduced.preemptions < best.preemptions {
                    best = reduced;
                }
            }
        }
    }
    Some(Minimised {
        schedule: Schedule { seed: schedule.seed, strategy: Strategy::Told(best.changes.clone()) },
        changes: (first.changes.len(), best.changes.len()),
        preemptions: best.preemptions,
        runs: judge.runs,
    })
}

/// What an exhaustive search came to.
#[derive(Clone, Debug, Serialize)]
pub struct Searched {
    /// Runs.
    pub runs: u64,
    /// The first schedule that fails, if one does.
    #[serde(skip)]
    pub failure: Option<(Schedule, String)>,
    /// Whether every schedule within the bound was run.
    pub complete: bool,
}

/// Runs every schedule with at most so many preemptions, fewest first (Musuvathi and Qadeer, 2007), until one
/// fails.
pub fn search(plan: &Plan<'_>, seed: u64, preemptions: u32, most_runs: u64) -> Searched {
    let mut runs = 0;
    for bound in 0..=preemptions {
        // Each entry is a schedule as a list of changes, and the number of its first decision that is free.
        let mut stack: Vec<(Vec<(u64, u16)>, usize)> = vec![(Vec::new(), 0)];
        while let Some((list, free)) = stack.pop() {
            if runs >= most_runs {
                return Searched { runs, failure: None, complete: false };
            }
            runs += 1;
            let schedule = Schedule { seed, strategy: Strategy::Told(list.clone()) };
            let result = (plan.scenario)(&plan.run(schedule.clone(), true));
            if let Some((_, text)) = verdict(&result) {
                return Searched { runs, failure: Some((schedule, text)), complete: false };
            }
            let Ok(outcomes) = result else { continue };
            let spent = |to: usize| {
                let decisions = outcomes.decisions.iter().take(to);
                decisions.filter(|decision| decision.chosen != 0 && decision.preempts).count() as u32
            };
            for (number, decision) in outcomes.decisions.iter().enumerate().skip(free).rev() {
                let cost = spent(number) + u32::from(decision.preempts);
                // With a bound of n only schedules that spend all n are new: the others were run before.
                let possible = cost <= bound;
                if !possible {
                    continue;
                }
                for choice in 1..decision.candidates {
                    let mut next = list.clone();
                    next.push((number as u64, choice));
                    stack.push((next, number + 1));
                }
            }
        }
    }
    Searched { runs, failure: None, complete: true }
}

//! Explores schedules of scenarios: `cargo xtask explore`.
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use sluice_machine::verifier::DPC_BUDGET;
use sluice_machine::{LowResources, Schedule, Strategy, Verifier, recording};
use sluice_suite::explore::{Plan, Summary, explore, minimise, search, starve};
use sluice_suite::scenario::{Run, Scenario, Stop, scenarios};

/// Runs scenarios under many schedules.
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
#[derive(Parser)]
#[command(bin_name = "cargo xtask explore")]
struct Arguments {
    /// Driver image.
    #[arg(long)]
    driver: PathBuf,
    /// Scenario; "all" runs each of them.
    #[arg(long, default_value = "lifecycle")]
    scenario: String,
    /// Lists the scenarios.
    #[arg(long)]
    list: bool,
    /// Schedules to run of each scenario.
    #[arg(long, default_value_t = 2000)]
    schedules: u64,
    /// Seed of the first schedule.
    #[arg(long, default_value_t = 1, value_parser = number)]
    seed: u64,
    /// What chooses schedules.
    #[arg(long, value_enum, default_value_t = Scheduler::Random)]
    scheduler: Scheduler,
    /// Depth of bugs that PCT looks for, or preemptions of the exhaustive search.
    #[arg(long, default_value_t = 3)]
    depth: u32,
    /// Replays one run, as a failure prints it.
    #[arg(long, value_name = "SCENARIO/SCHEDULE", conflicts_with_all = ["scenario", "schedules", "seed", "scheduler"])]
    replay: Option<String>,
    /// Writes a replayed run as a timeline to look at.
    #[arg(long, value_name = "FILE.html", requires = "replay")]
    html: Option<PathBuf>,
    /// Writes a replayed run in the Chrome trace format, for Perfetto.
    #[arg(long, value_name = "FILE.json", requires = "replay")]
    chrome: Option<PathBuf>,
    /// Prints every kernel call of a replayed run.
    #[arg(long, requires = "replay")]
    trace: bool,
    /// Options of the verifier that are off, with commas between; "all" for all.
    #[arg(long, default_value = "")]
    without: Options,
    /// Processor time of one DPC, in microseconds.
    #[arg(long, default_value_t = DPC_BUDGET, value_name = "MICROSECONDS")]
    dpc_budget: u64,
    /// Processes that run schedules at a time; all processors of the host by default.
    #[arg(long)]
    jobs: Option<usize>,
    /// Which allocations fail: "every" for each of a run alone, one run for each; a number for that one; "1/500" for some.
    #[arg(long, value_name = "WHICH")]
    fail_allocations: Option<Failing>,
    /// Does not make the first failing schedule small.
    #[arg(long)]
    no_minimise: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Prints what one of the processes found.
    #[arg(long, hide = true)]
    part: bool,
}

impl Arguments {
    /// What the machine checks.
    fn verifier(&self) -> Verifier {
        Verifier { dpc_budget: self.dpc_budget, ..self.without.0.clone() }
    }
}

/// Options of the verifier, and how they were given.
#[derive(Clone, Debug)]
struct Options(Verifier, String);

impl std::str::FromStr for Options {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> Result<Self> {
        Ok(Self(text.parse()?, text.to_owned()))
    }
}

/// Which allocations fail.
#[derive(Clone, Copy, Debug)]
enum Failing {
    Every,
    Some(LowResources),
}

impl std::str::FromStr for Failing {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> Result<Self> {
        let which = || format!("\"{text}\" is none of: every, a number, 1/N");
        Ok(match text.strip_prefix("1/") {
            _ if text == "every" => Self::Every,
            Some(many) => Self::Some(LowResources::OneIn(many.parse().with_context(which)?)),
            None => Self::Some(LowResources::Nth(text.parse().with_context(which)?)),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scheduler {
    /// By chance.
    Random,
    /// Probabilistic concurrency testing.
    Pct,
    /// Every schedule with few preemptions.
    Exhaustive,
}

fn number(text: &str) -> Result<u64, std::num::ParseIntError> {
    text.strip_prefix("0x").map_or_else(|| text.parse(), |digits| u64::from_str_radix(digits, 16))
}

fn find(name: &str) -> Result<(&'static str, Scenario)> {
    scenarios()
        .into_iter()
        .find(|(known, _)| *known == name)
        .with_context(|| format!("no scenario is named \"{name}\"; cargo xtask explore --list prints them"))
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.list {
        for (name, _) in scenarios() {
            println!("{name}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    anyhow::ensure!(arguments.driver.exists(), "{} is not there", arguments.driver.display());
    if let Some(token) = &arguments.replay {
        return replay(&arguments, token);
    }
    let chosen = match arguments.scenario.as_str() {
        "all" => scenarios(),
        name => vec![find(name)?],
    };
    let mut summaries = Vec::new();
    for (name, scenario) in chosen {
        let mut plan = Plan::new(&arguments.driver, name, scenario, arguments.schedules);
        plan.seed = arguments.seed;
        plan.verifier = arguments.verifier();
        match arguments.fail_allocations {
            Some(Failing::Every) => {
                let (count, wrong) = starve(&plan);
                println!("{name}: {count} allocations, each of which failed alone");
                let Some((number, text)) = wrong else { continue };
                println!("allocation {number} ends in\n{text}");
                return Ok(ExitCode::FAILURE);
            }
            Some(Failing::Some(which)) => {
                plan.low_resources = Some(which);
                // Parts of the run do not know of it.
                plan.workers = 1;
            }
            None => {}
        }
        if arguments.scheduler == Scheduler::Exhaustive {
            return exhaust(&arguments, &plan);
        }
        if arguments.scheduler == Scheduler::Pct {
            plan.strategy = Strategy::Pct { depth: arguments.depth, steps: steps(&plan)? };
        }
        let summary = if plan.low_resources.is_some() {
            let mut summary = explore(&plan);
            summary.settle();
            summary
        } else if arguments.part {
            plan.workers = 1;
            println!("{}", serde_json::to_string(&explore(&plan))?);
            return Ok(ExitCode::SUCCESS);
        } else {
            let mut summary = spread(&arguments, &plan)?;
            summary.settle();
            summary
        };
        if !arguments.json {
            print(&arguments, &plan, &summary)?;
        }
        summaries.push((name, summary));
    }
    if arguments.json {
        let value = match summaries.as_slice() {
            [(_, summary)] => serde_json::to_value(summary)?,
            all => all
                .iter()
                .map(|(name, one)| Ok(((*name).to_owned(), serde_json::to_value(one)?)))
                .collect::<Result<serde_json::Map<_, _>>>()?
                .into(),
        };
        println!("{}", serde_json::to_string_pretty(&value)?);
    }
    let failed = summaries.iter().any(|(_, summary)| summary.violations != 0);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Runs a plan in parts, each in a process of its own: machines of one process would wait for each other's memory
/// to be protected.
fn spread(arguments: &Arguments, plan: &Plan<'_>) -> Result<Summary> {
    let jobs = arguments.jobs.unwrap_or(plan.workers).max(1) as u64;
    let began = Instant::now();
    let part = plan.schedules.div_ceil(jobs);
    let mut children = Vec::new();
    for job in 0..jobs {
        let count = part.min(plan.schedules.saturating_sub(job * part));
        if count == 0 {
            continue;
        }
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--driver").arg(plan.driver).args(["--scenario", plan.name, "--part"]);
        command.args(["--schedules", &count.to_string(), "--without", &arguments.without.1]);
        command.args(["--dpc-budget", &arguments.dpc_budget.to_string()]);
        command.args([
            "--seed",
            &(plan.seed + job * part).to_string(),
            "--depth",
            &arguments.depth.to_string(),
        ]);
        if arguments.scheduler == Scheduler::Pct {
            command.args(["--scheduler", "pct"]);
        }
        children.push((job * part, command.stdout(Stdio::piped()).spawn()?));
    }
    let mut summary = Summary::default();
    for (first, child) in children {
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("a process that ran schedules ended with {}", output.status);
        }
        let mut found: Summary =
            serde_json::from_slice(&output.stdout).context("a process that ran schedules")?;
        if let Some(failure) = &mut found.first_failure {
            failure.order += first;
        }
        summary.add(found);
    }
    summary.seconds = began.elapsed().as_secs_f64();
    Ok(summary)
}

/// Decisions of a run, which PCT draws from.
fn steps(plan: &Plan<'_>) -> Result<u64> {
    let run = Run { verifier: plan.verifier.clone(), record: true, ..Run::random(plan.driver, plan.seed) };
    match (plan.scenario)(&run) {
        Ok(outcomes) => Ok(outcomes.decisions.len() as u64),
        Err(Stop::Bugcheck(_, decisions)) => Ok(decisions.len() as u64),
        Err(Stop::Load(error)) => bail!("{error}"),
    }
}

fn print(arguments: &Arguments, plan: &Plan<'_>, summary: &Summary) -> Result<()> {
    println!(
        "{}: {} schedules, {} distinct, {} violations, {:.1} s",
        plan.name, summary.schedules, summary.distinct, summary.violations, summary.seconds
    );
    println!(
        "    frames: {} submitted, {} sent, {} refused while paused, {} failed",
        summary.frames_submitted, summary.frames_sent, summary.frames_paused, summary.frames_failed
    );
    let Some(failure) = &summary.first_failure else { return Ok(()) };
    println!("\nfirst failure after {} schedules; replay it with:", failure.order + 1);
    let options = plan.verifier.arguments();
    println!("    cargo xtask explore --replay {}{options}", failure.replay);
    let token = failure.replay.split_once('/').map_or("", |(_, schedule)| schedule);
    if !arguments.no_minimise
        && let Some(small) = minimise(plan, &token.parse()?, 400)
    {
        println!(
            "the smallest that was found has {} preemptions ({} of {} changes left, {} runs):",
            small.preemptions, small.changes.1, small.changes.0, small.runs
        );
        println!("    cargo xtask explore --replay {}/{}{options}", plan.name, small.schedule);
    }
    println!("\n{}", failure.text);
    Ok(())
}

fn exhaust(arguments: &Arguments, plan: &Plan<'_>) -> Result<ExitCode> {
    let found = search(plan, plan.seed, arguments.depth, plan.schedules);
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&found)?);
    } else {
        let extent = if found.complete { "every schedule" } else { "not every schedule" };
        println!("{} runs, {extent} with up to {} preemptions", found.runs, arguments.depth);
    }
    let Some((schedule, text)) = found.failure else { return Ok(ExitCode::SUCCESS) };
    println!(
        "\nfirst failure, replay it with:\n    cargo xtask explore --replay {}/{schedule}{}\n\n{text}",
        plan.name,
        plan.verifier.arguments()
    );
    Ok(ExitCode::FAILURE)
}

fn replay(arguments: &Arguments, token: &str) -> Result<ExitCode> {
    let (name, schedule) = token.split_once('/').context("a replay is SCENARIO/SCHEDULE")?;
    let schedule: Schedule = schedule.parse()?;
    let (_, scenario) = find(name)?;
    let run = Run {
        schedule,
        verifier: arguments.verifier(),
        record: true,
        ..Run::random(Path::new(&arguments.driver), 0)
    };
    let result = scenario(&run);
    let recording = recording::take().context("the run left no recording")?;
    if arguments.trace {
        print!("{}", recording.trace(None));
    }
    let bugcheck = match &result {
        Err(Stop::Bugcheck(bugcheck, _)) => Some(bugcheck.as_ref()),
        _ => None,
    };
    if let Some(path) = &arguments.html {
        std::fs::write(path, recording.html(bugcheck))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &arguments.chrome {
        std::fs::write(path, recording.chrome())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let command = format!("cargo xtask explore --replay {token}{}", arguments.verifier().arguments());
    match result {
        Ok(outcomes) if outcomes.faults.is_empty() => {
            println!("{name}: nothing wrong");
            Ok(ExitCode::SUCCESS)
        }
        Ok(outcomes) => {
            println!("{}\nREPLAY:  {command}", outcomes.faults.join("\n"));
            Ok(ExitCode::FAILURE)
        }
        Err(Stop::Bugcheck(bugcheck, _)) if arguments.json => {
            let report = serde_json::json!({ "bugcheck": bugcheck, "replay": command });
            println!("{}", serde_json::to_string_pretty(&report)?);
            Ok(ExitCode::FAILURE)
        }
        Err(Stop::Bugcheck(bugcheck, _)) => {
            println!("{bugcheck}REPLAY:  {command}");
            Ok(ExitCode::FAILURE)
        }
        Err(Stop::Load(error)) => bail!("{error}"),
    }
}

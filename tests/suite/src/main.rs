//! Explores schedules of a scenario: `cargo xtask explore`.
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use sluice_suite::explore::{Plan, explore};
use sluice_suite::scenario::SCENARIOS;

/// Runs a scenario under many schedules.
#[derive(Parser)]
#[command(bin_name = "cargo xtask explore")]
struct Arguments {
    /// Driver image.
    #[arg(long)]
    driver: PathBuf,
    /// Scenario.
    #[arg(long, default_value = "lifecycle")]
    scenario: String,
    /// Schedules to run.
    #[arg(long, default_value_t = 2000)]
    schedules: u64,
    /// Seed of the first schedule.
    #[arg(long, default_value_t = 1, value_parser = number)]
    seed: u64,
    /// Replays one run: scenario/seed, as a failure prints it.
    #[arg(long, conflicts_with_all = ["scenario", "schedules", "seed"])]
    replay: Option<String>,
    /// Go on as Windows would where a contract rule has no documented bugcheck.
    #[arg(long)]
    no_contract_rules: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

fn number(text: &str) -> Result<u64, std::num::ParseIntError> {
    text.strip_prefix("0x").map_or_else(|| text.parse(), |digits| u64::from_str_radix(digits, 16))
}

fn main() -> Result<ExitCode> {
    let mut arguments = Arguments::parse();
    if let Some(token) = &arguments.replay {
        let (scenario, seed) = token.split_once('/').context("a replay is SCENARIO/SEED")?;
        arguments.seed = number(seed).with_context(|| format!("\"{seed}\" is no seed"))?;
        arguments.scenario = scenario.to_owned();
        arguments.schedules = 1;
    }
    let names = || SCENARIOS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let (name, scenario) =
        SCENARIOS.into_iter().find(|(name, _)| *name == arguments.scenario).with_context(|| {
            format!("no scenario is named \"{}\"; there are: {}", arguments.scenario, names())
        })?;
    anyhow::ensure!(arguments.driver.exists(), "{} is not there", arguments.driver.display());
    let summary = explore(Plan {
        driver: &arguments.driver,
        name,
        scenario,
        schedules: arguments.schedules,
        seed: arguments.seed,
        stop_at_first: false,
        contract_rules: !arguments.no_contract_rules,
    });
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    } else {
        println!(
            "{} schedules, {} distinct, {} violations, {:.1} s",
            summary.schedules, summary.distinct, summary.violations, summary.seconds
        );
        println!(
            "frames: {} submitted, {} sent, {} refused while paused, {} failed",
            summary.frames_submitted, summary.frames_sent, summary.frames_paused, summary.frames_failed
        );
        if let Some(failure) = &summary.first_failure {
            println!("\nfirst failure, replay it with: cargo xtask explore --replay {}", failure.replay);
            for fault in &failure.faults {
                println!("    {fault}");
            }
            if let Some(bugcheck) = &failure.bugcheck {
                print!("\n{bugcheck}");
            }
        }
    }
    Ok(if summary.violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

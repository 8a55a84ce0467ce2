//! `cargo xtask lab`: the crash lab's table, or one case in full.
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use comfy_table::{ContentArrangement, Table};
use sluice_suite::lab::{CASES, Case, MOST, Outcome, Run, Stage};

/// Columns of text where there is no terminal.
const WIDTH: u16 = 200;

/// Runs the crash lab: each blue screen of the documents, and the pattern that avoids it.
#[derive(Parser)]
#[command(bin_name = "cargo xtask lab")]
struct Arguments {
    /// Shows one case in full.
    #[arg(value_name = "CASE")]
    case: Option<String>,
    /// Prints a JSON array instead of a table.
    #[arg(long)]
    json: bool,
    /// Schedules of each safe pattern.
    #[arg(long, default_value_t = 1000)]
    schedules: u64,
    /// Folder of the lab's drivers.
    #[arg(long, value_name = "FOLDER")]
    drivers: PathBuf,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(name) = &arguments.case {
        return full(Case::named(name)?, &arguments);
    }
    let mut outcomes = Vec::new();
    for case in CASES {
        outcomes.push(case.outcome(&arguments.drivers, arguments.schedules)?);
    }
    let wrong = outcomes.iter().filter(|outcome| !outcome.holds()).count();
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&outcomes)?);
    } else {
        println!("{}\n{} cases, {wrong} not as expected", table(&outcomes), outcomes.len());
    }
    Ok(ExitCode::from(u8::from(wrong != 0)))
}

/// A row for each case, as wide as the terminal.
fn table(outcomes: &[Outcome]) -> Table {
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::ASCII_MARKDOWN)
        .set_content_arrangement(ContentArrangement::Dynamic);
    if !table.is_tty() {
        table.set_width(WIDTH);
    }
    table.set_header([
        "document",
        "case",
        "wrong pattern: expected, got",
        "schedules",
        "safe pattern",
        "prevented by",
    ]);
    for outcome in outcomes {
        let Outcome { document, case, shows, expected, got, schedules_to_fail, .. } = outcome;
        let first = outcome.first_violation.as_deref().unwrap_or_default();
        let verdict = if outcome.holds() { "" } else { "\nNOT AS EXPECTED" };
        table.add_row([
            (*document).to_owned(),
            format!("{case}\n{shows}"),
            format!("{expected}\n{got}{verdict}"),
            schedules_to_fail.to_string(),
            format!("{} violations in {}\n{first}", outcome.safe_violations, outcome.safe_schedules),
            outcome.prevented_by.to_owned(),
        ]);
    }
    table
}

fn print(outcome: &Outcome) {
    let Outcome { document, case, shows, expected, got, schedules_to_fail, .. } = outcome;
    println!("{document} / {case}: {shows}");
    println!("    expected  {expected}");
    println!("    got       {got}  (after {schedules_to_fail} schedules)");
    let violations = outcome.safe_violations;
    println!("    safe      {violations} violations in {} schedules", outcome.safe_schedules);
    if let Some(first) = &outcome.first_violation {
        println!("              {first}");
    }
    println!("    by        {}", outcome.prevented_by);
    println!("    {}", if outcome.holds() { "as expected" } else { "NOT AS EXPECTED" });
}

/// The crash report beside the document's figures, then a safe run.
fn full(case: &Case, arguments: &Arguments) -> Result<ExitCode> {
    println!("{} / {}: {}\n", case.document, case.name, case.shows);
    println!("THE DOCUMENT\n    {}\n", case.figures);
    let found = case.fail(&arguments.drivers, MOST)?;
    let (schedules, run) = found.with_context(|| format!("{MOST} schedules, and nothing failed"))?;
    println!("THE WRONG PATTERN, after {schedules} schedules");
    if let Some(bugcheck) = &run.bugcheck {
        println!("{bugcheck}");
    }
    let happened = |run: &Run| {
        list("LOADER", if case.stage == Stage::Images { &run.loader } else { &[] });
        list("CARD", &run.card);
        list("OUTPUT", &run.output);
    };
    happened(&run);
    println!("THE SAFE PATTERN, by {}", case.prevented_by);
    happened(&case.run(&arguments.drivers, true, 1)?);
    let outcome = case.outcome(&arguments.drivers, arguments.schedules)?;
    print(&outcome);
    Ok(ExitCode::from(u8::from(!outcome.holds())))
}

fn list(title: &str, lines: &[String]) {
    if !lines.is_empty() {
        println!("{title}:");
        for line in lines {
            println!("    {}", line.trim_end());
        }
        println!();
    }
}

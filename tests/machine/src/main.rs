//! The machine's command line: `cargo xtask machine`.
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use serde_json::json;
use sluice_machine::ndis::adapter::{Completes, Settings};
use sluice_machine::rule::RULES;
use sluice_machine::server::{self, Stopped};
use sluice_machine::verifier::DPC_BUDGET;
use sluice_machine::{Configuration, Schedule, Session, Verifier, life, recording};

/// A simulated Windows computer that runs NDIS filter drivers on Linux.
#[derive(Parser)]
#[command(bin_name = "cargo xtask machine")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Starts a machine with a driver, and serves programs at a socket until it is shut down.
    Run(RunOptions),
    /// Disables an adapter.
    Disable {
        /// Which adapter, from 0.
        adapter: usize,
        /// Wait until the adapter holds this many frames.
        #[arg(long, default_value_t = 0)]
        in_flight: u64,
        /// The machine's socket.
        #[arg(long)]
        socket: PathBuf,
    },
    /// Enables an adapter.
    Enable {
        /// Which adapter, from 0.
        adapter: usize,
        /// The machine's socket.
        #[arg(long)]
        socket: PathBuf,
    },
    /// Pulls an adapter out.
    Unplug {
        /// Which adapter, from 0.
        adapter: usize,
        /// The machine's socket.
        #[arg(long)]
        socket: PathBuf,
    },
    /// Prints how a machine is, as JSON.
    Status {
        /// The machine's socket.
        #[arg(long)]
        socket: PathBuf,
    },
    /// Unloads the driver and ends a machine.
    Shutdown {
        /// The machine's socket.
        #[arg(long)]
        socket: PathBuf,
    },
    /// Lists what drivers can import; or what a driver needs that is not there.
    Exports {
        /// A driver image: prints what it imports that the machine lacks.
        #[arg(long, value_name = "FILE.sys")]
        missing: Option<PathBuf>,
        /// Minor version of NDIS 6, whose Windows is asked.
        #[arg(long, default_value_t = 89, requires = "missing")]
        ndis_minor: u32,
    },
    /// Lists the rules: name, bugcheck, what is checked, and the wrong driver that trips it.
    Rules {
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Runs a driver of yours through a life: loads it, attaches it, lets traffic and plug and play pass, unloads it.
    Explore {
        /// Driver image.
        #[arg(long)]
        driver: PathBuf,
        /// Lives to run, each under another schedule.
        #[arg(long, default_value_t = 1000)]
        schedules: u64,
        /// Seed of the first.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Options of the verifier that are off, with commas between; "all" for all.
        #[arg(long, default_value = "")]
        without: Verifier,
        /// Processor time of one DPC, in microseconds.
        #[arg(long, default_value_t = DPC_BUDGET, value_name = "MICROSECONDS")]
        dpc_budget: u64,
    },
    /// Runs one life again, as a failure prints it, and shows it.
    Replay(ReplayOptions),
}

/// How a machine is run.
#[derive(clap::Args)]
struct RunOptions {
    /// Driver image.
    #[arg(long)]
    driver: PathBuf,
    /// Unix socket for programs and for the operator.
    #[arg(long)]
    socket: PathBuf,
    /// Adapters.
    #[arg(long, default_value_t = 2)]
    adapters: usize,
    /// MTU of the adapters.
    #[arg(long, default_value_t = Settings::default().mtu, value_name = "BYTES")]
    mtu: u32,
    /// When adapters complete sends.
    #[arg(long, value_enum, default_value_t = Completion::Late)]
    completes: Completion,
    /// Folder for captures of what reaches each adapter's wire; without it nothing is kept.
    #[arg(long)]
    captures: Option<PathBuf>,
    /// Every n-th frame comes back with an error.
    #[arg(long)]
    fails_every: Option<u64>,
    /// Processors.
    #[arg(long, default_value_t = 2)]
    processors: usize,
    /// Seed of the schedule.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Minor version of the machine's NDIS 6, and by that the build of Windows that it is.
    #[arg(long, default_value_t = 89)]
    ndis_minor: u32,
    /// Options of the verifier that are off, with commas between; "all" for all.
    #[arg(long, default_value = "")]
    without: Verifier,
    /// Processor time of one DPC, in microseconds.
    #[arg(long, default_value_t = DPC_BUDGET, value_name = "MICROSECONDS")]
    dpc_budget: u64,
    /// Prints every kernel call on standard error as it returns.
    #[arg(long)]
    trace: bool,
    /// Prints only calls whose names or arguments contain this.
    #[arg(long, requires = "trace")]
    filter: Option<String>,
    /// Listens to the events of drivers, and prints them on standard error as they come.
    #[arg(long)]
    etw: bool,
    /// Keywords of events to listen to, as bits.
    #[arg(long, requires = "etw", default_value = "0xffffffffffffffff", value_parser = bits)]
    keywords: u64,
}

/// A number of 64 bits, hexadecimal with 0x in front.
fn bits(text: &str) -> Result<u64, std::num::ParseIntError> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    }
}

/// How a life is shown.
#[derive(clap::Args)]
struct ReplayOptions {
    /// Driver image.
    #[arg(long)]
    driver: PathBuf,
    /// The schedule.
    schedule: Schedule,
    /// Options of the verifier that are off, with commas between; "all" for all.
    #[arg(long, default_value = "")]
    without: Verifier,
    /// Processor time of one DPC, in microseconds.
    #[arg(long, default_value_t = DPC_BUDGET, value_name = "MICROSECONDS")]
    dpc_budget: u64,
    /// Prints every kernel call.
    #[arg(long)]
    trace: bool,
    /// Prints only calls whose names or arguments contain this.
    #[arg(long, requires = "trace")]
    filter: Option<String>,
    /// Writes the report as a page with a timeline.
    #[arg(long, value_name = "FILE.html")]
    html: Option<PathBuf>,
    /// Writes the run in the Chrome trace format, for Perfetto.
    #[arg(long, value_name = "FILE.json")]
    chrome: Option<PathBuf>,
    /// Prints the report as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Completion {
    Inline,
    Late,
    OutOfOrder,
    Any,
}

/// Exit code of a machine that stopped with a bugcheck.
const STOPPED: u8 = 70;

fn main() -> Result<ExitCode> {
    match Arguments::parse().verb {
        Verb::Run(options) => run(options),
        Verb::Disable { adapter, in_flight, socket } => {
            operate(&socket, &json!({ "op": "disable", "adapter": adapter, "in_flight": in_flight }))
        }
        Verb::Enable { adapter, socket } => operate(&socket, &json!({ "op": "enable", "adapter": adapter })),
        Verb::Unplug { adapter, socket } => operate(&socket, &json!({ "op": "unplug", "adapter": adapter })),
        Verb::Status { socket } => operate(&socket, &json!({ "op": "status" })),
        Verb::Shutdown { socket } => operate(&socket, &json!({ "op": "shutdown" })),
        Verb::Exports { missing: None, .. } => {
            print(sluice_machine::exports().into_iter().map(|(module, name)| format!("{module}!{name}")))
        }
        Verb::Exports { missing: Some(file), ndis_minor } => {
            let build = sluice_machine::system::build_of(6 << 16 | ndis_minor);
            let missing = sluice_machine::missing_imports(&file, build)?;
            for name in &missing {
                println!("{name}");
            }
            if missing.is_empty() {
                eprintln!("the machine has everything that {} imports", file.display());
                return Ok(ExitCode::SUCCESS);
            }
            Ok(ExitCode::FAILURE)
        }
        Verb::Rules { json: true } => print([serde_json::to_string_pretty(RULES)?]),
        Verb::Rules { json: false } => print(RULES.iter().map(|rule| {
            let first = rule.first.map_or_else(String::new, |first| format!("/{first:X}"));
            let option = rule.option.name();
            let known = format!("{} (0x{:X}{first}, {option})", rule.name, rule.bugcheck);
            format!("{known}: {}; tripped by {}", rule.checks, rule.tripped_by)
        })),
        Verb::Explore { driver, schedules, seed, without, dpc_budget } => {
            let verifier = Verifier { dpc_budget, ..without };
            for seed in seed..seed + schedules {
                let schedule = Schedule::random(seed);
                if let Err(bugcheck) = life::live(&driver, &schedule, &verifier, false)? {
                    println!("{bugcheck}\nafter {seed} lives; replay it with:");
                    let options = verifier.arguments();
                    println!(
                        "    cargo xtask machine replay --driver {}{options} {schedule}",
                        driver.display()
                    );
                    return Ok(ExitCode::from(STOPPED));
                }
            }
            println!("{schedules} lives, nothing wrong");
            Ok(ExitCode::SUCCESS)
        }
        Verb::Replay(options) => replay(options),
    }
}

/// Prints a list. Whoever has read enough of it may go.
fn print(lines: impl IntoIterator<Item = String>) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    for line in lines {
        match writeln!(out, "{line}") {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => break,
            written => written?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn run(options: RunOptions) -> Result<ExitCode> {
    let RunOptions {
        driver,
        socket,
        adapters,
        mtu,
        completes,
        captures,
        fails_every,
        processors,
        seed,
        ndis_minor,
        without,
        dpc_budget,
        trace,
        filter,
        etw,
        keywords,
    } = options;
    let completes = match completes {
        Completion::Inline => Completes::Inline,
        Completion::Late => Completes::Late(20, 400),
        Completion::OutOfOrder => Completes::OutOfOrder(20, 400),
        Completion::Any => Completes::Any,
    };
    if let Some(folder) = &captures {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let settings = (0..adapters)
        .map(|index| Settings {
            name: format!("Simulated Ethernet Adapter {index}"),
            mtu,
            completes,
            fails_every,
            capture: captures.as_ref().map(|folder| folder.join(format!("adapter{index}.pcapng"))),
            keeps_frames: false,
            ..Settings::default()
        })
        .collect();
    let configuration = Configuration {
        processors,
        schedule: Schedule::random(seed),
        verifier: Verifier { dpc_budget, ..without },
        trace: trace.then(|| filter.unwrap_or_default()),
        ndis_version: 6 << 16 | ndis_minor,
        adapters: settings,
        etw: etw.then_some(Session { level: 5, keywords, print: true }),
        ..Configuration::default()
    };
    let result = server::serve(configuration, &driver, &socket);
    match result {
        Ok(status) => {
            println!("{status}");
            Ok(ExitCode::SUCCESS)
        }
        Err(Stopped::Bugcheck(bugcheck)) => {
            eprintln!("{bugcheck}");
            println!("{}", json!({ "bugcheck": bugcheck, "seed": seed }));
            Ok(ExitCode::from(STOPPED))
        }
        Err(Stopped::Failed(error)) => Err(error),
    }
}

fn replay(options: ReplayOptions) -> Result<ExitCode> {
    let ReplayOptions { driver, schedule, without, dpc_budget, trace, filter, html, chrome, json } = options;
    let verifier = Verifier { dpc_budget, ..without };
    let result = life::live(&driver, &schedule, &verifier, true)?;
    let recording = recording::take().context("the run left no recording")?;
    if trace {
        print!("{}", recording.trace(filter.as_deref()));
    }
    if let Some(path) = html {
        let page = recording.html(result.as_ref().err());
        std::fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = chrome {
        std::fs::write(&path, recording.chrome())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    match result {
        Ok(()) => println!("nothing wrong"),
        Err(bugcheck) if json => println!("{}", serde_json::to_string_pretty(&bugcheck)?),
        Err(bugcheck) => {
            println!(
                "{bugcheck}REPLAY:  cargo xtask machine replay --driver {}{} {schedule}",
                driver.display(),
                verifier.arguments()
            );
            return Ok(ExitCode::from(STOPPED));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn operate(socket: &std::path::Path, message: &serde_json::Value) -> Result<ExitCode> {
    println!("{}", server::operate(socket, message)?);
    Ok(ExitCode::SUCCESS)
}

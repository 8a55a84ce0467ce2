//! The machine's command line: `cargo xtask machine`.
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use serde_json::json;
use sluice_machine::{Configuration, Schedule};
use sluice_machine::ndis::adapter::{Completes, Settings};
use sluice_machine::server::{self, Stopped};

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
    Run {
        /// Driver image.
        #[arg(long)]
        driver: PathBuf,
        /// Unix socket for programs and for the operator.
        #[arg(long)]
        socket: PathBuf,
        /// Adapters.
        #[arg(long, default_value_t = 2)]
        adapters: usize,
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
        /// Minor version of the machine's NDIS 6.
        #[arg(long, default_value_t = 89)]
        ndis_minor: u32,
    },
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
    /// Lists what drivers can import.
    Exports,
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
        Verb::Run {
            driver,
            socket,
            adapters,
            completes,
            captures,
            fails_every,
            processors,
            seed,
            ndis_minor,
        } => {
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
                ndis_version: 6 << 16 | ndis_minor,
                adapters: settings,
                ..Configuration::default()
            };
            match server::serve(configuration, &driver, &socket) {
                Ok(status) => {
                    println!("{status}");
                    Ok(ExitCode::SUCCESS)
                }
                Err(Stopped::Bugcheck(bugcheck)) => {
                    eprintln!("{bugcheck}SEED:  {seed}");
                    println!("{}", json!({ "bugcheck": bugcheck, "seed": seed }));
                    Ok(ExitCode::from(STOPPED))
                }
                Err(Stopped::Failed(error)) => Err(error),
            }
        }
        Verb::Disable { adapter, in_flight, socket } => {
            operate(&socket, &json!({ "op": "disable", "adapter": adapter, "in_flight": in_flight }))
        }
        Verb::Enable { adapter, socket } => operate(&socket, &json!({ "op": "enable", "adapter": adapter })),
        Verb::Unplug { adapter, socket } => operate(&socket, &json!({ "op": "unplug", "adapter": adapter })),
        Verb::Status { socket } => operate(&socket, &json!({ "op": "status" })),
        Verb::Shutdown { socket } => operate(&socket, &json!({ "op": "shutdown" })),
        Verb::Exports => {
            for (module, name) in sluice_machine::exports() {
                println!("{module}!{name}");
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn operate(socket: &std::path::Path, message: &serde_json::Value) -> Result<ExitCode> {
    println!("{}", server::operate(socket, message)?);
    Ok(ExitCode::SUCCESS)
}

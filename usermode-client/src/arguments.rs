//! The command line.
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// Sends Ethernet frames through a network adapter with the Sluice driver.
///
/// An adapter is named by its index, GUID, MAC address, name, Windows' alias, or a part of a name.
///
/// Exit codes: 0 done, 1 unexpected, 2 usage, 3 no driver, 4 access denied, 5 no such adapter,
/// 6 some frames were not sent, 7 incompatible versions, 8 bad input, 9 the adapter could not be bound in time.
#[derive(Parser)]
#[command(name = "sluice", version)]
pub(crate) struct Arguments {
    /// Use the driver of the simulated machine at this socket.
    #[arg(long, global = true, value_name = "PATH")]
    pub machine: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long, global = true)]
    pub json: bool,
    /// Print results only.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Lists the adapters that frames can be sent through.
    List,
    /// Sends the frames of a capture, or one frame of hexadecimal text.
    ///
    /// Nothing is sent of a file that holds a frame that the adapter does not take, unless --skip-unsendable is given. What
    /// arrives through a pipe is sent as it arrives. Ctrl-C hands in no more frames and waits for those outstanding;
    /// a second one cancels these; a third one waits for nothing.
    Send(SendArguments),
    /// Prints statistics of an adapter's module.
    Stats {
        /// Adapter: index, GUID, MAC address, name, alias, or part of a name.
        adapter: String,
    },
}

#[derive(Args)]
pub(crate) struct SendArguments {
    /// Adapter: index, GUID, MAC address, name, alias, or part of a name.
    pub adapter: String,
    /// pcap or pcapng file, plain or compressed with gzip; - for standard input.
    #[arg(required_unless_present = "hex", conflicts_with = "hex")]
    pub file: Option<PathBuf>,
    /// Send this one frame: hexadecimal digits, or a hexdump; - for standard input.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub hex: Option<String>,
    /// Send everything this many times; 0 for without end.
    #[arg(long = "loop", default_value_t = 1, value_name = "TIMES", allow_negative_numbers = true)]
    times: u32,
    /// Frames in one request, up to 512.
    #[arg(long, default_value_t = 128, allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=512))]
    pub batch: u32,
    /// Requests outstanding at a time.
    #[arg(long, default_value_t = 4, allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=64))]
    pub depth: u32,
    /// If the adapter is away or goes away, wait this many seconds for it to come back, and send again what it refused
    /// meanwhile; time that this computer sleeps does not count.
    #[arg(long, default_value_t = 0, value_name = "SECONDS", allow_negative_numbers = true)]
    wait: u64,
    /// Give a bind up after this many seconds: it waits for Windows to restart the adapter's stack.
    #[arg(long, default_value_t = 30, value_name = "SECONDS", allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    bind_timeout: u64,
    /// Leave out and count what cannot be sent: frames that were cut, are not Ethernet, or do not fit the adapter.
    #[arg(long)]
    pub skip_unsendable: bool,
    /// Write what became of each frame to this file: its number, outcome and status, with tabs between.
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    pub outcomes: Option<PathBuf>,
    /// Show the frames and send none; needs no driver.
    #[arg(long)]
    pub dry_run: bool,
    /// MTU of the adapter that --dry-run supposes.
    #[arg(
        long,
        default_value_t = 1500,
        value_name = "BYTES",
        requires = "dry_run",
        allow_negative_numbers = true
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(sluice_abi::MAX_MTU)))]
    pub mtu: u32,
}

impl SendArguments {
    /// Passes; none for an endless loop.
    pub(crate) fn times(&self) -> Option<u64> {
        (self.times != 0).then_some(u64::from(self.times))
    }

    pub(crate) fn wait(&self) -> Duration {
        Duration::from_secs(self.wait)
    }

    pub(crate) fn bind_timeout(&self) -> Duration {
        Duration::from_secs(self.bind_timeout)
    }
}

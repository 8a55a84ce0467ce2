//! `sluice`: sends Ethernet frames through a network adapter.
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use sluice_abi::{MEMORY_ADAPTER, MEMORY_HAL, MEMORY_NONPAGED, Statistics};
use sluice_client::adapter::{self, Adapter};
use sluice_client::device::{Device, Driver};
use sluice_client::send::{self, Outcome, Progress, Totals};
use sluice_client::{Error, frames};

/// Version of the JSON that this program prints.
const JSON_VERSION: u32 = 1;
/// Exit code when some frames were not sent.
const PARTLY: u8 = 6;

/// Sends Ethernet frames through a network adapter with the Sluice driver.
///
/// Exit codes: 0 done, 1 unexpected, 2 usage, 3 no driver, 4 access denied, 5 no such adapter,
/// 6 some frames were not sent, 7 versions do not fit, 8 bad input.
#[derive(Parser)]
#[command(name = "sluice", version)]
struct Arguments {
    /// Use the driver of the simulated machine at this socket.
    #[arg(long, global = true, value_name = "PATH")]
    machine: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long, global = true)]
    json: bool,
    /// Print results only.
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Lists the adapters that frames can be sent through.
    List,
    /// Sends the frames of a capture file, or one frame of hexadecimal text.
    Send(SendArguments),
    /// Prints statistics of an adapter's module.
    Stats {
        /// Adapter: index, GUID, or name.
        adapter: String,
    },
}

#[derive(Args)]
struct SendArguments {
    /// Adapter: index, GUID, or name.
    adapter: String,
    /// pcap or pcapng file; - for standard input.
    #[arg(required_unless_present = "hex", conflicts_with = "hex")]
    file: Option<PathBuf>,
    /// Send this one frame, as hexadecimal text.
    #[arg(long)]
    hex: Option<String>,
    /// Send everything this many times.
    #[arg(long = "loop", default_value_t = 1, value_name = "TIMES")]
    times: u32,
    /// Frames in one request, up to 512.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=512))]
    batch: u32,
    /// Requests under way at a time.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    depth: u32,
    /// If the adapter goes away, wait this many seconds for it to come back.
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    wait: u64,
    /// Show the frames and send none; needs no driver.
    #[arg(long)]
    dry_run: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.verb {
        Verb::List => list(&arguments),
        Verb::Send(options) => send_frames(&arguments, options),
        Verb::Stats { adapter } => stats(&arguments, adapter),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            if arguments.json {
                println!(
                    "{}",
                    json!({ "version": JSON_VERSION, "error": error.to_string(), "exit_code": error.exit_code() })
                );
            }
            eprintln!("sluice: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

#[cfg(windows)]
fn driver(arguments: &Arguments) -> Result<Box<dyn Driver>, Error> {
    if arguments.machine.is_some() {
        return Err(Error::Input(
            "--machine is for Linux; on Windows the driver of this computer is used".to_owned(),
        ));
    }
    Ok(Box::new(sluice_client::windows::Local))
}

#[cfg(unix)]
fn driver(arguments: &Arguments) -> Result<Box<dyn Driver>, Error> {
    match &arguments.machine {
        Some(socket) => Ok(Box::new(sluice_client::machine::Machine { socket: socket.clone() })),
        None => Err(Error::Input(
            "the driver runs on Windows; name a simulated machine with --machine PATH, see: cargo xtask machine run"
                .to_owned(),
        )),
    }
}

fn open(arguments: &Arguments) -> Result<Box<dyn Device>, Error> {
    let device = driver(arguments)?.open()?;
    adapter::version(device.as_ref())?;
    Ok(device)
}

fn list(arguments: &Arguments) -> Result<u8, Error> {
    let adapters = adapter::list(open(arguments)?.as_ref())?;
    if arguments.json {
        println!("{}", json!({ "version": JSON_VERSION, "adapters": adapters }));
        return Ok(0);
    }
    let width = adapters.iter().map(|adapter| adapter.name.len()).max().unwrap_or(0).max(4);
    println!("{:>5}  {:width$}  {:17}  {:>5}  {:10}  GUID", "INDEX", "NAME", "MAC", "MTU", "STATE");
    for adapter in adapters {
        println!(
            "{:>5}  {:width$}  {:17}  {:>5}  {:10}  {}",
            adapter.index, adapter.name, adapter.mac, adapter.mtu, adapter.state, adapter.guid
        );
    }
    Ok(0)
}

fn stats(arguments: &Arguments, wanted: &str) -> Result<u8, Error> {
    let device = open(arguments)?;
    let found = adapter::find(device.as_ref(), wanted)?;
    let statistics = adapter::statistics(device.as_ref(), &found)?;
    let rows = rows(&statistics);
    if arguments.json {
        let mut object = serde_json::Map::new();
        object.insert("version".to_owned(), JSON_VERSION.into());
        object.insert("adapter".to_owned(), json!(found));
        object.extend(rows.into_iter().map(|(name, value)| (name.to_owned(), value)));
        println!("{}", serde_json::Value::from(object));
    } else {
        for (name, value) in rows {
            println!(
                "{:18} {}",
                name.replace('_', " "),
                value.as_str().map_or_else(|| value.to_string(), str::to_owned)
            );
        }
    }
    Ok(0)
}

fn rows(statistics: &Statistics) -> Vec<(&'static str, serde_json::Value)> {
    let memory = match statistics.memory {
        MEMORY_ADAPTER => "common buffer of the adapter",
        MEMORY_HAL => "common buffer of the HAL",
        MEMORY_NONPAGED => "nonpaged memory",
        _ => "none",
    };
    vec![
        ("state", adapter::state_name(statistics.state).into()),
        ("frames_submitted", statistics.frames_submitted.into()),
        ("frames_sent", statistics.frames_sent.into()),
        ("frames_paused", statistics.frames_paused.into()),
        ("frames_failed", statistics.frames_failed.into()),
        ("frames_in_flight", statistics.frames_in_flight.into()),
        ("frames_waiting", statistics.frames_waiting.into()),
        ("bytes_sent", statistics.bytes_sent.into()),
        ("requests", statistics.requests.into()),
        ("pauses", statistics.pauses.into()),
        ("pauses_pending", statistics.pauses_pending.into()),
        ("passed_through", statistics.passed_through.into()),
        ("slots", statistics.slots.into()),
        ("memory", memory.into()),
    ]
}

/// What a person sees while frames go.
struct View<'a> {
    arguments: &'a Arguments,
    adapter: Adapter,
    wait: Duration,
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
    first_failure: Option<Outcome>,
    removals: u32,
}

impl Progress for View<'_> {
    fn frame(&mut self, _frame: &[u8], outcome: Outcome) {
        self.bar.inc(1);
        if outcome != Outcome::Sent {
            self.first_failure.get_or_insert(outcome);
        }
    }

    fn removed(&mut self) -> Result<Box<dyn Device>, Error> {
        self.removals += 1;
        let give_up = Instant::now() + self.wait;
        self.bar.set_message("waiting for the adapter");
        loop {
            let again = open(self.arguments).and_then(|device| {
                let found = adapter::find(device.as_ref(), &self.adapter.guid)?;
                adapter::bind(device.as_ref(), &found)?;
                Ok(device)
            });
            match again {
                Ok(device) => {
                    self.bar.set_message("");
                    return Ok(device);
                }
                Err(error @ (Error::NoAdapter(_) | Error::Removed)) => {
                    if Instant::now() >= give_up || self.stopped() {
                        return Err(if self.wait.is_zero() { Error::Removed } else { error });
                    }
                    // The system has no event for "this filter is attached again" that reaches every client.
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

fn read_frames(options: &SendArguments) -> Result<Vec<Vec<u8>>, Error> {
    let frames = match (&options.hex, &options.file) {
        (Some(hex), _) => vec![frames::from_hex(hex)?],
        (None, Some(file)) => frames::from_file(file)?,
        (None, None) => Vec::new(),
    };
    if frames.is_empty() {
        return Err(Error::Input("there are no frames to send".to_owned()));
    }
    Ok(frames)
}

fn send_frames(arguments: &Arguments, options: &SendArguments) -> Result<u8, Error> {
    let frames = read_frames(options)?;
    if options.dry_run {
        if arguments.json {
            println!("{}", json!({ "version": JSON_VERSION, "frames": frames.len(), "loop": options.times }));
        } else {
            for (number, frame) in frames.iter().enumerate() {
                println!("{:>6}  {}", number + 1, frames::describe(frame));
            }
        }
        return Ok(0);
    }
    let device = open(arguments)?;
    let found = adapter::find(device.as_ref(), &options.adapter)?;
    let longest = found.mtu as usize + 18;
    if let Some(number) = frames.iter().position(|frame| frame.len() < 14 || frame.len() > longest) {
        return Err(Error::Input(format!(
            "frame {} has {} bytes; the adapter takes 14 to {longest}",
            number + 1,
            frames.get(number).map_or(0, Vec::len)
        )));
    }
    adapter::bind(device.as_ref(), &found)?;

    let total = frames.len() as u64 * u64::from(options.times);
    let shown = std::io::stderr().is_terminal() && !arguments.quiet;
    let bar = if shown { ProgressBar::new(total) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} frames, {per_sec} {msg}") {
        bar.set_style(style);
    }
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_interrupt(&stop);
    let mut view = View {
        arguments,
        adapter: found.clone(),
        wait: Duration::from_secs(options.wait),
        bar,
        stop,
        first_failure: None,
        removals: 0,
    };
    let began = Instant::now();
    let sequence = (0..options.times).flat_map(|_| frames.iter().cloned());
    let result = send::run(device, sequence, options.batch as usize, options.depth as usize, &mut view);
    view.bar.finish_and_clear();
    let (totals, error) = match result {
        Ok(totals) => (totals, None),
        Err((totals, error)) => (totals, Some(error)),
    };
    report(arguments, &view, &totals, total, began.elapsed(), error.as_ref());
    match error {
        Some(error) => Err(error),
        None if totals.sent == total => Ok(0),
        None => Ok(PARTLY),
    }
}

fn report(
    arguments: &Arguments,
    view: &View<'_>,
    totals: &Totals,
    total: u64,
    elapsed: Duration,
    error: Option<&Error>,
) {
    let seconds = elapsed.as_secs_f64().max(1e-6);
    let rate = totals.sent as f64 / seconds;
    let megabits = totals.bytes_sent as f64 * 8.0 / seconds / 1e6;
    let unsent = total - totals.submitted;
    if arguments.json {
        // An error is printed as an object of its own by the caller.
        if error.is_none() {
            println!(
                "{}",
                json!({
                    "version": JSON_VERSION, "adapter": view.adapter.guid,
                    "frames_submitted": totals.submitted, "frames_sent": totals.sent,
                    "frames_paused": totals.paused, "frames_failed": totals.failed,
                    "frames_unsent": unsent, "bytes_sent": totals.bytes_sent, "requests": totals.requests,
                    "removals": view.removals, "seconds": seconds,
                })
            );
        }
        return;
    }
    println!(
        "{} of {total} frames sent, {} bytes, {seconds:.3} s, {rate:.0} frames/s, {megabits:.1} Mbit/s",
        totals.sent, totals.bytes_sent
    );
    if totals.paused != 0 {
        println!("{} frames were refused because the adapter was paused", totals.paused);
    }
    if totals.failed != 0 {
        println!("{} frames came back with an error", totals.failed);
    }
    if unsent != 0 {
        println!("{unsent} frames were not handed to the driver");
    }
    if let (Some(Outcome::Failed(status)), false) = (view.first_failure, arguments.quiet) {
        println!("the first error was {status:#010x}");
    }
}

/// Ctrl-C stops handing in frames; what is under way is waited for, and the totals are printed.
fn stop_on_interrupt(stop: &Arc<AtomicBool>) {
    let stop = stop.clone();
    if let Err(error) = ctrlc::set_handler(move || stop.store(true, Ordering::Relaxed)) {
        eprintln!("sluice: Ctrl-C will not print totals: {error}");
    }
}

//! `cargo xtask demo`: a real capture through the shipped driver, with its adapter disabled midway.
#![expect(clippy::indexing_slicing, reason = "a field that JSON lacks reads as null")]
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::build::{self, Flavor};
use crate::{process, toolchain, tools};

/// Frames that the demonstration sends, at least.
const FRAMES: usize = 20_000;
/// Times that the adapter is disabled and enabled.
const PAUSES: usize = 3;
/// Frames that the adapter holds when it is disabled.
const IN_FLIGHT: usize = 64;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// Options of the demonstration.
#[derive(Args)]
pub(crate) struct Options {
    /// Capture to send, pcap or pcapng.
    #[arg(long)]
    pcap: Option<PathBuf>,
    /// Another driver image than the one that is built.
    #[arg(long)]
    driver: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// A machine that is ended, one way or the other.
struct Machine {
    child: Child,
    socket: PathBuf,
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It has ended by itself unless something went wrong.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Machine {
    fn start(folder: &Path, driver: &Path) -> Result<Self> {
        // A socket's name has to be short, which a path below the workspace need not be.
        let socket = std::env::temp_dir().join(format!("sluice-demo-{}.sock", std::process::id()));
        let child = Command::new(tools::path("sluice-machine"))
            .args(["run", "--adapters=2", "--completes=late"])
            .arg("--driver")
            .arg(driver)
            .arg("--socket")
            .arg(&socket)
            .arg("--captures")
            .arg(folder)
            .stdout(File::create(folder.join("machine.json"))?)
            .stderr(File::create(folder.join("machine.txt"))?)
            .spawn()
            .context("cannot start the machine")?;
        let mut machine = Self { child, socket };
        let began = Instant::now();
        while machine.operate(&["status"]).is_err() {
            ensure!(
                machine.child.try_wait()?.is_none(),
                "the machine did not start; see {}/machine.txt",
                folder.display()
            );
            ensure!(began.elapsed() < PATIENCE, "the machine does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(machine)
    }

    fn operate(&self, verb: &[&str]) -> Result<Value> {
        let mut command = Command::new(tools::path("sluice-machine"));
        command.args(verb).arg("--socket").arg(&self.socket);
        Ok(serde_json::from_str(&process::output(&mut command)?)?)
    }

    /// Waits until adapter 0 is in a state.
    fn wait_for(&self, state: &str, client: &mut Child) -> Result<bool> {
        let began = Instant::now();
        loop {
            let status = self.operate(&["status"])?;
            let adapter = &status["adapters"][0];
            if adapter["state"] == state && adapter["settled"] == true {
                return Ok(true);
            }
            if client.try_wait()?.is_some() && state == "disabled" {
                return Ok(false);
            }
            ensure!(began.elapsed() < PATIENCE, "the adapter does not become {state}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Unloads the driver, ends the machine and returns its last word.
    fn shut_down(mut self, folder: &Path) -> Result<Value> {
        if self.child.try_wait()?.is_none() {
            self.operate(&["shutdown"])?;
        }
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(began.elapsed() < PATIENCE, "the machine does not end: a handle or a frame is held");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(serde_json::from_str(&std::fs::read_to_string(folder.join("machine.json"))?)?)
    }
}

/// Runs the demonstration.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let capture = options.pcap.clone().unwrap_or_else(|| process::root().join("tests/captures/mixed.pcap"));
    let frames = sluice_client::capture::frames(&capture)?;
    ensure!(!frames.is_empty(), "{} holds no frames", capture.display());
    let times = FRAMES.div_ceil(frames.len());
    toolchain::complete()?;
    let narrate = |text: &str| {
        if !options.json {
            eprintln!("{text}");
        }
    };
    narrate("building sluice.sys, the machine and the client …");
    let driver = options.driver.clone().map_or_else(|| build::driver(Flavor::Release), Ok)?;
    tools::build()?;

    let folder = process::root().join("target/demo");
    std::fs::create_dir_all(&folder)?;

    narrate(&format!("starting a machine with two adapters and {}", driver.display()));
    let mut machine = Machine::start(&folder, &driver)?;
    narrate(&format!(
        "sending {} {times} times with the client: {} frames",
        capture.display(),
        frames.len() * times
    ));
    let mut client = Command::new(tools::path("sluice"))
        .arg("--machine")
        .arg(&machine.socket)
        .args(["--json", "send", "Simulated Ethernet Adapter 0"])
        .arg(&capture)
        .arg(format!("--loop={times}"))
        .arg("--wait=60")
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the client")?;
    let disabled = (1..=PAUSES).try_for_each(|number| -> Result<()> {
        machine.operate(&["disable", "0", &format!("--in-flight={IN_FLIGHT}")])?;
        if !machine.wait_for("disabled", &mut client)? {
            bail!("the client was done before the adapter could be disabled for the {number}. time");
        }
        narrate(&format!(
            "adapter 0 disabled with frames in flight ({number} of {PAUSES}), and enabled again"
        ));
        machine.operate(&["enable", "0"])?;
        machine.wait_for("running", &mut client)?;
        Ok(())
    });
    let output = client.wait_with_output()?;
    if let (Err(error), None) = (disabled, machine.child.try_wait()?) {
        return Err(error);
    }
    let said: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("the client ended with {} and no answer", output.status))?;
    let last = machine.shut_down(&folder)?;
    if last["bugcheck"].is_null() {
        ensure!(said["error"].is_null(), "the client failed: {}", said["error"]);
    } else {
        eprintln!("{}", std::fs::read_to_string(folder.join("machine.txt"))?);
    }
    let result = summary(&frames, times, &said, &last, &driver, &folder)?;
    if options.json {
        println!("{result:#}");
    } else {
        print(&result);
    }
    let good = result["violations"] == 0 && result["frames_lost"] == 0 && result["frames_foreign"] == 0;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Puts together what the client was told, what the machine saw, and what is in the capture of the wire.
fn summary(
    frames: &[Vec<u8>],
    times: usize,
    said: &Value,
    last: &Value,
    driver: &Path,
    folder: &Path,
) -> Result<Value> {
    let bugcheck = last.get("bugcheck").filter(|bugcheck| !bugcheck.is_null()).cloned();
    // A client whose machine stopped under it says why, and no numbers.
    let unknown = bugcheck.is_some().then_some(0);
    let number = |name: &str| {
        said[name].as_u64().or(unknown).with_context(|| format!("the client did not say {name}"))
    };
    let (submitted, sent) = (number("frames_submitted")?, number("frames_sent")?);
    let (paused, failed) = (number("frames_paused")?, number("frames_failed")?);
    let wire = folder.join("adapter0.pcapng");
    let mut expected: BTreeMap<&[u8], i64> = BTreeMap::new();
    for frame in frames {
        *expected.entry(frame).or_default() += times as i64;
    }
    let on_wire = sluice_client::capture::frames(&wire)?;
    let mut foreign = 0;
    for frame in &on_wire {
        match expected.get_mut(frame.as_slice()) {
            Some(left) if *left > 0 => *left -= 1,
            _ => foreign += 1,
        }
    }
    // Lost is what has no outcome, and what the client believes sent but the wire never saw.
    let unanswered = submitted as i64 - (sent + paused + failed) as i64;
    let lost = unanswered.abs() + (sent as i64 - on_wire.len() as i64).abs();
    let waited: Vec<&Value> = last["adapters"][0]["pauses"]
        .as_array()
        .map(|pauses| pauses.iter().filter(|pause| pause["in_flight"] != 0).collect())
        .unwrap_or_default();
    let latency = |pick: fn(u64, u64) -> u64| {
        waited.iter().filter_map(|pause| pause["microseconds"].as_u64()).reduce(pick).unwrap_or(0)
    };
    Ok(json!({
        "frames_submitted": submitted,
        "frames_sent": sent,
        "frames_paused": paused,
        "frames_resent": said["frames_resent"].as_u64().unwrap_or(0),
        "frames_failed": failed,
        "frames_lost": lost,
        "frames_foreign": foreign,
        "frames_on_wire": on_wire.len(),
        "pauses": last["adapters"][0]["pauses"].as_array().map_or(0, Vec::len),
        "pauses_in_flight": waited.len(),
        "pause_latency_us": { "least": latency(u64::min), "most": latency(u64::max) },
        "rules_checked": last["checks"],
        "violations": i32::from(bugcheck.is_some()),
        "bugcheck": bugcheck,
        "seconds": said["seconds"],
        "capture": wire,
        "driver_image": driver,
    }))
}

fn print(result: &Value) {
    let rows = [
        ("frames submitted", "frames_submitted"),
        ("sent", "frames_sent"),
        ("refused while paused", "frames_paused"),
        ("refused and sent again", "frames_resent"),
        ("failed", "frames_failed"),
        ("lost", "frames_lost"),
        ("on the wire", "frames_on_wire"),
        ("not among those sent", "frames_foreign"),
        ("pauses", "pauses"),
        ("with frames in flight", "pauses_in_flight"),
        ("rules checked", "rules_checked"),
        ("violations", "violations"),
    ];
    println!();
    for (label, field) in rows {
        println!("{label:>24}  {}", result[field]);
    }
    let latency = &result["pause_latency_us"];
    println!("{:>24}  {} to {} µs of simulated time", "pause latency", latency["least"], latency["most"]);
    println!("{:>24}  {}", "capture of the wire", result["capture"].as_str().unwrap_or_default());
    println!("{:>24}  {}", "driver image", result["driver_image"].as_str().unwrap_or_default());
}

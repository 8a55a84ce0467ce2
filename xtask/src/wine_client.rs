//! The package's client under Wine, against a driver that stands in for `sluice.sys`.
#![expect(clippy::indexing_slicing, reason = "a field that JSON lacks reads as null")]
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::build::Arch;
use crate::{debian, package, process};

/// How long the client may take to see that an adapter comes back without taking a frame.
const BOUND: Duration = Duration::from_secs(30);

/// Requests that end with a status: the status, the client's exit code, and what it says.
const STATUSES: [(u32, i32, &str); 6] = [
    (0xC000_0022, 4, "denied"),
    (0xC000_0059, 7, "versions are incompatible"),
    (0xC000_0206, 8, "longer than the adapter takes"),
    (0xC000_009A, 1, "0xc000009a"),
    (0xC000_0184, 1, "0xc0000184"),
    // A status that shares its Win32 error with others is told by that error, and no status is made up.
    (0xC000_0001, 1, "os error 31"),
];

/// Wine with the client's service started; stopped when dropped.
struct Wine {
    place: PathBuf,
}

impl Wine {
    fn start() -> Result<Self> {
        debian::for_wine()?;
        let place = process::root().join("target/wine-client");
        fs::create_dir_all(place.join("prefix"))?;
        let gcc = || {
            let mut gcc = process::command("x86_64-w64-mingw32-gcc");
            gcc.args(["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-nostdlib", "-o"]);
            gcc
        };
        let mut driver = gcc();
        driver.arg(place.join("driver.sys")).args(["-isystem", "/usr/share/mingw-w64/include/ddk"]);
        driver.args(["-Wl,--subsystem,native", "-Wl,-e,DriverEntry", "tests/client/driver.c", "-lntoskrnl"]);
        process::run(&mut driver)?;
        let mut random = gcc();
        random.arg(place.join("bcryptprimitives.dll")).args(["-Wl,-e,DllMain", "tests/client/random.c"]);
        process::run(&mut random)?;
        fs::copy(package::folder(Arch::X64).join("sluice.exe"), place.join("sluice.exe"))
            .context("the package has no client; make it with: cargo xtask package")?;
        let wine = Self { place };
        let image = format!("Z:{}", wine.place.join("driver.sys").display()).replace('/', "\\");
        // The server stays while this runs, and the driver with it; the prefix may have the service from an earlier run.
        let mut server = Command::new(debian::WINE_SERVER);
        server.arg("-p60").env("WINEPREFIX", wine.place.join("prefix")).stdout(Stdio::null()).status()?;
        wine.run(&["sc", "create", "sluice", "type=", "kernel", "binPath=", &image])?;
        // A prefix that is new takes a while until its services can be started.
        let began = Instant::now();
        loop {
            wine.run(&["net", "start", "sluice"])?;
            if wine.client(&["list"]).output()?.status.success() {
                return Ok(wine);
            }
            ensure!(began.elapsed() < BOUND, "the driver does not start; see {}", wine.log().display());
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    fn log(&self) -> PathBuf {
        self.place.join("services.txt")
    }

    /// Runs a program that may start services. These would keep a pipe open, so what it prints goes to a file.
    fn run(&self, arguments: &[&str]) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log())?;
        self.program(arguments).stdout(log.try_clone()?).stderr(log).status()?;
        Ok(())
    }

    fn program(&self, arguments: &[&str]) -> Command {
        let mut wine = Command::new(debian::WINE);
        wine.args(arguments).current_dir(&self.place).stdin(Stdio::null());
        wine.env("WINEPREFIX", self.place.join("prefix")).env("WINEDEBUG", "-all");
        wine.env("WINEDLLOVERRIDES", "mscoree,mshtml=");
        wine
    }

    fn client(&self, arguments: &[&str]) -> Command {
        self.program(&[&["sluice.exe"], arguments].concat())
    }
}

impl Drop for Wine {
    fn drop(&mut self) {
        // Nothing is left to be told when this fails: the server ends by itself when it is idle.
        let _ = self.run(&["net", "stop", "sluice"]);
    }
}

fn object(output: &Output) -> Result<Value> {
    let said = || format!("{} {}", text(&output.stdout), text(&output.stderr));
    serde_json::from_slice(&output.stdout).with_context(said)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Fails unless the package's client does on Wine what it does on Linux.
pub(crate) fn runs() -> Result<()> {
    let wine = Wine::start()?;
    let listed = object(&wine.client(&["--json", "list"]).output()?)?;
    ensure!(listed["adapters"][0]["name"] == "Adapter ü中", "{listed}");
    sends(&wine)?;
    for (status, code, words) in STATUSES {
        let bytes = status.to_le_bytes().map(|byte| format!("{byte:02x}")).concat();
        let output =
            wine.client(&["send", "7", "--hex", &format!("aa55{bytes}{}", "00".repeat(20))]).output()?;
        let said = text(&output.stderr);
        ensure!(
            output.status.code() == Some(code) && said.contains(words),
            "{status:#x}: {:?} {said}",
            output.status
        );
    }
    removals_end(&wine)?;
    outputs_end(&wine)?;
    println!(
        "sluice.exe under Wine: lists, sends, {} statuses, removals, closed and full outputs",
        STATUSES.len()
    );
    Ok(())
}

/// What the driver refuses because it is paused is sent again, until all has been sent.
fn sends(wine: &Wine) -> Result<()> {
    let capture = process::root().join("tests/captures/mixed.pcap");
    let capture = format!("Z:{}", capture.display()).replace('/', "\\");
    let said = object(&wine.client(&["--json", "send", "Adapter", &capture, "--wait", "30"]).output()?)?;
    ensure!(said["frames_sent"] == 300 && said["exit_code"] == 0, "{said}");
    ensure!(said["frames_resent"].as_u64() > Some(100), "{said}");
    let mut client = wine.client(&["--json", "send", "7", "-", "--wait", "30"]);
    let piped = client.stdin(File::open(process::root().join("tests/captures/mixed.pcap"))?).output()?;
    let said = object(&piped)?;
    ensure!(said["frames_sent"] == 300 && said["exit_code"] == 0, "{said}");
    Ok(())
}

/// An adapter that binds and whose handles are stale at once ends the run.
fn removals_end(wine: &Wine) -> Result<()> {
    let began = Instant::now();
    for wait in ["0", "2"] {
        let frame = format!("aa55b60200c0{}", "00".repeat(20));
        let output = wine.client(&["send", "7", "--hex", &frame, "--wait", wait]).output()?;
        ensure!(
            output.status.code() == Some(5),
            "--wait {wait}: {:?} {}",
            output.status,
            text(&output.stderr)
        );
    }
    ensure!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    Ok(())
}

/// A reader that has gone is no error; a full disk is one.
fn outputs_end(wine: &Wine) -> Result<()> {
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let closed = wine.client(&["list"]).stdout(writer).stderr(Stdio::piped()).output()?;
    ensure!(
        closed.status.code() == Some(0) && closed.stderr.is_empty(),
        "{:?} {}",
        closed.status,
        text(&closed.stderr)
    );
    let full = File::options().write(true).open(Path::new("/dev/full"))?;
    let full = wine.client(&["list"]).stdout(full).stderr(Stdio::piped()).output()?;
    let said = text(&full.stderr);
    ensure!(
        full.status.code() == Some(1) && said.starts_with("sluice: standard output: "),
        "{:?} {said}",
        full.status
    );
    Ok(())
}

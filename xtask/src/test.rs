//! `cargo xtask test`: everything.
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::Result;

use crate::{build, debian, outside, package, process, toolchain, tools, wine, wine_client};

/// Schedules of the exploration that is part of the tests.
const SCHEDULES: &str = "2000";
/// Schedules of each bug class.
const BUG_CLASS_SCHEDULES: &str = "300";

/// Packages that are built and tested on this host: the workspace's default members, and what runs on Linux only.
const HOST: [&str; 8] = [
    "--package=ndis-sys",
    "--package=sluice-abi",
    "--package=sluice-client",
    "--package=sluice-compile-fail",
    "--package=sluice-core",
    "--package=sluice-machine",
    "--package=sluice-suite",
    "--package=xtask",
];

type Step = fn() -> Result<()>;

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only the steps with this in their names, as they stand after `==`.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

/// Runs every check and test, and says how long each took.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    toolchain::complete()?;
    let steps: [(&str, Step); 16] = [
        ("rustfmt", rustfmt),
        ("driver images", || build::run(build::Arch::X64, true)),
        ("packages for x64 and ARM64", packages),
        ("the INF under Wine", wine::reads_the_same),
        ("the client under Wine", wine_client::runs),
        ("workflows", outside::workflows),
        ("cargo make", outside::makefile),
        ("clippy on the host", clippy),
        ("clippy on the driver", clippy_driver),
        ("layouts on ARM64", arm64),
        ("rustdoc", rustdoc),
        ("clippy on what builds on Windows", on_windows),
        ("tests", tests),
        ("Miri", miri),
        ("exploration", explore),
        ("one token, one trace", same_trace),
    ];
    let began = Instant::now();
    let mut times = Vec::new();
    let asked = |name: &str| options.only.as_ref().is_none_or(|text| name.contains(text.as_str()));
    for (name, step) in steps.into_iter().filter(|(name, _)| asked(name)) {
        eprintln!("== {name}");
        let start = Instant::now();
        step()?;
        times.push(format!("{name} {:.0} s", start.elapsed().as_secs_f64()));
    }
    if let Some(text) = &options.only {
        anyhow::ensure!(!times.is_empty(), "no step has {text} in its name");
        println!("passed: {}", times.join(", "));
        return Ok(ExitCode::SUCCESS);
    }
    println!("everything passed in {:.0} s: {}", began.elapsed().as_secs_f64(), times.join(", "));
    Ok(ExitCode::SUCCESS)
}

/// The packages, each checked by other tools; and the same built again gives the same, signatures apart.
fn packages() -> Result<()> {
    let architectures = [build::Arch::X64, build::Arch::Arm64];
    let make = || -> Result<Vec<_>> {
        let make = |arch: &build::Arch| {
            println!("{}", package::make(*arch, None)?.display());
            package::unsigned_content(*arch)
        };
        architectures.iter().map(make).collect()
    };
    let first = make()?;
    package::forget(&architectures)?;
    for (first, second) in first.iter().zip(make()?) {
        let names: BTreeSet<&String> = first.keys().chain(second.keys()).collect();
        let differ: Vec<_> = names.into_iter().filter(|name| first.get(*name) != second.get(*name)).collect();
        anyhow::ensure!(differ.is_empty(), "made again, these differ: {differ:?}");
    }
    Ok(())
}

fn rustfmt() -> Result<()> {
    process::run(process::cargo().args(["fmt", "--all", "--check"]))
}

fn deny_warnings(command: &mut Command) -> &mut Command {
    command.env("RUSTDOCFLAGS", "-D warnings")
}

/// In the profile of the tests, which share what it builds.
fn clippy() -> Result<()> {
    let clippy = ["clippy", "--locked", "--profile=tools", "--all-targets", "--quiet"];
    process::run(process::cargo().args(clippy).args(HOST).args(["--", "-D", "warnings"]))
}

fn clippy_driver() -> Result<()> {
    let mut clippy = build::driver_cargo("clippy", "sluice")?;
    for package in [
        "sluice-kernel",
        "sluice-ndis",
        "sluice-lab-wrong",
        "sluice-lab-primitives",
        "sluice-lab-cost",
        "sluice-lab-crashes",
    ] {
        clippy.args(["--package", package]);
    }
    // What only the compilation needs is there in release builds.
    process::run(clippy.args(["--release", "--examples", "--lib", "--quiet", "--", "-D", "warnings"]))
}

/// Offsets and sizes are asserted when the crates are compiled.
fn arm64() -> Result<()> {
    let target = "--target=aarch64-pc-windows-msvc";
    let packages = ["--package=ndis-sys", "--package=sluice-abi", "--package=sluice-core"];
    process::run(process::cargo().args(["check", "--locked", "--quiet", target]).args(packages))
}

fn rustdoc() -> Result<()> {
    let doc = ["doc", "--locked", "--profile=tools", "--no-deps", "--quiet"];
    process::run(deny_warnings(process::cargo().args(doc).args(HOST)))?;
    let mut doc = build::driver_cargo("doc", "sluice")?;
    doc.args(["--package", "sluice-kernel", "--package", "sluice-ndis", "--no-deps", "--release", "--quiet"]);
    process::run(deny_warnings(&mut doc))
}

/// Lints of the default members for Windows, where plain `cargo build` makes them; the package has the client's build.
fn on_windows() -> Result<()> {
    debian::for_windows_client()?;
    let clippy = ["clippy", "--locked", "--quiet", "--target", package::CLIENT_TARGET];
    process::run(process::cargo().args(clippy).args(["--", "-D", "warnings"]))
}

fn tests() -> Result<()> {
    // Host tools first: tests of the command line run the program.
    tools::build()?;
    debian::for_captures()?;
    process::run(process::cargo().args(["test", "--locked", "--profile=tools"]).args(HOST))
}

/// The rules under Miri, which the driver shares with its tests.
fn miri() -> Result<()> {
    let nightly = std::env::var("SLUICE_NIGHTLY").unwrap_or_else(|_| "nightly".to_owned());
    let has = process::output(process::command("rustup").args([
        "component",
        "list",
        "--installed",
        "--toolchain",
        &nightly,
    ]));
    if !has.is_ok_and(|list| list.contains("miri") && list.contains("rust-src")) {
        let mut add = process::command("rustup");
        add.args(["component", "add", "miri", "rust-src", "--toolchain", &nightly]).stdout(std::io::stderr());
        process::run(&mut add)?;
    }
    process::run(cargo_miri(&nightly).args(["setup", "--quiet"]))?;
    let mut miri = cargo_miri(&nightly);
    miri.args(["test", "--quiet", "--locked", "--package=sluice-core"]);
    miri.args(["--test", "rules", "--target-dir"]).arg(process::root().join("target/miri"));
    process::run(&mut miri)
}

/// Miri with a standard library of its own below `target`. In the user's cache, where it goes by default, another Miri
/// that makes its own at the same time leaves this one without `core`.
fn cargo_miri(nightly: &str) -> Command {
    let mut miri = process::cargo_of(nightly);
    miri.arg("miri").env("MIRI_SYSROOT", process::root().join("target/miri/sysroot"));
    miri
}

fn explore() -> Result<()> {
    for (flavor, scenario, schedules) in [
        (build::Flavor::Release, "all", BUG_CLASS_SCHEDULES),
        (build::Flavor::Release, "lifecycle", SCHEDULES),
        (build::Flavor::Checked, "lifecycle", SCHEDULES),
    ] {
        let mut explore = Command::new(tools::path("explore"));
        explore.args(["--scenario", scenario, "--schedules", schedules, "--driver"]).arg(flavor.image());
        process::run(&mut explore)?;
    }
    Ok(())
}

/// One token gives one trace, byte for byte, from a build of the machine with optimisation and from one without.
fn same_trace() -> Result<()> {
    process::run(process::cargo().args(["build", "--locked", "--quiet", "--package=sluice-suite"]))?;
    let image = build::Flavor::Release.image();
    let trace = |program: PathBuf| {
        let mut replay = Command::new(program);
        replay.args(["--replay", "lifecycle/0x2a", "--trace", "--driver"]).arg(&image);
        process::output(&mut replay)
    };
    let (fast, slow) = (trace(tools::path("explore"))?, trace(process::root().join("target/debug/explore"))?);
    anyhow::ensure!(fast == slow, "a debug build of the machine gives another trace");
    println!("{} lines of trace, the same from both builds of the machine", fast.lines().count());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn miri_shares_its_standard_library_with_no_other_work() {
        let miri = cargo_miri("nightly");
        let sysroot = miri.get_envs().find(|(name, _)| *name == "MIRI_SYSROOT").and_then(|(_, value)| value);
        assert!(
            sysroot
                .is_some_and(|path| std::path::Path::new(path).starts_with(process::root().join("target")))
        );
    }
}

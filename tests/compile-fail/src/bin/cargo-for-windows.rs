//! Cargo, but for the driver's target: what trybuild runs. It passes `--target` and the host's name; a WDK, or what
//! stands in for it, is only there for Windows. It works in the folder and the profile of the driver's builds, where
//! what only the compilation needs is there already.
use std::process::{Command, ExitCode};

const TARGET: &str = "x86_64-pc-windows-msvc";

/// The release profile of this workspace, which trybuild's project does not have; with another one cargo would build
/// everything again.
const RELEASE: [&str; 5] = [
    "--release",
    "--config=profile.release.panic='abort'",
    "--config=profile.release.lto=true",
    "--config=profile.release.codegen-units=1",
    "--config=profile.release.debug=true",
];

fn main() -> ExitCode {
    let cargo = std::env::var_os("SLUICE_REAL_CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    if let Some(folder) = std::env::var_os("SLUICE_DRIVER_TARGET") {
        command.env("CARGO_TARGET_DIR", folder);
    }
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--target" {
            arguments.next();
            command.args(["--target", TARGET]);
            if let Some(config) = std::env::var_os("SLUICE_WDK_CONFIG") {
                command.arg("--config").arg(config);
            }
        } else {
            let has_profile = ["build", "check", "clean"].contains(&argument.as_str());
            command.arg(argument);
            if has_profile {
                command.args(RELEASE);
            }
        }
    }
    match command.status() {
        Ok(status) => ExitCode::from(status.code().map_or(1, |code| code as u8)),
        Err(error) => {
            eprintln!("cannot run cargo: {error}");
            ExitCode::FAILURE
        }
    }
}

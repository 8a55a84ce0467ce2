//! Cargo, but for the driver's target: what trybuild runs. It passes `--target` and the host's name; a WDK, or what
//! stands in for it, is only there for Windows.
use std::process::{Command, ExitCode};

const TARGET: &str = "x86_64-pc-windows-msvc";

fn main() -> ExitCode {
    let cargo = std::env::var_os("SLUICE_REAL_CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--target" {
            arguments.next();
            command.args(["--target", TARGET]);
            if let Some(config) = std::env::var_os("SLUICE_WDK_CONFIG") {
                command.arg("--config").arg(config);
            }
        } else {
            command.arg(argument);
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

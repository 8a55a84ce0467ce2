//! The host programs: the machine, the client and the explorer.
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::process;

/// Builds the host programs, with optimisation: schedules are explored by the thousand.
pub(crate) fn build() -> Result<()> {
    process::run(process::cargo().args([
        "build",
        "--quiet",
        "--locked",
        "--profile=tools",
        "--package=sluice-machine",
        "--package=sluice-client",
        "--package=sluice-suite",
    ]))
}

/// One of the programs that [`build`] made.
pub(crate) fn path(name: &str) -> PathBuf {
    process::root().join("target/tools").join(name)
}

/// Runs one of the programs with arguments, and ends as it ends.
pub(crate) fn become_program(name: &str, arguments: &[std::ffi::OsString]) -> Result<std::process::ExitCode> {
    let status = Command::new(path(name)).args(arguments).status()?;
    Ok(status.code().map_or(std::process::ExitCode::FAILURE, |code| std::process::ExitCode::from(code as u8)))
}

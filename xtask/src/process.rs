//! Running other programs.
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_path_buf()
}

/// A command that runs in the workspace's folder.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// What is not the inner build's. The outer `cargo run` sets the first three for the crate of this program; the others
/// may be set for all builds of a user, and would replace the flags of `.cargo/config.toml` and of the driver.
const NOT_INHERITED: [&str; 7] = [
    "CARGO_MANIFEST_DIR",
    "CARGO_PKG_NAME",
    "CARGO_PKG_VERSION",
    "CARGO_BUILD_TARGET",
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
];

/// The cargo that runs this.
pub(crate) fn cargo() -> Command {
    for_this_workspace(command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())))
}

/// The cargo of another toolchain.
pub(crate) fn cargo_of(toolchain: &str) -> Command {
    let mut cargo = command("rustup");
    cargo.args(["run", toolchain, "cargo"]).env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
    for_this_workspace(cargo)
}

/// What it builds is looked for in the workspace's `target`.
fn for_this_workspace(mut cargo: Command) -> Command {
    for name in NOT_INHERITED {
        cargo.env_remove(name);
    }
    cargo.env("CARGO_TARGET_DIR", root().join("target"));
    cargo
}

/// A place for a file that a test makes and removes again; no other test and no other work has it.
#[cfg(test)]
pub(crate) fn scratch(name: &str) -> PathBuf {
    static TAKEN: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = TAKEN.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let folder = root().join("target/tmp").join(format!("{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("target can be written to");
    folder.join(name)
}

/// Runs to the end and fails unless the program succeeds.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    if status.success() { Ok(()) } else { bail!("{command:?} ended with {status}") }
}

/// Runs to the end and returns what the program printed on standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} ended with {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Whether this process may install packages.
#[cfg(unix)]
pub(crate) fn is_root() -> bool {
    // The effective user of this process owns its own entry under /proc.
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|entry| entry.uid() == 0)
}

/// Whether this process may install packages.
#[cfg(not(unix))]
pub(crate) fn is_root() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_sets_for_all_builds_moves_or_changes_none_of_ours() {
        for cargo in [cargo(), cargo_of("nightly")] {
            let set = |name: &str| cargo.get_envs().find(|(key, _)| *key == name).map(|(_, value)| value);
            assert_eq!(set("RUSTFLAGS"), Some(None), "it would be inherited");
            assert_eq!(set("CARGO_TARGET_DIR"), Some(Some(root().join("target").as_os_str())));
        }
    }
}

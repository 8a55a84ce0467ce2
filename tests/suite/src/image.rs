//! The images that the scenarios run.
use std::path::{Path, PathBuf};

/// A build of the driver, made by xtask before the tests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// What ships.
    Release,
    /// With assertions.
    Checked,
    /// With the gate bypassed.
    GateBypass,
}

/// Where a build's image is.
pub fn path(build: Build) -> PathBuf {
    let folder = match build {
        Build::Release => "sluice",
        Build::Checked => "sluice-checked",
        Build::GateBypass => "sluice-gate-bypass",
    };
    built(&format!("{folder}/sluice.sys"))
}

/// Where a driver of the crash lab is.
pub fn lab(name: &str) -> PathBuf {
    built(&format!("lab/{name}.sys"))
}

/// What lies at a place below `target/`. A missing one is a failure with a hint.
pub fn built(place: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target").join(place);
    assert!(path.exists(), "{} is not there; build it with: cargo xtask build --all", path.display());
    path
}

//! `cargo xtask build`: the driver, and the images that only the tests use.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{debian, image, inf, inf_lint, linux_wdk, process};

/// A processor that the driver is built for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Arch {
    /// AMD64.
    #[default]
    X64,
    /// ARM64.
    Arm64,
}

impl Arch {
    /// The target, as rustc names it.
    pub(crate) fn target(self) -> &'static str {
        match self {
            Self::X64 => "x86_64-pc-windows-msvc",
            Self::Arm64 => "aarch64-pc-windows-msvc",
        }
    }

    /// The architecture, as an INF names it.
    pub(crate) fn inf(self) -> &'static str {
        match self {
            Self::X64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}

/// A build of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavor {
    /// What ships.
    Release,
    /// With debug assertions: IRQL assertions, canaries behind slots, the gate's own checks.
    Checked,
    /// With the gate bypassed: the wrong driver of the tests' negative control.
    GateBypass,
}

impl Flavor {
    /// Where the images of this build lie, below `target/`.
    fn folder(self) -> &'static str {
        match self {
            Self::Release => "sluice",
            Self::Checked => "sluice-checked",
            Self::GateBypass => "sluice-gate-bypass",
        }
    }

    /// The image of this build for x64.
    pub(crate) fn image(self) -> PathBuf {
        self.image_for(Arch::X64)
    }

    fn image_for(self, arch: Arch) -> PathBuf {
        folder(self, arch).join("sluice.sys")
    }

    /// Cargo's options for this build. All have one profile, so that they share what only the compilation needs.
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Release => &["--release"],
            Self::Checked => &[
                "--release",
                "--config=profile.release.debug-assertions=true",
                "--config=profile.release.overflow-checks=true",
                "--config=profile.release.build-override.debug-assertions=false",
                "--config=profile.release.build-override.overflow-checks=false",
            ],
            Self::GateBypass => &["--release", "--features=gate-bypass"],
        }
    }
}

/// Where a build lies.
pub(crate) fn folder(flavor: Flavor, arch: Arch) -> PathBuf {
    let name = match arch {
        Arch::X64 => flavor.folder().to_owned(),
        Arch::Arm64 => format!("{}-arm64", flavor.folder()),
    };
    process::root().join("target").join(name)
}

/// Where cargo leaves the driver's images, those of the flavor that was built last.
fn built(arch: Arch) -> PathBuf {
    process::root().join("target/driver").join(arch.target()).join("release")
}

/// Builds what ships, and with `all` what only the tests use, which run on x64.
pub(crate) fn run(arch: Arch, all: bool) -> Result<()> {
    if arch != Arch::X64 {
        println!("{}", driver_for(Flavor::Release, arch)?.display());
        return Ok(());
    }
    let flavors: &[Flavor] =
        if all { &[Flavor::Release, Flavor::Checked, Flavor::GateBypass] } else { &[Flavor::Release] };
    for flavor in flavors {
        println!("{}", driver(*flavor)?.display());
    }
    if all {
        for name in ["wrong", "primitives", "cost"] {
            println!("{}", lab_driver(name, Flavor::Release)?.display());
        }
        println!("{}", lab_driver("primitives", Flavor::Checked)?.display());
        println!("{}", crash_lab(Flavor::Release)?.display());
        println!("{}", crash_lab(Flavor::Checked)?.display());
        c_drivers()?.iter().for_each(|image| println!("{}", image.display()));
    }
    Ok(())
}

/// Builds a driver of the tests, `tests/lab/NAME`. Its image is not checked: it may be wrong on purpose.
fn lab_driver(name: &str, flavor: Flavor) -> Result<PathBuf> {
    process::run(driver_cargo("build", &format!("sluice-lab-{name}"))?.args(flavor.options()))?;
    let built = built(Arch::X64);
    let folder = process::root().join("target/lab");
    fs::create_dir_all(&folder)?;
    let image = match flavor {
        Flavor::Checked => folder.join(format!("{name}-checked.sys")),
        _ => folder.join(format!("{name}.sys")),
    };
    copy(&built.join(format!("sluice_lab_{name}.dll")), &image)?;
    copy(&built.join(format!("sluice_lab_{name}.pdb")), &image.with_extension("pdb"))?;
    Ok(image)
}

/// Builds the drivers of the crash lab, each an example of its package; returns their folder.
pub(crate) fn crash_lab(flavor: Flavor) -> Result<PathBuf> {
    process::run(driver_cargo("build", "sluice-lab-crashes")?.arg("--examples").args(flavor.options()))?;
    let built = built(Arch::X64).join("examples");
    let name = if flavor == Flavor::Checked { "crashes-checked" } else { "crashes" };
    let folder = process::root().join("target/lab").join(name);
    fs::create_dir_all(&folder)?;
    for source in fs::read_dir(process::root().join("tests/lab/crashes/examples"))? {
        let source = source?.path();
        if source.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let stem = source.file_stem().context("a file without a name")?.to_owned();
        let image = built.join(&stem);
        copy(&image.with_extension("dll"), &folder.join(&stem).with_extension("sys"))?;
        copy(&image.with_extension("pdb"), &folder.join(&stem).with_extension("pdb"))?;
    }
    Ok(folder)
}

/// Drivers in C of the tests, and how many faults each can be built with.
const C_DRIVERS: [(&str, u32); 3] = [("pass", 4), ("originate", 4), ("toy", 0)];

/// Builds the tests' drivers in C: each as it is, and once with each fault.
fn c_drivers() -> Result<Vec<PathBuf>> {
    debian::for_c_drivers()?;
    let source = process::root().join("tests/lab/c");
    let folder = process::root().join("target/lab");
    let tools = linux_wdk::tools()?;
    let mut images = Vec::new();
    for (name, faults) in C_DRIVERS {
        for fault in 0..=faults {
            let place = match fault {
                0 => folder.join(format!("c-{name}")),
                fault => folder.join(format!("c-{name}-{fault}")),
            };
            let (object, image) = (place.with_extension("obj"), place.with_extension("sys"));
            let mut clang = process::command(debian::CLANG);
            clang.args([
                "--target=x86_64-pc-windows-msvc",
                "-c",
                "-O2",
                "-g",
                "-gcodeview",
                "-ffreestanding",
            ]);
            clang.args([
                "-fms-extensions",
                "-mno-stack-arg-probe",
                "-Wall",
                "-Werror",
                "-Wno-microsoft-anon-tag",
            ]);
            clang.arg(format!("-DFAULT={fault}")).arg("-o").arg(&object);
            process::run(clang.arg(source.join(name).with_extension("c")))?;
            let mut link = process::command(tools.join("rust-lld"));
            link.args(["-flavor", "link", "/nologo", "/driver", "/subsystem:native", "/entry:DriverEntry"]);
            link.args(["/nodefaultlib", "/debug", "/release"]).arg(format!("/out:{}", image.display()));
            for library in ["ntoskrnl", "hal", "ndis"] {
                link.arg(linux_wdk::library(library));
            }
            process::run(link.arg(&object))?;
            images.push(image);
        }
    }
    Ok(images)
}

/// Builds one image for x64 and checks it; returns where it is.
pub(crate) fn driver(flavor: Flavor) -> Result<PathBuf> {
    driver_for(flavor, Arch::X64)
}

/// Builds one image and checks it; returns where it is.
pub(crate) fn driver_for(flavor: Flavor, arch: Arch) -> Result<PathBuf> {
    process::run(cargo_for("build", "sluice", arch)?.args(flavor.options()))?;
    let built = built(arch);
    let sys = flavor.image_for(arch);
    let folder = sys.parent().context("image without folder")?;
    fs::create_dir_all(folder)?;
    copy(&built.join("sluice.dll"), &sys)?;
    copy(&built.join("sluice.pdb"), &folder.join("sluice.pdb"))?;
    if flavor == Flavor::Release {
        let inf = folder.join("sluice.inf");
        inf::stamp(&inf, arch)?;
        inf_lint::check(&inf, arch)?;
        image::check(&sys, Some(&inf))?;
    } else {
        image::check(&sys, None)?;
    }
    Ok(sys)
}

/// Cargo on a driver package: with the installed WDK on Windows, with what stands in for it on Linux.
pub(crate) fn driver_cargo(verb: &str, package: &str) -> Result<std::process::Command> {
    cargo_for(verb, package, Arch::X64)
}

fn cargo_for(verb: &str, package: &str, arch: Arch) -> Result<std::process::Command> {
    let mut cargo = process::cargo();
    cargo.args([verb, "--locked", "--package", package, "--target", arch.target()]);
    cargo.arg("--target-dir").arg(process::root().join("target/driver"));
    if cfg!(not(windows)) {
        cargo.arg("--config").arg(linux_wdk::config()?);
    }
    Ok(cargo)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

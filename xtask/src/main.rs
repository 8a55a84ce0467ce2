//! The developer's one command: `cargo xtask <verb>`.

mod build;
mod catalog;
mod debian;
mod demo;
mod image;
mod imports;
mod inf;
mod inf_file;
mod inf_lint;
mod linux_wdk;
mod outside;
mod package;
mod package_flow;
mod process;
#[cfg(test)]
mod scripts;
mod signing;
mod test;
mod toolchain;
mod tools;
mod wine;
mod wine_client;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Builds, runs and tests Sluice.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Sends a capture through the driver on a simulated machine whose adapter is disabled midway.
    Demo(demo::Options),
    /// Runs every check and test.
    Test(test::Options),
    /// Builds sluice.sys, its symbols and its INF into target/sluice, and checks the image.
    Build {
        /// The processor to build for.
        #[arg(long, value_enum, default_value_t)]
        arch: build::Arch,
        /// Build the images that only the tests use as well.
        #[arg(long, conflicts_with = "arch")]
        all: bool,
    },
    /// Makes `target/sluice_package`: the signed driver, its INF and catalog, the client, scripts.
    Package(package::Options),
    /// Checks the image of a driver, whichever linker made it: imports, exports, sections, checksum. Ends with 0 or 1.
    Image(image::Options),
    /// Checks an INF of a filter driver: required sections and directives, isolation, strings, files, names.
    InfLint {
        /// The INF; the one that the last build made by default.
        file: Option<std::path::PathBuf>,
        /// The processor that it is for.
        #[arg(long, value_enum, default_value_t)]
        arch: build::Arch,
    },
    /// Runs a scenario under many schedules; --driver defaults to the shipped image.
    #[command(disable_help_flag = true)]
    Explore {
        /// Options; see: cargo xtask explore --help
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<OsString>,
    },
    /// Runs the crash lab: each blue screen of the documents, and the pattern that avoids it.
    #[command(disable_help_flag = true)]
    Lab {
        /// Options; see: cargo xtask lab --help
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<OsString>,
    },
    /// The simulated machine's own command line.
    #[command(disable_help_flag = true)]
    Machine {
        /// Options; see: cargo xtask machine --help
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<OsString>,
    },
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().verb {
        Verb::Demo(options) => demo::run(&options),
        Verb::Test(options) => test::run(&options),
        Verb::Build { arch, all } => {
            toolchain::complete()?;
            build::run(arch, all)?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Package(options) => {
            toolchain::complete()?;
            package::run(&options)?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Image(options) => image::run(&options),
        Verb::InfLint { file, arch } => {
            let file = file.unwrap_or_else(|| build::folder(build::Flavor::Release, arch).join("sluice.inf"));
            inf_lint::check(&file, arch)?;
            println!("{}: no fault", file.display());
            Ok(ExitCode::SUCCESS)
        }
        Verb::Explore { mut options } => {
            let asks = |name: &str| options.iter().any(|option| option.to_string_lossy().starts_with(name));
            if !asks("--driver") && !asks("--help") && !asks("-h") {
                toolchain::complete()?;
                let image = build::driver(build::Flavor::Release)?;
                options.extend(["--driver".into(), image.into()]);
            }
            tools::build()?;
            tools::become_program("explore", &options)
        }
        Verb::Lab { mut options } => {
            let asks = |name: &str| options.iter().any(|option| option.to_string_lossy().starts_with(name));
            if !asks("--drivers") && !asks("--help") && !asks("-h") {
                toolchain::complete()?;
                let folder = build::crash_lab(build::Flavor::Release)?;
                options.extend(["--drivers".into(), folder.into()]);
            }
            tools::build()?;
            tools::become_program("lab", &options)
        }
        Verb::Machine { options } => {
            tools::build()?;
            tools::become_program("sluice-machine", &options)
        }
    }
}

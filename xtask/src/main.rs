//! The developer's one command: `cargo xtask <verb>`.

mod build;
mod debian;
mod image;
mod inf;
mod linux_wdk;
mod process;

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
    /// Builds sluice.sys, its symbols and its INF into target/sluice, and checks the image.
    Build,
}

fn main() -> Result<()> {
    match Arguments::parse().verb {
        Verb::Build => {
            let image = build::driver(build::Flavor::Release)?;
            println!("{}", image.display());
            Ok(())
        }
    }
}

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
    Build {
        /// Build the images that only the tests use as well.
        #[arg(long)]
        all: bool,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().verb {
        Verb::Build { all } => build::run(all),
    }
}

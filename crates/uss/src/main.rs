//! The `uss` binary: see [`uss::cli`] for its commands.

use std::process::ExitCode;

use clap::Parser as _;
use uss::cli::Cli;

fn main() -> ExitCode {
    Cli::parse().run()
}

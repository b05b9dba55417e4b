//! The `uss` binary: see [`uss::cli`] for its commands.

use std::process::ExitCode;

use clap::Parser as _;
use uss::cli::Cli;

/// For SQLite and most of DuckDB too. It gives back what a burst took, of which glibc's keeps most:
/// `docs/decisions/0021-the-allocator.md`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    Cli::parse().run()
}

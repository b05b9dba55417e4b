//! The command line: one file per subcommand.

mod import;
mod replay;
mod serve;
mod validate;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// USS: who is in which segment, in real time.
#[derive(Debug, Parser)]
#[command(name = "uss", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Import(import::Import),
    Serve(serve::Serve),
    Replay(replay::Replay),
    Validate(validate::Validate),
}

impl Cli {
    /// Runs the command.
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Import(command) => command.run(),
            Command::Serve(command) => command.run(),
            Command::Replay(command) => command.run(),
            Command::Validate(command) => command.run(),
        }
    }
}

/// Says on standard error why the command failed.
#[allow(clippy::print_stderr, reason = "the command line is where errors are told to people")]
fn fail(message: impl std::fmt::Display) -> ExitCode {
    eprintln!("{message}");
    ExitCode::FAILURE
}

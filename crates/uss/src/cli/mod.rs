//! The command line: one file per subcommand.

mod errors;
mod import;
mod replay;
mod serve;
mod topic;
mod users;
mod validate;

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// USS: which users are in which segment, in real time.
#[derive(Debug, Parser)]
#[command(name = "uss", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Errors(errors::Errors),
    Import(import::Import),
    Serve(serve::Serve),
    Replay(replay::Replay),
    Topic(topic::Topic),
    Users(users::Users),
    Validate(validate::Validate),
}

impl Cli {
    /// Runs the command and returns the exit status of the process.
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Errors(command) => command.run(),
            Command::Import(command) => command.run(),
            Command::Serve(command) => command.run(),
            Command::Replay(command) => command.run(),
            Command::Topic(command) => command.run(),
            Command::Users(command) => command.run(),
            Command::Validate(command) => command.run(),
        }
    }
}

/// Runs `work`, which queries a service and writes to the buffered standard output that it gets.
fn until_done<T, E: From<io::Error>>(work: impl AsyncFnOnce(&mut dyn Write) -> Result<T, E>) -> Result<T, E> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut out = BufWriter::new(io::stdout().lock());
    let done = runtime.block_on(work(&mut out));
    // Flush also after an error: what was written before it is valid output. The error of `work`
    // matters more than one of the flush.
    let flushed = out.flush();
    let done = done?;
    flushed?;
    Ok(done)
}

/// Writes a line to standard output. A closed output is no error: the reader may have seen enough
/// (`| head -1`), and the command has done its work all the same.
pub(crate) fn say(line: impl std::fmt::Display) {
    drop(writeln!(io::stdout(), "{line}"));
}

/// Writes to standard error why the command failed.
fn fail(message: impl std::fmt::Display) -> ExitCode {
    drop(writeln!(io::stderr(), "{message}"));
    ExitCode::FAILURE
}

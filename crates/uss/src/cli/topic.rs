//! `uss topic`: prints topics of the log, see [`crate::topic`].

use std::process::ExitCode;

use super::{fail, until_done};
use crate::client::ConfigurationAddress;
use crate::topic::{Tail, TailError};

/// Prints records from the topics of a running service.
#[derive(Debug, clap::Args)]
pub(crate) struct Topic {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    address: ConfigurationAddress,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Tail(Tail),
}

impl Topic {
    pub(super) fn run(self) -> ExitCode {
        let (Action::Tail(tail), service) = (self.action, self.address.service());
        match until_done(async |out| tail.run(&service, out).await) {
            Ok(()) => ExitCode::SUCCESS,
            // The reader of the output has seen enough.
            Err(TailError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Err(error) => fail(error),
        }
    }
}

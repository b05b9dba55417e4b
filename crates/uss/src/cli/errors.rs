//! `uss errors`: dead letters, see [`crate::errors`].

use std::process::ExitCode;

use super::{fail, until_done};
use crate::client::IngestionAddress;
use crate::errors::{self, Action, ErrorsError};

/// Looks at the dead letters of a running service (rejected events), and sends them again.
#[derive(Debug, clap::Args)]
pub(crate) struct Errors {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    address: IngestionAddress,
}

impl Errors {
    pub(super) fn run(self) -> ExitCode {
        let service = self.address.service();
        let done = until_done(async |out| errors::run(&self.action, &service, out).await);
        match done {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(ErrorsError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Err(error) => fail(error),
        }
    }
}

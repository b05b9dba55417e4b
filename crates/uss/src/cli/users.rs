//! `uss users`: looks up users, see [`crate::users`].

use std::process::ExitCode;

use super::{fail, until_done};
use crate::client::ConfigurationAddress;
use crate::users::{self, Action, UsersError};

/// Looks up users of a running service: their segments, why they are in them, and when they leave.
#[derive(Debug, clap::Args)]
pub(crate) struct Users {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    address: ConfigurationAddress,
}

impl Users {
    pub(super) fn run(self) -> ExitCode {
        let service = self.address.service();
        match until_done(async |out| users::run(&self.action, &service, out).await) {
            Ok(()) => ExitCode::SUCCESS,
            // The reader of the output has seen enough.
            Err(UsersError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Err(error) => fail(error),
        }
    }
}

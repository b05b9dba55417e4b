//! `uss serve`: every role in one process, on embedded adapters.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use super::fail;
use crate::serve;
use crate::settings::Settings;

/// Runs everything in one process: ingestion, segments, configuration. SIGINT or SIGTERM stop it
/// without any loss.
///
/// docs/reference/settings.md lists every setting, its environment variable, and the four ports.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// A TOML file with settings that differ from the defaults.
    #[arg(long, env = "USS_SETTINGS", value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Bind to another address than loopback without API keys.
    #[arg(long)]
    insecure: bool,
    /// Load sample data if there are no users or segments yet, and show commands to try.
    #[arg(long)]
    sample_data: bool,
    /// Start although a store of the data folder has lost data that another store refers to, and
    /// give that data up. A start without this flag says what would be given up.
    #[arg(long)]
    accept_loss: bool,
    /// Start although the clock of this machine is implausible: before the time of this build, or
    /// years after the last time in the log. Time in the log never goes back, so a wrong clock
    /// cannot be undone.
    #[arg(long)]
    accept_clock: bool,
    #[command(flatten)]
    flags: Flags,
}

/// The settings that have a flag.
#[derive(Debug, clap::Args, Serialize)]
struct Flags {
    /// The folder of the data.
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    data_dir: Option<PathBuf>,
    /// The address to bind to.
    #[arg(long, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    bind: Option<String>,
    /// What to do with events of unknown users: reject or create.
    #[arg(long, value_name = "RULE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown_users: Option<String>,
}

impl Serve {
    pub(super) fn run(self) -> ExitCode {
        let settings = match Settings::read(self.settings.as_deref(), &self.flags) {
            Ok(settings) => settings,
            Err(error) => return fail(format_args!("settings: {error}")),
        };
        let Self { insecure, sample_data, accept_loss, accept_clock, .. } = self;
        let options = serve::Options { insecure, sample_data, accept_loss, accept_clock };
        match serve::run(settings, options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(error),
        }
    }
}

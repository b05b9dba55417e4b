//! `uss import`: sends history from files, see [`crate::import`].

use std::process::ExitCode;
use std::time::Instant;

use ports::clock::{Clock, SystemClock};

use super::{fail, say};
use crate::import::{self, ImportArgs};

/// Imports history from CSV, NDJSON or Parquet files through the ingestion API. Importing a file
/// again counts no event twice.
#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    #[command(flatten)]
    args: ImportArgs,
}

impl Import {
    /// Returns failure if a row was rejected. The other rows are imported then.
    pub(super) fn run(self) -> ExitCode {
        if self.args.dry_run {
            return match import::dry_run(&self.args, SystemClock.now()) {
                Ok(lines) => {
                    lines.iter().for_each(say);
                    ExitCode::SUCCESS
                }
                Err(error) => fail(error),
            };
        }
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return fail(format_args!("the runtime cannot start: {error}")),
        };
        let started = Instant::now();
        let summary = match runtime.block_on(import::run(&self.args, SystemClock.now())) {
            Ok(summary) => summary,
            Err(error) => return fail(error),
        };
        let seconds = started.elapsed().as_secs_f64().max(0.001);
        say(&summary);
        say(format_args!("in {seconds:.1} s, {:.0} events per second", summary.accepted as f64 / seconds));
        match summary.rejected.rows {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
    }
}

//! `uss replay`: runs segments over a history, with its own clock.

use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::path::PathBuf;
use std::process::ExitCode;

use super::fail;

/// Runs segments over a history of events and shows when users enter and leave them.
///
/// Reads one JSON object per line, in order of "at", which is both the time of receipt and now:
/// {"at":…,"segment":{"tag":…,"whereStatement":…}}, {"at":…,"event":{…}},
/// {"at":…,"identify":{"id":…,"traits":{…}}}, {"at":…,"link":{"from":{"id":…},"to":{"id":…}}},
/// {"at":…,"restart":true}, {"at":…,"members":[…]}.
///
/// Writes one JSON object per line for each change, each list of members and each refused link.
#[derive(Debug, clap::Args)]
pub(crate) struct Replay {
    /// The file to read. Without it, the command reads standard input.
    file: Option<PathBuf>,
}

impl Replay {
    pub(super) fn run(self) -> ExitCode {
        let output = BufWriter::new(io::stdout().lock());
        let outcome = match &self.file {
            None => crate::replay::run(io::stdin().lock(), output),
            Some(path) => match File::open(path) {
                Ok(file) => crate::replay::run(BufReader::new(file), output),
                Err(error) => return fail(format_args!("{}: {error}", path.display())),
            },
        };
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(error),
        }
    }
}

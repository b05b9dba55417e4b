//! `uss errors`: looks at the error topic of a running service, and replays its dead letters.

mod layout;
mod list;
mod replay;

use std::io::{self, Write};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::client::{Service, ServiceError};

pub(crate) use list::List;
pub(crate) use replay::Replay;

/// Records per request: the most that the API returns.
const PAGE_MAX: usize = 1_000;

/// What to do with the error topic.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Action {
    List(List),
    Show(Show),
    Replay(Replay),
}

/// Shows one whole record: the event as it came, and why it was rejected
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Show {
    /// The offset of the record on the error topic; `uss errors list` shows it
    offset: u64,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ErrorsError {
    /// The service refused or did not answer.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The output cannot be written.
    #[error(transparent)]
    Output(#[from] io::Error),
    /// The service does not take events at the moment.
    #[error("stopped at record {offset}: {message} ({code}). Replay again later; what was accepted stays accepted")]
    NotAdmitted {
        /// The record at which it stopped.
        offset: u64,
        /// The error's code.
        code: String,
        /// The message of the error.
        message: String,
    },
    /// No event was rejected with this code.
    #[error("no rejected event has the code {code}; there are: {known}")]
    UnknownCode {
        /// The code asked for.
        code: String,
        /// The codes that there are.
        known: String,
    },
}

/// Runs a command. Returns whether no event was rejected again.
///
/// # Errors
/// See [`ErrorsError`].
pub(crate) async fn run(action: &Action, service: &Service, out: &mut dyn Write) -> Result<bool, ErrorsError> {
    match action {
        Action::List(list) => list.run(service, out).await.map(|()| true),
        Action::Show(show) => show.run(service, out).await.map(|()| true),
        Action::Replay(replay) => replay.run(service, out).await,
    }
}

impl Show {
    async fn run(&self, service: &Service, out: &mut dyn Write) -> Result<(), ErrorsError> {
        #[derive(Deserialize)]
        struct One {
            data: Box<RawValue>,
        }
        let One { data } = service.get(&format!("/api/v1/errors/{}", self.offset)).await?;
        writeln!(out, "{}", layout::indented(data.get()))?;
        Ok(())
    }
}

/// Some records of the error topic.
#[derive(Deserialize)]
struct Page<T> {
    data: Vec<T>,
    next_offset: u64,
}

/// The fields of a record that these commands use.
#[derive(Deserialize)]
struct Entry {
    offset: u64,
    key: String,
    replayed: bool,
    error_type: String,
    code: String,
    message: String,
    at: String,
}

/// Returns records from an offset on; a negative one counts from the end.
async fn page<T: serde::de::DeserializeOwned>(
    service: &Service,
    from: i64,
    limit: usize,
) -> Result<Page<T>, ServiceError> {
    service.get(&format!("/api/v1/errors?from={from}&limit={limit}")).await
}

/// Clients send these strings: characters that would move the cursor of a terminal are shown as
/// escapes.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|character| {
            let escape = character.is_control().then(|| character.escape_default());
            let plain = (!character.is_control()).then_some(character);
            escape.into_iter().flatten().chain(plain)
        })
        .collect()
}

/// An offset as a signed number, where negative ones count from the end.
fn signed(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

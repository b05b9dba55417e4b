//! `uss errors replay`: one dead letter, edited if need be, or all of them.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write;

use ports::ErrorCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Entry, ErrorsError, PAGE_MAX, Page, page, printable, signed};
use crate::client::{Refusal, Service, ServiceError};

/// How many rejected events are listed one by one.
const EXAMPLES_MAX: usize = 20;

/// Records replayed by one request: it takes a few seconds at most, since each is synced to disk.
const REPLAYS_MAX: usize = 500;

/// Records of this type can be replayed. Others are failed computations.
const INGEST_ERROR: &str = "ingest_event_error";

/// Codes of records from which no event can be sent.
const IMPOSSIBLE: [ErrorCode; 4] =
    [ErrorCode::NotAnEvent, ErrorCode::EventIncomplete, ErrorCode::NotPatchable, ErrorCode::RecordDamaged];

/// Replays dead letters. An event that was accepted is never sent again; exit status 1 if one was
/// rejected again
#[derive(Clone, Debug, clap::Args)]
#[expect(clippy::doc_markdown, reason = "`--help` prints it as it is")]
pub(crate) struct Replay {
    /// The offset of one record on the error topic; `uss errors list` shows it
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    offset: Option<u64>,
    /// Replay all that have not been accepted since
    #[arg(long)]
    all: bool,
    /// Of all, only those with this code
    #[arg(long, requires = "all", value_name = "CODE")]
    code: Option<String>,
    /// Change the event first: a JSON merge patch (RFC 7396), e.g. '{"payload": {"order_total":
    /// "12.50"}}'
    #[arg(long, value_name = "JSON", conflicts_with_all = ["all", "instead"], value_parser = json)]
    patch: Option<Json>,
    /// Send this event in its place
    #[arg(long, value_name = "JSON", conflicts_with = "all", value_parser = json)]
    instead: Option<Json>,
}

/// JSON of the command line, unchanged.
#[derive(Clone, Debug)]
struct Json(Box<RawValue>);

fn json(text: &str) -> Result<Json, String> {
    serde_json::from_str(text).map(Json).map_err(|error| format!("this is not JSON: {error}"))
}

/// How an event is changed before it is sent.
#[derive(Serialize)]
struct Change {
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instead: Option<Box<RawValue>>,
}

/// The outcome of one event.
enum Outcome {
    Accepted,
    /// An earlier replay was accepted.
    Before,
    Rejected(Refusal),
    /// The record has no event that can be sent.
    Impossible(Refusal),
}

/// The response to the replay of many records.
#[derive(Deserialize)]
struct Many {
    accepted: u64,
    accepted_before: u64,
    rejected: Vec<NotSent>,
    impossible: Vec<NotSent>,
    not_admitted: Vec<NotSent>,
    next_offset: u64,
}

/// A record whose event was not accepted.
#[derive(Clone, Deserialize)]
struct NotSent {
    offset: u64,
    code: String,
    message: String,
}

/// The response to a replay that was accepted.
#[derive(Deserialize)]
struct AcceptedResponse {
    outcome: String,
}

impl Replay {
    pub(super) async fn run(&self, service: &Service, out: &mut dyn Write) -> Result<bool, ErrorsError> {
        match self.offset {
            Some(offset) => one(service, offset, self.change(), out).await,
            None => {
                let mut totals = Totals::default();
                let ended = self.all(service, &mut totals).await;
                writeln!(out, "{totals}")?;
                ended.map(|()| totals.refused + totals.impossible == 0)
            }
        }
    }

    /// The body of the request: empty if the event is sent unchanged.
    fn change(&self) -> String {
        let of = |json: &Option<Json>| json.as_ref().map(|Json(json)| json.clone());
        let change = Change { patch: of(&self.patch), instead: of(&self.instead) };
        if change.patch.is_none() && change.instead.is_none() {
            return String::new();
        }
        serde_json::to_string(&change).expect("JSON can be written")
    }

    /// Replays all records that are on the topic at the start.
    async fn all(&self, service: &Service, totals: &mut Totals) -> Result<(), ErrorsError> {
        let last: Page<Entry> = page(service, -1, 1).await?;
        let code = self.code.as_ref().map_or(String::new(), |code| format!("&code={}", in_query(code)));
        let mut from = 0;
        while from < last.next_offset {
            let path = format!("/api/v1/errors/replay?from={from}&limit={REPLAYS_MAX}{code}");
            let many: Many = service.post(&path, String::new()).await?;
            let (next_offset, not_admitted) = (many.next_offset, many.not_admitted.first().cloned());
            totals.add(many);
            if let Some(NotSent { offset, code, message }) = not_admitted {
                return Err(ErrorsError::NotAdmitted { offset, code, message });
            }
            if next_offset == from {
                break;
            }
            from = next_offset;
        }
        match &self.code {
            Some(code) if totals.is_empty() => unknown_code(service, code, last.next_offset).await,
            _ => Ok(()),
        }
    }
}

/// Returns an error if no dead letter has the code and others exist, since the code is probably
/// misspelled.
async fn unknown_code(service: &Service, code: &str, end: u64) -> Result<(), ErrorsError> {
    let (mut from, mut known) = (0, BTreeSet::new());
    while from < end {
        let found: Page<Entry> = page(service, signed(from), PAGE_MAX).await?;
        if found.data.is_empty() {
            break;
        }
        from = found.next_offset;
        known.extend(found.data.into_iter().filter(|entry| entry.error_type == INGEST_ERROR).map(|entry| entry.code));
    }
    match known.is_empty() {
        true => Ok(()),
        false => {
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            Err(ErrorsError::UnknownCode { code: code.to_owned(), known })
        }
    }
}

/// Escapes a query parameter: all bytes besides letters, digits and underscores.
fn in_query(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

async fn one(service: &Service, offset: u64, change: String, out: &mut dyn Write) -> Result<bool, ErrorsError> {
    let sent = send(service, offset, &change).await?;
    match &sent {
        Outcome::Accepted => writeln!(out, "the event of record {offset} was accepted")?,
        Outcome::Before => writeln!(out, "the event of record {offset} was accepted before; nothing was sent")?,
        Outcome::Rejected(Refusal { code, message, .. }) => {
            writeln!(out, "the event of record {offset} was refused again: {} ({code})", printable(message))?;
        }
        Outcome::Impossible(refusal) => return Err(ServiceError::Refused(refusal.clone()).into()),
    }
    Ok(!matches!(sent, Outcome::Rejected(_)))
}

async fn send(service: &Service, offset: u64, change: &str) -> Result<Outcome, ServiceError> {
    let response = service.post(&format!("/api/v1/errors/{offset}/replay"), change.to_owned()).await;
    match response {
        Ok(AcceptedResponse { outcome }) if outcome == "accepted" => Ok(Outcome::Accepted),
        Ok(AcceptedResponse { .. }) => Ok(Outcome::Before),
        Err(ServiceError::Refused(refusal)) => match (refusal.outcome.as_deref(), ErrorCode::parse(&refusal.code)) {
            (Some("rejected"), _) => Ok(Outcome::Rejected(refusal)),
            (_, Some(code)) if IMPOSSIBLE.contains(&code) => Ok(Outcome::Impossible(refusal)),
            _ => Err(ServiceError::Refused(refusal)),
        },
        Err(error) => Err(error),
    }
}

/// The outcomes of many replays.
#[derive(Debug, Default)]
struct Totals {
    accepted: u64,
    before: u64,
    refused: u64,
    impossible: u64,
    /// The first records that were rejected or could not be sent, and why.
    examples: Vec<String>,
}

impl Totals {
    fn add(&mut self, many: Many) {
        self.accepted += many.accepted;
        self.before += many.accepted_before;
        self.refused += many.rejected.len() as u64;
        self.impossible += many.impossible.len() as u64;
        let room = EXAMPLES_MAX - self.examples.len();
        let examples = many.rejected.iter().chain(&many.impossible).take(room);
        self.examples.extend(
            examples
                .map(|NotSent { offset, code, message }| format!("record {offset}: {} ({code})", printable(message))),
        );
    }

    fn is_empty(&self) -> bool {
        self.accepted + self.before + self.refused + self.impossible == 0
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} accepted, {} refused again, {} accepted before", self.accepted, self.refused, self.before)?;
        if self.impossible > 0 {
            write!(f, ", {} that cannot be sent", self.impossible)?;
        }
        for example in &self.examples {
            write!(f, "\n  {example}")?;
        }
        let more = self.refused + self.impossible - self.examples.len() as u64;
        if more > 0 {
            write!(f, "\n  and {more} more")?;
        }
        Ok(())
    }
}

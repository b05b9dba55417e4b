//! `uss errors replay`: one rejected event, perhaps mended, or all of them.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Entry, ErrorsError, PAGE_MAX, Page, page, printable, signed};
use crate::client::{Refusal, Service, ServiceError};

/// How many refused events are told one by one.
const EXAMPLES_MAX: usize = 20;

/// What can be replayed; the others on the topic are failed computations.
const INGEST_ERROR: &str = "ingest_event_error";

/// Sends rejected events again. What was accepted once is never sent again; exit status 1 if one was refused again
#[derive(Clone, Debug, clap::Args)]
pub struct Replay {
    /// Which one: its offset on the error topic; `uss errors list` tells
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    offset: Option<u64>,
    /// All that have not been accepted since
    #[arg(long)]
    all: bool,
    /// Of all, those with this code
    #[arg(long, requires = "all", value_name = "CODE")]
    code: Option<String>,
    /// Change the event first: a JSON merge patch (RFC 7396), e.g. '{"payload": {"order_total": "12.50"}}'
    #[arg(long, value_name = "JSON", conflicts_with_all = ["all", "instead"], value_parser = json)]
    patch: Option<Json>,
    /// Send this event in its place
    #[arg(long, value_name = "JSON", conflicts_with = "all", value_parser = json)]
    instead: Option<Json>,
}

/// JSON as it was given.
#[derive(Clone, Debug)]
struct Json(Box<RawValue>);

fn json(text: &str) -> Result<Json, String> {
    serde_json::from_str(text).map(Json).map_err(|error| format!("this is no JSON: {error}"))
}

/// What became of one event.
enum Sent {
    Accepted,
    /// By an earlier replay.
    Before,
    Refused(Refusal),
    /// There is nothing that could be sent.
    Impossible(Refusal),
}

/// The answer to a replay that was accepted.
#[derive(Deserialize)]
struct Answer {
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

    fn change(&self) -> String {
        match (&self.patch, &self.instead) {
            (Some(Json(patch)), _) => format!("{{\"patch\":{patch}}}"),
            (None, Some(Json(event))) => format!("{{\"instead\":{event}}}"),
            (None, None) => String::new(),
        }
    }

    /// Everything that was on the topic at the start.
    async fn all(&self, service: &Service, totals: &mut Totals) -> Result<(), ErrorsError> {
        let last: Page<Entry> = page(service, -1, 1).await?;
        let (mut from, mut known) = (0, BTreeSet::new());
        while from < last.next_offset {
            let found: Page<Entry> = page(service, signed(from), PAGE_MAX).await?;
            if found.data.is_empty() {
                break;
            }
            from = found.next_offset;
            for entry in found.data.into_iter().filter(|entry| entry.error_type == INGEST_ERROR) {
                if self.code.as_ref().is_none_or(|code| *code == entry.code) {
                    let sent = if entry.replayed { Sent::Before } else { send(service, entry.offset, "").await? };
                    totals.count(entry.offset, sent);
                }
                known.insert(entry.code);
            }
        }
        match &self.code {
            Some(code) if !known.contains(code) && !known.is_empty() => {
                let known = known.into_iter().collect::<Vec<_>>().join(", ");
                Err(ErrorsError::UnknownCode { code: code.clone(), known })
            }
            _ => Ok(()),
        }
    }
}

async fn one(service: &Service, offset: u64, change: String, out: &mut dyn Write) -> Result<bool, ErrorsError> {
    let sent = send(service, offset, &change).await?;
    match &sent {
        Sent::Accepted => writeln!(out, "the event of record {offset} was accepted")?,
        Sent::Before => writeln!(out, "the event of record {offset} was accepted before; nothing was sent")?,
        Sent::Refused(Refusal { code, message, .. }) => {
            writeln!(out, "the event of record {offset} was refused again: {} ({code})", printable(message))?;
        }
        Sent::Impossible(refusal) => return Err(ServiceError::Refused(refusal.clone()).into()),
    }
    Ok(!matches!(sent, Sent::Refused(_)))
}

async fn send(service: &Service, offset: u64, change: &str) -> Result<Sent, ServiceError> {
    let answer = service.post(&format!("/api/v1/errors/{offset}/replay"), change.to_owned()).await;
    match answer {
        Ok(Answer { outcome }) if outcome == "accepted" => Ok(Sent::Accepted),
        Ok(Answer { .. }) => Ok(Sent::Before),
        Err(ServiceError::Refused(refusal)) => match (refusal.outcome.as_deref(), refusal.code.as_str()) {
            (Some("rejected"), _) => Ok(Sent::Refused(refusal)),
            (_, "NOT_AN_EVENT" | "EVENT_INCOMPLETE" | "NOT_PATCHABLE" | "RECORD_DAMAGED") => {
                Ok(Sent::Impossible(refusal))
            }
            _ => Err(ServiceError::Refused(refusal)),
        },
        Err(error) => Err(error),
    }
}

/// What came of many replays.
#[derive(Debug, Default)]
struct Totals {
    accepted: u64,
    before: u64,
    refused: u64,
    impossible: u64,
    /// The first that were refused or could not be sent, and why.
    examples: Vec<String>,
}

impl Totals {
    fn count(&mut self, offset: u64, sent: Sent) {
        let (number, refusal) = match sent {
            Sent::Accepted => (&mut self.accepted, None),
            Sent::Before => (&mut self.before, None),
            Sent::Refused(refusal) => (&mut self.refused, Some(refusal)),
            Sent::Impossible(refusal) => (&mut self.impossible, Some(refusal)),
        };
        *number += 1;
        if let Some(Refusal { code, message, .. }) = refusal
            && self.examples.len() < EXAMPLES_MAX
        {
            self.examples.push(format!("record {offset}: {} ({code})", printable(&message)));
        }
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

//! `/api/v1/errors`: the error topic to look into, and rejected events to send again.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use bytes::Bytes;
use ports::log::Topic;
use ports::records::{ErrorRecord, ErrorType};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uss_http::extract::{Json, JsonContentType, Path, Query};
use uss_http::{Kind, Problem};

use crate::mend::{self, ErrorEntry, MendError, Mending, Replay};
use crate::outcome::Outcome;
use crate::pipeline::{Ingestion, Options};

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;

pub(crate) fn routes() -> Router<Arc<Ingestion>> {
    Router::new()
        .route("/api/v1/errors", get(list))
        .route("/api/v1/errors/replay", post(replay_many))
        .route("/api/v1/errors/{offset}", get(show))
        .route("/api/v1/errors/{offset}/replay", post(replay))
}

/// A record of the error topic as it is answered. Never by way of a `Value`, in which numbers are rounded.
#[derive(Serialize)]
struct View {
    offset: u64,
    key: String,
    /// Whether a replay of it was accepted.
    replayed: bool,
    #[serde(flatten)]
    error: ErrorRecord,
}

impl View {
    async fn of(ingestion: &Ingestion, entry: ErrorEntry) -> Result<Self, Problem> {
        let ErrorEntry { offset, key, error } = entry;
        Ok(Self { offset, key, replayed: ingestion.is_replayed(offset).await?, error })
    }
}

#[derive(Deserialize)]
struct ListQuery {
    /// Negative: counted from the end.
    from: Option<i64>,
    limit: Option<usize>,
}

#[derive(Serialize)]
struct Page {
    data: Vec<View>,
    next_offset: u64,
}

async fn list(State(ingestion): State<Arc<Ingestion>>, Query(query): Query<ListQuery>) -> Result<Json<Page>, Problem> {
    let limit = checked(query.limit)?;
    let (first, end) = ingestion.log().bounds(Topic::Errors, 0).await?;
    let from = match query.from.unwrap_or(0) {
        from if from < 0 => end.saturating_sub(from.unsigned_abs()),
        from => from.unsigned_abs(),
    };
    let entries = mend::list(ingestion.log(), from, limit).await?;
    let next_offset = entries.last().map_or(from.max(first), |last| last.offset + 1);
    let mut data = Vec::with_capacity(entries.len());
    for entry in entries {
        data.push(View::of(&ingestion, entry).await?);
    }
    Ok(Json(Page { data, next_offset }))
}

fn checked(limit: Option<usize>) -> Result<usize, Problem> {
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    match (1..=LIMIT_MAX).contains(&limit) {
        true => Ok(limit),
        false => Err(Problem::invalid("INVALID_LIMIT", format!("limit must be between 1 and {LIMIT_MAX}"))),
    }
}

#[derive(Serialize)]
struct One {
    data: View,
}

async fn show(State(ingestion): State<Arc<Ingestion>>, Path(offset): Path<u64>) -> Result<Json<One>, Problem> {
    let entry = mend::show(ingestion.log(), offset).await?;
    Ok(Json(One { data: View::of(&ingestion, entry).await? }))
}

/// What is changed before the event is sent again; at most one of them.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    patch: Option<Value>,
    instead: Option<Value>,
}

fn mending(body: &[u8]) -> Result<Mending, Problem> {
    let advice = "send {\"patch\": {…}}, {\"instead\": {…}}, or nothing to replay the event as it is";
    let change = match body.is_empty() {
        true => Change::default(),
        false => serde_json::from_slice(body)
            .map_err(|error| Problem::invalid("INVALID_BODY", format!("{error}; {advice}")))?,
    };
    match (change.patch, change.instead) {
        (None, None) => Ok(Mending::AsIs),
        (Some(patch), None) => Ok(Mending::Patch(patch)),
        (None, Some(event)) => Ok(Mending::Instead(event)),
        (Some(_), Some(_)) => Err(Problem::invalid("INVALID_BODY", format!("both patch and instead; {advice}"))),
    }
}

async fn replay(
    State(ingestion): State<Arc<Ingestion>>,
    Path(offset): Path<u64>,
    _: JsonContentType,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let outcome = match ingestion.replay(offset, &mending(&body)?, options(&ingestion)).await? {
        Replay::Before => "accepted_before",
        Replay::Sent(Outcome::Accepted) => "accepted",
        Replay::Sent(Outcome::Rejected(rejection)) => return Err(rejection.problem().with("outcome", "rejected")),
        Replay::Sent(Outcome::NotAdmitted(problem)) => return Err(problem.with("outcome", "not_admitted")),
    };
    Ok(Json(json!({"ok": true, "error": null, "outcome": outcome})))
}

fn options(ingestion: &Ingestion) -> Options {
    Options { unknown_users: ingestion.unknown_users, once: false }
}

#[derive(Deserialize)]
struct ManyQuery {
    from: Option<u64>,
    limit: Option<usize>,
    /// Only events rejected with this code.
    code: Option<String>,
}

/// What became of the events of some records.
#[derive(Default, Serialize)]
struct Many {
    accepted: u64,
    accepted_before: u64,
    rejected: Vec<Refused>,
    /// There is nothing that could be sent.
    impossible: Vec<Refused>,
    /// The one at which it stopped, if it did.
    not_admitted: Vec<Refused>,
    next_offset: u64,
}

#[derive(Serialize)]
struct Refused {
    offset: u64,
    code: String,
    message: String,
}

impl Refused {
    fn of(offset: u64, problem: Problem) -> Self {
        Self { offset, code: problem.code.into_owned(), message: problem.message }
    }
}

/// Records are read once for all of them: one at a time, each would be looked for among all that came in its instant.
async fn replay_many(
    State(ingestion): State<Arc<Ingestion>>,
    Query(query): Query<ManyQuery>,
    _: JsonContentType,
) -> Result<Json<Many>, Problem> {
    let (from, limit) = (query.from.unwrap_or(0), checked(query.limit)?);
    let (first, _) = ingestion.log().bounds(Topic::Errors, 0).await?;
    let mut many = Many { next_offset: from.max(first), ..Many::default() };
    for entry in mend::list(ingestion.log(), from, limit).await? {
        let is_asked = entry.error.error_type == ErrorType::IngestEvent
            && query.code.as_ref().is_none_or(|code| *code == entry.error.code);
        if is_asked {
            match ingestion.replay_entry(&entry, &Mending::AsIs, options(&ingestion)).await {
                Ok(Replay::Sent(Outcome::Accepted)) => many.accepted += 1,
                Ok(Replay::Before) => many.accepted_before += 1,
                Ok(Replay::Sent(Outcome::Rejected(it))) => many.rejected.push(Refused::of(entry.offset, it.problem())),
                Ok(Replay::Sent(Outcome::NotAdmitted(problem))) => {
                    many.not_admitted.push(Refused::of(entry.offset, *problem));
                    break;
                }
                Err(error) => many.impossible.push(Refused::of(entry.offset, error.into())),
            }
        }
        many.next_offset = entry.offset + 1;
    }
    Ok(Json(many))
}

impl From<MendError> for Problem {
    fn from(error: MendError) -> Self {
        let code = match error {
            MendError::Log(error) => return error.into(),
            MendError::NotFound(_) => return Problem::not_found("ERROR_NOT_FOUND", error.to_string()),
            MendError::Damaged(..) => "RECORD_DAMAGED",
            MendError::NotAnEvent(_) => "NOT_AN_EVENT",
            MendError::Cut(_) => "EVENT_INCOMPLETE",
            MendError::NotPatchable(_) => "NOT_PATCHABLE",
        };
        Problem::new(Kind::Conflict, code, error.to_string())
    }
}

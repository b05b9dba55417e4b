//! `/api/v1/errors`: the records of the error topic, and the replay of dead letters.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use bytes::Bytes;
use ports::ErrorCode;
use ports::log::Topic;
use ports::records::{ErrorRecord, ErrorType};
use segment_engine::ids::PartitionId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uss_http::extract::{Json, JsonContentType, Path, Query};
use uss_http::{Kind, Problem};

use crate::dead_letter::{self, DeadLetterError, Edit, ErrorEntry, Replay};
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

/// A record of the error topic in an answer. Never by way of a `Value`, which rounds numbers.
#[derive(Serialize)]
struct View {
    offset: u64,
    key: String,
    /// Whether a replay was accepted.
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
    let (first, end) = ingestion.log().bounds(Topic::Errors, PartitionId::ONLY).await?;
    let from = match query.from.unwrap_or(0) {
        from if from < 0 => end.saturating_sub(from.unsigned_abs()),
        from => from.unsigned_abs(),
    };
    let entries = dead_letter::list(ingestion.log(), from, limit).await?;
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
        false => {
            let message = format!("limit must be between 1 and {LIMIT_MAX}");
            Err(Problem::invalid(ErrorCode::InvalidLimit, message))
        }
    }
}

#[derive(Serialize)]
struct One {
    data: View,
}

async fn show(State(ingestion): State<Arc<Ingestion>>, Path(offset): Path<u64>) -> Result<Json<One>, Problem> {
    let entry = dead_letter::show(ingestion.log(), offset).await?;
    Ok(Json(One { data: View::of(&ingestion, entry).await? }))
}

/// What is changed before the event is sent again: at most one of these.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    patch: Option<Value>,
    instead: Option<Value>,
}

fn edit_of(body: &[u8]) -> Result<Edit, Problem> {
    let advice = "send {\"patch\": {…}}, {\"instead\": {…}}, or nothing to replay the event as it is";
    let change = match body.is_empty() {
        true => Change::default(),
        false => serde_json::from_slice(body)
            .map_err(|error| Problem::invalid(ErrorCode::InvalidBody, format!("{error}; {advice}")))?,
    };
    match (change.patch, change.instead) {
        (None, None) => Ok(Edit::None),
        (Some(patch), None) => Ok(Edit::MergePatch(patch)),
        (None, Some(event)) => Ok(Edit::Replace(event)),
        (Some(_), Some(_)) => {
            Err(Problem::invalid(ErrorCode::InvalidBody, format!("both patch and instead; {advice}")))
        }
    }
}

async fn replay(
    State(ingestion): State<Arc<Ingestion>>,
    Path(offset): Path<u64>,
    _: JsonContentType,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let replay = ingestion.replay(offset, &edit_of(&body)?, options(&ingestion)).await;
    let outcome = match replay.map_err(replay_problem)? {
        Replay::AcceptedBefore => "accepted_before",
        Replay::Sent(Outcome::Accepted) => "accepted",
        Replay::Sent(Outcome::Rejected(rejection)) => return Err(rejection.problem().with("outcome", "rejected")),
    };
    Ok(Json(json!({"ok": true, "error": null, "outcome": outcome})))
}

fn options(ingestion: &Ingestion) -> Options {
    Options { unknown_users: ingestion.unknown_users, dedupe_forever: false }
}

#[derive(Deserialize)]
struct ManyQuery {
    from: Option<u64>,
    limit: Option<usize>,
    /// Only events rejected with this code.
    code: Option<String>,
}

/// What became of the dead letters that were replayed.
#[derive(Default, Serialize)]
struct Many {
    accepted: u64,
    accepted_before: u64,
    rejected: Vec<Refused>,
    /// Records from which nothing can be sent.
    impossible: Vec<Refused>,
    /// The record at which the replay stopped, if it did.
    not_admitted: Vec<Refused>,
    next_offset: u64,
}

#[derive(Serialize)]
struct Refused {
    offset: u64,
    code: ErrorCode,
    message: String,
}

impl Refused {
    fn of(offset: u64, problem: Problem) -> Self {
        Self { offset, code: problem.code, message: problem.message }
    }
}

/// Reads the records in one go: the log would search for each single record among all of its instant.
async fn replay_many(
    State(ingestion): State<Arc<Ingestion>>,
    Query(query): Query<ManyQuery>,
    _: JsonContentType,
) -> Result<Json<Many>, Problem> {
    let (from, limit) = (query.from.unwrap_or(0), checked(query.limit)?);
    let (first, _) = ingestion.log().bounds(Topic::Errors, PartitionId::ONLY).await?;
    let mut many = Many { next_offset: from.max(first), ..Many::default() };
    for entry in dead_letter::list(ingestion.log(), from, limit).await? {
        let is_asked = entry.error.error_type == ErrorType::IngestEvent
            && query.code.as_ref().is_none_or(|code| *code == entry.error.code);
        if is_asked {
            match ingestion.replay_entry(&entry, &Edit::None, options(&ingestion)).await {
                Ok(Replay::Sent(Outcome::Accepted)) => many.accepted += 1,
                Ok(Replay::AcceptedBefore) => many.accepted_before += 1,
                Ok(Replay::Sent(Outcome::Rejected(it))) => many.rejected.push(Refused::of(entry.offset, it.problem())),
                Err(DeadLetterError::NotAdmitted(error)) => {
                    many.not_admitted.push(Refused::of(entry.offset, error.into()));
                    break;
                }
                Err(error) => many.impossible.push(Refused::of(entry.offset, error.into())),
            }
        }
        many.next_offset = entry.offset + 1;
    }
    Ok(Json(many))
}

/// An answer to a replay says whether nothing was stored.
fn replay_problem(error: DeadLetterError) -> Problem {
    match error {
        DeadLetterError::NotAdmitted(error) => Problem::from(error).with("outcome", "not_admitted"),
        error => error.into(),
    }
}

impl From<DeadLetterError> for Problem {
    fn from(error: DeadLetterError) -> Self {
        let code = match error {
            DeadLetterError::Log(error) => return error.into(),
            DeadLetterError::NotAdmitted(error) => return error.into(),
            DeadLetterError::NotFound(_) => return Problem::not_found(ErrorCode::ErrorNotFound, error.to_string()),
            DeadLetterError::Damaged(..) => ErrorCode::RecordDamaged,
            DeadLetterError::NotAnEvent(_) => ErrorCode::NotAnEvent,
            DeadLetterError::Cut(_) => ErrorCode::EventIncomplete,
            DeadLetterError::NotPatchable(_) => ErrorCode::NotPatchable,
        };
        Problem::new(Kind::Conflict, code, error.to_string())
    }
}

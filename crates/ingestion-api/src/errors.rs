//! `/api/v1/errors`: the error topic to look into, and rejected events to send again.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use bytes::Bytes;
use ports::log::Topic;
use ports::records::ErrorRecord;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uss_http::extract::{Json, Path, Query};
use uss_http::{Kind, Problem};

use crate::mend::{self, ErrorEntry, MendError, Mending, Replay};
use crate::outcome::Outcome;
use crate::pipeline::{Ingestion, Options};

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;

pub(crate) fn routes() -> Router<Arc<Ingestion>> {
    Router::new()
        .route("/api/v1/errors", get(list))
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
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::invalid("INVALID_LIMIT", format!("limit must be between 1 and {LIMIT_MAX}")));
    }
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
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let options = Options { unknown_users: ingestion.unknown_users, once: false };
    let outcome = match ingestion.replay(offset, &mending(&body)?, options).await? {
        Replay::Before => "accepted_before",
        Replay::Sent(Outcome::Accepted) => "accepted",
        Replay::Sent(Outcome::Rejected(rejection)) => return Err(rejection.problem().with("outcome", "rejected")),
        Replay::Sent(Outcome::NotAdmitted(problem)) => return Err(problem.with("outcome", "not_admitted")),
    };
    Ok(Json(json!({"ok": true, "error": null, "outcome": outcome})))
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

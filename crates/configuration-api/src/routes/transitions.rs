//! Transitions of a user, of a segment, and live, read from the notification topic.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use ports::ErrorCode;
use ports::log::{Log, LogError, Record, Topic, partition_of};
use ports::records::Notification;
use segment_engine::ids::{PartitionId, SegmentId};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use uss_http::extract::{Json, Path, Query};
use uss_http::{Kind, Problem};

use crate::api::Api;
use crate::history::positions::Positions;
use crate::history::{self, HistoryPage};
use crate::live::{Hub, Next, Sent};

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;
/// A stream without notifications sends a comment at this interval, so that neither the client nor
/// anything between takes it for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const COMMENT: &[u8] = b":\n\n";
/// A piece of a stream is sent when it has this many bytes.
const PIECE_BYTES_MAX: usize = 16 << 10;

#[derive(Debug, Deserialize)]
pub(crate) struct HistoryQuery {
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct StreamQuery {
    from: Option<String>,
}

pub(crate) async fn of_user(
    State(api): State<Api>,
    Path(user): Path<i64>,
    Query(query): Query<HistoryQuery>,
) -> Result<Json<Value>, Problem> {
    let user = api.user(user).await?.id;
    let key = user.to_string();
    respond(&api, vec![partition_of(user, api.log.partitions())], &query, |record| record.key == key).await
}

pub(crate) async fn of_segment(
    State(api): State<Api>,
    Path(id): Path<SegmentId>,
    Query(query): Query<HistoryQuery>,
) -> Result<Json<Value>, Problem> {
    let segment = api.segment(id).await?.id;
    let concerns = move |record: &Record| {
        let read = serde_json::from_slice::<Notification>(&record.value);
        read.is_ok_and(|change| change.in_segments.contains(&segment) || change.out_segments.contains(&segment))
    };
    respond(&api, PartitionId::all(api.log.partitions()).collect(), &query, concerns).await
}

async fn respond(
    api: &Api,
    partitions: Vec<PartitionId>,
    query: &HistoryQuery,
    wanted: impl Fn(&Record) -> bool,
) -> Result<Json<Value>, Problem> {
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::invalid(ErrorCode::InvalidLimit, format!("limit must be between 1 and {LIMIT_MAX}")));
    }
    let positions = match &query.cursor {
        Some(cursor) => Positions::parse(cursor, partitions)?,
        None => Positions(partitions.into_iter().map(|partition| (partition, 0)).collect()),
    };
    let HistoryPage { notifications, positions, complete } =
        history::read(api.log.as_ref(), positions, limit, wanted).await?;
    let data = notifications.into_iter().map(RawValue::from_string).collect::<Result<Vec<_>, _>>();
    let data = data.map_err(Problem::internal)?;
    let next_cursor = (!complete).then(|| positions.to_string());
    Ok(Json(json!({"data": data, "nextCursor": next_cursor})))
}

/// Server-sent events: one `transition` per notification, whose id is the position after it.
/// `Last-Event-ID`, or `?from=` with a position (a snapshot's `Uss-Position`), says where to go on;
/// without either the stream begins now. It ends when the server stops. What is there is sent in one
/// piece, since each piece has costs of its own.
pub(crate) async fn live(
    State(api): State<Api>,
    Extension(hub): Extension<Arc<Hub>>,
    Query(query): Query<StreamQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let from = match last.or(query.from) {
        Some(position) => {
            let positions = Positions::parse(&position, PartitionId::all(api.log.partitions()))?;
            Some(retained(api.log.as_ref(), positions).await?.0.into_values().collect())
        }
        None => None,
    };
    let pieces = stream::try_unfold(hub.subscribe(from).await?, |mut feed| async {
        let first = match feed.next(KEEP_ALIVE).await? {
            Next::Sent(first) => first,
            Next::Idle => return Ok(Some((Bytes::from_static(COMMENT), feed))),
            Next::End => return Ok::<_, LogError>(None),
        };
        let mut piece = String::new();
        add_event(&mut piece, &first);
        while piece.len() < PIECE_BYTES_MAX
            && let Some(sent) = feed.at_hand()
        {
            add_event(&mut piece, &sent);
        }
        Ok(Some((piece.into(), feed)))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// Adds a server-sent event. The notification is JSON as USS writes it, and so has one line.
fn add_event(piece: &mut String, sent: &Sent) {
    for part in ["event: transition\nid: ", sent.position(), "\ndata: ", sent.notification(), "\n\n"] {
        piece.push_str(part);
    }
}

/// Refuses a position that the log has been trimmed beyond: the client would miss records without
/// notice.
async fn retained(log: &dyn Log, positions: Positions) -> Result<Positions, Problem> {
    for (&partition, &position) in &positions.0 {
        let (first, _) = log.bounds(Topic::Notifications, partition).await?;
        if position < first {
            let message = "notifications after this position have left the log (USS_LOG_RETENTION); read the members again, \
                           and go on from the Uss-Position of that response";
            return Err(Problem::new(Kind::Gone, ErrorCode::PositionTrimmed, message));
        }
    }
    Ok(positions)
}

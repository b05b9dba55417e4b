//! Transitions: of a user, of a segment, and live. The notification topic is their history.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::future::select_all;
use futures_util::stream::{self, Stream};
use ports::log::{Log, LogError, Record, Topic, partition_of};
use ports::records::Notification;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::watch;
use uss_http::extract::{Json, Path, Query};
use uss_http::{Kind, Problem};

use crate::api::Api;
use crate::history::{self, Stretch};
use crate::positions::Positions;

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;
/// Notifications read ahead of a live client: a slow one makes its own stream wait, and nothing else.
const AHEAD_MAX: usize = 256;

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
    answer(&api, vec![partition_of(user.0, api.log.partitions())], &query, |record| record.key == key).await
}

pub(crate) async fn of_segment(
    State(api): State<Api>,
    Path(id): Path<i64>,
    Query(query): Query<HistoryQuery>,
) -> Result<Json<Value>, Problem> {
    let segment = api.segment(id).await?.id;
    let concerns = move |record: &Record| {
        let read = serde_json::from_slice::<Notification>(&record.value);
        read.is_ok_and(|told| told.in_segments.contains(&segment) || told.out_segments.contains(&segment))
    };
    answer(&api, (0..api.log.partitions()).collect(), &query, concerns).await
}

async fn answer(
    api: &Api,
    partitions: Vec<u32>,
    query: &HistoryQuery,
    wanted: impl Fn(&Record) -> bool,
) -> Result<Json<Value>, Problem> {
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::invalid("INVALID_LIMIT", format!("limit must be between 1 and {LIMIT_MAX}")));
    }
    let positions = match &query.cursor {
        Some(cursor) => Positions::parse(cursor, partitions)?,
        None => Positions(partitions.into_iter().map(|partition| (partition, 0)).collect()),
    };
    let Stretch { notifications, positions, complete } =
        history::read(api.log.as_ref(), positions, limit, wanted).await?;
    let data = notifications.into_iter().map(RawValue::from_string).collect::<Result<Vec<_>, _>>();
    let data = data.map_err(Problem::internal)?;
    let next_cursor = (!complete).then(|| positions.to_string());
    Ok(Json(json!({"data": data, "nextCursor": next_cursor})))
}

/// Server-sent events: one `transition` per notification, whose id is the position after it. `Last-Event-ID`, or `?from=`
/// with a position (a snapshot's `Uss-Position`), goes on from there; without either it begins now. Ends when the server is
/// told to stop.
pub(crate) async fn live(
    State(api): State<Api>,
    Query(query): Query<StreamQuery>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, LogError>>>, Problem> {
    let partitions = 0..api.log.partitions();
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let positions = match last.or(query.from) {
        Some(position) => retained(api.log.as_ref(), Positions::parse(&position, partitions)?).await?,
        None => now(api.log.as_ref(), partitions).await?,
    };
    let feed = Feed { log: api.log, positions, ahead: VecDeque::new(), stopped: api.stopped, is_ending: false };
    let events = stream::try_unfold(feed, |mut feed| async {
        let next = feed.next().await?;
        Ok(next.map(|(position, notification)| {
            (Event::default().event("transition").id(position.to_string()).data(notification), feed)
        }))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

/// Refuses a position of which the log no longer has what follows: the client would miss it without being told.
async fn retained(log: &dyn Log, positions: Positions) -> Result<Positions, Problem> {
    for (&partition, &position) in &positions.0 {
        let (first, _) = log.bounds(Topic::Notifications, partition).await?;
        if position < first {
            let message = "notifications after this position have left the log (USS_LOG_RETENTION); read the members again, \
                           and go on from the Uss-Position of that answer";
            return Err(Problem::new(Kind::Gone, "POSITION_TRIMMED", message));
        }
    }
    Ok(positions)
}

async fn now(log: &dyn Log, partitions: impl Iterator<Item = u32>) -> Result<Positions, LogError> {
    let mut positions = Positions::default();
    for partition in partitions {
        positions.0.insert(partition, log.bounds(Topic::Notifications, partition).await?.1);
    }
    Ok(positions)
}

/// All partitions as one feed, until the server is told to stop.
struct Feed {
    log: Arc<dyn Log>,
    positions: Positions,
    /// Read and not yet sent, each with the position after it.
    ahead: VecDeque<(Positions, String)>,
    stopped: watch::Receiver<bool>,
    /// Nothing more is read.
    is_ending: bool,
}

impl Feed {
    async fn next(&mut self) -> Result<Option<(Positions, String)>, LogError> {
        loop {
            if let Some(next) = self.ahead.pop_front() {
                return Ok(Some(next));
            }
            if self.is_ending {
                return Ok(None);
            }
            // Asked before the log is read: what was there at the stop is still told, as far as one reading goes. A client
            // who is further behind goes on after the last one it got.
            self.is_ending = *self.stopped.borrow();
            let before = self.positions.clone();
            for (&partition, &position) in &before.0 {
                self.read_ahead(partition, position).await?;
            }
            if self.ahead.is_empty() && !self.is_ending {
                let waits = self.positions.0.iter();
                let waits = waits.map(|(&p, &offset)| self.log.wait_for(Topic::Notifications, p, offset));
                tokio::select! {
                    _ = select_all(waits) => {}
                    told = self.stopped.wait_for(|stop| *stop) => self.is_ending |= told.is_err(),
                }
            }
        }
    }

    async fn read_ahead(&mut self, partition: u32, position: u64) -> Result<(), LogError> {
        const BYTES: usize = 64 * 1024;
        let (first, _) = self.log.bounds(Topic::Notifications, partition).await?;
        let batch = self.log.read(Topic::Notifications, partition, position.max(first), BYTES).await?;
        for record in batch.records.into_iter().take(AHEAD_MAX) {
            self.positions.0.insert(partition, record.offset + 1);
            let notification = String::from_utf8_lossy(&record.value).into_owned();
            self.ahead.push_back((self.positions.clone(), notification));
        }
        Ok(())
    }
}

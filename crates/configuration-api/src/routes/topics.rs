//! `/api/v1/topics`: the records of the log, for inspection.

use axum::extract::State;
use ports::ErrorCode;
use ports::log::{Record, Topic};
use ports::records::instant;
use ports::records::json_text::JsonText;
use segment_engine::ids::PartitionId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uss_http::Problem;
use uss_http::extract::{Json, Path, Query};

use crate::api::Api;
use crate::wire::response::Data;

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;
/// Bytes read for one response.
const BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug, Deserialize)]
pub(crate) struct RecordsQuery {
    #[serde(default)]
    partition: u32,
    /// Negative: counted from the end.
    offset: Option<i64>,
    limit: Option<usize>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RecordsView {
    data: Vec<RecordView>,
    next_offset: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RecordView {
    partition: PartitionId,
    offset: u64,
    appended_at: String,
    key: String,
    /// As in the log; a string if it is not JSON.
    value: JsonText,
}

fn partitions(api: &Api, topic: Topic) -> u32 {
    match topic {
        Topic::Events | Topic::Notifications => api.log.partitions(),
        Topic::Errors | Topic::Config => 1,
    }
}

pub(crate) async fn list(State(api): State<Api>) -> Result<Data<Vec<Value>>, Problem> {
    let mut topics = Vec::new();
    for (topic, name) in api.topics.all() {
        let mut bounds = Vec::new();
        for partition in PartitionId::all(partitions(&api, topic)) {
            let (first, next) = api.log.bounds(topic, partition).await?;
            bounds.push(json!({"partition": partition, "firstOffset": first, "nextOffset": next}));
        }
        topics.push(json!({"name": name, "partitions": bounds}));
    }
    Ok(Data(topics))
}

pub(crate) async fn records(
    State(api): State<Api>,
    Path(name): Path<String>,
    Query(query): Query<RecordsQuery>,
) -> Result<Json<RecordsView>, Problem> {
    let known = api.topics.all();
    let Some((topic, _)) = known.iter().find(|(_, known)| *known == name) else {
        let message = format!("there is no topic {name:?}; GET /api/v1/topics lists them");
        return Err(Problem::not_found(ErrorCode::TopicNotFound, message));
    };
    let RecordsQuery { partition, offset, limit } = query;
    let count = partitions(&api, *topic);
    if partition >= count {
        return Err(Problem::invalid(ErrorCode::InvalidPartition, format!("the topic has {count} partitions, from 0")));
    }
    let partition = PartitionId(partition);
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::invalid(ErrorCode::InvalidLimit, format!("limit must be between 1 and {LIMIT_MAX}")));
    }
    let (first, next) = api.log.bounds(*topic, partition).await?;
    let from = start(offset, first, next);
    let batch = api.log.read(*topic, partition, from, BYTES_MAX).await?;
    let records: Vec<Record> = batch.records.into_iter().take(limit).collect();
    let next_offset = records.last().map_or(batch.next_offset, |last| last.offset + 1);
    let data = records.into_iter().map(|record| RecordView::new(partition, record)).collect();
    Ok(Json(RecordsView { data, next_offset }))
}

fn start(offset: Option<i64>, first: u64, next: u64) -> u64 {
    match offset {
        None => first,
        Some(offset) if offset < 0 => next.saturating_sub(offset.unsigned_abs()).max(first),
        Some(offset) => offset.unsigned_abs().max(first),
    }
}

impl RecordView {
    fn new(partition: PartitionId, record: Record) -> Self {
        let text = String::from_utf8_lossy(&record.value);
        let value = serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.into_owned()).into());
        let appended_at = instant::format(record.appended_at);
        Self { partition, offset: record.offset, appended_at, key: record.key, value }
    }
}

//! A stream of lines: however its bytes are cut into pieces, the outcome is the same.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::Request;
use futures_util::stream;
use http_body_util::BodyExt;
use ingestion_api::{AllowedOrigins, Ingestion, Limits, UnknownUsers, router};
use ports::clock::ManualClock;
use ports::log::{Log, Topic};
use ports_testkit::memory::{MemoryIdentities, MemoryLog};
use segment_engine::ids::PartitionId;
use segment_engine::time::Timestamp;
use tower::ServiceExt;
use uss_http::ApiKeys;

const PARTITIONS: u32 = 2;

/// Small, so that inputs of a few hundred bytes meet the bounds.
fn limits() -> Limits {
    Limits {
        event_bytes_max: 96,
        line_bytes_max: 160,
        error_text_bytes_max: 64,
        chunk_events_max: 3,
        ..Limits::default()
    }
}

/// What a client is told, and what stands in the log.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    status: u16,
    answer: String,
    records: Vec<(String, String)>,
}

async fn outcome(pieces: Vec<Bytes>) -> Outcome {
    let clock = Arc::new(ManualClock::at(Timestamp(1_770_000_000_000_000)));
    let log = Arc::new(MemoryLog::new(PARTITIONS, clock.clone()));
    let identities = Arc::new(MemoryIdentities::new(clock.clone()));
    identities.add_user("a");
    let ingestion = Arc::new(Ingestion::new(log.clone(), identities, clock, limits(), UnknownUsers::Reject));
    let router = router(ingestion, &ApiKeys::default(), &AllowedOrigins::default());
    let body = Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>)));
    let request = Request::post("/api/v1/events").header("content-type", "application/x-ndjson").body(body).unwrap();
    let response = router.oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let answer = response.into_body().collect().await.unwrap().to_bytes();
    let mut records = Vec::new();
    for (topic, partition) in [(Topic::Events, 0), (Topic::Events, 1), (Topic::Errors, 0)] {
        for record in log.read(topic, PartitionId(partition), 0, usize::MAX).await.unwrap().records {
            records.push((record.key.to_string(), String::from_utf8_lossy(&record.value).into_owned()));
        }
    }
    Outcome { status, answer: String::from_utf8_lossy(&answer).into_owned(), records }
}

/// Two bytes say how the others are cut.
pub(crate) fn run(bytes: &[u8]) {
    let Some((&[often, seed], body)) = bytes.split_first_chunk() else { return };
    let mut pieces = Vec::new();
    let mut rest = body;
    let mut state = u32::from(seed) + 1;
    while !rest.is_empty() {
        // Numerical Recipes' generator: any will do.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = 1 + (state >> 16) as usize % (usize::from(often) + 1);
        let (piece, after) = rest.split_at(length.min(rest.len()));
        pieces.push(Bytes::copy_from_slice(piece));
        rest = after;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let whole = runtime.block_on(outcome(vec![Bytes::copy_from_slice(body)]));
    let cut = runtime.block_on(outcome(pieces));
    assert_eq!(cut, whole);
}

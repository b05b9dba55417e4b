//! What the tests of the API share.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part; a failed step is a failed test")]

use std::io::Write;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::BodyExt;
use ingestion_api::{AllowedOrigins, FuturePolicy, Ingestion, Limits, UnknownUsers, router};
use ports::clock::ManualClock;
use ports::log::{Log, Topic, partition_of};
use ports::records::decode::{Input, decode_input};
use ports_testkit::memory::{MemoryIdentities, MemoryLog};
use segment_engine::event::{Event, Position};
use segment_engine::ids::PartitionId;
use segment_engine::time::Timestamp;
use serde_json::Value;
use tower::ServiceExt;
use uss_http::ApiKeys;

pub(crate) const PARTITIONS: u32 = 4;
pub(crate) const SAMPLE: &str =
    r#"{"id":"a","id_type":"cookie","payload":{"activity_type":"page_viewed","order_total":""}}"#;

/// The ingestion API on ports in memory, with user 1, who has the id `a`.
pub(crate) struct World {
    pub log: Arc<MemoryLog>,
    pub identities: Arc<MemoryIdentities>,
    pub ingestion: Arc<Ingestion>,
    pub keys: ApiKeys,
    pub origins: AllowedOrigins,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        Self::with_future(limits, FuturePolicy::default())
    }

    pub(crate) fn with_future(limits: Limits, future: FuturePolicy) -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp(1_000_000)));
        let log = Arc::new(MemoryLog::new(PARTITIONS, clock.clone()));
        let identities = Arc::new(MemoryIdentities::new(clock.clone()));
        identities.add_user("a");
        let ingestion = Ingestion::new(log.clone(), identities.clone(), clock, limits, UnknownUsers::Reject);
        let ingestion = ingestion.with_future(future);
        let (keys, origins) = (ApiKeys::default(), AllowedOrigins::default());
        Self { log, identities, ingestion: Arc::new(ingestion), keys, origins }
    }

    pub(crate) fn router(&self) -> Router {
        router(self.ingestion.clone(), &self.keys, &self.origins)
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.router().oneshot(request).await.unwrap()
    }

    pub(crate) async fn post(&self, media: &str, body: impl Into<Body>) -> (u16, Value) {
        let request = Request::post("/api/v1/events").header("content-type", media).body(body.into()).unwrap();
        read(self.send(request).await).await
    }

    pub(crate) async fn inputs(&self) -> Vec<Input> {
        let mut inputs = Vec::new();
        for partition in PartitionId::all(PARTITIONS) {
            for record in self.log.read(Topic::Events, partition, 0, usize::MAX).await.unwrap().records {
                let position = Position { partition, offset: record.offset };
                let input = decode_input(&record.value, position, record.appended_at).unwrap();
                if let Input::Event(delivery) = &input {
                    let user_id = delivery.event.user_id;
                    assert_eq!((record.key, partition), (user_id.to_string(), partition_of(user_id, PARTITIONS)));
                }
                inputs.push(input);
            }
        }
        inputs
    }

    pub(crate) async fn events(&self) -> Vec<Event> {
        let events = self.inputs().await.into_iter().filter_map(|input| match input {
            Input::Event(delivery) => Some(delivery.event),
            _ => None,
        });
        events.collect()
    }

    pub(crate) async fn errors(&self) -> Vec<Value> {
        let batch = self.log.read(Topic::Errors, PartitionId::ONLY, 0, usize::MAX).await.unwrap();
        batch.records.iter().map(|record| serde_json::from_slice(&record.value).unwrap()).collect()
    }
}

pub(crate) async fn read(response: Response<Body>) -> (u16, Value) {
    let status = response.status().as_u16();
    assert_eq!(response.headers().contains_key("retry-after"), matches!(status, 429 | 503));
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A body whose pieces are sent while it is read.
pub(crate) fn channel() -> (tokio::sync::mpsc::Sender<Result<Bytes, std::io::Error>>, Body) {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let stream = futures_util::stream::unfold(receiver, |mut receiver: tokio::sync::mpsc::Receiver<_>| async {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    (sender, Body::from_stream(stream))
}

/// A request with a packed body.
pub(crate) fn post_gzip(media: &str, body: impl Into<Body>) -> Request<Body> {
    let request = Request::post("/api/v1/events").header("content-type", media).header("content-encoding", "gzip");
    request.body(body.into()).unwrap()
}

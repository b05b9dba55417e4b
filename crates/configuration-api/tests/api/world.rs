//! The router with in-memory ports around it.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use configuration_api::{Api, ErasureDelays, Holds, Relay, SegmentBound, TopicNames, router};
use http_body_util::BodyExt;
use ports::clock::ManualClock;
use ports::config_store::ConfigStore;
use ports::event_sink::{EventSink, SinkOutcome};
use ports::log::{Log, NewRecord, Topic, partition_of};
use ports::segment_queries::{
    BackfillProgress, ConditionReport, Evidence, Explanation, Preview, SegmentQueries, SegmentQueryError, ValueReport,
};
use ports_testkit::memory::{MemoryConfigStore, MemoryLog};
use segment_engine::ids::{SegmentId, SegmentVersion, UserId};
use segment_engine::time::Timestamp;
use segment_engine::value::Value as EngineValue;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tower::ServiceExt;
use uss_http::ApiKeys;

pub(crate) const PARTITIONS: u32 = 4;
/// 2026-01-01T00:00:00Z
pub(crate) const START: Timestamp = Timestamp(1_767_225_600_000_000);
const SECOND: i64 = 1_000_000;
pub(crate) const STARTED: &str = "2026-01-01T00:00:00.000000Z";

pub(crate) struct World {
    pub store: Arc<dyn ConfigStore>,
    pub log: Arc<MemoryLog>,
    pub clock: Arc<ManualClock>,
    pub sink: Arc<Sink>,
    pub holds: Arc<Holds>,
    pub keys: ApiKeys,
    pub segments: SegmentBound,
    /// Stops the server.
    pub stop: watch::Sender<bool>,
}

/// Accepts every event.
#[derive(Default)]
pub(crate) struct Sink(pub Mutex<Vec<Value>>);

#[async_trait]
impl EventSink for Sink {
    async fn submit(&self, events: Vec<Value>) -> SinkOutcome {
        let accepted = events.len();
        self.0.lock().unwrap().extend(events);
        SinkOutcome { accepted, ..SinkOutcome::default() }
    }
}

/// Returns what a test can recognise, and fails for the clauses below.
struct StubQueries;

/// Its preview never ends.
pub(crate) const ENDLESS: &str = "count(*) > 1000";
/// Its preview needs too much memory.
pub(crate) const HUGE: &str = "count(*) > 2000";
/// Its preview is a query that the warehouse rejects.
pub(crate) const DEFECT: &str = "count(*) > 3000";

#[async_trait]
impl SegmentQueries for StubQueries {
    async fn explain(&self, _: UserId, _: &str) -> Result<Explanation, SegmentQueryError> {
        let condition = ConditionReport {
            condition: "count(*) > 0".to_owned(),
            truth: Some(true),
            values: vec![
                ValueReport { expression: "count(*)".to_owned(), value: EngineValue::Int(1), counted: Some(1) },
                ValueReport {
                    expression: "min(created_at)".to_owned(),
                    value: EngineValue::Timestamp(START),
                    counted: None,
                },
            ],
            evidence: vec![
                Evidence { of: 0, created_at: None, value: None, until: START },
                Evidence {
                    of: 1,
                    created_at: Some(START),
                    value: Some(EngineValue::Timestamp(START)),
                    until: Timestamp::MAX,
                },
            ],
            next_change: None,
            limited: true,
        };
        Ok(Explanation {
            at: START,
            member: true,
            version: SegmentVersion(1),
            normal_form: Some("count(*) > 0".to_owned()),
            conditions: vec![condition],
            next_change: Some(START),
        })
    }

    async fn preview(&self, clause: &str, sample_max: usize, fresh: bool) -> Result<Preview, SegmentQueryError> {
        match clause {
            ENDLESS => std::future::pending().await,
            HUGE => Err(SegmentQueryError::TooLarge),
            DEFECT => Err(SegmentQueryError::Failed("Binder Error: there is no column u".to_owned())),
            _ => {
                let sample = [UserId(1)].into_iter().take(sample_max).collect();
                let as_of = Timestamp(START.0 - i64::from(!fresh));
                Ok(Preview { size: 7, sample, population: 9, as_of })
            }
        }
    }

    async fn progress(&self, _: SegmentId) -> Result<BackfillProgress, SegmentQueryError> {
        Ok(BackfillProgress { version: SegmentVersion(2), ratio: 0.5, partitions: (2, 4) })
    }

    async fn wait_until_ordered(&self) -> Result<(), SegmentQueryError> {
        Ok(())
    }

    async fn wait_until_applied(&self) -> Result<(), SegmentQueryError> {
        Err(SegmentQueryError::Unavailable("a stub".to_owned()))
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(ManualClock::at(START));
        Self {
            store: Arc::new(MemoryConfigStore::default()),
            log: Arc::new(MemoryLog::new(PARTITIONS, clock.clone())),
            clock,
            sink: Arc::default(),
            holds: Arc::new(Holds::new(Arc::new(Notify::new()))),
            keys: ApiKeys::default(),
            segments: SegmentBound::of(2_000),
            stop: watch::Sender::new(false),
        }
    }

    pub(crate) fn router(&self) -> Router {
        router(self.api(), &self.keys)
    }

    pub(crate) fn api(&self) -> Api {
        Api {
            store: self.store.clone(),
            log: self.log.clone(),
            queries: Arc::new(StubQueries),
            events: self.sink.clone(),
            clock: self.clock.clone(),
            written: Arc::new(Notify::new()),
            topics: TopicNames::default(),
            segments: self.segments.clone(),
            erasure: ErasureDelays { config_store: Some(SECOND), warehouse: Some(60 * SECOND), log: None },
            stopped: self.stop.subscribe(),
        }
    }

    pub(crate) fn relay(&self) -> Relay {
        Relay::new(self.store.clone(), self.log.clone(), self.holds.clone())
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.router().oneshot(request).await.unwrap()
    }

    /// Calls with a JSON body (`Null`: none); returns the status and the JSON of the response.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let response = self.send(request.body(body).unwrap()).await;
        let status = response.status().as_u16();
        (status, serde_json::from_str(&text(response).await).unwrap())
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.call("GET", path, Value::Null).await
    }

    /// Calls and returns the response's `data`; panics unless the call succeeds.
    pub(crate) async fn data(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, mut response) = self.call(method, path, body).await;
        assert!(status < 300, "{method} {path}: {status} {response}");
        response["data"].take()
    }

    /// Runs calls that must fail: method, path, body, status, code. Every refusal has the same
    /// shape.
    pub(crate) async fn refuses(&self, cases: &[(&str, &str, Value, u16, &str)]) {
        for (method, path, body, status, code) in cases {
            let (found, response) = self.call(method, path, body.clone()).await;
            assert_eq!(
                (found, response["code"].as_str()),
                (*status, Some(*code)),
                "{method} {path} {body}: {response}"
            );
            assert!(response["data"].is_null() && response["message"].as_str().is_some_and(|text| !text.is_empty()));
        }
    }

    /// Appends a notification as a worker would.
    pub(crate) async fn notify(&self, user: i64, entered: &[i64], left: &[i64]) {
        let value = json!({"id": format!("{user}:1"), "user_id": user, "client_ref_id": null, "sequence": 1,
            "in_segments": entered, "out_segments": left, "cause": "event", "effective_at": STARTED, "at": STARTED});
        let record = NewRecord {
            topic: Topic::Notifications,
            partition: partition_of(UserId(user), PARTITIONS),
            key: user.to_string(),
            value: value.to_string().into_bytes(),
        };
        self.log.append(vec![record]).await.unwrap();
    }
}

pub(crate) async fn text(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

//! Tests the whole system in one process, with clocks that the test sets.

use std::path::Path;

use metrics_exporter_prometheus::PrometheusBuilder;
use ports::clock::{Limits, ManualClock};
use ports::records::instant;
use segment_engine::time::Timestamp;
use serde_json::{Value, json};

use super::*;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
/// 2026-01-01T00:00:00Z
const START: Timestamp = Timestamp(1_767_225_600 * SECOND);
/// How long a test waits for an effect.
const PATIENCE: Duration = Duration::from_secs(60);

struct World {
    system: Arc<ManualClock>,
    monotonic: Arc<ManualClock>,
    running: Running,
    client: reqwest::Client,
}

impl World {
    async fn start(data: &Path, segment_users: &Handle) -> Self {
        Self::start_on(data, Runtimes { workers: segment_users, storing: segment_users }).await
    }

    async fn start_on(data: &Path, runtimes: Runtimes<'_>) -> Self {
        let settings = json!({
            "data_dir": data, "partitions": 2, "unknown_users": "create", "ingestion_api_port": 0,
            "ingestion_metrics_port": 0, "segment_users_metrics_port": 0, "configuration_api_port": 0,
        });
        let settings = Settings::read(None, &settings).unwrap();
        let options = Options { insecure: false, sample_data: false, accept_loss: false, accept_clock: false };
        let page = || PrometheusBuilder::new().build_recorder().handle();
        let metrics = ByRole { ingestion: page(), segment_users: page(), configuration: page() };
        let system = Arc::new(ManualClock::at(START));
        let monotonic = Arc::new(ManualClock::at(Timestamp(DAY)));
        let limits = Limits { tolerance_micros: 60 * SECOND, settle_micros: 600 * SECOND };
        let clock = Arc::new(GuardedClock::new(system.clone(), monotonic.clone(), limits));
        let running = Running::start(&settings, options, metrics, clock, runtimes).await.unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { system, monotonic, running, client }
    }

    /// Advances both clocks.
    fn pass(&self, seconds: i64) {
        self.system.advance_micros(seconds * SECOND);
        self.monotonic.advance_micros(seconds * SECOND);
    }

    async fn get(&self, path: &str) -> Value {
        let url = format!("http://{}/api/v1{path}", self.running.addresses.configuration);
        self.client.get(url).send().await.unwrap().json().await.unwrap()
    }

    async fn post(&self, address: SocketAddr, path: &str, body: &Value) -> Value {
        let request = self.client.post(format!("http://{address}/api/v1{path}")).json(body);
        let response = request.send().await.unwrap();
        let status = response.status();
        let body = response.json().await.unwrap();
        assert!(status.is_success(), "{status}: {body}");
        body
    }

    /// Creates a segment of the users with an event in this window, and returns its id.
    async fn segment(&self, tag: &str, window: &str) -> i64 {
        let clause = format!("count(*) FILTER (WHERE created_at >= now() - INTERVAL '{window}') > 0");
        let segment = json!({"tag": tag, "whereStatement": clause});
        let made = self.post(self.running.addresses.configuration, "/segments", &segment).await;
        let id = made["data"]["id"].as_i64().unwrap();
        let progress = format!("/segments/{id}/progress");
        eventually(async || self.get(&progress).await["data"]["ratio"] == 1.0).await;
        id
    }

    /// Waits until the only user is in exactly these segments.
    async fn is_in(&self, expected: &[i64]) {
        eventually(async || {
            let user = self.get("/users/1?fresh=true").await;
            let segments = user["data"]["segments"].as_array().cloned().unwrap_or_default();
            segments.iter().filter_map(|segment| segment["segmentId"].as_i64()).eq(expected.iter().copied())
        })
        .await;
    }

    /// Returns when the only user left segments, in seconds after the start.
    async fn ends(&self) -> Vec<i64> {
        let transitions = self.get("/users/1/transitions").await;
        let ended = transitions["data"].as_array().unwrap().iter().filter(|change| change["out_segments"] != json!([]));
        let at = ended.map(|change| instant::parse(change["effective_at"].as_str().unwrap()).unwrap());
        at.map(|at| (at.0 - START.0) / SECOND).collect()
    }

    /// Returns the status of the segment service's health check, and its `clock` component.
    async fn health(&self) -> (u16, Value) {
        let url = format!("http://{}/health-check", self.running.addresses.segment_users_metrics);
        let response = self.client.get(url).send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json::<Value>().await.unwrap()["components"]["clock"].clone())
    }

    /// Returns the metrics of the clock: seconds of a doubtful jump, seconds behind the log, number
    /// of jumps.
    async fn metrics(&self) -> [f64; 3] {
        let url = format!("http://{}/metrics", self.running.addresses.segment_users_metrics);
        let page = self.client.get(url).send().await.unwrap().text().await.unwrap();
        ["uss_clock_jump_seconds ", "uss_clock_behind_seconds ", "uss_clock_jumps_total "].map(|name| {
            let value = page.lines().find_map(|line| line.strip_prefix(name));
            value.unwrap_or_else(|| panic!("no {name}in {page}")).parse().unwrap()
        })
    }
}

async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    let attempts = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, attempts).await.expect("it holds in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_of_the_clock_ends_no_window_early_and_does_not_stop_time() {
    let data = tempfile::tempdir().unwrap();
    let world = World::start(data.path(), &Handle::current()).await;
    let moment = world.segment("moment", "5 seconds").await;
    let today = world.segment("today", "1 day").await;
    world.post(world.running.addresses.ingestion, "/events", &json!({"id": "u", "id_type": "cookie"})).await;
    world.is_in(&[moment, today]).await;
    assert_eq!(world.health().await, (200, json!({"status": "ok"})));
    assert_eq!(world.metrics().await, [0.0, 0.0, 0.0]);

    // The clock is a day ahead for six seconds: the window of five seconds ends, that of a day does
    // not.
    world.system.advance_micros(DAY);
    let (status, clock) = world.health().await;
    assert_eq!((status, &clock["status"], &clock["code"]), (200, &json!("warning"), &json!("CLOCK_JUMPED")));
    assert_eq!(world.metrics().await, [86_400.0, 0.0, 1.0]);
    let clock_page = world.get("/clock").await;
    let data = (
        &clock_page["data"]["jumpSeconds"],
        &clock_page["data"]["takenInSeconds"],
        &clock_page["data"]["warning"]["code"],
    );
    assert_eq!(data, (&json!(86_400.0), &json!(600.0), &json!("CLOCK_JUMPED")));
    world.pass(6);
    world.is_in(&[today]).await;
    assert_eq!(world.ends().await, [5]);
    world.system.advance_micros(-DAY);
    assert_eq!(world.health().await, (200, json!({"status": "ok"})));
    assert_eq!(world.metrics().await, [0.0, 0.0, 1.0]);

    // Time goes on: another event has another window of five seconds.
    world.post(world.running.addresses.ingestion, "/events", &json!({"id": "u", "id_type": "cookie"})).await;
    world.is_in(&[moment, today]).await;
    world.pass(6);
    world.is_in(&[today]).await;
    assert_eq!(world.ends().await, [5, 11]);

    // The year 2099 is accepted only when an operator accepts it.
    world.system.advance_micros(73 * 365 * DAY);
    world.pass(3_600);
    let clock_page = world.get("/clock").await["data"].clone();
    assert_eq!((&clock_page["warning"]["code"], &clock_page["takenInSeconds"]), (&json!("CLOCK_JUMPED"), &Value::Null));
    world.is_in(&[today]).await;
    let clock_page = world.post(world.running.addresses.configuration, "/clock/accept", &json!({})).await;
    assert_eq!((&clock_page["data"]["warning"], &clock_page["data"]["jumpSeconds"]), (&Value::Null, &Value::Null));
    world.is_in(&[]).await;
    assert_eq!(world.ends().await, [5, 11, 86_406]);

    // The way back is a jump, too. When it has lasted, time waits for the clock, and a warning says
    // so.
    world.system.advance_micros(-73 * 365 * DAY);
    assert_eq!(world.metrics().await[0], -73.0 * 365.0 * 86_400.0);
    world.pass(600);
    let (status, clock) = world.health().await;
    assert_eq!((status, &clock["code"]), (200, &json!("CLOCK_BEHIND")));
    assert!(world.metrics().await[1] > 72.0 * 365.0 * 86_400.0);
    world.running.stop().await;
}

#[test]
fn the_ports_answer_while_every_thread_of_the_segment_service_computes() {
    let (data, segment_users) = (tempfile::tempdir().unwrap(), runtime("segment-users").unwrap());
    let storing = runtime("storing").unwrap();
    runtime("ports").unwrap().block_on(async {
        let runtimes = Runtimes { workers: segment_users.handle(), storing: storing.handle() };
        let world = World::start_on(data.path(), runtimes).await;
        let tasks = [&segment_users, &storing].map(|runtime| runtime.metrics().num_alive_tasks());
        assert!(tasks[0] >= 2, "a worker for each partition: {tasks:?}");
        assert!(tasks[1] >= 4, "an archiver and a membership writer for each: {tasks:?}");
        let (computes, mut computing) = tokio::sync::mpsc::unbounded_channel();
        let mut computations = Vec::new();
        for _ in 0..segment_users.metrics().num_workers() {
            let ((until, ended), computes) = (std::sync::mpsc::channel::<()>(), computes.clone());
            segment_users.spawn(async move {
                let name = std::thread::current().name().map(str::to_owned);
                computes.send(name).unwrap();
                // Ends when the sender is dropped.
                let _ = ended.recv();
            });
            computations.push(until);
        }
        for _ in &computations {
            let name = tokio::time::timeout(PATIENCE, computing.recv()).await.expect("every thread takes one");
            assert_eq!(name.flatten().as_deref(), Some("segment-users"));
        }
        assert_eq!(world.health().await.0, 200);
        world.post(world.running.addresses.ingestion, "/events", &json!({"id": "u", "id_type": "cookie"})).await;
        assert_eq!(world.get("/segments").await["data"], json!([]));
        drop(computations);
        world.is_in(&[]).await;
        world.running.stop().await;
    });
}

//! Tests how a start checks the machine's clock against the last time in the log.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::path::Path;
use std::sync::Arc;

use ports::clock::{Clock, ManualClock, SystemClock};
use ports::log::{Log, NewRecord, Topic};
use segment_engine::ids::PartitionId;
use segment_engine::time::Timestamp;
use serde_json::json;
use support::{Launch, text};

const HOUR: i64 = 3_600_000_000;
const YEAR: i64 = 365 * 24 * HOUR;

/// Makes a data folder whose log ends at a time.
async fn log_of(data: &Path, last: Timestamp) {
    let (log, _) = adapters::embedded::open(&data.join("log"), 16, Arc::new(ManualClock::at(last))).unwrap();
    let record =
        NewRecord { topic: Topic::Errors, partition: PartitionId::ONLY, key: String::new(), value: b"{}".to_vec() };
    assert_eq!(log.append(vec![record]).await.unwrap()[0].appended_at, last);
}

fn ago(micros: i64) -> Timestamp {
    Timestamp(SystemClock.now().0 - micros)
}

#[tokio::test]
async fn a_clock_that_is_years_ahead_of_the_log_must_be_accepted() {
    let data = tempfile::tempdir().unwrap();
    log_of(data.path(), ago(3 * YEAR)).await;
    let launch = Launch::new(data.path());
    let refused = launch.try_start().err().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", refused.message);
    assert!(refused.message.contains("--accept-clock"), "{}", refused.message);
    assert!(!data.path().join("config.sqlite").exists(), "no time of a wrong clock was written");
    let server = launch.clone().flag("--accept-clock").start();
    assert_eq!(server.get("/clock").await.body["data"]["warning"], json!(null));
}

#[tokio::test]
async fn an_outage_of_months_needs_no_confirmation() {
    let data = tempfile::tempdir().unwrap();
    log_of(data.path(), ago(YEAR / 2)).await;
    let server = Launch::new(data.path()).start();
    assert_eq!(server.get("/clock").await.body["data"]["warning"], json!(null));
}

#[tokio::test]
async fn a_clock_behind_the_log_is_reported() {
    let data = tempfile::tempdir().unwrap();
    log_of(data.path(), ago(-2 * HOUR)).await;
    let server = Launch::new(data.path()).start();
    let clock = server.get("/clock").await.body["data"].clone();
    assert_eq!(clock["warning"]["code"], "CLOCK_BEHIND", "{clock}");
    let behind = clock["behindSeconds"].as_f64().unwrap();
    assert!(behind > 3_600.0 && behind <= 7_200.0, "{clock}");
    let page = text(&format!("{}/metrics", server.metrics[1])).await;
    let metric = page.lines().find_map(|line| line.strip_prefix("uss_clock_behind_seconds ")).unwrap();
    assert!(metric.parse::<f64>().unwrap() > 3_600.0, "{metric}");
    let health = text(&format!("{}/health-check", server.metrics[1])).await;
    let health: serde_json::Value = serde_json::from_str(&health).unwrap();
    assert_eq!(health["status"], "ok", "{health}");
    assert_eq!(health["components"]["clock"]["code"], "CLOCK_BEHIND", "{health}");
}

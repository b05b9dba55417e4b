//! Tests that the metrics of the built binary agree with its API.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use support::{Launch, Server, eventually, text};

/// The metrics on the page of each role: ingestion, segment service, configuration API. `tidy`
/// checks that the reference has all metrics of the code.
const ROLES: [&[&str]; 3] = [
    &[
        "uss_build_info",
        "uss_events_total",
        "uss_http_request_duration_seconds",
        "uss_replaced_characters_events_total",
        "uss_requests_held_up",
    ],
    &[
        "uss_archiver_backlog_records",
        "uss_audit_disagreements_total",
        "uss_backfill_progress_ratio",
        "uss_build_info",
        "uss_checkpoint_age_seconds",
        "uss_checkpoint_seconds",
        "uss_clock_behind_seconds",
        "uss_clock_jump_seconds",
        "uss_clock_jumps_total",
        "uss_connections",
        "uss_consumer_lag_records",
        "uss_deadline_to_transition_seconds",
        "uss_disk_free_bytes",
        "uss_event_processing_seconds",
        "uss_event_to_transition_seconds",
        "uss_membership_backlog_records",
        "uss_segment_members",
        "uss_state_bytes",
        "uss_transitions_total",
        "uss_users",
    ],
    &["uss_build_info", "uss_http_request_duration_seconds"],
];

/// Returns the names of the metrics on a role's page.
async fn names(server: &Server, role: usize) -> Vec<String> {
    let page = text(&format!("{}/metrics", server.metrics[role])).await;
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    types.map(str::to_owned).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Returns the series of the segment service.
async fn series(server: &Server) -> BTreeMap<String, f64> {
    series_of(server, 1).await
}

/// Returns the series on a role's page: values by name with labels.
async fn series_of(server: &Server, role: usize) -> BTreeMap<String, f64> {
    let page = text(&format!("{}/metrics", server.metrics[role])).await;
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let series = lines.filter_map(|line| line.rsplit_once(' '));
    series.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
}

/// Loads the sample data, and creates a segment with a window of a second, so that time causes
/// transitions too.
async fn sample(server: &Server) -> i64 {
    let health: Value = serde_json::from_str(&text(&format!("{}/health-check", server.metrics[1])).await).unwrap();
    assert_eq!(health["status"], "ok", "{health}");
    assert_eq!(server.post("/db-actions/seed/data", &json!({})).await.status, 200);
    let moment =
        server.segment("moment", "count(*) FILTER (WHERE created_at >= now() - INTERVAL '1 second') > 0").await;
    server.in_force(moment).await;
    assert_eq!(server.post("/db-actions/seed/analytics", &json!({})).await.status, 200);
    server.event(&json!({"id": "c1d1caef-b216-4fca-bd2d-d776bd6204d6"})).await;
    moment
}

/// Returns the number of members of each segment, by its tag, from the API.
async fn members(server: &Server) -> BTreeMap<String, f64> {
    let mut members = BTreeMap::new();
    let segments = server.get("/segments").await.body;
    for segment in segments["data"].as_array().unwrap() {
        let tag = segment["tag"].as_str().unwrap().to_owned();
        let found = server.get(&format!("/users/segment/{tag}?fresh=true")).await.body;
        members.insert(tag, length(&found["data"]));
    }
    members
}

/// Returns the members by tag once the metrics agree. Between the two requests a deadline may pass,
/// so they may differ at first.
async fn agreed(server: &Server) -> BTreeMap<String, f64> {
    eventually("the metrics and the API have the same members", async || {
        let in_api = members(server).await;
        let in_metrics = of_tag(&series(server).await, "uss_segment_members");
        (in_metrics == in_api).then_some(in_api)
    })
    .await
}

fn of_tag(series: &BTreeMap<String, f64>, name: &str) -> BTreeMap<String, f64> {
    let tagged = series.iter().filter_map(|(series, value)| {
        let tag = series.strip_prefix(name)?.strip_prefix("{tag=\"")?.strip_suffix("\"}")?;
        Some((tag.to_owned(), *value))
    });
    tagged.collect()
}

/// Returns the length of a list.
fn length(list: &Value) -> f64 {
    f64::from(u32::try_from(list.as_array().unwrap().len()).unwrap())
}

#[tokio::test]
async fn the_metrics_agree_with_the_api() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::new(data.path()).start();
    let moment = sample(&server).await;
    agreed(&server).await;
    assert_eq!(series(&server).await["uss_users"], length(&server.get("/users").await.body["data"]));
    let ratios = of_tag(&series(&server).await, "uss_backfill_progress_ratio");
    assert!(ratios.len() == 4 && ratios.values().all(|ratio| *ratio == 1.0), "{ratios:?}");

    let viewers = server.segment("viewers", "count(*) FILTER (WHERE activity_type = 'page_viewed') > 0").await;
    server.in_force(viewers).await;
    assert!(agreed(&server).await["viewers"] > 10.0);

    // A deleted user leaves the segment, and a deleted segment loses its series.
    let viewer = server.get("/users/segment/viewers").await.body["data"][0]["id"].as_i64().unwrap();
    assert_eq!(server.call("DELETE", &format!("/users/{viewer}"), &json!({})).await.status, 200);
    assert_eq!(server.call("DELETE", &format!("/segments/{moment}"), &json!({})).await.status, 200);
    assert!(!agreed(&server).await.contains_key("moment"));
    let now = series(&server).await;
    assert!(!of_tag(&now, "uss_backfill_progress_ratio").contains_key("moment"));
    assert_eq!((now["uss_users"], length(&server.get("/users").await.body["data"])), (99.0, 99.0));
}

#[tokio::test]
async fn every_metric_of_the_segment_service_exists_and_lags_return_to_zero() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::new(data.path()).set("USS_CHECKPOINT_SECONDS", "1").start();
    sample(&server).await;
    let partitions = |series: &BTreeMap<String, f64>, name: &str| -> Vec<f64> {
        (0..16).map(|id| series[&format!("{name}{{partition=\"{id}\"}}")]).collect()
    };
    eventually("every metric exists, and users are in checkpoints", async || {
        (names(&server, 1).await == ROLES[1] && series(&server).await["uss_state_bytes"] > 10_000.0).then_some(())
    })
    .await;
    eventually("all records are applied and archived, and idle partitions have checkpoints", async || {
        let found = series(&server).await;
        let left = [
            "uss_consumer_lag_records",
            "uss_archiver_backlog_records",
            "uss_membership_backlog_records",
            "uss_checkpoint_age_seconds",
        ];
        left.iter().all(|name| partitions(&found, name).iter().all(|left| *left == 0.0)).then_some(())
    })
    .await;

    // The metrics are right at once after a restart.
    let before = series(&server).await;
    let server = server.stop().start();
    let after = series(&server).await;
    assert_eq!(after["uss_users"], before["uss_users"]);
    assert!(after["uss_state_bytes"] > 10_000.0);
    assert!(
        partitions(&after, "uss_checkpoint_age_seconds").iter().all(|age| *age == 0.0),
        "the stop wrote checkpoints"
    );
}

#[tokio::test]
async fn each_role_has_its_own_metrics_on_its_own_port() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::new(data.path()).start();
    sample(&server).await;
    eventually("the segment service has every metric", async || (names(&server, 1).await == ROLES[1]).then_some(()))
        .await;
    for (role, expected) in ROLES.iter().enumerate() {
        assert_eq!(names(&server, role).await, *expected, "port {role}");
    }
    let routes = async |role: usize| -> BTreeSet<String> {
        let found = series_of(&server, role).await.into_keys();
        found.filter_map(|series| Some(series.split("route=\"").nth(1)?.split('"').next()?.to_owned())).collect()
    };
    assert_eq!(routes(0).await, BTreeSet::from(["/api/v1/events".to_owned()]));
    let configuration = routes(2).await;
    assert!(configuration.contains("/api/v1/segments"), "{configuration:?}");
    assert!(!configuration.contains("/api/v1/events"), "{configuration:?}");
    // The events of the sample data count too.
    assert!(series_of(&server, 0).await["uss_events_total{outcome=\"accepted\"}"] > 1_000.0);
}

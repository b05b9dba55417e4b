//! Tests the tour of the documentation, step by step, against the built binary.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use support::{Launch, eventually, micros, text, user_record};

const SAMPLE_USER: &str = "c1d1caef-b216-4fca-bd2d-d776bd6204d6";

fn sample_event() -> Value {
    json!({
        "id": SAMPLE_USER, "id_type": "cookie", "region": "California", "device_type": "mobile", "country": "US",
        "created_at": "2023-10-31T00:00:00",
        "payload": {
            "activity_type": "page_viewed", "url": "http://myawesomeproduct", "order_total": "", "order_id": "",
            "element_id": ""
        }
    })
}

/// Loads the sample users and segments, and waits until the segments are in force. Later
/// transitions have the cause `event`, not `backfill`.
async fn seed(server: &support::Server) {
    assert_eq!(server.post("/db-actions/seed/data", &json!({})).await.status, 200);
    for (_, segment) in segment_ids(server).await {
        server.in_force(segment).await;
    }
}

async fn segment_ids(server: &support::Server) -> Vec<(String, i64)> {
    let segments = server.get("/segments").await.body;
    let named = segments["data"].as_array().unwrap().iter();
    named.map(|segment| (segment["tag"].as_str().unwrap().to_owned(), segment["id"].as_i64().unwrap())).collect()
}

#[tokio::test]
async fn the_sample_data_is_loaded_only_one_time_and_its_segments_have_members() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::new(data.path()).start();
    let unseeded = server.post("/db-actions/seed/analytics", &json!({})).await;
    assert_eq!((unseeded.status, &unseeded.body), (200, &json!({"data": false})), "there are no users yet");
    for _ in 0..2 {
        let seeded = server.post("/db-actions/seed/data", &json!({})).await;
        assert_eq!((seeded.status, &seeded.body), (200, &json!({"data": true})));
    }
    let users = server.get("/users").await.body;
    assert_eq!(users["data"].as_array().unwrap().len(), 100);
    assert_eq!((&users["data"][0]["id"], &users["data"][0]["clientRefId"]), (&json!(1), &json!(SAMPLE_USER)));
    let codes: Vec<Value> =
        server.get("/activities").await.body["data"].as_array().unwrap().iter().map(|it| it["code"].clone()).collect();
    assert_eq!(codes, ["page_element_clicked", "page_viewed", "product_purchased"]);
    let segments = segment_ids(&server).await;
    let tags: Vec<&str> = segments.iter().map(|(tag, _)| tag.as_str()).collect();
    assert_eq!(tags, ["active_visitor", "area_no_buyers", "mobile_no_recent_activity"]);

    let seeded = server.post("/db-actions/seed/analytics", &json!({})).await;
    assert_eq!((seeded.status, &seeded.body), (200, &json!({"data": true})));
    for (tag, id) in segments {
        server.in_force(id).await;
        let members = server.get(&format!("/users/segment/{tag}?fresh=true")).await.body;
        let count = members["data"].as_array().unwrap().len();
        assert!((5..=30).contains(&count), "{tag} has {count} members");
        let clause = server.get(&format!("/segments/{id}")).await.body["data"]["whereStatement"].clone();
        eventually(&format!("SQL finds the {count} members of {tag}"), async || {
            let preview = server.post("/segments/preview?fresh=true", &json!({"whereStatement": clause})).await.body;
            (preview["data"]["size"] == count).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn an_event_becomes_a_membership_and_a_notification() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::new(data.path()).start();
    seed(&server).await;
    let segments = segment_ids(&server).await;
    let area = segments.iter().find(|(tag, _)| tag == "area_no_buyers").unwrap().1;

    let accepted = server.event(&sample_event()).await;
    assert_eq!((accepted.status, &accepted.body), (200, &json!({"ok": true, "error": null})));
    assert_eq!(server.segments_of(1).await, [area]);
    let members = server.get("/users/segment/area_no_buyers?fresh=true").await.body;
    assert_eq!(members["data"].as_array().unwrap().len(), 1);
    assert_eq!(members["data"][0]["clientRefId"], SAMPLE_USER);

    let found = server.get(&format!("/users?clientRefId={SAMPLE_USER}")).await.body;
    assert_eq!(found["data"]["id"], 1);
    let there: Value =
        serde_json::from_str(&text(&format!("{}/api/v1/users?clientRefId={SAMPLE_USER}", server.ingestion)).await)
            .unwrap();
    assert_eq!(there["data"]["id"], 1, "the look-up on the ingestion port: {there}");
    assert_eq!(server.get("/users?clientRefId=nobody").await.body, json!({"data": null}));
    let missing = server.get("/segments/99").await;
    assert_eq!((missing.status, &missing.body["code"]), (404, &json!("SEGMENT_NOT_FOUND")));

    // area_no_buyers belongs to another activity. The other two segments are generic.
    let generic = server.get("/segments/generics-and-by/page_viewed").await.body;
    let tags: Vec<&Value> = generic["data"].as_array().unwrap().iter().map(|segment| &segment["tag"]).collect();
    assert_eq!(tags, ["active_visitor", "mobile_no_recent_activity"]);

    let events = server.records("event_ingested_topic").await;
    let event = events.iter().find(|record| record["value"]["payload"].is_object()).unwrap();
    assert_eq!((&event["key"], &event["value"]["user_id"]), (&json!("1"), &json!(1)));
    assert_eq!(event["value"]["client_ref_id"], SAMPLE_USER);
    assert_eq!(micros(&event["value"]["created_at"]), 1_698_710_400_000_000, "a time without an offset is UTC");

    let emitted = server.records("user_segment_notification_topic").await;
    assert_eq!(emitted.len(), 1, "{emitted:?}");
    let notification = &emitted[0]["value"];
    for (name, value) in [
        ("id", json!("1:1")),
        ("user_id", json!(1)),
        ("sequence", json!(1)),
        ("in_segments", json!([area])),
        ("out_segments", json!([])),
        ("cause", json!("event")),
        ("client_ref_id", json!(SAMPLE_USER)),
    ] {
        assert_eq!(notification[name], value, "{name} of {notification}");
    }
    assert_eq!(
        micros(&notification["effective_at"]),
        micros(&event["appendedAt"]),
        "an event's instant is its receipt"
    );
    assert!(micros(&notification["at"]) >= micros(&notification["effective_at"]));
}

#[tokio::test]
async fn the_environment_names_the_topics() {
    let data = tempfile::tempdir().unwrap();
    let launch = Launch::new(data.path()).set("EVENT_INGESTED_TOPIC", "events_in").set("ERROR_TOPIC", "404");
    let server = launch.set("NOTIFICATION_TOPIC", "emitted").set("USS_CONFIG_TOPIC", "config").start();
    server.event(&sample_event()).await;
    assert_eq!(server.records("404").await[0]["value"]["code"], "USER_NOT_FOUND");
    let topics = server.get("/topics").await.body;
    let names: Vec<&Value> = topics["data"].as_array().unwrap().iter().map(|topic| &topic["name"]).collect();
    assert_eq!(names, ["events_in", "404", "emitted", "config"]);
}

#[tokio::test]
async fn a_live_stream_ends_cleanly_when_the_server_stops() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::new(data.path()).start();
    let segment = server.segment("everyone", "").await;
    server.in_force(segment).await;
    let user = server.user("a").await;
    assert_eq!(server.segments_of(user).await, [segment]);
    let from: Vec<String> = (0..16).map(|partition| format!("{partition}:0")).collect();
    let url = format!("{}/api/v1/transitions/stream?from={}", server.configuration, from.join(","));
    let stream = server.client().get(url).send().await.unwrap();
    server.stop();
    // A stream that is cut off returns an error here.
    let streamed = stream.text().await.unwrap();
    assert!(streamed.contains("event: transition") && streamed.contains("\"in_segments\":[1]"), "{streamed}");
}

#[tokio::test]
async fn an_event_of_an_unknown_user_is_refused_and_becomes_a_dead_letter() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::new(data.path()).start();
    let refused = server.event(&sample_event()).await;
    assert_eq!((refused.status, &refused.body["ok"]), (404, &json!(false)));
    assert_eq!(refused.body["error"], "USER_NOT_FOUND");
    let errors = server.records("error_topic").await;
    assert_eq!(errors.len(), 1);
    let (key, error) = (&errors[0]["key"], &errors[0]["value"]);
    assert_eq!((key, &error["error_type"]), (&json!(SAMPLE_USER), &json!("ingest_event_error")));
    let data = &error["data"];
    assert_eq!((&data["user_id"], &data["client_ref_id"]), (&Value::Null, &json!(SAMPLE_USER)));
    assert_eq!(data["payload"], sample_event()["payload"], "the event as it was sent");

    // The cache does not remember that the user was unknown.
    server.user(SAMPLE_USER).await;
    assert_eq!(server.event(&sample_event()).await.status, 200);
}

#[tokio::test]
async fn a_record_that_cannot_be_applied_is_reported_and_the_partition_goes_on() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::new(data.path()).start();
    let user = server.user("someone").await;
    let segment = server.segment("seen", "count(*) > 0").await;
    server.in_force(segment).await;
    let launch = server.stop();
    launch.append(user_record(user, br#"{"type":"of the future","user_id":1}"#)).await;
    let server = launch.start();
    assert_eq!(server.event(&json!({"id": "someone"})).await.status, 200);
    assert_eq!(server.segments_of(user).await, [segment]);
    let errors = server.records("error_topic").await;
    assert_eq!(errors.len(), 1, "{errors:?}");
    let error = &errors[0]["value"];
    assert_eq!(error["error_type"], "segment_computation_error");
    assert_eq!(error["data"]["record"]["type"], "of the future");
    let position = &error["data"]["position"];
    assert!(position["partition"].is_u64() && position["offset"].is_u64(), "{error}");
    // A restart does not report it again.
    let server = server.kill().start();
    assert_eq!(server.segments_of(user).await, [segment]);
    assert_eq!(server.records("error_topic").await.len(), 1);
}

#[tokio::test]
async fn a_user_created_for_an_unknown_identity_is_found_by_its_id() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::new(data.path()).start();
    for id_type in ["customer", "device"] {
        let event = json!({"id": "01427", "id_type": id_type, "payload": {}});
        let url = format!("{}/api/v1/events?unknown_users=create", server.ingestion);
        let accepted = support::response_to(server.client().post(url).json(&event)).await.unwrap();
        assert_eq!((accepted.status, &accepted.body["ok"]), (200, &json!(true)));
    }
    let users = server.get("/users").await.body;
    assert_eq!(users["data"].as_array().unwrap().len(), 2, "equal ids of different types are two people: {users}");
    let found = server.get("/users?clientRefId=01427").await.body;
    assert_eq!((&found["data"]["id"], &found["data"]["clientRefId"]), (&json!(1), &json!("01427")), "{found}");
    let path = format!("{}/api/v1/users?clientRefId=01427", server.ingestion);
    let there: Value = serde_json::from_str(&text(&path).await).unwrap();
    assert_eq!((&there["data"]["id"], &there["data"]["clientRefId"]), (&json!(1), &json!("01427")), "{there}");
}

#[tokio::test]
async fn sample_data_is_only_loaded_into_an_empty_data_folder() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("data");
    let refused = Launch::new(&folder).flag("--sample-data").set("USS_UNKNOWN_USERS", "maybe").try_start();
    assert!(refused.is_err_and(|refused| refused.message.contains("use reject or create")));
    assert!(!folder.exists(), "a refused start leaves nothing behind");
    let launch = Launch::new(&folder).flag("--sample-data").set("USS_API_KEYS", "admin:0123456789abcdef");
    let sizes = async |server: &support::Server| {
        let url = format!("{}/api/v1/db-actions/seed/data", server.configuration);
        let refused = support::response_to(server.client().post(url)).await.unwrap();
        assert_eq!(refused.status, 401, "the route needs a key, the flag does not");
        let metrics = text(&format!("{}/metrics", server.metrics[1])).await;
        metrics.lines().find_map(|line| line.strip_prefix("uss_users ")).map(str::to_owned)
    };
    let server = launch.start();
    eventually("the sample users are known", async || (sizes(&server).await? == "100").then_some(())).await;
    let server = server.stop().set("USS_API_KEYS", "").start();
    assert_eq!(server.get("/users").await.body["data"].as_array().unwrap().len(), 100);
    assert_eq!(server.get("/segments").await.body["data"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_preview_counts_all_earlier_events() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::new(data.path()).set("USS_UNKNOWN_USERS", "create").start();
    for size in [30, 60] {
        let events: String = (0..size).map(|number| format!("{{\"id\":\"user-{number}\"}}\n")).collect();
        assert_eq!(server.send("application/x-ndjson", events).await.unwrap().status, 200);
        let clause = json!({"whereStatement": "count(*) >= 1"});
        let preview = server.post("/segments/preview?fresh=true", &clause).await.body;
        assert_eq!((&preview["data"]["size"], &preview["data"]["population"]), (&json!(size), &json!(size)));
        let clause = json!({"tag": format!("seen-{size}"), "title": "Seen", "whereStatement": "count(*) >= 1"});
        let saved = server.post("/segments?estimate=true", &clause).await.body;
        assert_eq!(saved["data"]["wouldEnter"], size, "{saved}");
    }
}

#[tokio::test]
async fn the_first_event_of_a_new_user_causes_the_transition() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::new(data.path()).set("USS_UNKNOWN_USERS", "create").start();
    let everyone = server.segment("everyone", "").await;
    server.in_force(everyone).await;
    const USERS: usize = 200;
    for number in 0..USERS {
        assert_eq!(server.event(&json!({"id": format!("new-{number}")})).await.status, 200);
    }
    let emitted = eventually("every user has a notification", async || {
        let emitted = server.records("user_segment_notification_topic").await;
        (emitted.len() >= USERS).then_some(emitted)
    })
    .await;
    let causes: BTreeSet<&str> = emitted.iter().map(|record| record["value"]["cause"].as_str().unwrap()).collect();
    assert_eq!((emitted.len(), causes), (USERS, BTreeSet::from(["event"])));
}

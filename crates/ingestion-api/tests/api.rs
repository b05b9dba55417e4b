//! The ingestion API over HTTP, on ports in memory: events, users, keys, browsers.

mod support;

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use axum::body::Body;
use axum::http::Request;
use ingestion_api::dead_letter::{self, Edit, Replay};
use ingestion_api::outcome::Outcome;
use ingestion_api::{AllowedOrigins, Options};
use metrics_exporter_prometheus::PrometheusBuilder;
use ports::ErrorCode;
use ports::log::{Log, Topic, partition_of};
use ports::records::decode::Input;
use segment_engine::event::Event;
use segment_engine::ids::UserId;
use serde_json::json;
use support::{PARTITIONS, SAMPLE, World, read};

#[tokio::test]
async fn a_single_event_is_accepted_and_stands_in_the_log() {
    let world = World::new();
    for media in ["application/json", "text/plain;charset=UTF-8"] {
        assert_eq!(world.post(media, SAMPLE).await, (200, json!({"ok": true, "error": null})));
    }
    let events = world.events().await;
    assert_eq!(events.len(), 2);
    assert_eq!((events[0].user_id, &*events[0].client_ref_id), (UserId(1), "a"));
    assert_eq!(events[0].created_at, events[0].processed_at);
    assert_eq!(events[0].order_total, None);
    assert_eq!(world.identities.calls(), 1, "the second time it is known without a call");
}

#[tokio::test]
async fn bad_events_have_a_status_a_code_and_a_record() {
    let world = World::new();
    let large = format!(r#"{{"id":"a","x":"{}"}}"#, "x".repeat(1 << 20));
    let cases = [
        (r#"{"id":"nobody"}"#, 404, "USER_NOT_FOUND", json!({"user_id": null, "client_ref_id": "nobody"})),
        (
            r#"{"id":"a","created_at":"x"}"#,
            400,
            "INVALID_CREATED_AT",
            json!({"user_id": null, "client_ref_id": "a", "created_at": "x"}),
        ),
        ("{broken", 400, "INVALID_JSON", json!({"raw": "e2Jyb2tlbg=="})),
        ("[1,", 400, "INVALID_JSON", json!({"raw": "WzEs"})),
    ];
    for (at, (event, status, code, data)) in cases.into_iter().enumerate() {
        let (found, body) = world.post("application/json", event).await;
        assert_eq!(
            (found, &body["ok"], &body["error"], &body["code"]),
            (status, &json!(false), &json!(code), &json!(code))
        );
        let error = &world.errors().await[at];
        assert_eq!((&error["error_type"], &error["code"]), (&json!("ingest_event_error"), &json!(code)));
        assert_eq!(error["data"], data);
    }
    let (status, body) = world.post("application/json", large.clone()).await;
    assert_eq!((status, &body["code"]), (413, &json!("EVENT_TOO_LARGE")));
    let error = world.errors().await.pop().unwrap();
    assert_eq!(error["data"]["length"], large.len());
    assert_eq!(error["data"]["raw"].as_str().unwrap().len(), (256_usize << 10).div_ceil(3) * 4);
    assert!(world.events().await.is_empty());
}

#[tokio::test]
async fn nothing_is_stored_while_users_cannot_be_looked_up() {
    let world = World::new();
    world.identities.set_down(true);
    for (media, body) in [
        ("application/json", SAMPLE.to_owned()),
        ("application/json", format!("[{SAMPLE},5]")),
        ("application/x-ndjson", format!("5\n{SAMPLE}\n")),
    ] {
        let (status, answer) = world.post(media, body).await;
        assert_eq!((status, &answer["code"]), (503, &json!("USERS_UNAVAILABLE")));
    }
    assert_eq!((world.events().await.len(), world.errors().await.len()), (0, 0));
    world.identities.set_down(false);
    assert_eq!(world.post("application/json", SAMPLE).await.0, 200);
}

#[tokio::test]
async fn unknown_users_are_created_when_the_request_says_so() {
    let world = World::new();
    let request = |query: &str| {
        let body = "{\"id\":\"new\"}\n{\"id\":\"new\",\"event_id\":\"e\"}\n{\"id\":\"a\"}\n";
        let request = Request::post(format!("/api/v1/events{query}")).header("content-type", "application/x-ndjson");
        request.body(Body::from(body)).unwrap()
    };
    let (_, answer) = read(world.send(request("?unknown_users=create&dedupe_forever=true")).await).await;
    assert_eq!(answer["accepted"], 3);
    let inputs = world.inputs().await;
    let made = inputs.iter().filter(|input| matches!(input, Input::User(_))).count();
    let forever =
        inputs.iter().filter(|input| matches!(input, Input::Event(delivery) if delivery.dedupe_forever)).count();
    assert_eq!((made, forever), (1, 3));
    let partition = partition_of(UserId(2), PARTITIONS);
    let records = world.log.read(Topic::Events, partition, 0, usize::MAX).await.unwrap().records;
    assert!(records[0].value.starts_with(b"{\"type\":\"user\""), "the user comes before its events");
    assert_eq!(records[0].appended_at, records[1].appended_at);
    let (status, answer) = read(world.send(request("?unknown_users=maybe")).await).await;
    assert_eq!((status, &answer["code"]), (400, &json!("INVALID_QUERY")));
}

#[tokio::test]
async fn holds_on_new_users_end_when_their_first_events_are_in_the_log() {
    let world = World::new();
    let log = world.log.clone();
    let found = Arc::new(Mutex::new(Vec::new()));
    let seen = found.clone();
    world.identities.on_release(move || {
        let read = pin!(log.read(Topic::Events, partition_of(UserId(2), PARTITIONS), 0, usize::MAX));
        let Poll::Ready(batch) = read.poll(&mut Context::from_waker(Waker::noop())) else { panic!("memory is ready") };
        seen.lock().unwrap().push(batch.unwrap().records.len());
    });
    let request = Request::post("/api/v1/events?unknown_users=create").body(Body::from("{\"id\":\"new\"}")).unwrap();
    assert_eq!(read(world.send(request).await).await.0, 200);
    assert_eq!(*found.lock().unwrap(), [2], "the user and its event");
}

#[tokio::test]
async fn unknown_users_are_asked_for_again_and_deleted_ones_are_unknown() {
    let world = World::new();
    let event = r#"{"id":"late"}"#;
    assert_eq!(world.post("application/json", event).await.0, 404);
    let user_id = world.identities.add_user("late");
    assert_eq!(world.post("application/json", event).await.0, 200);
    world.identities.delete_user(user_id);
    assert_eq!(world.post("application/json", event).await.0, 404);
}

#[tokio::test]
async fn ingest_keys_may_send_events_and_only_admin_keys_may_set_options() {
    let mut world = World::new();
    world.keys = "admin:admin-0123456789ab,ingest:ingest-0123456789".parse().unwrap();
    for (path, key, status) in [
        ("/api/v1/events", "", 401),
        ("/api/v1/events", "ingest-0123456789", 200),
        ("/api/v1/events?unknown_users=create", "ingest-0123456789", 403),
        ("/api/v1/events?dedupe_forever=true", "ingest-0123456789", 403),
        ("/api/v1/events?unknown_users=create", "admin-0123456789ab", 200),
    ] {
        let request = Request::post(path).header("authorization", format!("Bearer {key}"));
        let response = world.send(request.body(Body::from(SAMPLE)).unwrap()).await;
        assert_eq!(response.status().as_u16(), status, "{path} {key}");
    }
    let request = Request::get("/api/v1/users?clientRefId=a").header("authorization", "Bearer ingest-0123456789");
    assert_eq!(world.send(request.body(Body::empty()).unwrap()).await.status().as_u16(), 403);
    let health = world.send(Request::get("/health-check").body(Body::empty()).unwrap()).await;
    assert_eq!(health.status().as_u16(), 200);
}

#[tokio::test]
async fn browsers_of_allowed_origins_may_send() {
    let mut world = World::new();
    world.keys = "ingest:ingest-0123456789".parse().unwrap();
    world.origins = "https://shop.example, https://www.shop.example".parse().unwrap();
    for (origin, allowed) in [("https://shop.example", true), ("https://evil.example", false)] {
        let request = Request::options("/api/v1/events")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type,authorization");
        let response = world.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status().as_u16(), 200, "a preflight needs no key");
        let header = response.headers().get("access-control-allow-origin");
        assert_eq!(header.is_some_and(|value| value == origin), allowed, "{origin}");
        let credentials = response.headers().get("access-control-allow-credentials");
        assert!(credentials.is_some_and(|value| value == "true"), "a beacon sends them always");
        let request = Request::post("/api/v1/events?api_key=ingest-0123456789").header("origin", origin);
        let response = world.send(request.body(Body::from("{}")).unwrap()).await;
        assert_eq!(response.status().as_u16(), 400);
        assert_eq!(response.headers().contains_key("access-control-allow-origin"), allowed, "errors too");
    }
    world.origins = "*".parse().unwrap();
    let request = Request::options("/api/v1/events").header("origin", "https://a.example");
    let request = request.header("access-control-request-method", "POST");
    let headers = world.send(request.body(Body::empty()).unwrap()).await.headers().clone();
    assert_eq!(headers["access-control-allow-origin"], "https://a.example");
    assert!(!headers.contains_key("access-control-allow-credentials"), "no cookies for everybody");
    world.origins = "*, https://shop.example".parse().unwrap();
    for (origin, allowed) in [("https://shop.example", true), ("https://a.example", false)] {
        let request = Request::get("/api/v1/errors").header("origin", origin);
        let headers = world.send(request.body(Body::empty()).unwrap()).await.headers().clone();
        let readable = headers.contains_key("access-control-allow-origin");
        assert_eq!(readable, allowed, "{origin}: what was rejected is for admins");
    }
    assert!("shop.example".parse::<AllowedOrigins>().is_err());
}

#[tokio::test]
async fn users_are_found_by_client_id() {
    let world = World::new();
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    let (status, body) = read(world.send(get("/api/v1/users?clientRefId=a")).await).await;
    assert_eq!((status, &body["data"]["id"], &body["data"]["clientRefId"]), (200, &json!(1), &json!("a")));
    assert_eq!(read(world.send(get("/api/v1/users?clientRefId=b")).await).await, (200, json!({"data": null})));
    assert_eq!(read(world.send(get("/api/v1/users")).await).await.1["code"], "INVALID_QUERY");
}

/// Every received event has exactly one outcome: their counts add up to what was received.
#[test]
fn outcomes_are_counted() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let world = World::new();
            world.post("application/json", format!("[{SAMPLE},5,{SAMPLE}]")).await;
            world.post("application/x-ndjson", format!("{SAMPLE}\n{{\n")).await;
            world.post("application/json", "{").await;
            world.post("application/json", format!("[{SAMPLE},]")).await;
            world.post("application/json", r#"{"id":"a","time":1,"payload":{"x":"\u0000"}}"#).await;
            world.post("application/x-ndjson", "[\n{}\n]").await;
            world.post("application/json", "").await;
            world.identities.set_down(true);
            world.post("application/json", "[{\"id\":\"x\"},6]").await;
        });
    });
    let text = handle.render();
    for (outcome, number) in [("accepted", 4), ("rejected", 4), ("not_admitted", 4)] {
        let line = format!("uss_events_total{{outcome=\"{outcome}\"}} {number}\n");
        assert!(text.contains(&line), "{line}{text}");
    }
    for line in ["uss_misplaced_fields_total{meant=\"created_at\"} 1\n", "uss_replaced_characters_events_total 1\n"] {
        assert!(text.contains(line), "{line}{text}");
    }
}

#[tokio::test]
async fn dead_letters_are_edited_and_replayed() {
    let world = World::new();
    world.post("application/json", r#"{"id":"late","x":1.10,"payload":{"order_total":"ten"}}"#).await;
    world.post("application/json", "{\"id\":\"a\"").await;
    let entries = dead_letter::list(&*world.log, 0, 10).await.unwrap();
    let found: Vec<_> =
        entries.iter().map(|entry| (entry.offset, entry.key.as_str(), entry.error.code.as_str())).collect();
    assert_eq!(found, [(0, "late", "INVALID_ORDER_TOTAL"), (1, "", "INVALID_JSON")]);

    let replay = |offset, edit| {
        let ingestion = world.ingestion.clone();
        async move { ingestion.replay(offset, &edit, Options::default()).await }
    };
    let again = replay(0, Edit::None).await.unwrap();
    assert!(
        matches!(again, Replay::Sent(Outcome::Rejected(rejection)) if rejection.code == ErrorCode::InvalidOrderTotal)
    );
    assert_eq!(dead_letter::list(&*world.log, 0, 10).await.unwrap().len(), 2, "it stands there already");
    world.identities.add_user("late");
    let patch = Edit::MergePatch(json!({"payload": {"order_total": 10}}));
    assert!(matches!(replay(0, patch.clone()).await.unwrap(), Replay::Sent(Outcome::Accepted)));
    assert!(matches!(replay(0, patch).await.unwrap(), Replay::AcceptedBefore));
    let instead = Edit::Replace(json!({"id": "a"}));
    assert!(matches!(replay(1, instead).await.unwrap(), Replay::Sent(Outcome::Accepted)));
    let events = world.events().await;
    let of_late: Vec<&Event> = events.iter().filter(|event| event.user_id == UserId(2)).collect();
    assert_eq!(of_late.len(), 1, "accepted once, it is not sent again");
    assert_eq!(of_late[0].event_id.as_deref(), Some("error_topic:0"));
    assert_eq!(*of_late[0].payload, json!({"order_total": 10, "x": "1.10"}));

    for (offset, edit, message) in
        [(1, Edit::MergePatch(json!({})), "cannot be patched"), (99, Edit::None, "no record 99")]
    {
        let error = replay(offset, edit).await.unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

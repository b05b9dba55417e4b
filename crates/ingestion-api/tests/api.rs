//! The ingestion API over HTTP, on ports in memory.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::BodyExt;
use ingestion_api::mend::{self, Mending, Replay};
use ingestion_api::outcome::Outcome;
use ingestion_api::{AllowedOrigins, Ingestion, Limits, Options, UnknownUsers, router};
use metrics_exporter_prometheus::PrometheusBuilder;
use ports::clock::ManualClock;
use ports::event_sink::EventSink;
use ports::log::{Log, Topic, partition_of};
use ports::memory::{MemoryIdentities, MemoryLog};
use ports::records::decode::{Input, decode_input};
use segment_engine::event::{Event, Position, UserId};
use segment_engine::time::Timestamp;
use serde_json::{Value, json};
use tower::ServiceExt;
use uss_http::ApiKeys;

const PARTITIONS: u32 = 4;
const SAMPLE: &str = r#"{"id":"a","id_type":"cookie","payload":{"activity_type":"page_viewed","order_total":""}}"#;

struct World {
    log: Arc<MemoryLog>,
    identities: Arc<MemoryIdentities>,
    ingestion: Arc<Ingestion>,
    keys: ApiKeys,
    origins: AllowedOrigins,
}

impl World {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp(1_000_000)));
        let log = Arc::new(MemoryLog::new(PARTITIONS, clock.clone()));
        let identities = Arc::new(MemoryIdentities::new(clock.clone()));
        identities.add_user("a");
        let ingestion = Ingestion::new(log.clone(), identities.clone(), clock, limits, UnknownUsers::Reject);
        let (keys, origins) = (ApiKeys::default(), AllowedOrigins::default());
        Self { log, identities, ingestion: Arc::new(ingestion), keys, origins }
    }

    fn router(&self) -> Router {
        router(self.ingestion.clone(), &self.keys, &self.origins)
    }

    async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.router().oneshot(request).await.unwrap()
    }

    async fn post(&self, media: &str, body: impl Into<Body>) -> (u16, Value) {
        let request = Request::post("/api/v1/events").header("content-type", media).body(body.into()).unwrap();
        read(self.send(request).await).await
    }

    async fn inputs(&self) -> Vec<Input> {
        let mut inputs = Vec::new();
        for partition in 0..PARTITIONS {
            for record in self.log.read(Topic::Events, partition, 0, usize::MAX).await.unwrap().records {
                let position = Position { partition, offset: record.offset };
                let input = decode_input(&record.value, position, record.appended_at).unwrap();
                if let Input::Event(delivery) = &input {
                    let user_id = delivery.event.user_id;
                    assert_eq!((record.key, partition), (user_id.to_string(), partition_of(user_id.0, PARTITIONS)));
                }
                inputs.push(input);
            }
        }
        inputs
    }

    async fn events(&self) -> Vec<Event> {
        let events = self.inputs().await.into_iter().filter_map(|input| match input {
            Input::Event(delivery) => Some(delivery.event),
            _ => None,
        });
        events.collect()
    }

    async fn errors(&self) -> Vec<Value> {
        let batch = self.log.read(Topic::Errors, 0, 0, usize::MAX).await.unwrap();
        batch.records.iter().map(|record| serde_json::from_slice(&record.value).unwrap()).collect()
    }
}

async fn read(response: Response<Body>) -> (u16, Value) {
    let status = response.status().as_u16();
    assert_eq!(response.headers().contains_key("retry-after"), matches!(status, 429 | 503));
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

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
    assert_eq!(world.identities.calls(), 1, "the second time the cache knows");
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
async fn requests_that_are_no_events_are_refused() {
    let limits = Limits { body_bytes_max: 1_000, array_events_max: 3, ..Limits::default() };
    let world = World::with(limits);
    let long = " ".repeat(1_001);
    let cases = [
        ("application/json", "", 400, "EMPTY_BODY"),
        ("application/json", &long, 413, "BODY_TOO_LARGE"),
        ("application/json", "[1,1,1,1]", 413, "TOO_MANY_EVENTS"),
        ("text/html", "{}", 415, "UNSUPPORTED_MEDIA_TYPE"),
    ];
    for (media, body, status, code) in cases {
        let (found, answer) = world.post(media, body.to_owned()).await;
        assert_eq!((found, &answer["code"]), (status, &json!(code)));
    }
    assert_eq!((world.errors().await.len(), world.events().await.len()), (0, 0));
}

/// 10,000 events of which one is bad, by every way in.
#[tokio::test]
async fn one_bad_event_never_costs_the_good_ones() {
    let mut events = vec![SAMPLE; 10_000];
    events[4_321] = r#"{"id":"a","payload":{"order_total":"ten"}}"#;
    let array = format!("[{}]", events.join(",\n"));
    let lines = events.join("\n");
    for (media, body) in [("application/json", array), ("application/x-ndjson", lines)] {
        let world = World::new();
        let (status, answer) = world.post(media, body).await;
        assert_eq!((status, &answer["ok"], &answer["accepted"]), (200, &json!(false), &json!(9_999)));
        assert_eq!(answer["rejected"][0]["index"], 4_321);
        assert_eq!(answer["rejected"][0]["code"], "INVALID_ORDER_TOTAL");
        assert_eq!((answer["rejected"].as_array().unwrap().len(), &answer["not_admitted"]), (1, &json!([])));
        assert_eq!((world.events().await.len(), world.errors().await.len()), (9_999, 1));
    }
    let world = World::new();
    let values = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let outcome = world.ingestion.submit(values).await;
    assert_eq!((outcome.accepted, outcome.rejected[0].index, outcome.not_admitted.len()), (9_999, 4_321, 0));
}

#[tokio::test]
async fn one_event_that_nests_too_deep_is_one_bad_event() {
    let world = World::new();
    let nested = |levels: usize| format!(r#"{{"id":"a","x":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
    let (_, answer) = world.post("application/json", format!("[{SAMPLE},{},{}]", nested(400), nested(63))).await;
    assert_eq!((&answer["accepted"], &answer["rejected"][0]["index"]), (&json!(2), &json!(1)));
    assert_eq!(world.events().await.len(), 2);
}

#[tokio::test]
async fn an_empty_batch_is_fine() {
    let world = World::new();
    let empty = json!({"ok": true, "accepted": 0, "rejected": [], "not_admitted": []});
    assert_eq!(world.post("application/json", "[]").await, (200, empty.clone()));
    assert_eq!(world.post("application/x-ndjson", "\n\n").await, (200, empty));
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
async fn a_stream_that_cannot_go_on_answers_every_event() {
    let world = World::with(Limits { chunk_events_max: 2, ..Limits::default() });
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    let world = Arc::new(world);
    let answer = tokio::spawn({
        let world = world.clone();
        async move { world.post("application/x-ndjson", Body::from_stream(stream)).await }
    });
    sender.send(Ok(Bytes::from(format!("{SAMPLE}\n5\n")))).await.unwrap();
    world.log.wait_for(Topic::Errors, 0, 0).await;
    world.identities.set_down(true);
    sender.send(Ok(Bytes::from("{\"id\":\"b\"}\n{\"id\":\"c\"}\n{\"id\":\"d\"}\n"))).await.unwrap();
    let (status, answer) = answer.await.unwrap();
    assert_eq!((status, &answer["ok"], &answer["accepted"]), (200, &json!(false), &json!(1)));
    assert_eq!(answer["rejected"][0]["index"], 1);
    let indexes: Vec<u64> =
        answer["not_admitted"].as_array().unwrap().iter().map(|entry| entry["index"].as_u64().unwrap()).collect();
    assert_eq!((indexes, &answer["not_read_from"]), (vec![2, 3, 4], &json!(5)));
}

#[tokio::test]
async fn events_of_a_slow_stream_do_not_wait_for_a_full_chunk() {
    let world = Arc::new(World::with(Limits { chunk_linger: Duration::from_millis(1), ..Limits::default() }));
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    let answer = tokio::spawn({
        let world = world.clone();
        async move { world.post("application/x-ndjson", Body::from_stream(stream)).await }
    });
    let partition = partition_of(1, PARTITIONS);
    for offset in 0..3 {
        sender.send(Ok(Bytes::from(format!("{SAMPLE}\n")))).await.unwrap();
        world.log.wait_for(Topic::Events, partition, offset).await;
    }
    sender.send(Ok(Bytes::from("{\"id\":"))).await.unwrap();
    sender.send(Err(std::io::Error::other("gone"))).await.unwrap();
    let (status, answer) = answer.await.unwrap();
    assert_eq!((status, &answer["accepted"], &answer["rejected"]), (200, &json!(3), &json!([])));
    assert_eq!(
        (&answer["not_admitted"][0]["index"], &answer["not_admitted"][0]["code"]),
        (&json!(3), &json!("BODY_CUT_OFF"))
    );
}

#[tokio::test]
async fn a_long_answer_is_sent_while_the_request_is_read() {
    for held in [0, 100, 5_000] {
        let world = World::with(Limits { answer_bytes_held_max: held, chunk_events_max: 10, ..Limits::default() });
        let body: Vec<Result<Bytes, std::io::Error>> = (0..200).map(|_| Ok(Bytes::from("5\n"))).collect();
        let body = Body::from_stream(futures_util::stream::iter(body));
        let (status, answer) = world.post("application/x-ndjson", body).await;
        assert_eq!((status, &answer["ok"], &answer["accepted"]), (200, &json!(false), &json!(0)));
        let rejected = answer["rejected"].as_array().unwrap();
        assert!(rejected.iter().enumerate().all(|(index, entry)| entry["index"] == index));
        assert_eq!(rejected.len(), 200);
    }
}

#[tokio::test]
async fn gzip_bodies_are_read_within_the_bounds() {
    let world = World::with(Limits { line_bytes_max: 1 << 20, ..Limits::default() });
    let post = |media: &str, body: Vec<u8>| {
        let request = Request::post("/api/v1/events").header("content-type", media).header("content-encoding", "gzip");
        let request = request.body(Body::from(body)).unwrap();
        async { read(world.send(request).await).await }
    };
    assert_eq!(post("application/json", gzip(SAMPLE.as_bytes())).await.0, 200);
    let lines = format!("{SAMPLE}\n{SAMPLE}\n");
    assert_eq!(post("application/x-ndjson", gzip(lines.as_bytes())).await.1["accepted"], 2);

    let bomb = gzip(&vec![b' '; 40 << 20]);
    assert!(bomb.len() < 1 << 20);
    let (status, answer) = post("application/json", bomb.clone()).await;
    assert_eq!((status, &answer["code"]), (413, &json!("BODY_TOO_LARGE")));
    let (status, answer) = post("application/x-ndjson", bomb).await;
    assert_eq!((status, &answer["rejected"][0]["code"]), (200, &json!("EVENT_TOO_LARGE")));
    assert_eq!((&answer["accepted"], &answer["not_read_from"]), (&json!(0), &json!(1)));
    assert!(world.errors().await[0]["data"]["length"].as_u64().unwrap() < 2 << 20, "it was not unpacked to its end");

    let brotli = Request::post("/api/v1/events").header("content-encoding", "br").body(Body::from(SAMPLE)).unwrap();
    let (status, answer) = read(world.send(brotli).await).await;
    assert_eq!((status, &answer["code"]), (415, &json!("UNSUPPORTED_ENCODING")));
    let (status, answer) = post("application/json", b"no gzip".to_vec()).await;
    assert_eq!((status, &answer["code"]), (400, &json!("BODY_CUT_OFF")));
}

#[tokio::test]
async fn over_capacity_nothing_is_stored() {
    let world = World::with(Limits { in_flight_bytes_max: 4 << 10, ..Limits::default() });
    for (media, body) in
        [("application/json", format!("{SAMPLE}{}", " ".repeat(8_000))), ("application/x-ndjson", SAMPLE.into())]
    {
        let (status, answer) = world.post(media, body).await;
        assert_eq!((status, &answer["code"]), (429, &json!("OVER_CAPACITY")));
    }
    assert!(world.events().await.is_empty());
    assert_eq!(world.post("application/json", SAMPLE).await.0, 200, "what was reserved is given back");
}

#[tokio::test]
async fn unknown_users_are_made_when_asked_for() {
    let world = World::new();
    let request = |query: &str| {
        let body = "{\"id\":\"new\"}\n{\"id\":\"new\",\"event_id\":\"e\"}\n{\"id\":\"a\"}\n";
        let request = Request::post(format!("/api/v1/events{query}")).header("content-type", "application/x-ndjson");
        request.body(Body::from(body)).unwrap()
    };
    let (_, answer) = read(world.send(request("?unknown_users=create&once=true")).await).await;
    assert_eq!(answer["accepted"], 3);
    let inputs = world.inputs().await;
    let made = inputs.iter().filter(|input| matches!(input, Input::User(_))).count();
    let once = inputs.iter().filter(|input| matches!(input, Input::Event(delivery) if delivery.once)).count();
    assert_eq!((made, once), (1, 3));
    let partition = partition_of(2, PARTITIONS);
    let records = world.log.read(Topic::Events, partition, 0, usize::MAX).await.unwrap().records;
    assert!(records[0].value.starts_with(b"{\"type\":\"user\""), "the user comes before its events");
    assert_eq!(records[0].appended_at, records[1].appended_at);
    let (status, answer) = read(world.send(request("?unknown_users=maybe")).await).await;
    assert_eq!((status, &answer["code"]), (400, &json!("INVALID_QUERY")));
}

#[tokio::test]
async fn new_users_are_let_go_when_their_first_events_are_in_the_log() {
    let world = World::new();
    let log = world.log.clone();
    let found = Arc::new(Mutex::new(Vec::new()));
    let seen = found.clone();
    world.identities.on_release(move || {
        let read = pin!(log.read(Topic::Events, partition_of(2, PARTITIONS), 0, usize::MAX));
        let Poll::Ready(batch) = read.poll(&mut Context::from_waker(Waker::noop())) else { panic!("memory is ready") };
        seen.lock().unwrap().push(batch.unwrap().records.len());
    });
    let request = Request::post("/api/v1/events?unknown_users=create").body(Body::from("{\"id\":\"new\"}")).unwrap();
    assert_eq!(read(world.send(request).await).await.0, 200);
    assert_eq!(*found.lock().unwrap(), [2], "the user and its event");
}

#[tokio::test]
async fn unknown_is_never_remembered_and_deleted_users_are_forgotten() {
    let world = World::new();
    let event = r#"{"id":"late"}"#;
    assert_eq!(world.post("application/json", event).await.0, 404);
    let user_id = world.identities.add_user("late");
    assert_eq!(world.post("application/json", event).await.0, 200);
    world.identities.delete_user(user_id);
    world.ingestion.forget(user_id);
    assert_eq!(world.post("application/json", event).await.0, 404);
}

#[tokio::test]
async fn keys_decide_who_may_send_and_who_may_decide_for_users() {
    let mut world = World::new();
    world.keys = "admin:admin-0123456789ab,ingest:ingest-0123456789".parse().unwrap();
    for (path, key, status) in [
        ("/api/v1/events", "", 401),
        ("/api/v1/events", "ingest-0123456789", 200),
        ("/api/v1/events?unknown_users=create", "ingest-0123456789", 403),
        ("/api/v1/events?once=true", "ingest-0123456789", 403),
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
        let request = Request::post("/api/v1/events?api_key=ingest-0123456789").header("origin", origin);
        let response = world.send(request.body(Body::from("{}")).unwrap()).await;
        assert_eq!(response.status().as_u16(), 400);
        assert_eq!(response.headers().contains_key("access-control-allow-origin"), allowed, "errors too");
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
            world.identities.set_down(true);
            world.post("application/json", "[{\"id\":\"x\"},6]").await;
        });
    });
    let text = handle.render();
    for (outcome, number) in [("accepted", 3), ("rejected", 3), ("not_admitted", 2)] {
        let line = format!("uss_events_total{{outcome=\"{outcome}\"}} {number}\n");
        assert!(text.contains(&line), "{line}{text}");
    }
}

#[tokio::test]
async fn rejected_events_are_mended_and_replayed() {
    let world = World::new();
    world.post("application/json", r#"{"id":"late","x":1.10,"payload":{"order_total":"ten"}}"#).await;
    world.post("application/json", "{\"id\":\"a\"").await;
    let entries = mend::list(&*world.log, 0, 10).await.unwrap();
    let found: Vec<_> =
        entries.iter().map(|entry| (entry.offset, entry.key.as_str(), entry.error.code.as_str())).collect();
    assert_eq!(found, [(0, "late", "INVALID_ORDER_TOTAL"), (1, "", "INVALID_JSON")]);

    let replay = |offset, mending| {
        let ingestion = world.ingestion.clone();
        async move { ingestion.replay(offset, &mending, Options::default()).await }
    };
    let again = replay(0, Mending::AsIs).await.unwrap();
    assert!(matches!(again, Replay::Sent(Outcome::Rejected(rejection)) if rejection.code == "INVALID_ORDER_TOTAL"));
    assert_eq!(mend::list(&*world.log, 0, 10).await.unwrap().len(), 2, "it stands there already");
    world.identities.add_user("late");
    let patch = Mending::Patch(json!({"payload": {"order_total": 10}}));
    assert!(matches!(replay(0, patch.clone()).await.unwrap(), Replay::Sent(Outcome::Accepted)));
    assert!(matches!(replay(0, patch).await.unwrap(), Replay::Before));
    let instead = Mending::Instead(json!({"id": "a"}));
    assert!(matches!(replay(1, instead).await.unwrap(), Replay::Sent(Outcome::Accepted)));
    let events = world.events().await;
    let of_late: Vec<&Event> = events.iter().filter(|event| event.user_id == UserId(2)).collect();
    assert_eq!(of_late.len(), 1, "accepted once, it is not sent again");
    assert_eq!(of_late[0].event_id.as_deref(), Some("error_topic:0"));
    assert_eq!(*of_late[0].payload, json!({"order_total": 10, "x": "1.10"}));

    for (offset, mending, message) in
        [(1, Mending::Patch(json!({})), "cannot be patched"), (99, Mending::AsIs, "no record 99")]
    {
        let error = replay(offset, mending).await.unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

//! JSON bodies: one event or an array, packed or not, whole or broken.

mod support;

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::ConnectInfo;
use axum::http::Request;
use ingestion_api::Limits;
use ports::event_sink::EventSink;
use serde_json::json;
use support::{SAMPLE, World, channel, gzip, post_gzip, read};
use uss_http::pace::Pace;

#[tokio::test]
async fn requests_without_events_are_refused() {
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
    let (_, answer) = world.post("application/json", format!("[{SAMPLE},{},{}]", nested(40_000), nested(63))).await;
    assert_eq!((&answer["accepted"], &answer["rejected"][0]["index"]), (&json!(2), &json!(1)));
    assert_eq!(world.events().await.len(), 2);
}

#[tokio::test]
async fn an_empty_array_is_accepted() {
    let world = World::new();
    let empty = json!({"ok": true, "accepted": 0, "rejected": [], "not_admitted": []});
    assert_eq!(world.post("application/json", "[]").await, (200, empty.clone()));
    assert_eq!(world.post("application/x-ndjson", "\n\n").await, (200, empty));
}

#[tokio::test]
async fn whatever_is_wrong_with_an_element_costs_only_itself() {
    let large = format!(r#"{{"id":"a","x":"{}"}}"#, "x".repeat(40_000));
    let bad: [(&[u8], &str); 8] = [
        (br#"{"id":"a\ud83d"}"#, "INVALID_ID"),
        (br#"{"id":"a\u0000"}"#, "INVALID_ID"),
        (br#"{"id":"a","x":"\u00"}"#, "INVALID_JSON"),
        (b"{\"id\":\"a\",\"x\":\"\xff\"}", "INVALID_JSON"),
        (b"{\"id\":\"\xc3\"}", "INVALID_JSON"),
        (br#"{"id":"a","x":01}"#, "INVALID_JSON"),
        (br#"{"id":"a","x":1]"#, "INVALID_JSON"),
        (large.as_bytes(), "EVENT_TOO_LARGE"),
    ];
    for (element, code) in bad {
        let mut elements = vec![SAMPLE.as_bytes(); 1_000];
        elements[500] = element;
        let body = [b"[", &elements.join(&b","[..])[..], b"]"].concat();
        let world = World::new();
        let (status, answer) = world.post("application/json", body).await;
        let shown = String::from_utf8_lossy(element);
        assert_eq!((status, &answer["accepted"]), (200, &json!(999)), "{shown:.60}");
        let rejected = &answer["rejected"];
        assert_eq!((rejected.as_array().unwrap().len(), &rejected[0]["index"]), (1, &json!(500)), "{shown:.60}");
        assert_eq!(rejected[0]["code"], code, "{shown:.60}");
        assert_eq!((world.events().await.len(), world.errors().await.len()), (999, 1));
    }
}

#[tokio::test]
async fn a_broken_array_is_rejected_with_the_reason_and_kept_as_it_came() {
    let events = vec![SAMPLE; 1_000].join(",");
    for (body, message) in [
        (format!("[{events},]"), "comes before the end of the array; take it away"),
        (format!("[{events}"), "its `]` is missing"),
        (format!("[{events}] and more"), "text after the array"),
        (events.clone(), "for several events send an array"),
        (vec![SAMPLE; 1_000].join("\n"), "send lines of JSON with Content-Type: application/x-ndjson"),
    ] {
        let world = World::new();
        let (status, answer) = world.post("application/json", body.clone()).await;
        assert_eq!((status, &answer["code"]), (400, &json!("INVALID_JSON")), "{message}");
        assert!(answer["message"].as_str().unwrap().contains(message), "{answer}");
        let errors = world.errors().await;
        assert_eq!((errors.len(), world.events().await.len()), (1, 0));
        assert_eq!(errors[0]["data"]["raw"].as_str().unwrap().len(), body.len().div_ceil(3) * 4);
    }
}

#[tokio::test]
async fn an_object_around_events_is_rejected_with_advice() {
    let world = World::new();
    let events = vec![r#"{"userId":"u","event":"A"}"#; 2_000].join(",");
    for body in [r#"{"batch":[{"userId":"u"}]}"#.to_owned(), format!(r#"{{"sentAt":1,"events":[{events}]}}"#)] {
        let (status, answer) = world.post("application/json", body).await;
        assert_eq!((status, &answer["code"]), (400, &json!("EVENTS_WRAPPED")));
        let message = answer["message"].as_str().unwrap();
        assert!(message.ends_with("send an array of events itself, not an object around it"), "{message}");
    }
}

#[tokio::test]
async fn characters_that_cannot_be_stored_are_replaced() {
    let world = World::new();
    let event = r#"{"id":"a","region":"\ud83d","n\u0000":1,
        "payload":{"note":"x\u0000y","k\udc00":["\u0000"],"fine":"\ud83d\ude00 \\u0000"}}"#;
    assert_eq!(world.post("application/json", event).await.0, 200);
    let events = world.events().await;
    assert_eq!(events[0].region.as_deref(), Some("\u{fffd}"));
    let payload = json!({
        "note": "x\u{fffd}y", "k\u{fffd}": ["\u{fffd}"], "fine": "\u{1f600} \\u0000", "n\u{fffd}": 1
    });
    assert_eq!(*events[0].payload, payload);
}

#[tokio::test]
async fn a_byte_order_mark_is_skipped() {
    let world = World::new();
    let one = world.post("application/json", format!("\u{feff}{SAMPLE}")).await;
    assert_eq!(one, (200, json!({"ok": true, "error": null})));
    let (_, answer) = world.post("text/plain", format!("\u{feff}[{SAMPLE}]")).await;
    assert_eq!(answer["accepted"], 1);
    let (_, answer) = world.post("application/json", format!("[{SAMPLE},\u{feff}{SAMPLE}]")).await;
    assert_eq!((&answer["accepted"], &answer["rejected"][0]["index"]), (&json!(1), &json!(1)), "only at the start");
}

#[tokio::test]
async fn gzip_bodies_are_read_within_the_bounds() {
    let world = World::with(Limits { line_bytes_max: 1 << 20, unpacked_ratio_max: u64::MAX, ..Limits::default() });
    let post = |media: &'static str, body: Vec<u8>| async { read(world.send(post_gzip(media, body)).await).await };
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

    for damaged in [b"no gzip".to_vec(), gzip(SAMPLE.as_bytes())[..40].to_vec(), Vec::new()] {
        let (status, answer) = post("application/json", damaged).await;
        assert_eq!((status, &answer["code"]), (400, &json!("INVALID_GZIP")), "{answer}");
    }
}

#[tokio::test]
async fn every_member_of_a_gzip_body_is_read() {
    let world = World::new();
    let members: Vec<Vec<u8>> = (0..3).map(|_| gzip(format!("{SAMPLE}\n").as_bytes())).collect();
    let (status, answer) = read(world.send(post_gzip("application/x-ndjson", members.concat())).await).await;
    assert_eq!((status, &answer["ok"], &answer["accepted"]), (200, &json!(true), &json!(3)));
    let array = [gzip(format!("[{SAMPLE},").as_bytes()), gzip(b""), gzip(format!("{SAMPLE}]").as_bytes())].concat();
    let pieces = array.into_iter().map(|byte| Ok::<_, std::io::Error>(Bytes::from(vec![byte])));
    let body = Body::from_stream(futures_util::stream::iter(pieces.collect::<Vec<_>>()));
    let (_, answer) = read(world.send(post_gzip("application/json", body)).await).await;
    assert_eq!(answer["accepted"], 2, "however the members are cut");
}

#[tokio::test]
async fn an_encoding_is_read_in_any_spelling_or_refused_by_name() {
    let world = World::new();
    for (encodings, status) in [
        (vec!["GZIP"], 200),
        (vec!["x-gzip"], 200),
        (vec!["identity, gzip"], 200),
        (vec!["identity", "gzip"], 200),
        (vec!["br"], 415),
        (vec!["gzip", "gzip"], 415),
    ] {
        for path in ["/api/v1/events", "/api/v1/errors/replay"] {
            let mut request = Request::post(path).header("content-type", "application/json");
            for encoding in &encodings {
                request = request.header("content-encoding", *encoding);
            }
            let request = request.body(Body::from(gzip(SAMPLE.as_bytes()))).unwrap();
            let (found, answer) = read(world.send(request).await).await;
            assert_eq!(found, status, "{encodings:?} {answer}");
            if status == 415 {
                assert_eq!(answer["code"], "UNSUPPORTED_ENCODING");
                assert!(answer["message"].as_str().unwrap().contains("gzip"));
            }
        }
    }
}

#[tokio::test]
async fn over_capacity_nothing_is_stored() {
    let limits = Limits { in_flight_bytes_max: 16 << 10, client_bytes_max: 6 << 10, ..Limits::default() };
    let world = World::with(limits);
    let long = format!("{SAMPLE}{}", " ".repeat(20_000));
    let (status, answer) = world.post("application/json", long).await;
    assert_eq!((status, &answer["code"]), (429, &json!("OVER_CAPACITY")));
    assert!(world.events().await.is_empty());
    assert_eq!(world.post("application/json", SAMPLE).await.0, 200, "what was held is given back");
    let from = |address: &str, bytes: usize| {
        let body = format!("{SAMPLE}{}", " ".repeat(bytes));
        let mut request = Request::post("/api/v1/events").body(Body::from(body)).unwrap();
        request.extensions_mut().insert(ConnectInfo::<std::net::SocketAddr>(address.parse().unwrap()));
        async { read(world.send(request).await).await.0 }
    };
    assert_eq!(from("192.0.2.1:1", 10_000).await, 429, "more than one address may hold");
    assert_eq!(from("192.0.2.1:2", 4_000).await, 200);
}

#[tokio::test]
async fn one_client_cannot_take_the_room_of_others() {
    let limits = Limits { in_flight_bytes_max: 1 << 20, client_bytes_max: 1 << 10, ..Limits::default() };
    let world = Arc::new(World::with(limits));
    let request = |address: &str, body: Body| {
        let mut request = Request::post("/api/v1/events").body(body).unwrap();
        request.extensions_mut().insert(ConnectInfo::<std::net::SocketAddr>(address.parse().unwrap()));
        request
    };
    let (sender, body) = channel();
    let slow = tokio::spawn({
        let (world, request) = (world.clone(), request("192.0.2.1:1", body));
        async move { read(world.send(request).await).await }
    });
    for piece in [" ".repeat(1_000), String::new(), String::new()] {
        sender.send(Ok(Bytes::from(piece))).await.unwrap();
    }
    let again = request("192.0.2.1:2", Body::from(SAMPLE));
    assert_eq!(read(world.send(again).await).await.1["code"], "OVER_CAPACITY");
    let other = request("192.0.2.2:1", Body::from(SAMPLE));
    assert_eq!(world.send(other).await.status().as_u16(), 200);
    sender.send(Ok(Bytes::from("5"))).await.unwrap();
    drop(sender);
    assert_eq!(slow.await.unwrap().1["code"], "NOT_AN_OBJECT");
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_refused() {
    let bounds = [
        Limits { body_pause_max: Duration::ZERO, ..Limits::default() },
        Limits { body_pace: Pace { grace: Duration::ZERO, ..Pace::default() }, ..Limits::default() },
        Limits { body_pace: Pace { time_max: Duration::ZERO, ..Pace::default() }, ..Limits::default() },
    ];
    for limits in bounds {
        let world = World::with(limits);
        let (sender, body) = channel();
        sender.send(Ok(Bytes::from("{"))).await.unwrap();
        let (status, answer) = world.post("application/json", body).await;
        assert_eq!((status, &answer["code"]), (408, &json!("BODY_TOO_SLOW")));
        assert_eq!(world.post("application/json", SAMPLE).await.0, 200, "what is there needs no time");
        drop(sender);
    }
}

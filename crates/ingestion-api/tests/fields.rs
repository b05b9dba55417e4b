//! Fields that stand in another place than ours, and times that are ahead.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use ingestion_api::{FutureEvents, FuturePolicy, Limits};
use segment_engine::decimal::Decimal;
use segment_engine::time::Timestamp;
use serde_json::{Value, json};
use support::{SAMPLE, World};

#[tokio::test]
async fn fields_of_the_payload_may_stand_beside_the_id() {
    let world = World::new();
    let event = r#"{"id":"a","activity_type":"bought","url":"/x","order_total":19.90,"order_id":"o","element_id":"e"}"#;
    assert_eq!(world.post("application/json", event).await, (200, json!({"ok": true, "error": null})));
    let event = &world.events().await[0];
    assert_eq!((event.activity_type.as_deref(), event.url.as_deref()), (Some("bought"), Some("/x")));
    assert_eq!((event.order_id.as_deref(), event.element_id.as_deref()), (Some("o"), Some("e")));
    assert_eq!(event.order_total, Decimal::parse("19.9"));
    assert_eq!((&event.payload["activity_type"], &event.payload["order_total"]), (&json!("bought"), &json!("19.90")));
    let (status, answer) = world.post("application/json", r#"{"id":"a","order_total":"lots"}"#).await;
    assert_eq!((status, &answer["code"]), (400, &json!("INVALID_ORDER_TOTAL")));
    let both = r#"{"id":"a","url":"/beside","payload":{"url":"/own"}}"#;
    let (_, answer) = world.post("application/json", both).await;
    assert_eq!(answer["warnings"][0]["field"], "url");
    let urls: Vec<_> = world.events().await.into_iter().map(|event| event.url.unwrap()).collect();
    assert_eq!(urls, ["/x".into(), "/own".into()]);
}

/// Field, first index and number of each warning.
fn warnings(answer: &Value) -> Vec<(String, u64, u64)> {
    let of = |warning: &Value| {
        let message = warning["message"].as_str().unwrap();
        assert!(message.contains(&format!("`{}`", warning["field"].as_str().unwrap())), "{message}");
        let number = |name: &str| warning[name].as_u64().unwrap();
        (warning["field"].as_str().unwrap().to_owned(), number("index"), number("events"))
    };
    answer["warnings"].as_array().map(|list| list.iter().map(of).collect()).unwrap_or_default()
}

#[tokio::test]
async fn every_answer_names_fields_that_are_nearly_ours() {
    let world = World::new();
    let one = r#"{"id":"a","timestamp":"2026-01-01T00:00:00Z","user_id":7}"#;
    let two = r#"{"id":"a","timestamp":"2026-01-01T00:00:00Z","idType":"email"}"#;
    let bad = r#"{"id":"nobody","eventName":"x"}"#;
    let (status, answer) = world.post("application/json", one).await;
    assert_eq!((status, &answer["ok"], &answer["error"]), (200, &json!(true), &Value::Null));
    assert_eq!(warnings(&answer), [("timestamp".to_owned(), 0, 1), ("user_id".to_owned(), 0, 1)]);
    assert!(answer["warnings"][0]["message"].as_str().unwrap().contains("`created_at`"));
    let expected = [("timestamp".to_owned(), 1, 2), ("user_id".to_owned(), 1, 1), ("idType".to_owned(), 3, 1)];
    for (media, body) in [
        ("application/json", format!("[{SAMPLE},{one},{bad},{two}]")),
        ("application/x-ndjson", format!("{SAMPLE}\n{one}\n{bad}\n{two}\n")),
    ] {
        let (_, answer) = world.post(media, body).await;
        assert_eq!((&answer["accepted"], &answer["rejected"][0]["index"]), (&json!(3), &json!(2)));
        assert_eq!(warnings(&answer), expected, "{media}: of what is kept");
    }
    let events = world.events().await;
    assert_eq!(events[0].payload["timestamp"], "2026-01-01T00:00:00Z", "kept as sent");
    assert_eq!(events[0].created_at, events[0].processed_at);
    let limits = Limits { chunk_events_max: 1, ..Limits::default() };
    let (_, answer) = World::with(limits).post("application/x-ndjson", format!("{one}\n{one}\n")).await;
    assert_eq!(warnings(&answer), [("timestamp".to_owned(), 0, 2), ("user_id".to_owned(), 0, 2)], "one request");
}

#[tokio::test]
async fn events_of_the_future_are_kept_taken_as_of_now_or_rejected() {
    // It is one second after 1970 began, and clocks may be ten seconds ahead.
    let event = |second: u32| format!(r#"{{"id":"a","created_at":"1970-01-01T00:00:{second:02}Z"}}"#);
    let seconds = |seconds: i64| Timestamp(seconds * 1_000_000);
    for (events, expected) in [
        (FutureEvents::Keep, vec![seconds(11), seconds(12)]),
        (FutureEvents::Now, vec![seconds(11), seconds(1)]),
        (FutureEvents::Reject, vec![seconds(11)]),
    ] {
        let world = World::with_future(Limits::default(), FuturePolicy { events, tolerance_micros: 10_000_000 });
        let (_, answer) = world.post("application/json", format!("[{},{}]", event(11), event(12))).await;
        let found: Vec<Timestamp> = world.events().await.iter().map(|event| event.created_at).collect();
        assert_eq!(found, expected, "{events:?}");
        if events == FutureEvents::Reject {
            let rejected = &answer["rejected"][0];
            assert_eq!((&rejected["index"], &rejected["code"]), (&json!(1), &json!("FUTURE_EVENT")));
            assert_eq!(world.errors().await[0]["data"]["created_at"], "1970-01-01T00:00:12Z", "it can be replayed");
            let (status, answer) = world.post("application/json", event(12)).await;
            assert_eq!((status, &answer["code"]), (400, &json!("FUTURE_EVENT")));
        }
    }
}

//! Tests wrong input. Each case returns a clear error, and no other event is lost.

mod support;

use serde_json::{Value, json};
use support::Launch;

/// Returns an event with one field replaced.
fn with(field: &str, value: Value) -> String {
    let mut event = json!({"id": "known", "payload": {"activity_type": "page_viewed"}});
    event[field] = value;
    event.to_string()
}

#[tokio::test]
async fn a_bad_event_is_rejected_with_a_reason_and_becomes_a_dead_letter() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::new(data.path()).start();
    server.user("known").await;
    let megabyte = with("comment", json!("x".repeat(1 << 20)));
    let cases = [
        (r#"{"id": "known", "#.to_owned(), 400, "INVALID_JSON"),
        ("not JSON at all".to_owned(), 400, "INVALID_JSON"),
        ("42".to_owned(), 400, "NOT_AN_OBJECT"),
        (r#"{"payload": {}}"#.to_owned(), 400, "MISSING_ID"),
        (with("id", json!(42)), 400, "INVALID_FIELD"),
        (with("id", json!("")), 400, "INVALID_ID"),
        (with("region", json!(["California"])), 400, "INVALID_FIELD"),
        (with("payload", json!("page_viewed")), 400, "INVALID_FIELD"),
        (with("payload", json!({"activity_type": 7})), 400, "INVALID_FIELD"),
        (with("payload", json!({"order_total": "abc"})), 400, "INVALID_ORDER_TOTAL"),
        (with("created_at", json!("the day before yesterday")), 400, "INVALID_CREATED_AT"),
        (with("created_at", json!("2023-02-30T00:00:00Z")), 400, "INVALID_CREATED_AT"),
        (with("created_at", json!("9999-12-31T23:59:59-23:59")), 400, "INVALID_CREATED_AT"),
        (with("id", json!("nobody")), 404, "USER_NOT_FOUND"),
        (megabyte, 413, "EVENT_TOO_LARGE"),
    ];
    for (number, (body, status, code)) in (1..).zip(&cases) {
        let shown = body.chars().take(80).collect::<String>();
        let response = server.send("application/json", body.clone()).await.unwrap();
        assert_eq!(
            (response.status, response.body["code"].as_str()),
            (*status, Some(*code)),
            "{shown}: {}",
            response.body
        );
        assert!(
            response.body["message"].as_str().is_some_and(|message| message.len() > 10),
            "{shown}: {}",
            response.body
        );
        assert_eq!(response.body["ok"], false);
        let errors = server.records("error_topic").await;
        assert_eq!(errors.len(), number, "{shown} is on the error topic");
        assert_eq!(errors[number - 1]["value"]["code"], *code);
    }
    let empty = server.send("application/json", "").await.unwrap();
    assert_eq!((empty.status, &empty.body["code"]), (400, &json!("EMPTY_BODY")), "there is no event to reject");
    assert_eq!(server.event(&json!({"id": "known"})).await.status, 200);
    assert_eq!(server.events_of_known().await, 1, "only the good event is in the log");
    let metrics = support::text(&format!("{}/metrics", server.metrics[0])).await;
    let count = |outcome: &str| {
        let line = format!("uss_events_total{{outcome=\"{outcome}\"}} ");
        metrics.lines().find_map(|it| it.strip_prefix(&line)).map(|count| count.parse::<usize>().unwrap())
    };
    assert_eq!(
        (count("accepted"), count("rejected")),
        (Some(1), Some(cases.len())),
        "each received event is counted once"
    );
}

#[tokio::test]
async fn one_bad_event_among_ten_thousand_is_rejected_alone() {
    const EVENTS: usize = 10_000;
    const BAD: usize = 6_543;
    let data = tempfile::tempdir().unwrap();
    let server = Launch::new(data.path()).start();
    server.user("known").await;
    let mut lines = vec![with("region", json!("Nevada")); EVENTS];
    lines[BAD] = with("payload", json!({"order_total": "abc"}));
    let bodies = [("application/json", format!("[{}]", lines.join(","))), ("application/x-ndjson", lines.join("\n"))];
    for (times, (media, body)) in (1..).zip(bodies) {
        let response = server.send(media, body).await.unwrap();
        assert_eq!((response.status, &response.body["ok"]), (200, &json!(false)), "{media}: {}", response.body);
        assert_eq!(response.body["accepted"], EVENTS - 1);
        let rejected = response.body["rejected"].as_array().unwrap();
        assert_eq!(rejected.len(), 1, "{media}");
        assert_eq!((&rejected[0]["index"], &rejected[0]["code"]), (&json!(BAD), &json!("INVALID_ORDER_TOTAL")));
        assert_eq!(response.body["not_admitted"], json!([]));
        assert_eq!(server.events_of_known().await, times * (EVENTS - 1));
        assert_eq!(server.records("error_topic").await.len(), times);
    }
    let broken = server.send("application/json", format!("[{},", lines[0])).await.unwrap();
    assert_eq!((broken.status, &broken.body["ok"]), (400, &json!(false)), "{}", broken.body);
    assert_eq!(server.events_of_known().await, 2 * (EVENTS - 1), "no event of a broken array is accepted");
    let cut_off = server.send("application/x-ndjson", format!("{}\n{{\"id\":", lines[0])).await.unwrap();
    assert_eq!((&cut_off.body["accepted"], &cut_off.body["rejected"][0]["index"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn a_bad_clause_is_refused_with_its_place() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::new(data.path()).start();
    let deep = format!("{}region = 'x'{}", "(".repeat(3_000), ")".repeat(3_000));
    let nots = format!("{} region = 'x'", "NOT ".repeat(3_000));
    let sums = format!("count(*) > 1{}", " + 1".repeat(3_000));
    let clauses = [
        "region =",
        "region = 'x",
        "region = 'x\0y'",
        "(region = 'x'",
        "region > 3",
        "count(*) = 'many'",
        "sum(region) > 1",
        "count(*)",
        &deep,
        &nots,
        &sums,
        "user_id IN (SELECT user_id FROM events)",
        "EXISTS (SELECT 1)",
        "count(*) > (SELECT 1)",
        "region = 'x'; DROP TABLE events",
        "region = 'x' -- and nothing more",
        "region /* where */ = 'x'",
        "planet = 'Mars'",
        "pg_sleep(10) IS NULL",
        "region = 'x' AND count(*) > 3",
        "now() > created_at * 2",
        "extract(dow FROM now()) = extract(dow FROM created_at)",
        "count(*) > extract(hour FROM now())",
        "country = traits->>'home'",
        "region ~ '('",
    ];
    for clause in clauses {
        let shown: String = clause.chars().take(60).collect();
        for (path, body) in [
            ("/segments/validate", json!({"whereStatement": clause})),
            ("/segments/preview", json!({"whereStatement": clause})),
            ("/segments", json!({"tag": "bad", "whereStatement": clause})),
        ] {
            let response = server.post(path, &body).await;
            assert_eq!(response.status, 400, "{shown}: {}", response.body);
            assert!(response.body["code"].as_str().unwrap().starts_with("WHERE_"), "{shown}: {}", response.body);
            assert!(response.body["position"]["line"].is_u64(), "{shown}: {}", response.body);
            assert!(response.body["message"].as_str().unwrap().len() > 5, "{shown}: {}", response.body);
        }
    }
    assert_eq!(server.get("/segments").await.body, json!({"data": []}), "nothing was saved");

    // A refused edit does not change the segment.
    let segment = server.segment("good", "count(*) > 0").await;
    let refused = server.call("PUT", &format!("/segments/{segment}"), &json!({"whereStatement": "planet = 1"})).await;
    assert_eq!(refused.status, 400);
    let kept = server.get(&format!("/segments/{segment}")).await.body;
    assert_eq!(kept["data"]["whereStatement"], "count(*) > 0");
    let unknown = json!({"tag": "other", "whereStatement": "segment('missing')"});
    let refused = server.post("/segments", &unknown).await;
    assert!((400..500).contains(&refused.status) && refused.body["code"].is_string(), "{}", refused.body);
    let itself = json!({"whereStatement": "segment('good')"});
    let refused = server.call("PUT", &format!("/segments/{segment}"), &itself).await;
    assert!((400..500).contains(&refused.status), "a segment that names itself: {}", refused.body);
    let twice = server.post("/segments", &json!({"tag": "good", "whereStatement": ""})).await;
    assert_eq!(twice.status, 409, "{}", twice.body);
}

//! Tests transitions that time alone causes: windows of seconds, against the built binary and the
//! machine's clock.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use serde_json::{Value, json};
use support::{Launch, Server, eventually, micros};

const SECOND: i64 = 1_000_000;
/// How often a forecast is tried. On a busy machine its instant may have passed before the
/// response.
const TRIES: usize = 20;

/// Returns the instants of receipt of a user's events, ascending.
async fn received(server: &Server, user: i64) -> Vec<i64> {
    let records = server.records("event_ingested_topic").await;
    let key = user.to_string();
    let mine = records.iter().filter(|record| record["key"] == key.as_str() && record["value"]["type"].is_null());
    mine.map(|record| micros(&record["appendedAt"])).collect()
}

/// Returns the transitions of one segment: whether the user entered, when, and the cause.
fn of_segment(segment: i64, notifications: &[Value]) -> Vec<(bool, i64, String)> {
    let lists = |notification: &Value, name: &str| notification[name].as_array().unwrap().contains(&json!(segment));
    notifications
        .iter()
        .filter(|notification| lists(notification, "in_segments") || lists(notification, "out_segments"))
        .map(|notification| {
            let cause = notification["cause"].as_str().unwrap().to_owned();
            (lists(notification, "in_segments"), micros(&notification["effective_at"]), cause)
        })
        .collect()
}

/// Waits until the user has `count` transitions of the segment.
async fn transitions(server: &Server, user: i64, segment: i64, count: usize) -> Vec<(bool, i64, String)> {
    eventually(&format!("user {user} has {count} transitions of segment {segment}"), async || {
        let emitted = of_segment(segment, &server.transitions_of(user).await);
        (emitted.len() >= count).then_some(emitted)
    })
    .await
}

/// Explains a membership. Returns the instant, the membership, and the next change: its instant and
/// the membership from then on.
async fn forecast(server: &Server, user: i64, tag: &str) -> (i64, bool, Option<(i64, bool)>) {
    let response = server.get(&format!("/users/{user}/segments/{tag}/explain")).await;
    assert_eq!(response.status, 200, "{}", response.body);
    let explained = &response.body["data"];
    let next = &explained["nextChange"];
    let next = (!next.is_null()).then(|| (micros(&next["at"]), next["member"].as_bool().unwrap()));
    (micros(&explained["at"]), explained["member"].as_bool().unwrap(), next)
}

/// Posts the events for a new user and explains the membership. Tries with other users until the
/// response is before the deadline.
async fn forecast_in_time(server: &Server, tag: &str, events: &[Value], window: i64, enters: bool) -> (i64, i64) {
    for number in 0..TRIES {
        let client_id = format!("{tag}-{number}");
        let user = server.user(&client_id).await;
        for event in events {
            let mut event = event.clone();
            event["id"] = json!(client_id);
            let accepted = server.event(&event).await;
            assert_eq!(accepted.status, 200, "{}", accepted.body);
        }
        server.segments_of(user).await;
        let (at, member, next) = forecast(server, user, tag).await;
        let deadline = *received(server, user).await.last().unwrap() + window;
        if at < deadline {
            assert_eq!((member, next), (!enters, Some((deadline, enters))), "at {at}");
            return (user, deadline);
        }
    }
    panic!("{TRIES} forecasts were later than {window} microseconds");
}

#[tokio::test]
async fn a_buyer_enters_when_the_purchase_is_old_enough() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::new(data.path()).start();
    let clause = "count(*) FILTER (WHERE region = 'California') > 0 \
        AND count(*) FILTER (WHERE activity_type = 'product_purchased' AND created_at >= now() - INTERVAL '3 seconds') = 0";
    let segment = server.segment("area_no_buyers", clause).await;
    server.in_force(segment).await;
    let purchase = json!({"region": "California", "payload": {"activity_type": "product_purchased"}});
    let (user, deadline) =
        forecast_in_time(&server, "area_no_buyers", std::slice::from_ref(&purchase), 3 * SECOND + 1, true).await;

    let emitted = transitions(&server, user, segment, 1).await;
    assert_eq!(emitted, [(true, deadline, "time".to_owned())]);
    assert_eq!(server.segments_of(user).await, [segment]);
    assert!(forecast(&server, user, "area_no_buyers").await.1);

    // A second purchase makes the user leave at once, and enter again when it is old enough.
    let client_id = server.get(&format!("/users/{user}")).await.body["data"]["clientRefId"].clone();
    let mut again = purchase;
    again["id"] = client_id;
    assert_eq!(server.event(&again).await.status, 200);
    let emitted = transitions(&server, user, segment, 3).await;
    let bought = received(&server, user).await[1];
    assert_eq!(emitted[1..], [(false, bought, "event".to_owned()), (true, bought + 3 * SECOND + 1, "time".to_owned())]);
}

#[tokio::test]
async fn a_visitor_enters_when_the_visits_stop() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::new(data.path()).start();
    let clause = "count(*) FILTER (WHERE device_type = 'mobile' AND activity_type = 'page_viewed') >= 10 \
        AND count(*) FILTER (WHERE created_at >= now() - INTERVAL '3 seconds') = 0";
    let segment = server.segment("mobile_idle", clause).await;
    server.in_force(segment).await;
    let view = json!({"device_type": "mobile", "payload": {"activity_type": "page_viewed"}});
    let (user, deadline) = forecast_in_time(&server, "mobile_idle", &vec![view; 10], 3 * SECOND + 1, true).await;
    let emitted = transitions(&server, user, segment, 1).await;
    assert_eq!(emitted, [(true, deadline, "time".to_owned())]);
    assert_eq!(server.segments_of(user).await, [segment]);
}

#[tokio::test]
async fn a_visitor_enters_and_leaves_by_time_alone() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::new(data.path()).start();
    let window = "count(*) FILTER (WHERE created_at >= now() - INTERVAL '4 seconds' \
        AND created_at <= now() - INTERVAL '2 seconds') > 0";
    let between = server.segment("between", window).await;
    let inclusive = "count(*) FILTER (WHERE created_at >= now() - INTERVAL '2 seconds') > 0";
    let inclusive = server.segment("inclusive", inclusive).await;
    let exclusive = "count(*) FILTER (WHERE created_at > now() - INTERVAL '2 seconds') > 0";
    let exclusive = server.segment("exclusive", exclusive).await;
    for segment in [between, inclusive, exclusive] {
        server.in_force(segment).await;
    }
    let (user, enters) = forecast_in_time(&server, "between", &[json!({})], 2 * SECOND, true).await;
    let received_at = enters - 2 * SECOND;
    let time = || "time".to_owned();
    let emitted = transitions(&server, user, between, 2).await;
    assert_eq!(emitted, [(true, enters, time()), (false, received_at + 4 * SECOND + 1, time())]);
    let event = || (true, received_at, "event".to_owned());
    assert_eq!(
        transitions(&server, user, inclusive, 2).await,
        [event(), (false, received_at + 2 * SECOND + 1, time())]
    );
    assert_eq!(transitions(&server, user, exclusive, 2).await, [event(), (false, received_at + 2 * SECOND, time())]);
    assert!(server.segments_of(user).await.is_empty());

    // Transitions of one instant are one notification: `between` begins when `exclusive` ends.
    let emitted = server.transitions_of(user).await;
    let sequences: Vec<&Value> = emitted.iter().map(|notification| &notification["sequence"]).collect();
    assert_eq!(sequences, [1, 2, 3, 4]);
    assert_eq!((&emitted[1]["in_segments"], &emitted[1]["out_segments"]), (&json!([between]), &json!([exclusive])));
}

#[tokio::test]
async fn saving_a_segment_returns_how_many_users_would_enter_and_leave() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::new(data.path()).start();
    for client_id in ["a", "b", "c"] {
        server.user(client_id).await;
    }
    for client_id in ["a", "a", "b"] {
        let event = json!({"id": client_id, "id_type": "cookie", "region": "Élan", "payload": {}});
        assert_eq!(server.event(&event).await.status, 200);
    }
    eventually("the warehouse has all events", async || {
        let preview = server.post("/segments/preview", &json!({"whereStatement": "count(*) >= 2"})).await.body;
        let known = server.post("/segments/preview", &json!({"whereStatement": ""})).await.body;
        (preview["data"]["size"] == 1 && known["data"]["size"] == 3).then_some(())
    })
    .await;
    let active = json!({"tag": "active", "whereStatement": "count(*) >= 1"});
    let saved = server.post("/segments?estimate=true", &active).await;
    let segment = &saved.body["data"];
    assert_eq!((saved.status, &segment["cost"]), (201, &json!("O(1)")), "{}", saved.body);
    assert_eq!((&segment["wouldEnter"], &segment["wouldLeave"]), (&json!(2), &json!(0)), "{segment}");
    let progress = &segment["progress"];
    assert_eq!((&progress["version"], &progress["partitions"]["total"]), (&json!(1), &json!(16)), "{segment}");

    server.in_force(segment["id"].as_i64().unwrap()).await;
    eventually("both users are members", async || {
        let members = server.get("/users/segment/active?fresh=true").await.body;
        (members["data"].as_array().unwrap().len() == 2).then_some(())
    })
    .await;
    let path = format!("/segments/{}?estimate=true", segment["id"]);
    let saved = server.call("PUT", &path, &json!({"whereStatement": "count(*) <> 1"})).await;
    let segment = &saved.body["data"];
    assert_eq!((&segment["wouldEnter"], &segment["wouldLeave"]), (&json!(1), &json!(1)), "{segment}");

    // Patterns that the databases read differently have the engine's meaning.
    for (clause, size) in [(r"region ~ '^\w{4}$'", 2), (r"region ~ '(?x) ^ É l'", 2), (r"region ~* 'éLAN'", 2)] {
        let preview = server.post("/segments/preview", &json!({"whereStatement": clause})).await;
        assert_eq!((preview.status, &preview.body["data"]["size"]), (200, &json!(size)), "{clause}: {}", preview.body);
    }
    let refused = server.post("/segments/preview", &json!({"whereStatement": "region ~ 'a{1001}'"})).await;
    assert_eq!((refused.status, &refused.body["code"]), (400, &json!("WHERE_BAD_PATTERN")));
    let unknown = server.post("/segments/preview", &json!({"whereStatement": "segment('none')"})).await;
    assert_eq!((unknown.status, &unknown.body["code"]), (400, &json!("UNKNOWN_SEGMENT")));
}

#[tokio::test]
async fn an_id_of_a_deleted_merged_user_belongs_to_the_next_user_with_it() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::new(data.path()).start();
    let segment = server.segment("came", "count(*) > 0").await;
    server.in_force(segment).await;
    let (survivor, absorbed) = (server.user("a").await, server.user("b").await);
    let link = json!({"from": {"idType": "cookie", "id": "b"}, "to": {"idType": "cookie", "id": "a"}});
    let linked = server.post("/identities/link", &link).await;
    assert_eq!(linked.body["data"], json!({"userId": survivor, "absorbed": absorbed}));
    for id in ["a", "b"] {
        assert_eq!(server.event(&json!({"id": id})).await.status, 200, "the cache has the user of `{id}` now");
    }
    let deleted = server.call("DELETE", &format!("/users/{absorbed}"), &json!(null)).await;
    assert_eq!(deleted.status, 200, "{}", deleted.body);
    for id in ["a", "b"] {
        let user = server.user(id).await;
        assert_eq!(server.event(&json!({"id": id})).await.status, 200);
        assert_eq!(server.segments_of(user).await, [segment], "the event belongs to the new user `{id}`");
    }
}

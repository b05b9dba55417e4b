//! Creates, edits and deletes segments, and creates and merges users, while events flow. Only
//! differences are emitted, with their cause, and in the end SQL finds the same members.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "support/check.rs"]
mod check;
#[path = "support/load.rs"]
mod load;
mod support;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use support::{Launch, Server, eventually};
use tokio::sync::watch;

const CLIENTS: u64 = 4;
/// Users of the events that clients send meanwhile.
const BUSY: usize = 60;
/// Users with 1, 2, 3… events from before. Their transitions are known beforehand.
const STILL: i64 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_differences_are_emitted_while_events_flow() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::new(data.path()).start();
    let busy: Vec<String> = (0..BUSY).map(|number| format!("busy-{number}")).collect();
    for name in &busy {
        server.user(name).await;
    }
    let still = still_users(&server).await;
    let recent =
        server.segment("recent", "count(*) FILTER (WHERE created_at >= now() - INTERVAL '1 second') >= 1").await;
    let no_buyers =
        server.segment("no_buyers", "count(*) FILTER (WHERE activity_type = 'product_purchased') = 0").await;
    server.in_force(recent).await;
    server.in_force(no_buyers).await;

    let (_serves, serving) = watch::channel(Some((server.client(), server.ingestion.clone())));
    let (stop, stopped) = watch::channel(false);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| tokio::spawn(load::client(number, 7, busy.clone(), serving.clone(), stopped.clone())))
        .collect();

    let segment = segments_change(&server, &still).await;
    users_merge(&server).await;
    a_user_joins(&server, no_buyers).await;

    stop.send_replace(true);
    let mut acknowledged = 0;
    for client in clients {
        acknowledged += client.await.unwrap().len();
    }
    assert!(acknowledged > 0, "there was no load");
    let emitted = emitted_about(&server, segment, None).await;
    assert!(emitted.len() > still.len(), "the clients caused no transitions: {emitted:?}");
    eventually("the last windows have ended", async || {
        let recent = server.get("/users/segment/recent?fresh=true").await;
        recent.body["data"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
    let histories = check::histories(&server.records("user_segment_notification_topic").await);
    check::memberships(&server, &histories).await;
}

/// Creates users, and returns them by the number of their events.
async fn still_users(server: &Server) -> BTreeMap<i64, i64> {
    let mut users = BTreeMap::new();
    for count in 1..=STILL {
        let name = format!("still-{count}");
        users.insert(count, server.user(&name).await);
        let event = json!({"id": name, "id_type": "cookie", "payload": {"activity_type": "page_viewed"}});
        let events = Value::Array(vec![event; usize::try_from(count).unwrap()]);
        assert_eq!(server.event(&events).await.body["accepted"], count);
    }
    users
}

/// Returns the transitions of a segment, of all users or of these: user, whether the user entered,
/// cause.
async fn emitted_about(server: &Server, segment: i64, users: Option<&BTreeMap<i64, i64>>) -> Vec<(i64, bool, String)> {
    server.segments_of(1).await;
    let mut emitted = Vec::new();
    for record in server.records("user_segment_notification_topic").await {
        let notification = &record["value"];
        let user = notification["user_id"].as_i64().unwrap();
        if users.is_some_and(|users| !users.values().any(|other| *other == user)) {
            continue;
        }
        for (name, enters) in [("out_segments", false), ("in_segments", true)] {
            if notification[name].as_array().unwrap().iter().any(|id| id == segment) {
                emitted.push((user, enters, notification["cause"].as_str().unwrap().to_owned()));
            }
        }
    }
    emitted.sort();
    emitted
}

async fn segments_change(server: &Server, still: &BTreeMap<i64, i64>) -> i64 {
    let of = |counts: std::ops::RangeInclusive<i64>, enters: bool, cause: &str| {
        let users = counts.map(|count| (still[&count], enters, cause.to_owned()));
        users.collect::<Vec<_>>()
    };
    let mut expected = of(5..=STILL, true, "backfill");
    let segment = server.segment("changing", "count(*) >= 5").await;
    server.in_force(segment).await;
    assert_eq!(emitted_about(server, segment, Some(still)).await, sorted(&expected), "a new segment");

    edit(server, segment, "count(*) FILTER (WHERE activity_type = 'page_viewed') >= 15").await;
    server.in_force(segment).await;
    expected.extend(of(5..=14, false, "edit"));
    assert_eq!(emitted_about(server, segment, Some(still)).await, sorted(&expected), "an edited segment");

    // Each edit replaces the one before, whose history is still being read.
    edit(server, segment, "count(DISTINCT created_at) >= 2").await;
    edit(server, segment, "count(*) FILTER (WHERE region IS NULL) >= 10").await;
    edit(server, segment, "count(*) FILTER (WHERE device_type IS NULL) BETWEEN 3 AND 16").await;
    server.in_force(segment).await;
    let emitted = emitted_about(server, segment, Some(still)).await;
    let news: Vec<_> = emitted.iter().filter(|transition| !expected.contains(transition)).collect();
    assert!(news.iter().all(|(_, _, cause)| cause == "edit"), "{news:?}");
    let histories = check::histories(&server.records("user_segment_notification_topic").await);
    let members = |user: &i64| histories.get(user).is_some_and(|history| history.members.contains(&segment));
    let members: BTreeSet<i64> = still.iter().filter(|(_, user)| members(user)).map(|(count, _)| *count).collect();
    assert_eq!(members, (3..=16).collect(), "a segment edited while an earlier edit was waiting");

    let passing = server.segment("passing", "count(*) FILTER (WHERE country IS NULL) >= 18").await;
    server.in_force(passing).await;
    assert_eq!(server.call("DELETE", &format!("/segments/{passing}"), &Value::Null).await.status, 200);
    let mut expected = of(18..=STILL, true, "backfill");
    expected.extend(of(18..=STILL, false, "delete"));
    assert_eq!(emitted_about(server, passing, Some(still)).await, sorted(&expected), "a deleted segment");
    segment
}

async fn edit(server: &Server, segment: i64, clause: &str) {
    let path = format!("/segments/{segment}");
    let edited = server.call("PUT", &path, &json!({"whereStatement": clause})).await;
    assert_eq!(edited.status, 200, "{}", edited.body);
}

fn sorted(emitted: &[(i64, bool, String)]) -> Vec<(i64, bool, String)> {
    let mut emitted = emitted.to_vec();
    emitted.sort();
    emitted
}

/// Merges pairs of users. The absorbed user leaves all segments, with the cause `merge`.
async fn users_merge(server: &Server) {
    for pair in 0..10 {
        let key = |number: i64| json!({"idType": "cookie", "id": format!("busy-{number}")});
        let linked = server.post("/identities/link", &json!({"from": key(2 * pair), "to": key(2 * pair + 1)})).await;
        assert_eq!(linked.status, 200, "{}", linked.body);
        let absorbed = linked.body["data"]["absorbed"].as_i64().unwrap();
        server.segments_of(1).await;
        let records = server.records("user_segment_notification_topic").await;
        let of_absorbed: Vec<&Value> = records
            .iter()
            .map(|record| &record["value"])
            .filter(|notification| notification["user_id"] == absorbed)
            .collect();
        assert_eq!(of_absorbed.last().unwrap()["cause"], "merge", "{of_absorbed:?}");
        assert!(check::histories(&records)[&absorbed].members.is_empty());
    }
}

/// A new user without any events is in some segments.
async fn a_user_joins(server: &Server, segment: i64) {
    let user = server.user("newcomer").await;
    assert_eq!(server.segments_of(user).await, [segment]);
    let emitted = server.transitions_of(user).await;
    assert_eq!(emitted.len(), 1, "{emitted:?}");
    assert_eq!((&emitted[0]["cause"], &emitted[0]["in_segments"]), (&json!("user"), &json!([segment])));
}

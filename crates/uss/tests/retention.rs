//! Tests a server whose log is trimmed, and whose checkpoint is damaged afterwards.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use ports::checkpoints::{Checkpoint, CheckpointStore, Generation};
use ports::clock::SystemClock;
use ports::log::{Log, Topic, partition_of};
use segment_engine::ids::UserId;
use serde_json::json;
use support::{Launch, Server, eventually};

/// Returns the first and the next offset of the user's partition of a topic.
async fn bounds(server: &Server, topic: &str, user: i64) -> (u64, u64) {
    let topics = server.get("/topics").await.body;
    let found = topics["data"].as_array().unwrap().iter().find(|found| found["name"] == topic).unwrap();
    let bounds = &found["partitions"][partition_of(UserId(user), 16).0 as usize];
    (bounds["firstOffset"].as_u64().unwrap(), bounds["nextOffset"].as_u64().unwrap())
}

async fn send(server: &Server, events: std::ops::Range<u32>) {
    for number in events {
        let sent = server.event(&json!({"id": "known", "event_id": number.to_string()})).await;
        assert_eq!(sent.status, 200, "{}", sent.body);
    }
}

/// Replaces the latest checkpoint of the user's partition by invalid bytes, and with `kept_too`
/// also the kept checkpoint.
async fn damage(launch: &Launch, user: i64, kept_too: bool) {
    let folder = launch.data().join("log");
    let (log, checkpoints) = adapters::embedded::open(&folder, 16, Arc::new(SystemClock)).unwrap();
    let partition = partition_of(UserId(user), log.partitions());
    let (first, _) = log.bounds(Topic::Events, partition).await.unwrap();
    let marker = log.committed(partition).await.unwrap().unwrap();
    let kept = checkpoints.marker(partition, Generation::Kept).await.unwrap().unwrap();
    assert!(
        0 < first && first <= kept.next_offset && kept.next_offset < marker.next_offset,
        "{first} {kept:?} {marker:?}"
    );
    let users = vec![(UserId(user), Some(b"no block".to_vec()))];
    checkpoints
        .write(Checkpoint { partition, users, is_whole: false, partition_state: b"no state".to_vec(), marker })
        .await
        .unwrap();
    if kept_too {
        checkpoints.keep(partition).await.unwrap();
    }
}

#[tokio::test]
async fn recovery_falls_back_to_the_kept_checkpoint_after_the_log_was_trimmed() {
    let data = tempfile::tempdir().unwrap();
    let launch = Launch::new(data.path()).set("USS_CHECKPOINT_SECONDS", "1");
    let server = launch.clone().set("USS_LOG_RETENTION", "1 second").start();
    let user = server.user("known").await;
    let two = server.segment("two", "count(*) >= 2").await;
    let four = server.segment("four", "count(*) >= 4").await;
    server.in_force(four).await;
    server.event(&json!({"id": "nobody"})).await;
    send(&server, 0..3).await;
    assert_eq!(server.segments_of(user).await, [two]);
    for topic in ["event_ingested_topic", "user_segment_notification_topic"] {
        eventually(&format!("{topic} is trimmed"), async || {
            let (first, end) = bounds(&server, topic, user).await;
            (first > 0 && first == end).then_some(())
        })
        .await;
    }
    eventually("the error topic is trimmed", async || server.records("error_topic").await.is_empty().then_some(()))
        .await;
    assert_eq!(server.records("segment_config_topic").await.len(), 2, "definitions stay");
    assert!(server.records("event_ingested_topic").await.iter().all(|record| record["value"]["event_id"].is_null()));
    assert!(server.transitions_of(user).await.is_empty());

    server.stop();
    let server = launch.clone().set("USS_LOG_RETENTION", "forever").start();
    send(&server, 3..5).await;
    assert_eq!(server.segments_of(user).await, [two, four]);
    let stopped = server.stop();
    damage(&stopped, user, false).await;
    let server = stopped.start();
    assert_eq!(server.segments_of(user).await, [two, four], "from the kept checkpoint and the records after it");
    let late = server.segment("late", "count(*) >= 5").await;
    server.in_force(late).await;
    assert_eq!(server.segments_of(user).await, [two, four, late], "the history is in the warehouse");
    let transitions = server.transitions_of(user).await;
    let emitted: Vec<_> = transitions
        .iter()
        .map(|transition| (transition["sequence"].as_u64().unwrap(), transition["cause"].as_str().unwrap()))
        .collect();
    assert_eq!(emitted, [(2, "event"), (3, "backfill")], "no transition is emitted twice");

    let stopped = server.stop();
    damage(&stopped, user, true).await;
    let refused = stopped.try_start().err().unwrap();
    for part in ["the log begins at offset", "backup"] {
        assert!(refused.message.contains(part), "{}", refused.message);
    }
}

#[tokio::test]
async fn a_stream_does_not_resume_from_an_offset_that_was_trimmed() {
    let data = tempfile::tempdir().unwrap();
    let launch = Launch::new(data.path()).set("USS_CHECKPOINT_SECONDS", "1").set("USS_LOG_RETENTION", "1 second");
    let server = launch.start();
    let user = server.user("known").await;
    let segment = server.segment("seen", "count(*) >= 1").await;
    server.in_force(segment).await;
    send(&server, 0..1).await;
    eventually("the notification is trimmed", async || {
        (bounds(&server, "user_segment_notification_topic", user).await.0 > 0).then_some(())
    })
    .await;
    let beginning: Vec<String> = (0..16).map(|partition| format!("{partition}:0")).collect();
    let trimmed = server.get(&format!("/transitions/stream?from={}", beginning.join(","))).await;
    assert_eq!((trimmed.status, trimmed.body["code"].as_str()), (410, Some("POSITION_TRIMMED")), "{}", trimmed.body);
}

/// The server copies checkpoints and trims the log all the time, so that some of the kills
/// interrupt it.
#[tokio::test]
async fn kills_while_the_log_is_trimmed_lose_nothing() {
    const ROUNDS: u64 = 10;
    const USERS: u64 = 20;
    let data = tempfile::tempdir().unwrap();
    let launch = Launch::new(data.path())
        .set("USS_CHECKPOINT_SECONDS", "1")
        .set("USS_LOG_RETENTION", "1 second")
        .set("USS_UNKNOWN_USERS", "create");
    let mut random = fastrand::Rng::with_seed(8);
    let mut trimmed = 0;
    for round in 0..ROUNDS {
        let server = launch.start();
        if round == 0 {
            let many = server.segment("many", &format!("count(*) >= {ROUNDS}")).await;
            server.in_force(many).await;
        }
        for user in 0..USERS {
            let event = json!({"id": format!("user-{user}"), "event_id": round.to_string()});
            assert_eq!(server.event(&event).await.status, 200);
        }
        tokio::time::sleep(Duration::from_millis(random.u64(..1_500))).await;
        server.kill();
        launch.start_and_kill(Duration::from_millis(random.u64(..400)));
    }
    let server = launch.start();
    for user in 0..USERS {
        let found = server.get(&format!("/users?clientRefId=user-{user}")).await.body;
        let id = found["data"]["id"].as_i64().unwrap();
        trimmed += bounds(&server, "event_ingested_topic", id).await.0;
        assert_eq!(server.segments_of(id).await.len(), 1, "user {user}");
        let explained = server.get(&format!("/users/{id}/segments/many/explain")).await.body;
        assert_eq!(explained["data"]["conditions"][0]["values"][0]["value"], ROUNDS, "{explained}");
    }
    assert!(trimmed > 0);
    let clause = format!("count(*) = {ROUNDS}");
    eventually("the warehouse has all events, once", async || {
        let preview = server.post("/segments/preview", &json!({"whereStatement": clause})).await.body;
        (preview["data"]["size"] == USERS).then_some(())
    })
    .await;
}

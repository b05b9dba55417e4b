//! The worker, on in-memory ports with a clock that the test sets.
#![expect(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use ports::checkpoints::Generation;
use ports::log::{NewRecord, Topic, partition_of};
use ports_testkit::memory::MemoryWarehouse;
use segment_engine::ids::{PartitionId, SegmentId, SegmentVersion, UserId};
use segment_engine::time::Timestamp;
use serde_json::{Value, json};
use support::{PARTITIONS, SECOND, World};

#[tokio::test]
async fn a_user_enters_with_an_event_and_leaves_with_time_alone() {
    let mut world = World::new().await;
    world.segment(1, "active", 1, "count(*) FILTER (WHERE created_at >= now() - INTERVAL '10 seconds') >= 2").await;
    world.event(7, "page_viewed", json!({})).await;
    assert!(world.transitions().await.is_empty());
    world.clock.set(Timestamp(1_003 * SECOND));
    world.event(7, "page_viewed", json!({})).await;
    world.run_until(1_500 * SECOND).await;
    let transitions = world.transitions().await;
    assert_eq!(transitions.len(), 2, "{transitions:?}");
    assert!(transitions[0].starts_with("7:1 event +[1] -[] @1003"), "{transitions:?}");
    let first_created_at = 1_000 * SECOND;
    let expected = format!("7:2 time +[] -[1] @{}", deadline(&world, first_created_at, 10).await);
    assert_eq!(transitions[1], expected);
}

/// Returns when the window of the first event ends. Its `created_at` is the instant of its append.
async fn deadline(world: &World, not_before: i64, seconds: i64) -> i64 {
    let partition = partition_of(UserId(7), PARTITIONS);
    let batch = world.ports.log.read(Topic::Events, partition, 0, usize::MAX).await.unwrap();
    let event = batch.records.iter().find(|record| record.key == "7").unwrap();
    assert!(event.appended_at.0 >= not_before);
    event.appended_at.0 + seconds * SECOND + 1
}

#[tokio::test]
async fn a_crash_changes_when_transitions_are_emitted_but_not_which() {
    let mut world = World::new().await;
    world.segment(1, "active", 1, "count(*) FILTER (WHERE created_at >= now() - INTERVAL '10 seconds') >= 1").await;
    world.event(7, "page_viewed", json!({"created_at": "1970-01-01T00:16:40Z"})).await;
    // The worker is down while the window ends and another event comes in.
    world.clock.set(Timestamp(1_030 * SECOND));
    world.restart().await;
    world
        .user(
            7,
            json!({
                "user_id": 7, "client_ref_id": "client-7", "payload": {}, "created_at": "1970-01-01T00:17:09Z",
                "received_at": "",
            }),
        )
        .await;
    world.run().await;
    world.restart().await;
    world.run_until(1_100 * SECOND).await;
    let transitions = world.transitions().await;
    assert_eq!(transitions.len(), 4, "{transitions:?}");
    assert_eq!(transitions[1], format!("7:2 time +[] -[1] @{}", 1_010 * SECOND + 1));
    assert!(transitions[2].starts_with("7:3 event +[1] -[] @1030"), "{transitions:?}");
    assert_eq!(transitions[3], format!("7:4 time +[] -[1] @{}", 1_039 * SECOND + 1));
}

#[tokio::test]
async fn checkpoints_and_restarts_change_no_transition() {
    for checkpoint in [false, true] {
        let mut world = World::new().await;
        world.segment(1, "some", 1, "count(*) >= 2").await;
        world
            .segment(2, "spender", 1, "sum(order_total) FILTER (WHERE created_at > now() - INTERVAL '1 hour') > 10")
            .await;
        for step in 0..6 {
            world.clock.advance_micros(SECOND);
            world.event(step % 3, "product_purchased", json!({"payload": {"order_total": 6.5}})).await;
            if checkpoint {
                for partition in &mut world.partitions {
                    partition.checkpoint().await.unwrap();
                }
            }
            world.restart().await;
        }
        world.run_until(10_000 * SECOND).await;
        let mut transitions = world.transitions().await;
        transitions.sort();
        let causes: Vec<&str> = transitions.iter().map(|line| line.split(" @").next().unwrap()).collect();
        let expected: Vec<String> = (0..3)
            .flat_map(|user| [format!("{user}:1 event +[1, 2] -[]"), format!("{user}:2 time +[] -[2]")])
            .collect();
        assert_eq!(causes, expected, "checkpoint: {checkpoint}");
    }
}

#[tokio::test]
async fn a_new_segment_reads_the_history_and_an_edit_emits_the_difference() {
    let mut world = World::new().await;
    for user in 1..=4 {
        for _ in 0..user {
            world.event(user, "page_viewed", json!({})).await;
        }
    }
    world.segment(1, "viewers", 1, "count(*) FILTER (WHERE activity_type = 'page_viewed') >= 3").await;
    let mut transitions = world.transitions().await;
    transitions.sort();
    assert_eq!(transitions.len(), 2, "{transitions:?}");
    assert!(
        transitions[0].starts_with("3:1 backfill +[1]") && transitions[1].starts_with("4:1 backfill +[1]"),
        "{transitions:?}"
    );
    world.restart().await;
    world.segment(1, "viewers", 2, "count(DISTINCT activity_type) = 1 AND count(*) BETWEEN 2 AND 3").await;
    let mut transitions = world.transitions().await;
    transitions.sort();
    assert_eq!(transitions.len(), 4, "{transitions:?}");
    assert!(transitions.iter().any(|line| line.starts_with("2:1 edit +[1]")), "{transitions:?}");
    assert!(transitions.iter().any(|line| line.starts_with("4:2 edit +[] -[1]")), "{transitions:?}");
    world.append(Topic::Config, PartitionId::ONLY, "1", &json!({"type": "segment_deleted", "id": 1})).await;
    world.run().await;
    assert_eq!(world.transitions().await.iter().filter(|line| line.contains(" delete +[] -[1]")).count(), 2);
}

#[tokio::test]
async fn progress_says_which_version_is_in_force() {
    let mut world = World::new().await;
    let ratios = |world: &World, version| -> Vec<_> {
        world.partitions.iter().map(|partition| partition.segment_progress(SegmentId(1), version)).collect()
    };
    assert_eq!(ratios(&world, SegmentVersion(1)), [None; PARTITIONS as usize]);
    world.segment(1, "some", 1, "count(*) > 0").await;
    assert_eq!(ratios(&world, SegmentVersion(1)), [Some(1.0); PARTITIONS as usize]);
    // If the engine refuses a version, the one before stays in force.
    world.segment(1, "some", 2, "count(*) >").await;
    assert_eq!(ratios(&world, SegmentVersion(2)), [Some(0.0); PARTITIONS as usize]);
    assert_eq!(ratios(&world, SegmentVersion(1)), [Some(1.0); PARTITIONS as usize]);
    world.event(1, "page_viewed", json!({})).await;
    // A version that needs history waits for it in the partition that has events.
    let record = json!({"type": "segment", "id": 1, "tag": "some", "version": 3, "where_statement": "sum(order_total) > 5",
        "manual": false});
    world.append(Topic::Config, PartitionId::ONLY, "1", &record).await;
    segment_users::definitions::relay(&world.ports.log).await.unwrap();
    for partition in &mut world.partitions {
        partition.turn().await.unwrap();
    }
    let [busy, idle] = [0, 1].map(|other| partition_of(UserId(1), PARTITIONS).0.abs_diff(other) as usize);
    let of_third = ratios(&world, SegmentVersion(3));
    assert_eq!((of_third[busy], of_third[idle]), (Some(0.0), Some(1.0)));
    world.run().await;
    assert_eq!(ratios(&world, SegmentVersion(3)), [Some(1.0); PARTITIONS as usize]);
}

#[tokio::test]
async fn numbers_in_traits_keep_every_digit() {
    let mut world = World::new().await;
    let warehouse = MemoryWarehouse::default();
    world.ports.warehouse = Arc::new(warehouse.clone());
    world.restart().await;
    let clauses = [
        "(traits->>'balance')::numeric = 12345678901234567.89",
        "traits->'price'->>'list' = '19.90' AND traits->'price'->>'count' = '3'",
        "(traits->>'late')::numeric = 12345678901234567.89",
    ];
    for (id, clause) in (1..).zip(clauses) {
        world.segment(id, &format!("s{id}"), 1, clause).await;
    }
    // As bytes, since `serde_json::Value` would round the numbers.
    let send = |traits: &str| {
        let value = format!(r#"{{"type":"traits","user_id":1,"traits":{traits},"created_at":0}}"#).into_bytes();
        NewRecord { topic: Topic::Events, partition: partition_of(UserId(1), PARTITIONS), key: "1".to_owned(), value }
    };
    let first = send(r#"{"balance":12345678901234567.89,"price":{"list":19.90,"count":3}}"#);
    world.ports.log.append(vec![first]).await.unwrap();
    world.run().await;
    for partition in &mut world.partitions {
        partition.checkpoint().await.unwrap();
    }
    world.restart().await;
    // A merged user's traits go to the survivor, and so do traits that arrive later.
    let survivor =
        (2..).find(|id| partition_of(UserId(*id), PARTITIONS) != partition_of(UserId(1), PARTITIONS)).unwrap();
    world.user(1, json!({"type": "merge", "user_id": 1, "survivor": survivor})).await;
    world.ports.log.append(vec![send(r#"{"late":12345678901234567.89}"#)]).await.unwrap();
    world.run().await;
    let machine = world.partitions[partition_of(UserId(survivor), PARTITIONS).0 as usize].machine();
    assert_eq!(machine.memberships(UserId(survivor)), [1, 2, 3].map(SegmentId));
    let archived = warehouse.traits(UserId(survivor));
    assert_eq!(archived["balance"], "12345678901234567.89");
    assert_eq!(archived["price"], json!({"list": "19.90", "count": 3}));
}

#[tokio::test]
async fn a_delivery_counts_once() {
    let mut world = World::new().await;
    world.segment(1, "two", 1, "count(*) >= 2").await;
    for _ in 0..3 {
        world.event(1, "page_viewed", json!({"event_id": "e-1"})).await;
        world.restart().await;
    }
    assert!(world.transitions().await.is_empty());
    world.event(1, "page_viewed", json!({"event_id": "e-2"})).await;
    assert_eq!(world.transitions().await.len(), 1);
}

#[tokio::test]
async fn merged_users_are_one_and_late_records_are_forwarded() {
    let mut world = World::new().await;
    let absorbed = 1;
    let survivor =
        (2..).find(|id| partition_of(UserId(*id), PARTITIONS) != partition_of(UserId(absorbed), PARTITIONS)).unwrap();
    world.segment(1, "three", 1, "count(*) >= 3").await;
    world.segment(2, "any", 1, "count(*) >= 1").await;
    world.event(absorbed, "page_viewed", json!({})).await;
    world.event(survivor, "page_viewed", json!({})).await;
    world.user(absorbed, json!({"type": "merge", "user_id": absorbed, "survivor": survivor})).await;
    world.run().await;
    world.restart().await;
    // Arrives after the merge and still names the absorbed user.
    world.event(absorbed, "page_viewed", json!({})).await;
    let transitions = world.transitions().await;
    assert!(transitions.iter().any(|line| line.starts_with("1:2 merge +[] -[2]")), "{transitions:?}");
    assert!(
        transitions.iter().any(|line| line.starts_with(&format!("{survivor}:2 event +[1] -[]"))),
        "{transitions:?}"
    );
    assert_eq!(transitions.len(), 4, "{transitions:?}");
}

#[tokio::test]
async fn manual_segments_come_with_the_merge_unless_they_were_set_since() {
    let mut world = World::new().await;
    let far = |user: i64| {
        (user + 1..).find(|id| partition_of(UserId(*id), PARTITIONS) != partition_of(UserId(user), PARTITIONS)).unwrap()
    };
    for (id, tag) in [(1, "vip"), (2, "staff")] {
        let record =
            json!({"type": "segment", "id": id, "tag": tag, "version": 1, "where_statement": "", "manual": true});
        world.append(Topic::Config, PartitionId::ONLY, "", &record).await;
    }
    world.segment(3, "active_vip", 1, "segment('vip') AND count(*) >= 2").await;
    for set_since in [false, true] {
        let absorbed = if set_since { 100 } else { 10 };
        let survivor = far(absorbed);
        for (user, list) in [(absorbed, [1]), (survivor, [2])] {
            world.event(user, "page_viewed", json!({})).await;
            world.user(user, json!({"type": "manual", "user_id": user, "version": 1, "segments": list})).await;
        }
        world.run().await;
        let manual = json!({"version": 2, "segments": [1, 2]});
        let merge = json!({"type": "merge", "user_id": absorbed, "survivor": survivor, "manual": manual});
        world.user(absorbed, merge).await;
        if set_since {
            let list = json!({"type": "manual", "user_id": survivor, "version": 3, "segments": [2]});
            world.user(survivor, list).await;
        }
        world.run().await;
        let mut transitions = world.transitions().await;
        transitions.retain(|line| line.starts_with(&format!("{survivor}:")));
        let transitions: Vec<&str> = transitions.iter().map(|line| line.split(" @").next().unwrap()).collect();
        let manual = format!("{survivor}:1 manual +[2] -[]");
        let merged = format!("{survivor}:2 merge +[1, 3] -[]");
        let expected = if set_since { vec![manual] } else { vec![manual, merged] };
        assert_eq!(transitions, expected, "set since: {set_since}");
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_applied_is_reported_and_the_partition_goes_on() {
    let mut world = World::new().await;
    world.segment(1, "any", 1, "count(*) >= 1").await;
    world.user(1, json!({"user_id": "nobody", "payload": {}})).await;
    world.event(1, "page_viewed", json!({})).await;
    let errors = world.ports.log.read(Topic::Errors, PartitionId::ONLY, 0, usize::MAX).await.unwrap();
    assert_eq!(errors.records.len(), 1);
    let error: Value = serde_json::from_slice(&errors.records[0].value).unwrap();
    assert_eq!(error["error_type"], "segment_computation_error");
    assert_eq!(world.transitions().await.len(), 1);
}

#[tokio::test]
async fn a_deleted_user_does_not_come_back_with_a_late_event() {
    let mut world = World::new().await;
    world.segment(1, "any", 1, "count(*) >= 1").await;
    world.event(1, "page_viewed", json!({})).await;
    world.user(1, json!({"type": "delete", "user_id": 1})).await;
    world.run().await;
    world.restart().await;
    world.event(1, "page_viewed", json!({})).await;
    let transitions = world.transitions().await;
    assert_eq!(transitions.len(), 2, "{transitions:?}");
    assert!(transitions[1].starts_with("1:2 delete +[] -[1]"), "{transitions:?}");
    let errors = world.ports.log.read(Topic::Errors, PartitionId::ONLY, 0, usize::MAX).await.unwrap();
    let error: Value = serde_json::from_slice(&errors.records[0].value).unwrap();
    assert_eq!(error["code"], "USER_DELETED");
    assert!(error["data"]["user_id"].is_i64(), "as in every other record: {error}");
}

/// Lets partitions write a checkpoint if it is due. Returns which have one.
async fn saved(world: &mut World) -> Vec<bool> {
    let mut saved = Vec::new();
    for partition in &mut world.partitions {
        // More steps than a checkpoint takes.
        for _ in 0..100 {
            partition.checkpoint_if_due().await.unwrap();
            tokio::task::yield_now().await;
        }
        let marker = world.ports.checkpoints.marker(partition.id(), Generation::Latest).await.unwrap();
        saved.push(marker.is_some());
    }
    saved
}

#[tokio::test]
async fn a_checkpoint_of_most_of_many_users_is_put_off() {
    for (users, intervals) in [(2_000, 1), (20_000, 3)] {
        let mut world = World::new().await;
        for user in 1..=users {
            let event = json!({"user_id": user, "client_ref_id": "c", "payload": {}, "received_at": ""});
            world.user(user, event).await;
        }
        world.run().await;
        let due = 1_000 * SECOND + intervals * world.settings.checkpoint_interval_micros;
        world.clock.set(Timestamp(due - SECOND));
        assert_eq!(saved(&mut world).await, [false, false], "{users} users");
        world.clock.set(Timestamp(due + SECOND));
        assert_eq!(saved(&mut world).await, [true, true], "{users} users");
    }
}

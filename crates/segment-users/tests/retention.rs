//! Retention, on in-memory ports: what leaves the log, what stays, and how partitions recover from
//! damaged checkpoints afterwards.
#![expect(clippy::unwrap_used)]

mod support;

use std::collections::HashMap;
use std::sync::Arc;

use ports::checkpoints::{Checkpoint, Generation};
use ports::clock::{GuardedClock, Limits, ManualClock};
use ports::config_store::MembershipStore;
use ports::log::{Topic, partition_of};
use ports::records::{Cause, Notification};
use ports_testkit::memory::MemoryConfigStore;
use segment_engine::ids::{PartitionId, UserId};
use segment_users::archiver::{Archiver, Step};
use segment_users::membership_writer::MembershipWriter;
use segment_users::partition::{Partition, Ports, WorkerError};
use segment_users::retention::Retention;
use segment_users::settings::Settings;
use serde_json::json;
use support::{PARTITIONS, SECOND, World};

const RETENTION: i64 = 100 * SECOND;
const USER: i64 = 7;

/// A world whose log is trimmed, with a store of its memberships and a consumer of its
/// notifications.
struct Trimmed {
    world: World,
    store: Arc<MemoryConfigStore>,
    settings: Settings,
    /// The consumer's offset in each partition.
    read: HashMap<PartitionId, u64>,
    notifications: Vec<Notification>,
}

impl Trimmed {
    async fn new(retention_micros: Option<i64>) -> Self {
        let settings = Settings { retention_micros, ..Settings::default() };
        let (world, store) = (World::new().await, Arc::default());
        Self { world, store, settings, read: HashMap::new(), notifications: Vec::new() }
    }

    /// Does what the tasks of the service do in this time; trims last.
    async fn go_on(&mut self, seconds: i64) {
        self.world.clock.advance_micros(seconds * SECOND);
        self.world.run().await;
        self.consume().await;
        self.store_memberships().await;
        self.checkpoint().await;
        self.trim().await;
    }

    async fn trim(&self) {
        let retention = Retention::new(self.world.ports.clone(), self.settings, self.store.clone());
        if let Some(retention) = retention {
            retention.trim_once().await;
        }
    }

    async fn checkpoint(&mut self) {
        for partition in &mut self.world.partitions {
            partition.checkpoint().await.unwrap();
        }
    }

    async fn store_memberships(&self) {
        for partition in PartitionId::all(PARTITIONS) {
            let (log, store) = (self.world.ports.log.clone(), self.store.clone());
            let mut writer = MembershipWriter::open(partition, log, store).await.unwrap();
            while writer.step().await.unwrap() {}
        }
    }

    /// Reads the notifications after the last ones that were read.
    async fn consume(&mut self) {
        for partition in PartitionId::all(PARTITIONS) {
            let from = self.read.entry(partition).or_default();
            let batch = self.world.ports.log.read(Topic::Notifications, partition, *from, usize::MAX).await.unwrap();
            assert!(batch.records.first().is_none_or(|first| first.offset == *from), "the consumer missed records");
            *from = batch.next_offset;
            self.notifications.extend(
                batch.records.iter().map(|record| serde_json::from_slice::<Notification>(&record.value).unwrap()),
            );
        }
    }

    /// Returns `user:sequence cause +entered -left` for each notification, ordered by user.
    fn transitions(&self) -> Vec<String> {
        let line = |notification: &Notification| {
            let Notification { user_id, sequence, in_segments, out_segments, cause, .. } = notification;
            (*user_id, *sequence, format!("{user_id}:{sequence} {cause:?} +{in_segments:?} -{out_segments:?}"))
        };
        let mut lines: Vec<_> = self.notifications.iter().map(line).collect();
        lines.sort();
        lines.into_iter().map(|(_, _, line)| line).collect()
    }

    async fn bounds(&self, topic: Topic, partition: PartitionId) -> (u64, u64) {
        self.world.ports.log.bounds(topic, partition).await.unwrap()
    }

    async fn marker(&self, partition: PartitionId, generation: Generation) -> Option<u64> {
        let marker = self.world.ports.checkpoints.marker(partition, generation).await.unwrap();
        marker.map(|marker| marker.next_offset)
    }

    /// Replaces the latest checkpoint by one that cannot be read.
    async fn damage(&self, partition: PartitionId) {
        let checkpoints = &self.world.ports.checkpoints;
        let marker = checkpoints.marker(partition, Generation::Latest).await.unwrap().unwrap();
        let users = vec![(UserId(USER), Some(b"no block".to_vec()))];
        let partition_state = b"no state".to_vec();
        checkpoints.write(Checkpoint { partition, users, is_whole: false, partition_state, marker }).await.unwrap();
    }

    /// Segments that events, time, merges and edits change.
    async fn define(&mut self) {
        let recent = "count(*) FILTER (WHERE created_at >= now() - INTERVAL '30 seconds') >= 2";
        self.world.segment(1, "recent", 1, recent).await;
        self.world.segment(2, "many", 1, "count(*) >= 4").await;
        self.world.segment(3, "spender", 1, "sum(order_total) >= 20").await;
    }

    /// Lets users of all partitions be active for some seconds.
    async fn episode(&mut self, number: i64) {
        for user in 1..=6 {
            if (user + number) % 3 != 0 {
                let id = format!("{user}-{number}");
                let event = json!({"payload": {"activity_type": "a", "order_total": number}, "event_id": id});
                self.world.event(user, "a", event).await;
            }
        }
        if number == 4 {
            self.world.user(1, json!({"type": "merge", "user_id": 1, "survivor": 2})).await;
        }
        if number == 6 {
            self.world.segment(2, "many", 2, "count(*) >= 3").await;
        }
        self.go_on(11).await;
    }
}

#[tokio::test]
async fn nothing_leaves_before_it_is_archived_checkpointed_and_stored() {
    let mut trimmed = Trimmed::new(Some(RETENTION)).await;
    let partition = partition_of(UserId(USER), PARTITIONS);
    trimmed.world.segment(1, "any", 1, "count(*) >= 1").await;
    let event = json!({"user_id": USER, "client_ref_id": "c", "payload": {}, "received_at": ""});
    trimmed.world.user(USER, event).await;
    trimmed.world.partitions[partition.0 as usize].turn().await.unwrap();
    let (_, end) = trimmed.bounds(Topic::Events, partition).await;
    let (_, emitted) = trimmed.bounds(Topic::Notifications, partition).await;
    assert!(end > 0 && emitted > 0);

    trimmed.world.clock.advance_micros(RETENTION + SECOND);
    trimmed.trim().await;
    assert_eq!(trimmed.bounds(Topic::Events, partition).await, (0, end), "there is no checkpoint");
    trimmed.checkpoint().await;
    trimmed.trim().await;
    let archived = trimmed.world.ports.warehouse.archive_position(partition).await.unwrap();
    assert!(archived < end);
    let kept = trimmed.marker(partition, Generation::Kept).await;
    assert_eq!(kept, Some(end), "the checkpoint to fall back to");
    assert_eq!(trimmed.bounds(Topic::Events, partition).await, (archived, end), "archived records were trimmed");
    assert_eq!(trimmed.bounds(Topic::Notifications, partition).await, (0, emitted), "the memberships are not stored");
    trimmed.world.archive().await;
    trimmed.store_memberships().await;
    trimmed.trim().await;
    assert_eq!(trimmed.bounds(Topic::Events, partition).await, (end, end));
    assert_eq!(trimmed.bounds(Topic::Notifications, partition).await, (emitted, emitted));
    assert_eq!(trimmed.bounds(Topic::Config, PartitionId::ONLY).await, (0, 1), "definitions stay");

    trimmed.world.event(USER, "a", json!({})).await;
    trimmed.world.user(USER, json!({"type": "delete", "user_id": USER})).await;
    trimmed.world.run().await;
    trimmed.store_memberships().await;
    trimmed.world.clock.advance_micros(RETENTION + SECOND);
    trimmed.trim().await;
    assert_eq!(trimmed.bounds(Topic::Events, partition).await, (end, end + 2), "no checkpoint includes them");
    assert_eq!(trimmed.bounds(Topic::Notifications, partition).await, (emitted, emitted + 1));
    trimmed.checkpoint().await;
    trimmed.trim().await;
    assert_eq!(trimmed.bounds(Topic::Events, partition).await, (end + 2, end + 2));
    assert_eq!(trimmed.bounds(Topic::Notifications, partition).await, (emitted + 1, emitted + 1));
    let kept = trimmed.world.ports.checkpoints.load(partition, Generation::Kept).await.unwrap().unwrap();
    assert!(kept.users.iter().all(|(user, _)| user.0 != USER), "the deleted user has left the kept checkpoint too");
}

#[tokio::test]
async fn young_records_stay_and_the_error_topic_is_trimmed_too() {
    let mut trimmed = Trimmed::new(Some(RETENTION)).await;
    trimmed.define().await;
    trimmed.world.user(USER, json!({"user_id": "nobody", "payload": {}})).await;
    trimmed.world.run().await;
    trimmed.go_on(RETENTION / SECOND - 1).await;
    let partition = partition_of(UserId(USER), PARTITIONS);
    for (topic, partition) in [(Topic::Events, partition), (Topic::Errors, PartitionId::ONLY)] {
        let (first, end) = trimmed.bounds(topic, partition).await;
        assert!(first == 0 && end > 0, "{topic:?}");
    }
    trimmed.world.user(USER, json!({"user_id": "nobody", "payload": {}})).await;
    trimmed.go_on(10).await;
    for (topic, partition) in [(Topic::Events, partition), (Topic::Errors, PartitionId::ONLY)] {
        let (first, end) = trimmed.bounds(topic, partition).await;
        assert_eq!(first, end - 1, "{topic:?}: the last record is younger");
    }
}

#[tokio::test]
async fn nothing_is_trimmed_while_the_clock_is_in_doubt() {
    let mut trimmed = Trimmed::new(Some(RETENTION)).await;
    trimmed.define().await;
    trimmed.world.user(USER, json!({"user_id": "nobody", "payload": {}})).await;
    trimmed.go_on(RETENTION / SECOND - 1).await;
    let partition = partition_of(UserId(USER), PARTITIONS);
    let everything = trimmed.bounds(Topic::Events, partition).await;
    assert!(everything.0 == 0 && everything.1 > 0);
    let (system, monotonic) = (trimmed.world.clock.clone(), Arc::new(ManualClock::default()));
    let limits = Limits { tolerance_micros: 60 * SECOND, settle_micros: 600 * SECOND };
    trimmed.world.ports.clock = Arc::new(GuardedClock::new(system.clone(), monotonic.clone(), limits));

    let day = 86_400 * SECOND;
    system.advance_micros(day);
    trimmed.trim().await;
    assert_eq!(trimmed.bounds(Topic::Events, partition).await, everything, "everything is old by the system clock");
    for clock in [&system, &monotonic] {
        clock.advance_micros(10 * SECOND);
    }
    trimmed.trim().await;
    assert_eq!(trimmed.bounds(Topic::Events, partition).await, everything, "and the time is still in doubt");
    system.advance_micros(-day);
    trimmed.trim().await;
    assert_eq!(trimmed.bounds(Topic::Events, partition).await, (everything.1, everything.1));
}

#[tokio::test]
async fn a_checkpoint_is_kept_about_once_per_retention() {
    let mut trimmed = Trimmed::new(Some(RETENTION)).await;
    trimmed.define().await;
    let mut kept = Vec::new();
    for number in 0..40 {
        trimmed.episode(number).await;
        let first = trimmed.bounds(Topic::Events, PartitionId(0)).await.0;
        let now = trimmed.marker(PartitionId(0), Generation::Kept).await;
        assert!(first == 0 || now.is_some_and(|now| first <= now), "{first} {now:?}");
        kept.extend(now.filter(|now| kept.last() != Some(now)));
    }
    // 440 seconds, and the first 100 need none.
    assert!((3..=4).contains(&kept.len()), "{kept:?}");
}

#[tokio::test]
async fn trimming_restarts_and_damage_change_no_transition() {
    let mut plain = Trimmed::new(None).await;
    plain.define().await;
    for number in 0..40 {
        plain.episode(number).await;
    }
    plain.go_on(1_000).await;
    for damaged in [false, true] {
        let mut trimmed = Trimmed::new(Some(RETENTION)).await;
        trimmed.define().await;
        let mut fallen_back = 0;
        for number in 0..40 {
            trimmed.episode(number).await;
            if number % 4 == 3 {
                for partition in PartitionId::all(PARTITIONS) {
                    let kept = trimmed.marker(partition, Generation::Kept).await;
                    if damaged && kept.is_some() {
                        trimmed.damage(partition).await;
                        fallen_back += 1;
                    }
                }
                trimmed.world.restart().await;
            }
        }
        assert_eq!(fallen_back > 10, damaged);
        trimmed.go_on(1_000).await;
        assert!(
            trimmed.bounds(Topic::Events, PartitionId(0)).await.0 > 0
                && trimmed.bounds(Topic::Notifications, PartitionId(0)).await.0 > 0
        );
        assert!(trimmed.notifications.iter().all(|notification| notification.cause != Cause::Repair));
        assert_eq!(trimmed.transitions(), plain.transitions(), "damaged: {damaged}");
        for user in (1..=6).map(UserId) {
            let memberships = |of: &Trimmed| {
                of.world.partitions[partition_of(user, PARTITIONS).0 as usize].machine().memberships(user)
            };
            assert_eq!(memberships(&trimmed), memberships(&plain), "user {user}");
        }
    }
}

#[tokio::test]
async fn a_trimmed_log_without_a_readable_checkpoint_is_an_error() {
    let mut trimmed = Trimmed::new(Some(RETENTION)).await;
    trimmed.define().await;
    for number in 0..12 {
        trimmed.episode(number).await;
    }
    let (first, _) = trimmed.bounds(Topic::Events, PartitionId(0)).await;
    assert!(first > 0);
    trimmed.damage(PartitionId(0)).await;
    trimmed.world.ports.checkpoints.keep(PartitionId(0)).await.unwrap();
    for _ in 0..2 {
        match Partition::open(PartitionId(0), trimmed.world.ports.clone(), trimmed.settings).await.map(drop) {
            Err(error @ WorkerError::Trimmed { partition: PartitionId(0), .. }) => {
                let message = error.to_string();
                assert!(
                    message.contains(&format!("begins at offset {first}")) && message.contains("backup"),
                    "{message}"
                );
            }
            other => panic!("{other:?}"),
        }
        assert!(trimmed.marker(PartitionId(0), Generation::Latest).await.is_some(), "the checkpoint is not deleted");
    }
}

#[tokio::test]
async fn a_damaged_checkpoint_is_not_kept_and_lets_nothing_be_trimmed() {
    let mut trimmed = Trimmed::new(Some(RETENTION)).await;
    trimmed.define().await;
    for number in 0..12 {
        trimmed.episode(number).await;
    }
    let kept = trimmed.marker(PartitionId(0), Generation::Kept).await.unwrap();
    trimmed.damage(PartitionId(0)).await;
    trimmed.world.clock.advance_micros(10 * RETENTION);
    trimmed.trim().await;
    assert_eq!(trimmed.marker(PartitionId(0), Generation::Kept).await, Some(kept));
    assert!(trimmed.bounds(Topic::Events, PartitionId(0)).await.0 <= kept);
    assert_eq!(
        trimmed.bounds(Topic::Events, PartitionId(1)).await.0,
        trimmed.bounds(Topic::Events, PartitionId(1)).await.1,
        "other partitions are trimmed"
    );
    trimmed.world.restart().await;
    trimmed.go_on(1).await;
    assert!(trimmed.marker(PartitionId(0), Generation::Kept).await.unwrap() > kept);
}

#[tokio::test]
async fn readers_before_the_first_record_go_on_from_it() {
    let mut trimmed = Trimmed::new(Some(RETENTION)).await;
    trimmed.define().await;
    for number in 0..3 {
        trimmed.episode(number).await;
    }
    // Once for the transitions that time alone makes, once for their notifications to grow old.
    trimmed.go_on(1_000).await;
    trimmed.go_on(1_000).await;
    // As if somebody had started a new store and a new warehouse.
    let store = Arc::new(MemoryConfigStore::default());
    let warehouse = Arc::new(ports_testkit::memory::MemoryWarehouse::default());
    trimmed.store = store.clone();
    trimmed.store_memberships().await;
    for partition in PartitionId::all(PARTITIONS) {
        let (first, end) = trimmed.bounds(Topic::Notifications, partition).await;
        assert!(first == end && end > 0);
        let Ports { log, left_out, .. } = trimmed.world.ports.clone();
        let mut archiver = Archiver::open(partition, log, warehouse.clone(), left_out, trimmed.settings).await.unwrap();
        while archiver.step().await.unwrap() == Step::Archived {}
        assert_eq!(archiver.position(), trimmed.bounds(Topic::Events, partition).await.1);
    }
    let ends: Vec<(PartitionId, u64)> = store.membership_positions().await.unwrap();
    let expected = [
        trimmed.bounds(Topic::Notifications, PartitionId(0)).await.1,
        trimmed.bounds(Topic::Notifications, PartitionId(1)).await.1,
    ];
    assert_eq!(ends, [(PartitionId(0), expected[0]), (PartitionId(1), expected[1])]);
}

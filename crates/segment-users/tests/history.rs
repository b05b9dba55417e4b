//! History that is larger than a partition holds at a time.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ports::checkpoints::Generation;
use ports::log::{NewRecord, Topic, partition_of};
use ports::warehouse::{
    ArchiveBatch, Departure, History, HistoryCursor, HistoryOf, HistoryScan, Table, Warehouse, WarehouseError,
    history_bytes,
};
use ports_testkit::memory::{MemoryConfigStore, MemoryWarehouse};
use segment_engine::event::Event;
use segment_engine::ids::{PartitionId, SegmentId, SegmentVersion, UserId};
use segment_engine::machine::Receipt;
use segment_users::service::Service;
use segment_users::settings::Settings;
use serde_json::{Value, json};
use support::{PARTITIONS, SECOND, World};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// An event takes about 30 bytes.
const BYTES_MAX: usize = 500;
const EVENTS: i64 = 300;
const USER: i64 = 7;
/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);

fn event(user: i64) -> Value {
    json!({"user_id": user, "client_ref_id": "client", "payload": {"activity_type": "page_viewed"}, "received_at": ""})
}

/// A world whose user `USER` has `EVENTS` events, all archived.
async fn world(settings: Settings) -> World {
    let mut world = World { settings, ..World::new().await };
    world.restart().await;
    for _ in 0..EVENTS {
        world.user(USER, event(USER)).await;
    }
    world.run().await;
    world.archive().await;
    world
}

fn small_pieces() -> Settings {
    Settings { history_bytes_max: BYTES_MAX, backfill_events_per_step: 7, ..Settings::default() }
}

/// Appends a definition that needs the history, and lets the partitions read it.
async fn define(world: &mut World, id: i64, clause: &str) {
    let record = json!({"type": "segment", "id": id, "tag": format!("s{id}"), "version": 1, "where_statement": clause,
        "manual": false});
    world.append(Topic::Config, PartitionId::ONLY, "", &record).await;
    segment_users::definitions::relay(&world.ports.log).await.unwrap();
    for partition in &mut world.partitions {
        while partition.turn().await.unwrap().more {}
    }
    world.archive().await;
}

fn home(user: i64) -> usize {
    partition_of(UserId(user), PARTITIONS).0 as usize
}

fn memberships(world: &World, user: i64) -> Vec<SegmentId> {
    world.partitions[home(user)].machine().memberships(UserId(user))
}

#[tokio::test]
async fn a_history_in_many_pieces_counts_each_event_once() {
    let mut world = world(small_pieces()).await;
    define(&mut world, 1, "count(*) = 300").await;
    let mut steps = 0;
    while world.partitions[home(USER)].segment_progress(SegmentId(1), SegmentVersion(1)).unwrap() < 1.0 {
        // Events between the steps are live.
        world.user(USER, json!({"user_id": USER, "client_ref_id": "client", "payload": {}, "received_at": ""})).await;
        let partition = &mut world.partitions[home(USER)];
        partition.backfill_step().await.unwrap();
        partition.turn().await.unwrap();
        steps += 1;
    }
    assert!(steps >= EVENTS / 7, "at most seven events in each of {steps} steps");
    assert_eq!(memberships(&world, USER), [], "the live events count too");
    let clause = format!("count(*) = {}", EVENTS + steps);
    world.segment(2, "all", 1, &clause).await;
    assert_eq!(memberships(&world, USER), [SegmentId(2)]);
}

#[tokio::test]
async fn a_cancelled_step_is_continued_and_counts_no_event_twice() {
    let mut world = world(Settings { slice: Duration::ZERO, ..Settings::default() }).await;
    define(&mut world, 1, "count(*) = 300").await;
    let partition = &mut world.partitions[home(USER)];
    let (mut steps, mut cancelled) = (0, 0);
    loop {
        steps += 1;
        let more = tokio::select! {
            biased;
            more = partition.backfill_step() => more.unwrap(),
            () = ready(()) => {
                cancelled += 1;
                // The warehouse works meanwhile.
                tokio::task::yield_now().await;
                true
            }
        };
        if !more {
            break;
        }
    }
    assert!(cancelled > 0, "it waits for the warehouse");
    assert!(steps >= EVENTS / 16, "it lets others run after a few events: {steps} times");
    world.run().await;
    assert_eq!(memberships(&world, USER), [SegmentId(1)]);
}

#[tokio::test]
async fn a_merged_user_brings_a_history_in_many_pieces() {
    let mut world = world(small_pieces()).await;
    let survivor = (8..).find(|id| home(*id) != home(USER)).unwrap();
    world.event(survivor, "page_viewed", json!({})).await;
    world.segment(1, "all", 1, "count(*) = 301").await;
    // Depends on the user id, so the survivor reads the merged user's events again.
    world.segment(2, "own", 1, &format!("count(*) FILTER (WHERE user_id = {survivor}) = 301")).await;
    world.user(USER, json!({"type": "merge", "user_id": USER, "survivor": survivor})).await;
    world.run().await;
    assert_eq!(memberships(&world, survivor), [1, 2].map(SegmentId));
    // A definition after the merge reads both histories.
    world.segment(3, "new", 1, "count(*) FILTER (WHERE activity_type = 'page_viewed') = 301").await;
    assert_eq!(memberships(&world, survivor), [1, 2, 3].map(SegmentId));
}

#[tokio::test]
async fn a_crash_between_two_pieces_changes_no_membership() {
    let mut world = world(small_pieces()).await;
    define(&mut world, 1, "count(*) = 300").await;
    for _ in 0..10 {
        assert!(world.partitions[home(USER)].backfill_step().await.unwrap());
    }
    for partition in &mut world.partitions {
        partition.checkpoint().await.unwrap();
    }
    world.restart().await;
    world.run().await;
    assert_eq!(memberships(&world, USER), [SegmentId(1)]);
}

/// Lets a new segment come in force, with a restart when it is so far. Returns how many bytes of history
/// were read for it.
async fn bytes_read(restart_at: Option<f64>) -> usize {
    let mut world = world(Settings { checkpoint_interval_micros: 0, ..small_pieces() }).await;
    let mut read = watch(&mut world, Behaviour::Returns).await;
    define(&mut world, 1, "count(*) FILTER (WHERE payload->>'else' IS NULL) = 300").await;
    let progress = |world: &World| world.partitions[home(USER)].segment_progress(SegmentId(1), SegmentVersion(1));
    if let Some(restart_at) = restart_at {
        while progress(&world).unwrap() < restart_at {
            world.partitions[home(USER)].backfill_step().await.unwrap();
        }
        for partition in &mut world.partitions {
            partition.checkpoint().await.unwrap();
        }
        world.restart().await;
        assert!(progress(&world).unwrap() > restart_at - 0.1, "{:?}", progress(&world));
    }
    world.run().await;
    assert_eq!(memberships(&world, USER), [SegmentId(1)]);
    drop(world);
    let mut bytes = 0;
    while let Some(piece) = read.recv().await {
        bytes += piece;
    }
    bytes
}

#[tokio::test]
async fn a_restart_goes_on_where_the_scan_was() {
    let (once, in_the_middle, before_in_force) =
        (bytes_read(None).await, bytes_read(Some(0.6)).await, bytes_read(Some(0.99)).await);
    // What was read ahead and not added is read again.
    assert!(in_the_middle <= once + 3 * BYTES_MAX, "{in_the_middle} bytes, {once} without a restart");
    assert_eq!(before_in_force, once);
}

#[tokio::test]
async fn a_checkpoint_has_a_scan_that_has_run_for_long() {
    let mut world = world(small_pieces()).await;
    define(&mut world, 1, "count(*) FILTER (WHERE payload->>'else' IS NULL) = 300").await;
    for (minutes, goes_on) in [(0, false), (1, true), (0, true)] {
        for _ in 0..20 {
            world.partitions[home(USER)].backfill_step().await.unwrap();
            tokio::task::yield_now().await;
        }
        world.clock.advance_micros(minutes * 60 * SECOND);
        world.partitions[home(USER)].checkpoint().await.unwrap();
        world.restart().await;
        let progress = world.partitions[home(USER)].segment_progress(SegmentId(1), SegmentVersion(1));
        assert_eq!(progress.unwrap() > 0.0, goes_on, "{progress:?}");
    }
    world.run().await;
    assert_eq!(memberships(&world, USER), [SegmentId(1)]);
}

/// An event of each user.
async fn one_of_each(world: &mut World, users: i64) {
    let record = |user: i64| NewRecord {
        topic: Topic::Events,
        partition: partition_of(UserId(user), PARTITIONS),
        key: user.to_string(),
        value: serde_json::to_vec(&event(user)).unwrap(),
    };
    world.ports.log.append((0..users).map(record).collect()).await.unwrap();
    world.run().await;
}

/// Tends to a partition's checkpoint, and returns whether a new one is stored then.
async fn is_checkpointed(world: &mut World) -> bool {
    let (id, checkpoints) = (world.partitions[0].id(), world.ports.checkpoints.clone());
    let before = checkpoints.marker(id, Generation::Latest).await.unwrap();
    for _ in 0..1_000 {
        world.partitions[0].checkpoint_if_due().await.unwrap();
        tokio::task::yield_now().await;
    }
    checkpoints.marker(id, Generation::Latest).await.unwrap() != before
}

#[tokio::test]
async fn a_checkpoint_of_all_users_is_put_off_unless_a_segment_has_read_their_history() {
    let mut world = World::new().await;
    world.segment(1, "active", 1, "count(*) >= 2").await;
    one_of_each(&mut world, 20_000).await;
    let interval = world.settings.checkpoint_interval_micros;
    let mut intervals = Vec::new();
    for reads_history in [false, true] {
        world.partitions[0].checkpoint().await.unwrap();
        one_of_each(&mut world, 20_000).await;
        if reads_history {
            world.segment(2, "viewers", 1, "count(*) FILTER (WHERE activity_type = 'page_viewed') >= 2").await;
        }
        let mut passed = 0;
        while !is_checkpointed(&mut world).await {
            world.clock.advance_micros(interval);
            world.run().await;
            passed += 1;
            assert!(passed < 10, "there is no checkpoint");
        }
        intervals.push(passed);
    }
    assert_eq!(intervals, [3, 1]);
}

#[tokio::test]
async fn a_checkpoint_has_what_merged_users_brought_along() {
    let mut world = world(small_pieces()).await;
    let survivor = (8..).find(|id| home(*id) != home(USER)).unwrap();
    world.event(survivor, "page_viewed", json!({})).await;
    world.user(USER, json!({"type": "merge", "user_id": USER, "survivor": survivor})).await;
    world.run().await;
    define(&mut world, 1, "count(*) = 301").await;
    let progress =
        |world: &World| world.partitions[home(survivor)].segment_progress(SegmentId(1), SegmentVersion(1)).unwrap();
    let mut steps_after_the_scan = 0;
    while steps_after_the_scan < 20 {
        world.partitions[home(survivor)].backfill_step().await.unwrap();
        tokio::task::yield_now().await;
        steps_after_the_scan += i32::from(progress(&world) >= 0.95);
    }
    world.clock.advance_micros(60 * SECOND);
    world.partitions[home(survivor)].checkpoint().await.unwrap();
    world.restart().await;
    assert!((0.95..0.99).contains(&progress(&world)), "{}", progress(&world));
    world.run().await;
    assert_eq!(memberships(&world, survivor), [SegmentId(1)]);
}

/// A warehouse that reports what it returned.
struct Watched {
    inner: MemoryWarehouse,
    behaviour: Behaviour,
    bytes: mpsc::UnboundedSender<usize>,
}

/// What a warehouse does with history.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    Returns,
    /// It reads, and does not return.
    Hangs,
    /// Every scan fails after its first batch.
    Fails,
}

#[async_trait]
impl Warehouse for Watched {
    async fn history(&self, parts: &[HistoryOf], bytes_max: usize) -> Result<History, WarehouseError> {
        let read = self.inner.history(parts, bytes_max).await?;
        self.bytes.send(read.events.iter().map(bytes_of).sum()).unwrap();
        if self.behaviour == Behaviour::Hangs {
            std::future::pending::<()>().await;
        }
        Ok(read)
    }

    fn scan_history(&self, scan: HistoryScan) -> HistoryCursor {
        let (bytes, behaviour, mut inner) = (self.bytes.clone(), self.behaviour, self.inner.scan_history(scan));
        let (sender, cursor) = HistoryCursor::new();
        tokio::spawn(async move {
            while let Some(batch) = inner.next().await.unwrap() {
                let rests = batch.events.iter().filter_map(|event| event.rest.as_deref());
                bytes.send(rests.map(bytes_of).sum()).unwrap();
                if behaviour == Behaviour::Hangs {
                    std::future::pending::<()>().await;
                }
                if sender.send(Ok(Some(batch))).await.is_err() {
                    return;
                }
                if behaviour == Behaviour::Fails {
                    // A cursor that was dropped takes no error.
                    let _ = sender.send(Err(WarehouseError::Unavailable("it fails".to_owned()))).await;
                    return;
                }
            }
            let _ = sender.send(Ok(None)).await;
        });
        cursor
    }

    async fn ping(&self) -> Result<(), WarehouseError> {
        self.inner.ping().await
    }

    async fn archive_position(&self, partition: PartitionId) -> Result<u64, WarehouseError> {
        self.inner.archive_position(partition).await
    }

    async fn archive(&self, batch: ArchiveBatch) -> Result<(), WarehouseError> {
        self.inner.archive(batch).await
    }

    async fn received(&self, ids: &[(UserId, String)]) -> Result<Vec<Option<Receipt>>, WarehouseError> {
        self.inner.received(ids).await
    }

    async fn departures(&self, users: &[UserId]) -> Result<Vec<Option<Departure>>, WarehouseError> {
        self.inner.departures(users).await
    }

    async fn users(&self, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>, WarehouseError> {
        self.inner.users(after, limit).await
    }

    async fn members(&self, sql: &str) -> Result<Vec<UserId>, WarehouseError> {
        self.inner.members(sql).await
    }

    async fn query(&self, sql: &str) -> Result<Table, WarehouseError> {
        self.inner.query(sql).await
    }
}

fn bytes_of(event: &Event) -> usize {
    history_bytes(event, event.payload.to_string().len())
}

/// Replaces the warehouse of a world, and returns the sizes of what it returns.
async fn watch(world: &mut World, behaviour: Behaviour) -> mpsc::UnboundedReceiver<usize> {
    let (bytes, read) = mpsc::unbounded_channel();
    world.ports.warehouse = Arc::new(Watched { inner: MemoryWarehouse::default(), behaviour, bytes });
    world.archive().await;
    world.restart().await;
    read
}

#[tokio::test]
async fn a_partition_asks_for_no_more_history_than_it_may_hold() {
    let mut world = world(small_pieces()).await;
    let mut read = watch(&mut world, Behaviour::Returns).await;
    world.segment(1, "all", 1, "count(*) FILTER (WHERE payload->>'else' IS NULL) = 300").await;
    assert_eq!(memberships(&world, USER), [SegmentId(1)]);
    drop(world);
    let mut pieces = Vec::new();
    while let Some(bytes) = read.recv().await {
        pieces.push(bytes);
    }
    assert!(pieces.iter().all(|bytes| *bytes <= BYTES_MAX), "{pieces:?}");
    assert!(pieces.iter().sum::<usize>() > 10 * BYTES_MAX, "{pieces:?}");
}

#[tokio::test]
async fn a_scan_that_fails_goes_on_where_it_was() {
    let mut world = world(small_pieces()).await;
    let mut read = watch(&mut world, Behaviour::Fails).await;
    define(&mut world, 1, "count(*) FILTER (WHERE payload->>'else' IS NULL) = 300").await;
    let partition = &mut world.partitions[home(USER)];
    let mut failures = 0;
    while partition.segment_progress(SegmentId(1), SegmentVersion(1)).unwrap() < 1.0 {
        let before = partition.segment_progress(SegmentId(1), SegmentVersion(1)).unwrap();
        failures += i32::from(partition.backfill_step().await.is_err());
        assert!(partition.segment_progress(SegmentId(1), SegmentVersion(1)).unwrap() >= before);
        partition.turn().await.unwrap();
    }
    assert_eq!(memberships(&world, USER), [SegmentId(1)]);
    drop(world);
    let mut batches = 0;
    while read.recv().await.is_some() {
        batches += 1;
    }
    assert!(failures > 10 && batches <= failures + 1, "{failures} failures, {batches} batches: none is read twice");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_the_history() {
    let mut world = world(Settings::default()).await;
    let mut read = watch(&mut world, Behaviour::Hangs).await;
    define(&mut world, 1, "count(*) FILTER (WHERE payload->>'else' IS NULL) = 300").await;
    let World { ports, settings, .. } = world;
    let service =
        Service::start(ports, settings, Arc::new(MemoryConfigStore::default()), Handle::current()).await.unwrap();
    let reading = tokio::time::timeout(PATIENCE, read.recv()).await.expect("the backfill begins");
    assert!(reading.is_some_and(|bytes| bytes > 0));
    tokio::time::timeout(PATIENCE, service.stop()).await.expect("the worker sees the stop");
}

//! After a wipe, deleted data is in none of the files of the warehouse, the log and the
//! checkpoints.
//!
//! Each test searches for data that must be gone and for data that must not: a search that finds
//! nothing at all would prove nothing.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use adapters::duckdb::DuckDbWarehouse;
use adapters::embedded;
use ports::checkpoints::{Checkpoint, CheckpointStore};
use ports::clock::ManualClock;
use ports::log::{Log, NewRecord, Progress, Topic};
use ports::warehouse::{ArchiveBatch, ArchiveRow, HistoryOf, TraitsRow, UserRow, Warehouse, archived};
use ports_testkit::contract::warehouse::event;
use segment_engine::event::{Event, Position};
use segment_engine::ids::{PartitionId, UserId};
use segment_engine::time::Timestamp;
use serde_json::json;

const HOUR: i64 = 3_600_000_000;

/// Whether any file below the folder contains a string.
fn is_found(folder: &Path, string: &str) -> bool {
    std::fs::read_dir(folder).unwrap().map(Result::unwrap).any(|entry| match entry.file_type().unwrap() {
        kind if kind.is_dir() => is_found(&entry.path(), string),
        _ => std::fs::read(entry.path()).unwrap().windows(string.len()).any(|part| part == string.as_bytes()),
    })
}

/// Returns those of a user's secrets that a file contains.
fn found(folder: &Path, user: i64) -> Vec<&'static str> {
    let kinds = ["email", "name", "client", "trait", "note"];
    kinds.into_iter().filter(|kind| is_found(folder, &secret(user, kind))).collect()
}

/// Returns a secret longer than the eight bytes that DuckDB's statistics keep, which no compression
/// takes apart.
fn secret(user: i64, kind: &str) -> String {
    let mut hasher = DefaultHasher::new();
    (user, kind).hash(&mut hasher);
    let first = hasher.finish();
    "zqx".hash(&mut hasher);
    format!("{first:016x}{:016x}", hasher.finish())
}

fn noted(user: i64, offset: u64) -> Event {
    let payload = Arc::new(json!({"note": secret(user, "note"), "number": offset}));
    Event { client_ref_id: secret(user, "client").into(), payload, ..event(user, 0, offset) }
}

/// Returns the rows of a user with a trait and five events.
fn everything(user: i64, offset: u64) -> Vec<ArchiveRow> {
    let (id, created_at) = (UserId(user), Timestamp(1));
    let given = |kind| Some(secret(user, kind));
    let traits = json!({"plan": secret(user, "trait")}).as_object().unwrap().clone();
    let mut rows = vec![
        ArchiveRow::User(UserRow {
            id,
            client_ref_id: given("client"),
            email: given("email"),
            name: given("name"),
            created_at,
        }),
        ArchiveRow::Traits(TraitsRow {
            user: id,
            traits,
            created_at,
            position: Position { partition: PartitionId(0), offset },
        }),
    ];
    rows.extend((1..6).map(|next| ArchiveRow::Event {
        event: Box::new(archived(noted(user, offset + next))),
        dedupe_forever: next == 1,
    }));
    rows
}

/// Returns events of other users.
fn noise(from: u64, count: u64) -> Vec<ArchiveRow> {
    let rows = (from..from + count).map(|offset| {
        let payload = Arc::new(json!({"number": offset}));
        let event = Event { payload, ..event(1_000 + offset.cast_signed() % 97, 0, offset) };
        ArchiveRow::Event { event: Box::new(archived(event)), dedupe_forever: false }
    });
    rows.collect()
}

/// Archives rows that end before an offset.
async fn archive(warehouse: &dyn Warehouse, to_offset: u64, rows: Vec<ArchiveRow>) {
    let from_offset = warehouse.archive_position(PartitionId(0)).await.unwrap();
    let rows = (from_offset..).zip(rows).collect();
    warehouse.archive(ArchiveBatch { partition: PartitionId(0), from_offset, to_offset, rows }).await.unwrap();
}

fn open(folder: &Path) -> DuckDbWarehouse {
    DuckDbWarehouse::open(&folder.join("warehouse.duckdb")).unwrap()
}

#[tokio::test]
async fn a_deleted_user_leaves_the_warehouse_file() {
    // Payloads may be compressed, and a search would not find them. There are too few of the other
    // values for that.
    const PLAIN: [&str; 4] = ["email", "name", "client", "trait"];
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let warehouse = open(folder);
    // User 2 is deleted, together with user 3, which was merged into it. User 4 is deleted later.
    for user in 1..5_u32 {
        let offset = 1_000 * u64::from(user);
        archive(&warehouse, offset, noise(offset - 1_000, 900)).await;
        archive(&warehouse, offset + 1, everything(user.into(), offset - 50)).await;
    }
    let alias = ArchiveRow::Alias { absorbed: UserId(3), survivor: UserId(2) };
    archive(&warehouse, 5_000, vec![ArchiveRow::MergeUser(UserId(3)), alias]).await;
    drop(warehouse);
    let warehouse = open(folder);
    archive(&warehouse, 6_000, noise(5_000, 900)).await;
    let history = async |warehouse: &DuckDbWarehouse| {
        let requested = [1, 1_001].map(|user| HistoryOf { user: UserId(user), from: 0, below: 1 << 40 });
        warehouse.history(&requested, usize::MAX).await.unwrap().events
    };
    let before = history(&warehouse).await;
    for user in 1..5 {
        assert_eq!(found(folder, user)[..4], PLAIN, "user {user} is there");
    }

    assert!(!warehouse.wipe(Timestamp(0), HOUR).await.unwrap(), "no user was deleted");
    archive(&warehouse, 7_000, vec![ArchiveRow::DeleteUser(UserId(2))]).await;
    assert!(!found(folder, 2).is_empty(), "DuckDB alone does not erase it");
    assert!(warehouse.wipe(Timestamp(HOUR), HOUR).await.unwrap());
    assert_eq!((found(folder, 2), found(folder, 3)), (vec![], vec![]));
    assert_eq!((&found(folder, 1)[..4], &found(folder, 4)[..4]), (&PLAIN[..], &PLAIN[..]));
    assert_eq!(history(&warehouse).await, before);

    assert!(!warehouse.wipe(Timestamp(9 * HOUR), HOUR).await.unwrap(), "no user was deleted since");
    archive(&warehouse, 8_000, vec![ArchiveRow::DeleteUser(UserId(4))]).await;
    assert!(!warehouse.wipe(Timestamp(2 * HOUR - 1), HOUR).await.unwrap(), "the last wipe was less than an hour ago");
    drop(warehouse);
    let warehouse = open(folder);
    assert!(!found(folder, 4).is_empty());
    assert!(warehouse.wipe(Timestamp(2 * HOUR), HOUR).await.unwrap(), "the wipe state survives a restart");
    archive(&warehouse, 9_000, noise(8_000, 900)).await;
    drop(warehouse);
    let warehouse = open(folder);
    assert_eq!([2, 3, 4].map(|user| found(folder, user).len()), [0, 0, 0]);
    assert_eq!(found(folder, 1)[..4], PLAIN);
    assert_eq!(history(&warehouse).await[..before.len() / 2], before[..before.len() / 2]);
}

#[tokio::test]
async fn files_spilled_by_a_killed_query_are_removed_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let spilled = folder.join("warehouse.duckdb.tmp");
    std::fs::create_dir(&spilled).unwrap();
    std::fs::write(spilled.join("duckdb_temp_storage_DEFAULT-0.tmp"), secret(2, "note")).unwrap();
    assert_eq!(found(folder, 2), ["note"]);
    let _warehouse = open(folder);
    assert_eq!(found(folder, 2), Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_wipe_loses_no_row_and_the_next_one_finishes() {
    const EVENTS: u64 = 300_000;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let warehouse = open(folder);
    archive(&warehouse, 100, everything(2, 0)).await;
    archive(&warehouse, 200, everything(1, 100)).await;
    archive(&warehouse, 200 + EVENTS, noise(200, EVENTS)).await;
    archive(&warehouse, 300 + EVENTS, vec![ArchiveRow::DeleteUser(UserId(2))]).await;
    let counted = async |warehouse: &DuckDbWarehouse| {
        let sql =
            "SELECT count(*), count(DISTINCT log_offset), max(log_offset) FROM user_segment_analytics.user_events";
        warehouse.query(sql).await.unwrap().1.concat().into_iter().flatten().collect::<Vec<_>>()
    };
    let all = |more: u64| [5 + EVENTS + more, 5 + EVENTS + more, EVENTS + 199 + more].map(|number| number.to_string());
    assert_eq!(counted(&warehouse).await, all(0));

    let interrupted = tokio::time::timeout(Duration::from_millis(1), warehouse.wipe(Timestamp(HOUR), HOUR)).await;
    assert!(interrupted.is_err());
    drop(warehouse);
    // The running piece ends by itself. Only then can the file be opened.
    let path = folder.join("warehouse.duckdb");
    let warehouse = loop {
        match DuckDbWarehouse::open(&path) {
            Ok(warehouse) => break warehouse,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!(counted(&warehouse).await, all(0));
    let (reading, writing) = (warehouse.clone(), warehouse.clone());
    let beside = tokio::spawn(async move {
        for more in 0..100 {
            let offset = 200 + EVENTS + more;
            let to_offset = 301 + EVENTS + more;
            archive(&writing, to_offset, noise(offset, 1)).await;
            assert_eq!(counted(&reading).await, all(more + 1), "every row is there once, at every moment");
        }
    });
    assert!(warehouse.wipe(Timestamp(HOUR), HOUR).await.unwrap());
    beside.await.unwrap();
    assert_eq!(found(folder, 2), Vec::<&str>::new());
    assert!(!found(folder, 1).is_empty());
}

fn record(topic: Topic, user: i64, bytes: usize) -> NewRecord {
    let value = format!("{{\"note\":\"{}\",\"fill\":\"{}\"}}", secret(user, "note"), "x".repeat(bytes)).into_bytes();
    NewRecord { topic, partition: PartitionId(0), key: user.to_string(), value }
}

fn checkpoint(next_offset: u64, users: &[(i64, bool)]) -> Checkpoint {
    let block = |user| format!("state of {}", secret(user, "trait")).into_bytes();
    let users = users.iter().map(|(user, stays)| (UserId(*user), stays.then(|| block(*user)))).collect();
    let marker = Progress { next_offset, time: Timestamp(1), behind: 0, notifications_offset: 0 };
    Checkpoint { partition: PartitionId(0), users, is_whole: false, partition_state: vec![3], marker }
}

/// Small records are stored in tables, large ones in files of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wipe_erases_removed_data_from_the_files_of_log_and_checkpoints() {
    for (bytes, is_restarted) in [(0, true), (5_000, true), (0, false), (5_000, false)] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let clock = Arc::new(ManualClock::at(Timestamp(0)));
        let (log, checkpoints) = embedded::open(folder, 2, clock.clone()).unwrap();
        assert!(!log.wipe(Timestamp(0), HOUR).await.unwrap(), "a new log is clean");
        for topic in [Topic::Events, Topic::Errors, Topic::Notifications] {
            log.append(vec![record(topic, 2, bytes)]).await.unwrap();
        }
        checkpoints.write(checkpoint(1, &[(1, true), (2, true)])).await.unwrap();
        checkpoints.keep(PartitionId(0)).await.unwrap();
        // Time passes. From here on only old data contains user 2.
        assert!(!log.wipe(Timestamp(HOUR - 1), HOUR).await.unwrap());
        assert!(log.wipe(Timestamp(HOUR), HOUR).await.unwrap());
        for topic in [Topic::Events, Topic::Errors, Topic::Notifications] {
            log.append(vec![record(topic, 1, bytes)]).await.unwrap();
        }
        checkpoints.write(checkpoint(2, &[(2, false)])).await.unwrap();
        checkpoints.keep(PartitionId(0)).await.unwrap();
        for topic in [Topic::Events, Topic::Errors, Topic::Notifications] {
            log.trim(topic, PartitionId(0), 1).await.unwrap();
        }
        assert!(!found(folder, 2).is_empty(), "fjall alone does not erase it");
        let (log, checkpoints) = if is_restarted {
            drop((log, checkpoints));
            embedded::open(folder, 2, clock.clone()).unwrap()
        } else {
            (log, checkpoints)
        };
        assert!(!log.wipe(Timestamp(2 * HOUR - 1), HOUR).await.unwrap(), "the wipe state survives a restart");
        assert!(log.wipe(Timestamp(2 * HOUR), HOUR).await.unwrap());
        assert_eq!(found(folder, 2), Vec::<&str>::new(), "records of {bytes} bytes");
        assert_eq!(found(folder, 1), ["trait", "note"]);
        drop((log, checkpoints));
        let (log, _checkpoints) = embedded::open(folder, 2, clock).unwrap();
        assert_eq!(log.read(Topic::Events, PartitionId(0), 0, usize::MAX).await.unwrap().records.len(), 1);
        assert_eq!((found(folder, 2), found(folder, 1)), (vec![], vec!["trait", "note"]));
    }
}

/// Appends records of 1 MiB until fjall would begin a new journal with its next flush.
async fn fill_journal(log: &dyn Log) {
    for _ in 0..63 {
        log.append(vec![record(Topic::Events, 3, 1 << 20)]).await.unwrap();
    }
}

fn journals(folder: &Path) -> usize {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.extension().is_some_and(|extension| extension == "jnl")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compaction_that_drops_removals_keeps_no_journal() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(Timestamp(0)));
    let (log, checkpoints) = embedded::open(folder.path(), 2, clock).unwrap();
    assert!(!log.wipe(Timestamp(0), HOUR).await.unwrap());
    log.append(vec![record(Topic::Errors, 2, 0)]).await.unwrap();
    checkpoints.write(checkpoint(1, &[(2, true)])).await.unwrap();
    fill_journal(&log).await;
    // The newest entries of both keyspaces are removals. Trimming seals the journal, flushes the
    // topic and compacts it.
    checkpoints.discard(PartitionId(0)).await.unwrap();
    log.trim(Topic::Errors, PartitionId(0), 1).await.unwrap();
    assert_eq!(journals(folder.path()), 2, "the trim sealed the journal");
    assert!(log.wipe(Timestamp(HOUR), HOUR).await.unwrap(), "no journal is needed for ever");
    assert_eq!(journals(folder.path()), 1);
    assert_eq!(found(folder.path(), 2), Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wipe_succeeds_while_records_are_appended() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(Timestamp(0)));
    let (log, _checkpoints) = embedded::open(folder.path(), 2, clock).unwrap();
    assert!(!log.wipe(Timestamp(0), HOUR).await.unwrap());
    let (log, stop) = (Arc::new(log), Arc::new(AtomicBool::new(false)));
    let appending = tokio::spawn({
        let (log, stop) = (log.clone(), stop.clone());
        async move {
            while !stop.load(Ordering::Relaxed) {
                let topics = [Topic::Events, Topic::Errors, Topic::Notifications, Topic::Config];
                log.append(topics.map(|topic| record(topic, 1, 100)).to_vec()).await.unwrap();
            }
        }
    });
    let wiped = log.wipe(Timestamp(HOUR), HOUR).await;
    stop.store(true, Ordering::Relaxed);
    appending.await.unwrap();
    assert!(wiped.unwrap());
}

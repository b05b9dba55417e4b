//! The warehouse under faults: batches of every kind of row, and one that is large enough to be
//! written to the file at once.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adapters::duckdb::DuckDbWarehouse;
use ports::warehouse::{ArchiveBatch, ArchiveRow, TraitsRow, UserRow, Warehouse, WarehouseError, archived};
use ports_testkit::contract;
use segment_engine::event::{Event, Position};
use segment_engine::ids::{PartitionId, UserId};
use segment_engine::time::Timestamp;
use serde_json::json;

use super::{Case, copy, disk, each_case};

const PARTITION: u32 = 3;
/// Small, so that a batch can exceed it.
const WAL_BYTES_MAX: u64 = 16 << 20;
/// How long the warehouse may take to reopen its file.
const PATIENCE: Duration = Duration::from_secs(60);
const BATCHES: [&str; 7] = ["events", "users", "traits", "a merge", "a deletion", "many events", "a row group"];
/// DuckDB writes as many events in one transaction into the file itself.
const ROW_GROUP_ROWS: u64 = 122_880;

fn open(folder: &Path) -> DuckDbWarehouse {
    DuckDbWarehouse::open_with(&folder.join("warehouse.duckdb"), WAL_BYTES_MAX).unwrap()
}

fn event(user: i64, offset: u64, payload: serde_json::Value) -> ArchiveRow {
    let event_id = Some(format!("{user} at {offset}").into());
    let event = Event { event_id, payload: Arc::new(payload), ..contract::warehouse::event(user, PARTITION, offset) };
    ArchiveRow::Event { event: Box::new(archived(event)), dedupe_forever: user == 2 }
}

fn user(id: i64) -> ArchiveRow {
    let (client_ref_id, created_at) = (Some(format!("client of {id}")), Timestamp(1_600_000_000_000_000));
    ArchiveRow::User(UserRow { id: UserId(id), client_ref_id, email: None, name: None, created_at })
}

fn traits(user: i64, offset: u64) -> ArchiveRow {
    let traits = json!({"plan": "pro"}).as_object().unwrap().clone();
    let position = Position { partition: PartitionId(PARTITION), offset };
    ArchiveRow::Traits(TraitsRow { user: UserId(user), traits, created_at: Timestamp(1), position })
}

/// Returns a string that does not compress well.
fn noise(seed: u64, length: usize) -> String {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.lowercase()).take(length).collect()
}

fn batch(from_offset: u64, rows: Vec<ArchiveRow>) -> ArchiveBatch {
    let rows = (from_offset..).zip(rows).collect();
    ArchiveBatch { partition: PartitionId(PARTITION), from_offset, to_offset: from_offset + 1_000, rows }
}

fn first() -> ArchiveBatch {
    let rows = (1..=3).flat_map(|id| [user(id), event(id, id as u64, json!({})), traits(id, 10 + id as u64)]);
    batch(0, rows.collect())
}

fn next(what: &str) -> ArchiveBatch {
    let rows = match what {
        "events" => (1..=3).map(|id| event(id, 1_000 + id as u64, json!({"n": id}))).collect(),
        "users" => vec![user(1), user(4)],
        "traits" => vec![traits(1, 1_000)],
        "a merge" => {
            vec![ArchiveRow::MergeUser(UserId(2)), ArchiveRow::Alias { absorbed: UserId(2), survivor: UserId(1) }]
        }
        "a deletion" => vec![ArchiveRow::DeleteUser(UserId(2))],
        // More than DuckDB keeps in its write-ahead log, so the commit ends with a checkpoint.
        "many events" => (0..600).map(|n| event(1, 1_000 + n, json!({"text": noise(n, 30_000)}))).collect(),
        "a row group" => (0..ROW_GROUP_ROWS).map(|n| event(1, 10_000 + n, json!({}))).collect(),
        other => panic!("{other}"),
    };
    batch(1_000, rows)
}

fn last() -> ArchiveBatch {
    batch(2_000, vec![event(3, 2_000, json!({"afterwards": true}))])
}

/// Returns everything that is stored.
async fn seen(warehouse: &DuckDbWarehouse) -> Vec<Vec<Vec<Option<String>>>> {
    let mut seen = Vec::new();
    for select in [
        "user_id, log_offset // 1000, count(*), bit_xor(hash(log_offset, event_id, payload))
         FROM user_segment_analytics.events GROUP BY ALL",
        "* FROM user_segment_analytics.once_events",
        "* FROM user_segment_analytics.users",
        "* FROM user_segment_analytics.trait_values",
        "* FROM user_segment_analytics.aliases",
        "* FROM user_segment_analytics.departures",
        "* FROM user_segment_analytics.archive_positions",
    ] {
        seen.push(warehouse.query(&format!("SELECT {select} ORDER BY ALL")).await.unwrap().1);
    }
    seen
}

async fn wait_until_healthy(warehouse: &DuckDbWarehouse, about: &str) {
    let started = Instant::now();
    while let Err(error) = warehouse.ping().await {
        assert!(started.elapsed() < PATIENCE, "{about}: {error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_warehouse_recovers_and_has_every_row_exactly_once() {
    let template = tempfile::tempdir().unwrap();
    open(template.path()).archive(first()).await.unwrap();
    for what in BATCHES {
        let whole = tempfile::tempdir().unwrap();
        copy(template.path(), whole.path());
        let warehouse = open(whole.path());
        for batch in [next(what), last()] {
            warehouse.archive(batch).await.unwrap();
        }
        let expected = seen(&warehouse).await;
        let cases = each_case(async |case| run(template.path(), what, case, &expected).await).await;
        assert!(cases >= 4, "{what} writes and syncs, so each fault must make a call fail: {cases}");
    }
}

/// The changes that a crash interrupts, and by which the file is closed afterwards.
const CHANGES: [&str; 5] = ["users", "a deletion", "many events", "a row group", "a wipe"];

/// Carries out a change, and closes the file, which moves the write-ahead log into it.
async fn change(folder: &Path, what: &str) {
    let warehouse = open(folder);
    if what == "a wipe" {
        assert!(warehouse.wipe(Timestamp(1), 0).await.unwrap());
    } else {
        warehouse.archive(next(what)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_in_the_middle_of_a_write_leaves_a_file_that_can_be_opened() {
    let template = tempfile::tempdir().unwrap();
    let deleted = ArchiveBatch { to_offset: 1_000, ..batch(900, vec![ArchiveRow::DeleteUser(UserId(3))]) };
    for batch in [ArchiveBatch { to_offset: 900, ..first() }, deleted] {
        open(template.path()).archive(batch).await.unwrap();
    }
    let before = seen(&open(template.path())).await;
    let mut saved = 0;
    for what in CHANGES {
        let whole = tempfile::tempdir().unwrap();
        copy(template.path(), whole.path());
        change(whole.path(), what).await;
        let after = seen(&open(whole.path())).await;
        let mut passes = 0;
        while let Some(is_saved) = crashed(template.path(), what, passes, [&before, &after]).await {
            saved += u32::from(is_saved);
            passes += 1 + passes / 16;
        }
        assert!(passes > 5, "{what}: {passes} writes");
    }
    assert!(saved > 0, "some crash needs the journal");
}

/// Crashes after so many writes of a change. Returns `None` if there were fewer, and otherwise whether
/// the file could not be opened without its journal.
async fn crashed(
    template: &Path,
    what: &str,
    passes: usize,
    expected: [&Vec<Vec<Vec<Option<String>>>>; 2],
) -> Option<bool> {
    let (folder, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    copy(template, folder.path());
    let crash = disk::crash(folder.path(), passes, image.path());
    change(folder.path(), what).await;
    if crash.failed() == 0 {
        return None;
    }
    let about = format!("{what}, after {passes} writes");
    let is_saved = needs_its_journal(image.path());
    let warehouse = DuckDbWarehouse::open_with(&image.path().join("warehouse.duckdb"), WAL_BYTES_MAX);
    let warehouse = warehouse.unwrap_or_else(|error| panic!("{about}: {error}"));
    let found = seen(&warehouse).await;
    assert!(expected.contains(&&found), "{about}: {found:?}");
    Some(is_saved)
}

/// Whether a copy of a warehouse cannot be opened without its journal.
fn needs_its_journal(folder: &Path) -> bool {
    if std::fs::metadata(folder.join("warehouse.duckdb.journal")).unwrap().len() == 0 {
        return false;
    }
    let without = tempfile::tempdir().unwrap();
    copy(folder, without.path());
    std::fs::remove_file(without.path().join("warehouse.duckdb.journal")).unwrap();
    DuckDbWarehouse::open_with(&without.path().join("warehouse.duckdb"), WAL_BYTES_MAX).is_err()
}

/// Archives like the archiver: after a failure it reads the position, and sends the batch again if
/// it is not stored.
async fn run(template: &Path, what: &str, case: Case, expected: &[Vec<Vec<Option<String>>>]) -> usize {
    let (folder, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let about = format!("{what}, {case:?}");
    copy(template, folder.path());
    let warehouse = open(folder.path());
    let failing = disk::fail(folder.path(), case.fault, case.passes, case.lasts);
    let result = warehouse.archive(next(what)).await;
    let again = warehouse.ping().await;
    let failed = failing.failed();
    drop(failing);
    assert!(result.is_ok() || failed > 0, "{about}: {result:?}");
    if let Err(error) = &result {
        assert!(matches!(error, WarehouseError::Unavailable(_)), "{about}: {error:?}");
        assert!(!case.lasts || again.is_err(), "{about}: the health check shows that it cannot be written");
    }
    wait_until_healthy(&warehouse, &about).await;
    let position = warehouse.archive_position(PartitionId(PARTITION)).await.unwrap();
    match (position, &result) {
        (2_000, _) => {}
        (1_000, Err(_)) => warehouse.archive(next(what)).await.unwrap_or_else(|error| panic!("{about}: {error}")),
        other => panic!("{about}: {other:?}"),
    }
    // An acknowledged write may still have broken something, for example in its checkpoint.
    if let Err(error) = warehouse.archive(last()).await {
        assert!(failed > 0, "{about}: {error}");
        wait_until_healthy(&warehouse, &about).await;
        if warehouse.archive_position(PartitionId(PARTITION)).await.unwrap() == 2_000 {
            warehouse.archive(last()).await.unwrap_or_else(|error| panic!("{about}: {error}"));
        }
    }
    assert_eq!(seen(&warehouse).await, expected, "{about}");
    copy(folder.path(), crashed.path());
    assert_eq!(seen(&open(crashed.path())).await, expected, "{about}: after a crash");
    drop(warehouse);
    assert_eq!(seen(&open(folder.path())).await, expected, "{about}: after a restart");
    failed
}

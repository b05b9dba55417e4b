//! The log and its checkpoints under faults.

use std::path::Path;
use std::sync::Arc;

use adapters::embedded::{self, EmbeddedCheckpoints, EmbeddedLog};
use ports::checkpoints::{Checkpoint, CheckpointStore, Generation};
use ports::clock::SystemClock;
use ports::log::{Commit, Log, NewRecord, Progress, Topic};
use segment_engine::ids::{PartitionId, UserId};
use segment_engine::time::Timestamp;

use super::{Case, copy, disk, each_case};

/// Without `trim`, which frees space in the background and waits ten seconds for a disk that stays
/// full.
const WRITES: [&str; 7] = ["append", "append_once", "commit", "write a checkpoint", "keep", "fall_back", "discard"];

fn open(folder: &Path) -> (EmbeddedLog, EmbeddedCheckpoints) {
    embedded::open(folder, 2, Arc::new(SystemClock)).unwrap()
}

fn event(user: i64, value: &str) -> NewRecord {
    NewRecord {
        topic: Topic::Events,
        partition: PartitionId(0),
        key: user.to_string(),
        value: value.as_bytes().to_vec(),
    }
}

fn progress(next_offset: u64) -> Progress {
    Progress { next_offset, time: Timestamp(1), behind: 0, notifications_offset: 0 }
}

fn checkpoint(next_offset: u64) -> Checkpoint {
    let users = vec![(UserId(1), Some(vec![next_offset as u8; 30])), (UserId(2), Some(vec![2]))];
    Checkpoint {
        partition: PartitionId(0),
        users,
        is_whole: false,
        partition_state: vec![7],
        marker: progress(next_offset),
    }
}

async fn fill((log, checkpoints): &(EmbeddedLog, EmbeddedCheckpoints)) {
    log.append(vec![event(1, "one"), event(2, "two")]).await.unwrap();
    log.append_once("p", 1, vec![event(3, "three")]).await.unwrap();
    log.commit(Commit { partition: PartitionId(0), progress: progress(1), records: vec![event(4, "four")] })
        .await
        .unwrap();
    checkpoints.write(checkpoint(1)).await.unwrap();
    checkpoints.keep(PartitionId(0)).await.unwrap();
    checkpoints.write(checkpoint(2)).await.unwrap();
}

async fn write((log, checkpoints): &(EmbeddedLog, EmbeddedCheckpoints), what: &str) -> Result<(), String> {
    let log_error = |error: ports::log::LogError| error.to_string();
    let checkpoint_error = |error: ports::checkpoints::CheckpointError| error.to_string();
    let large = "x".repeat(20_000);
    match what {
        "append" => log.append(vec![event(9, "new"), event(9, &large)]).await.map(drop).map_err(log_error),
        "append_once" => log.append_once("p", 2, vec![event(9, &large)]).await.map(drop).map_err(log_error),
        "commit" => {
            let records = vec![event(9, &large)];
            log.commit(Commit { partition: PartitionId(0), progress: progress(3), records }).await.map_err(log_error)
        }
        "write a checkpoint" => checkpoints.write(checkpoint(3)).await.map_err(checkpoint_error),
        "keep" => checkpoints.keep(PartitionId(0)).await.map(drop).map_err(checkpoint_error),
        "fall_back" => checkpoints.fall_back(PartitionId(0)).await.map_err(checkpoint_error),
        "discard" => checkpoints.discard(PartitionId(0)).await.map_err(checkpoint_error),
        other => panic!("{other}"),
    }
}

/// Returns everything that can be read, except instants.
async fn seen((log, checkpoints): &(EmbeddedLog, EmbeddedCheckpoints)) -> Vec<String> {
    let batch = log.read(Topic::Events, PartitionId(0), 0, usize::MAX).await.unwrap();
    let records = batch.records.iter().map(|record| format!("{} {} {:?}", record.offset, record.key, record.value));
    let mut seen: Vec<String> = records.collect();
    seen.push(format!(
        "{:?} {:?}",
        log.producer_sequence("p").await.unwrap(),
        log.committed(PartitionId(0)).await.unwrap()
    ));
    seen.push(format!(
        "{:?} {:?}",
        log.bounds(Topic::Events, PartitionId(0)).await.unwrap(),
        log.highest_ids().await.unwrap()
    ));
    for generation in [Generation::Latest, Generation::Kept] {
        seen.push(format!("{:?}", checkpoints.load(PartitionId(0), generation).await.unwrap()));
    }
    seen
}

async fn expected(template: &Path, what: Option<&str>) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    copy(template, folder.path());
    let stores = open(folder.path());
    if let Some(what) = what {
        write(&stores, what).await.unwrap();
    }
    stores.0.append(vec![event(5, "afterwards")]).await.unwrap();
    seen(&stores).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_acknowledged_writes_of_the_log_are_there_after_a_restart() {
    let template = tempfile::tempdir().unwrap();
    fill(&open(template.path())).await;
    let refused = expected(template.path(), None).await;
    for what in WRITES {
        let written = expected(template.path(), Some(what)).await;
        assert_ne!(written, refused, "{what} writes something");
        let cases = each_case(async |case| run(template.path(), what, case, &written, &refused).await).await;
        assert!(cases >= 4, "{what} writes and syncs, so each fault must make a call fail: {cases}");
    }
}

async fn run(template: &Path, what: &str, case: Case, written: &[String], refused: &[String]) -> usize {
    let (folder, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let about = format!("{what}, {case:?}");
    copy(template, folder.path());
    let stores = open(folder.path());
    let failing = disk::fail(folder.path(), case.fault, case.passes, case.lasts);
    let result = write(&stores, what).await;
    // As a worker that failed does at once.
    let _may_fail = stores.1.forget_added(PartitionId(0)).await;
    let healthy = stores.0.ping().await;
    let failed = failing.failed();
    drop(failing);
    assert!(result.is_ok() || failed > 0, "{about}: {result:?}");
    assert!(
        result.is_ok() || !case.lasts || healthy.is_err(),
        "{about}: the health check shows that the log cannot be written"
    );
    stores.0.ping().await.unwrap_or_else(|error| panic!("{about}: {error}"));
    stores.0.append(vec![event(5, "afterwards")]).await.unwrap_or_else(|error| panic!("{about}: {error}"));
    let found = seen(&stores).await;
    // A refused checkpoint may appear as a whole. It is true at its marker, so that does no harm.
    let may_appear = !["append", "append_once", "commit"].contains(&what) && found == written;
    let expected = if result.is_ok() || may_appear { written } else { refused };
    assert!(found == expected, "{about}: {result:?}: {found:?} instead of {expected:?}");
    copy(folder.path(), crashed.path());
    assert!(seen(&open(crashed.path())).await == expected, "{about}: after a crash");
    drop(stores);
    assert!(seen(&open(folder.path())).await == expected, "{about}: after a restart");
    failed
}

//! The embedded log on a full disk: it refuses calls, stores nothing of them, and continues when
//! there is space.
//!
//! The disk is a small tmpfs, which only root may mount, so the test becomes root of a user
//! namespace.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::process::Command;
use std::sync::Arc;

use adapters::embedded;
use ports::checkpoints::{Checkpoint, CheckpointStore, Generation};
use ports::clock::SystemClock;
use ports::log::{Commit, Log, LogError, NewRecord, Progress, Topic};
use segment_engine::ids::{PartitionId, UserId};
use segment_engine::time::Timestamp;

/// Set in the environment of the test process inside the namespace.
const INSIDE: &str = "USS_TEST_INSIDE_NAMESPACE";
const DISK_MIB: usize = 96;

#[test]
fn a_full_disk_refuses_calls_and_keeps_the_rest() {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        // Large values are torn at the end of the disk. Small ones stay in a buffer as a whole, and
        // would be written later, although their callers got an error.
        return [700 << 10, 3 << 10].into_iter().for_each(|bytes| runtime.block_on(scenario(bytes)));
    }
    // In a mount namespace of its own: the mount goes with the process, however the test ends.
    let test = ["--exact", "a_full_disk_refuses_calls_and_keeps_the_rest", "--nocapture"];
    let inside = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount"])
        .arg(std::env::current_exe().unwrap())
        .args(test)
        .env(INSIDE, "1")
        .status()
        .expect("unshare (util-linux) is installed");
    assert!(inside.success(), "the test failed inside the namespace, or the namespace could not be created");
}

fn event(value: Vec<u8>) -> NewRecord {
    NewRecord { topic: Topic::Events, partition: PartitionId(0), key: String::new(), value }
}

fn progress(next_offset: u64) -> Progress {
    Progress { next_offset, time: Timestamp(1), behind: 0, notifications_offset: 0 }
}

/// Returns bytes that do not compress.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

async fn scenario(value_bytes: usize) {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let size = format!("size={DISK_MIB}m");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&disk).status().unwrap();
    assert!(mounted.success());
    let ballast = disk.join("ballast");
    std::fs::write(&ballast, noise(1, DISK_MIB << 19)).unwrap();

    let (log, checkpoints) = embedded::open(&disk.join("log"), 4, Arc::new(SystemClock)).unwrap();
    let stored = fill(&log, value_bytes).await;
    refuses_everything(&log, &checkpoints).await;
    assert!(stored_values(&log).await == stored, "every acknowledged value can still be read, and no other");

    std::fs::remove_file(&ballast).unwrap();
    assert!(log.append_once("p", 2, vec![event(vec![2])]).await.unwrap(), "the refused sequence was not stored");
    log.append(vec![event(vec![3])]).await.unwrap();
    log.commit(Commit { partition: PartitionId(0), progress: progress(2), records: vec![] }).await.unwrap();
    let expected: Vec<_> = stored.iter().cloned().chain([vec![2], vec![3]]).collect();
    assert!(stored_values(&log).await == expected, "the refused calls left no trace");
    assert_eq!(log.committed(PartitionId(0)).await.unwrap().map(|progress| progress.next_offset), Some(2));
    checkpoints.write(checkpoint()).await.unwrap();

    drop((log, checkpoints));
    let (log, checkpoints) = embedded::open(&disk.join("log"), 4, Arc::new(SystemClock)).unwrap();
    assert!(stored_values(&log).await == expected, "nor after a restart");
    assert_eq!(log.producer_sequence("p").await.unwrap(), 2);
    assert!(checkpoints.load(PartitionId(0), Generation::Latest).await.unwrap().is_some());
}

/// Appends until the disk is full. Returns the stored values.
async fn fill(log: &embedded::EmbeddedLog, value_bytes: usize) -> Vec<Vec<u8>> {
    log.append_once("p", 1, vec![]).await.unwrap();
    log.commit(Commit { partition: PartitionId(0), progress: progress(1), records: vec![] }).await.unwrap();
    let mut stored = Vec::new();
    loop {
        let value = noise(stored.len() as u64 + 2, value_bytes);
        match log.append(vec![event(value.clone())]).await {
            Ok(_) => stored.push(value),
            Err(LogError::Full(_)) => return stored,
            Err(other) => panic!("{other:?}"),
        }
        assert!(stored.len() * value_bytes < DISK_MIB << 20, "the disk does not fill up");
    }
}

async fn refuses_everything(log: &embedded::EmbeddedLog, checkpoints: &embedded::EmbeddedCheckpoints) {
    for _ in 0..3 {
        let refused = log.append(vec![event(noise(99, 1 << 20))]).await;
        assert!(matches!(refused, Err(LogError::Full(_))), "{refused:?}");
        let refused = log.append_once("p", 2, vec![event(noise(98, 1 << 20))]).await;
        assert!(matches!(refused, Err(LogError::Full(_))), "{refused:?}");
        let commit =
            Commit { partition: PartitionId(0), progress: progress(2), records: vec![event(noise(97, 1 << 20))] };
        assert!(matches!(log.commit(commit).await, Err(LogError::Full(_))));
        assert!(checkpoints.write(checkpoint()).await.is_err());
    }
    assert_eq!(log.producer_sequence("p").await.unwrap(), 1);
    assert_eq!(log.committed(PartitionId(0)).await.unwrap().map(|progress| progress.next_offset), Some(1));
}

fn checkpoint() -> Checkpoint {
    let users = vec![(UserId(1), Some(noise(5, 1 << 20)))];
    Checkpoint { partition: PartitionId(0), users, is_whole: false, partition_state: vec![], marker: progress(1) }
}

async fn stored_values(log: &dyn Log) -> Vec<Vec<u8>> {
    let batch = log.read(Topic::Events, PartitionId(0), 0, usize::MAX).await.unwrap();
    batch.records.into_iter().map(|record| record.value).collect()
}

//! Failures that only the embedded adapters can have: damaged files, a full queue, a crash.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use adapters::embedded::{self, EmbeddedCheckpoints, EmbeddedLog};
use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use ports::checkpoints::{Checkpoint, CheckpointError, CheckpointStore, Generation};
use ports::clock::SystemClock;
use ports::log::{Commit, HighestIds, Log, LogError, NewRecord, Progress, Topic};
use segment_engine::ids::{PartitionId, UserId};
use segment_engine::time::Timestamp;

fn open(folder: &Path) -> (EmbeddedLog, EmbeddedCheckpoints) {
    embedded::open(folder, 4, Arc::new(SystemClock)).unwrap()
}

fn event(partition: u32, value: Vec<u8>) -> NewRecord {
    NewRecord { topic: Topic::Events, partition: PartitionId(partition), key: "7".to_owned(), value }
}

fn progress(next_offset: u64) -> Progress {
    Progress { next_offset, time: Timestamp(1), behind: 0, notifications_offset: 0 }
}

/// Changes the last byte of the value under the last key with `prefix`, without the adapter.
fn damage(folder: &Path, keyspace: &str, prefix: &[u8]) {
    let db = Database::builder(folder).open().unwrap();
    let keyspace = db.keyspace(keyspace, KeyspaceCreateOptions::default).unwrap();
    let (key, value) = keyspace.prefix(prefix).next_back().unwrap().into_inner().unwrap();
    let mut value = value.to_vec();
    *value.last_mut().unwrap() ^= 1;
    keyspace.insert(key, value).unwrap();
    db.persist(PersistMode::SyncAll).unwrap();
}

#[tokio::test]
async fn the_error_names_a_damaged_record() {
    let folder = tempfile::tempdir().unwrap();
    let (log, checkpoints) = open(folder.path());
    for n in 0..3 {
        log.append(vec![event(2, vec![n; 50]), event(2, vec![n; 50])]).await.unwrap();
    }
    drop((log, checkpoints));
    damage(folder.path(), "events", &[0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2]);

    let (log, _) = open(folder.path());
    match log.read(Topic::Events, PartitionId(2), 0, usize::MAX).await {
        Err(LogError::Corrupt(reason)) => {
            for part in ["Events", "partition 2", "offset 2", "checksum"] {
                assert!(reason.contains(part), "{reason}");
            }
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        log.read(Topic::Events, PartitionId(2), 4, usize::MAX).await.unwrap().records.len(),
        2,
        "later records can be read"
    );
}

#[tokio::test]
async fn the_error_names_a_missing_block() {
    let folder = tempfile::tempdir().unwrap();
    let (log, checkpoints) = open(folder.path());
    for n in 0..3 {
        log.append(vec![event(1, vec![n])]).await.unwrap();
    }
    drop((log, checkpoints));
    let db = Database::builder(folder.path()).open().unwrap();
    let keyspace = db.keyspace("events", KeyspaceCreateOptions::default).unwrap();
    keyspace.remove([0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]).unwrap();
    drop((keyspace, db));

    let (log, _) = open(folder.path());
    for from in [0, 1] {
        match log.read(Topic::Events, PartitionId(1), from, usize::MAX).await {
            Err(LogError::Corrupt(reason)) => assert!(reason.contains("offset 1: it is missing"), "{reason}"),
            other => panic!("from {from}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn the_error_names_a_damaged_entry() {
    for (key, call) in [("producer/p", 0), ("progress/3", 1)] {
        let folder = tempfile::tempdir().unwrap();
        let (log, checkpoints) = open(folder.path());
        log.append_once("p", 5, vec![]).await.unwrap();
        log.commit(Commit { partition: PartitionId(3), progress: progress(1), records: vec![] }).await.unwrap();
        drop((log, checkpoints));
        damage(folder.path(), "meta", key.as_bytes());
        // Commits are read at the start, producers when they append.
        let failed = match call {
            0 => open(folder.path()).0.append_once("p", 6, vec![]).await.map(drop),
            _ => embedded::open(folder.path(), 4, Arc::new(SystemClock)).map(drop),
        };
        assert!(matches!(&failed, Err(LogError::Corrupt(reason)) if reason.contains(key)), "{failed:?}");
    }
}

#[tokio::test]
async fn a_damaged_checkpoint_is_refused() {
    type Harm = (&'static str, fn(&Path));
    let harms: [Harm; 4] = [
        ("1-1.users: its checksum does not match", |folder| {
            let file = folder.join("checkpoints/1-1.users");
            let mut bytes = std::fs::read(&file).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            std::fs::write(file, bytes).unwrap();
        }),
        ("1-1.users: its file is missing", |folder| {
            std::fs::remove_file(folder.join("checkpoints/1-1.users")).unwrap();
        }),
        ("1-1.users: its file has another size", |folder| {
            let file = std::fs::File::options().append(true).open(folder.join("checkpoints/1-1.users")).unwrap();
            file.set_len(file.metadata().unwrap().len() - 1).unwrap();
        }),
        ("marker", |folder| damage(folder, "checkpoints", &[0, 0, 0, 1, 5])),
    ];
    for (named, harm) in harms {
        let folder = tempfile::tempdir().unwrap();
        let (log, checkpoints) = open(folder.path());
        for partition in [1, 2] {
            let users = vec![(UserId(41), Some(vec![1])), (UserId(42), Some(vec![2]))];
            let checkpoint = Checkpoint {
                partition: PartitionId(partition),
                users,
                is_whole: false,
                partition_state: vec![3],
                marker: progress(9),
            };
            checkpoints.write(checkpoint).await.unwrap();
        }
        drop((log, checkpoints));
        harm(folder.path());

        let (_log, checkpoints) = open(folder.path());
        match checkpoints.load(PartitionId(1), Generation::Latest).await {
            Err(CheckpointError::Corrupt { partition: PartitionId(1), reason }) => {
                assert!(reason.contains(named), "{reason}")
            }
            other => panic!("{other:?}"),
        }
        assert!(
            checkpoints.load(PartitionId(2), Generation::Latest).await.unwrap().is_some(),
            "the other partitions can be read"
        );
        checkpoints.discard(PartitionId(1)).await.unwrap();
        assert!(
            checkpoints.load(PartitionId(1), Generation::Latest).await.unwrap().is_none(),
            "and this one can be rebuilt"
        );
    }
}

#[tokio::test]
async fn a_full_queue_refuses_calls() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _checkpoints) = open(folder.path());
    let whole_queue = vec![event(0, vec![1; (embedded::QUEUED_KIB_MAX as usize) << 10])];
    let (large, small) = tokio::join!(log.append(whole_queue), log.append(vec![event(0, vec![2])]));
    assert!(large.is_ok(), "the queue takes as much as it holds: {large:?}");
    assert!(matches!(small, Err(LogError::Unavailable(_))), "and no more: {small:?}");
    assert!(log.append(vec![event(0, vec![3])]).await.is_ok(), "it takes more after the write");
    let batch = log.read(Topic::Events, PartitionId(0), 1, usize::MAX).await.unwrap();
    assert_eq!(batch.records.iter().map(|record| record.value.clone()).collect::<Vec<_>>(), [[3]]);
}

/// Copies the files, which are then as a crash at this moment would leave them.
fn copy_of(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let status = Command::new("cp").arg("-a").arg(folder.join(".")).arg(copy.path()).status().unwrap();
    assert!(status.success());
    copy
}

#[tokio::test]
async fn a_torn_write_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _checkpoints) = open(folder.path());
    log.append(vec![event(0, b"synced".to_vec())]).await.unwrap();
    let synced = journal_end(&journal(folder.path()));
    let mark = std::fs::read(folder.path().join("acknowledged")).unwrap();
    log.append(vec![event(0, b"torn".to_vec()), event(1, b"torn".to_vec())]).await.unwrap();
    let end = journal_end(&journal(folder.path()));
    for cut in [synced, synced + 1, (synced + end) / 2, end - 1] {
        let crashed = copy_of(folder.path());
        let file = std::fs::OpenOptions::new().write(true).open(journal(crashed.path())).unwrap();
        file.set_len(cut).unwrap();
        drop(file);
        // The torn write was not acknowledged.
        std::fs::write(crashed.path().join("acknowledged"), &mark).unwrap();
        let (log, _) = open(crashed.path());
        let records = log.read(Topic::Events, PartitionId(0), 0, usize::MAX).await.unwrap().records;
        assert_eq!(records.len(), 1, "truncated to {cut} of {synced}..{end}");
        assert_eq!(log.bounds(Topic::Events, PartitionId(1)).await.unwrap(), (0, 0), "a call is atomic");
        assert_eq!(log.append(vec![event(0, b"next".to_vec())]).await.unwrap()[0].offset, 1);
    }
    let (log, _) = open(copy_of(folder.path()).path());
    assert_eq!(
        log.read(Topic::Events, PartitionId(0), 0, usize::MAX).await.unwrap().records.len(),
        2,
        "without the cut, both records are there"
    );
}

/// Returns the only journal of a database.
fn journal(folder: &Path) -> PathBuf {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut journals = entries.filter(|path| path.extension().is_some_and(|extension| extension == "jnl"));
    journals.next().unwrap()
}

/// Returns the end of the written part of a journal: the rest of the file is zeros.
fn journal_end(path: &Path) -> u64 {
    let bytes = std::fs::read(path).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
}

#[tokio::test]
async fn a_log_of_an_earlier_build_computes_its_highest_ids_once() {
    let folder = tempfile::tempdir().unwrap();
    let about = |topic, partition, key: &str| NewRecord { topic, key: key.to_owned(), ..event(partition, vec![1]) };
    let (log, checkpoints) = open(folder.path());
    log.append(vec![about(Topic::Config, 0, "6"), about(Topic::Events, 0, "40"), about(Topic::Events, 1, "7")])
        .await
        .unwrap();
    log.append(vec![about(Topic::Events, 1, "9"), about(Topic::Notifications, 2, "30")]).await.unwrap();
    // Records before a checkpoint's marker are not read, because their users are in the checkpoint.
    let checkpoint = |partition, next_offset, users: &[i64]| Checkpoint {
        partition,
        users: users.iter().map(|user| (UserId(*user), Some(vec![1]))).collect(),
        is_whole: false,
        partition_state: vec![],
        marker: progress(next_offset),
    };
    let forget = |topic: &str, first_bytes: &[u8]| {
        let db = Database::builder(folder.path()).open().unwrap();
        let keyspace = db.keyspace(topic, KeyspaceCreateOptions::default).unwrap();
        let key = keyspace.prefix(first_bytes).next().unwrap().key().unwrap();
        keyspace.remove(key).unwrap();
        db.persist(PersistMode::SyncAll).unwrap();
    };
    drop((log, checkpoints));
    forget("meta", b"highest-ids");
    assert_eq!(open(folder.path()).0.highest_ids().await.unwrap(), HighestIds { user: 40, segment: 6 }, "from records");
    let (log, checkpoints) = open(folder.path());
    checkpoints.write(checkpoint(PartitionId(0), 1, &[12, 55])).await.unwrap();
    checkpoints.write(checkpoint(PartitionId(1), 1, &[7])).await.unwrap();
    drop((log, checkpoints));
    forget("meta", b"highest-ids");
    assert_eq!(
        open(folder.path()).0.highest_ids().await.unwrap(),
        HighestIds { user: 55, segment: 6 },
        "from checkpoints"
    );
    forget("events", &[0, 0, 0, 0]);
    forget("events", &[0, 0, 0, 1]);
    assert_eq!(open(folder.path()).0.highest_ids().await.unwrap().user, 55, "read from the stored entry");
}

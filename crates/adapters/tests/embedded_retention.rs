//! Kept checkpoints and trimmed records: cases that only the embedded adapters can get wrong.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use adapters::embedded::{self, EmbeddedCheckpoints, EmbeddedLog};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use ports::checkpoints::{Checkpoint, CheckpointError, CheckpointStore, Generation};
use ports::clock::SystemClock;
use ports::log::{Log, NewRecord, Progress, Topic};
use segment_engine::ids::{PartitionId, UserId};
use segment_engine::time::Timestamp;

fn open(folder: &Path) -> (EmbeddedLog, EmbeddedCheckpoints) {
    embedded::open(folder, 4, Arc::new(SystemClock)).unwrap()
}

fn checkpoint(next_offset: u64, users: &[(i64, &[u8])]) -> Checkpoint {
    let users = users.iter().map(|(user, block)| (UserId(*user), Some(block.to_vec()))).collect();
    let marker = Progress { next_offset, time: Timestamp(1), behind: 0, notifications_offset: 0 };
    Checkpoint { partition: PartitionId(1), users, is_whole: false, partition_state: vec![3], marker }
}

/// Changes the checkpoints without the adapter.
fn change_directly(folder: &Path, change: impl Fn(&Keyspace)) {
    let db = Database::builder(folder).open().unwrap();
    let checkpoints = db.keyspace("checkpoints", KeyspaceCreateOptions::default).unwrap();
    change(&checkpoints);
    db.persist(PersistMode::SyncAll).unwrap();
}

/// Changes the last byte of the value under the last key of a kind.
fn damage(checkpoints: &Keyspace, kind: u8) {
    let (key, value) = checkpoints.prefix([0, 0, 0, 1, kind]).next_back().unwrap().into_inner().unwrap();
    let mut value = value.to_vec();
    *value.last_mut().unwrap() ^= 1;
    checkpoints.insert(key, value).unwrap();
}

/// Changes the last byte of the oldest or the newest file of users.
fn damage_file(folder: &Path, is_newest: bool) {
    let files = user_files(folder);
    let file = folder.join("checkpoints").join(if is_newest { files.last() } else { files.first() }.unwrap());
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(file, bytes).unwrap();
}

/// Returns the names of the files of users, oldest first.
fn user_files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder.join("checkpoints")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

/// Returns the users of a generation, or why it cannot be read.
async fn users(checkpoints: &EmbeddedCheckpoints, generation: Generation) -> Result<Vec<(i64, Vec<u8>)>, String> {
    match checkpoints.load(PartitionId(1), generation).await {
        Ok(restored) => Ok(restored.unwrap().users.into_iter().map(|(user, block)| (user.0, block)).collect()),
        Err(CheckpointError::Corrupt { partition: PartitionId(1), reason }) => Err(reason),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_damaged_checkpoint_falls_back_to_the_kept_one_and_is_never_kept() {
    let kept = vec![(41, vec![1]), (42, vec![2])];
    let harms: [fn(&Path); 2] =
        [|folder| change_directly(folder, |checkpoints| damage(checkpoints, 5)), |folder| damage_file(folder, true)];
    for harm in harms {
        let folder = tempfile::tempdir().unwrap();
        let (log, checkpoints) = open(folder.path());
        checkpoints.write(checkpoint(5, &[(41, &[1]), (42, &[2])])).await.unwrap();
        checkpoints.keep(PartitionId(1)).await.unwrap();
        checkpoints.write(checkpoint(9, &[(42, &[7]), (43, &[8])])).await.unwrap();
        drop((log, checkpoints));
        harm(folder.path());

        let (_log, checkpoints) = open(folder.path());
        assert!(users(&checkpoints, Generation::Latest).await.is_err());
        assert!(matches!(checkpoints.keep(PartitionId(1)).await, Err(CheckpointError::Corrupt { .. })));
        assert_eq!(users(&checkpoints, Generation::Kept).await, Ok(kept.clone()));
        checkpoints.fall_back(PartitionId(1)).await.unwrap();
        assert_eq!(users(&checkpoints, Generation::Latest).await, Ok(kept.clone()));
        assert_eq!(checkpoints.marker(PartitionId(1), Generation::Latest).await.unwrap().unwrap().next_offset, 5);
    }
}

#[tokio::test]
async fn a_kept_checkpoint_that_is_damaged_or_incomplete_is_refused_and_replaced() {
    type Harm = (&'static str, fn(&Path));
    let harms: [Harm; 3] = [
        ("marker", |folder| change_directly(folder, |checkpoints| damage(checkpoints, 6))),
        ("checksum", |folder| damage_file(folder, false)),
        ("missing", |folder| {
            std::fs::remove_file(folder.join("checkpoints").join(&user_files(folder)[0])).unwrap();
        }),
    ];
    for (named, harm) in harms {
        let folder = tempfile::tempdir().unwrap();
        let (log, checkpoints) = open(folder.path());
        checkpoints.write(checkpoint(5, &[(41, &[1]), (42, &[2])])).await.unwrap();
        checkpoints.keep(PartitionId(1)).await.unwrap();
        checkpoints.write(checkpoint(9, &[(42, &[7])])).await.unwrap();
        drop((log, checkpoints));
        harm(folder.path());

        let (_log, checkpoints) = open(folder.path());
        let refused = users(&checkpoints, Generation::Kept).await.unwrap_err();
        assert!(refused.contains(named), "{refused}");
        assert!(checkpoints.fall_back(PartitionId(1)).await.is_err());
        let latest = Ok(vec![(41, vec![1]), (42, vec![7])]);
        assert_eq!(users(&checkpoints, Generation::Latest).await, latest, "it is unchanged");
        checkpoints.keep(PartitionId(1)).await.unwrap();
        assert_eq!(users(&checkpoints, Generation::Kept).await, latest);
    }
}

#[tokio::test]
async fn no_file_is_left_that_no_checkpoint_needs() {
    let folder = tempfile::tempdir().unwrap();
    // It does not compress.
    let large: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(300).collect();
    let (log, checkpoints) = open(folder.path());
    checkpoints.write(checkpoint(1, &[(41, &large), (42, &large), (43, b"a")])).await.unwrap();
    assert_eq!(user_files(folder.path()), ["1-1.users"]);
    checkpoints.write(checkpoint(2, &[(43, b"b")])).await.unwrap();
    assert_eq!(user_files(folder.path()).len(), 2, "it is small, and merged later");
    checkpoints.keep(PartitionId(1)).await.unwrap();
    assert_eq!(user_files(folder.path()), ["1-3.users"], "of both generations");
    checkpoints.write(checkpoint(3, &[(43, b"c")])).await.unwrap();
    checkpoints.add(PartitionId(1), checkpoint(4, &[(41, b"never written")]).users).await.unwrap();
    assert_eq!(user_files(folder.path()).len(), 3);
    drop((log, checkpoints));

    let (_log, checkpoints) = open(folder.path());
    let expected = vec![(41, large.clone()), (42, large), (43, b"c".to_vec())];
    assert_eq!(users(&checkpoints, Generation::Latest).await, Ok(expected));
    checkpoints.write(checkpoint(4, &[])).await.unwrap();
    assert_eq!(user_files(folder.path()).len(), 3, "files stay until the marker after next");
    checkpoints.write(checkpoint(5, &[])).await.unwrap();
    assert_eq!(user_files(folder.path()), ["1-3.users", "1-4.users"], "what was never written is gone");
    checkpoints.discard(PartitionId(1)).await.unwrap();
    assert_eq!(user_files(folder.path()), [""; 0]);
}

/// What builds up to format 5 of the data folder left: each block an entry of the database.
mod of_earlier_builds {
    use super::*;

    fn insert(checkpoints: &Keyspace, key: &[u8], body: &[u8]) {
        let mut crc = crc32fast::Hasher::new();
        crc.update(key);
        crc.update(body);
        let mut value = crc.finalize().to_le_bytes().to_vec();
        value.extend_from_slice(body);
        checkpoints.insert(key, value).unwrap();
    }

    fn user_key(kind: u8, user: u8) -> [u8; 13] {
        [0, 0, 0, 1, kind, 0x80, 0, 0, 0, 0, 0, 0, user]
    }

    fn write_old(checkpoints: &Keyspace) {
        let marker = |next_offset: u64| {
            let progress = Progress { next_offset, time: Timestamp(1), behind: 0, notifications_offset: 0 };
            (progress, vec![3_u8])
        };
        insert(checkpoints, &user_key(1, 41), &[1]);
        insert(checkpoints, &user_key(1, 42), &[7]);
        insert(checkpoints, &[0, 0, 0, 1, 0], &postcard::to_stdvec(&marker(9)).unwrap());
        insert(checkpoints, &user_key(4, 41), &[2]);
        insert(checkpoints, &[0, 0, 0, 1, 2], &postcard::to_stdvec(&(marker(5), 4_u8, 1_u64)).unwrap());
        // Of a keep that was interrupted.
        insert(checkpoints, &user_key(3, 40), &[6]);
    }

    #[tokio::test]
    async fn checkpoints_are_read_and_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        drop(open(folder.path()));
        change_directly(folder.path(), write_old);
        for _ in 0..2 {
            let (_log, checkpoints) = open(folder.path());
            let latest = checkpoints.load(PartitionId(1), Generation::Latest).await.unwrap().unwrap();
            assert_eq!((latest.marker.next_offset, latest.partition_state), (9, vec![3]));
            assert_eq!(users(&checkpoints, Generation::Latest).await, Ok(vec![(41, vec![1]), (42, vec![7])]));
            assert_eq!(users(&checkpoints, Generation::Kept).await, Ok(vec![(41, vec![2])]));
        }
        change_directly(folder.path(), |checkpoints| {
            let old = checkpoints.prefix([0, 0, 0, 1]).count();
            assert_eq!(old, 2, "the two markers");
        });
    }

    #[tokio::test]
    async fn a_damaged_one_is_refused_and_the_other_is_not() {
        for (kind, is_latest) in [(1, true), (0, true), (4, false), (2, false)] {
            let folder = tempfile::tempdir().unwrap();
            drop(open(folder.path()));
            change_directly(folder.path(), write_old);
            change_directly(folder.path(), |checkpoints| damage(checkpoints, kind));
            let (_log, checkpoints) = open(folder.path());
            assert_eq!(users(&checkpoints, Generation::Latest).await.is_err(), is_latest, "{kind}");
            assert_eq!(users(&checkpoints, Generation::Kept).await.is_err(), !is_latest, "{kind}");
        }
    }
}

fn records(partitions: u32, bytes: usize, seed: u64) -> Vec<NewRecord> {
    let record = |partition: PartitionId| {
        // Random bytes do not compress.
        let mut random = fastrand::Rng::with_seed(seed << 8 | u64::from(partition.0));
        let value = std::iter::repeat_with(|| random.u8(..)).take(bytes).collect();
        NewRecord { topic: Topic::Events, partition, key: "7".to_owned(), value }
    };
    PartitionId::all(partitions).map(record).collect()
}

/// Returns the bytes of tables and values, without the journals, whose size is bounded.
fn stored_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let sizes = entries.map(|entry| match entry.file_type().unwrap() {
        kind if kind.is_dir() => stored_bytes(&entry.path()),
        _ if entry.path().extension().is_some_and(|extension| extension == "jnl") => 0,
        _ => entry.metadata().unwrap().len(),
    });
    sizes.sum()
}

#[tokio::test]
async fn the_space_of_trimmed_records_is_freed() {
    const ROUNDS: u64 = 320;
    let folder = tempfile::tempdir().unwrap();
    let (log, _checkpoints) = open(folder.path());
    for round in 0..ROUNDS {
        log.append(records(4, 1 << 18, round)).await.unwrap();
        // A quarter of the records stays.
        if round % 8 == 7 && round >= ROUNDS / 4 {
            for partition in 0..4 {
                log.trim(Topic::Events, PartitionId(partition), round - ROUNDS / 4).await.unwrap();
            }
        }
    }
    let written = ROUNDS << 20;
    let stored = stored_bytes(folder.path());
    assert!(stored < written / 2, "{stored} of {written} bytes are left");
    for partition in 0..4 {
        log.trim(Topic::Events, PartitionId(partition), u64::MAX).await.unwrap();
    }
    let stored = stored_bytes(folder.path());
    assert!(stored < written / 4, "{stored} of {written} bytes are left");
    assert_eq!(log.append(records(4, 8, 0)).await.unwrap()[0].offset, ROUNDS, "offsets continue");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_during_a_trim_returns_what_is_left() {
    const RECORDS: u64 = 400;
    let folder = tempfile::tempdir().unwrap();
    let (log, _checkpoints) = open(folder.path());
    for round in 0..RECORDS {
        log.append(records(1, 8, round)).await.unwrap();
    }
    let (log, stop) = (Arc::new(log), Arc::new(AtomicBool::new(false)));
    let readers = (0..16).map(|_| {
        let (log, stop) = (log.clone(), stop.clone());
        tokio::spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                let batch = log.read(Topic::Events, PartitionId(0), 0, usize::MAX).await.unwrap();
                assert_eq!(batch.next_offset, RECORDS);
                let first = batch.records.first().map_or(RECORDS, |record| record.offset);
                assert_eq!(batch.records.len() as u64, RECORDS - first);
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    for before in 1..=RECORDS {
        log.trim(Topic::Events, PartitionId(0), before).await.unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.await.unwrap();
    }
}

//! Damaged files of the log: every acknowledged write is there, or the log is refused before
//! anything is changed.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use adapters::embedded::{self, Embedded, Losses, OpenError};
use ports::checkpoints::{Checkpoint, CheckpointError, CheckpointStore, Generation};
use ports::clock::SystemClock;
use ports::log::{Commit, Log, NewRecord, Progress, Topic};
use segment_engine::ids::{PartitionId, UserId};
use segment_engine::time::Timestamp;
use tempfile::TempDir;

const PARTITIONS: u32 = 2;
/// The zeros after a journal's last write, kept short here.
const UNWRITTEN: u64 = 8192;

/// Files by their paths in the folder.
type Files = Vec<(PathBuf, Vec<u8>)>;

fn open(folder: &Path, losses: Losses) -> Result<Embedded, OpenError> {
    embedded::open_with(folder, PARTITIONS, Arc::new(SystemClock), losses)
}

/// Returns everything that can be read from a log. Damage that a read reports is an `Err`, so it is
/// not silent.
async fn state(opened: &Embedded) -> Result<String, String> {
    let Embedded { log, checkpoints, .. } = opened;
    let message = |error: &dyn std::fmt::Display| error.to_string();
    let mut text = String::new();
    for topic in [Topic::Events, Topic::Errors, Topic::Notifications, Topic::Config] {
        for partition in PartitionId::all(topic.partitions(PARTITIONS)) {
            let batch = log.read(topic, partition, 0, usize::MAX).await.map_err(|error| message(&error))?;
            text.push_str(&format!("{topic:?} {partition}: {:?} {}\n", batch.records, batch.next_offset));
        }
    }
    for partition in PartitionId::all(PARTITIONS) {
        let committed = log.committed(partition).await.map_err(|error| message(&error))?;
        let latest = checkpoints.load(partition, Generation::Latest).await.map_err(|error| message(&error))?;
        text.push_str(&format!("{partition}: {committed:?} {latest:?}\n"));
    }
    let sent = log.producer_sequence("p").await.map_err(|error| message(&error))?;
    Ok(text + &format!("{sent} {:?}", log.highest_ids().await.map_err(|error| message(&error))?))
}

async fn write(opened: &Embedded, n: u8) {
    let event = |partition| NewRecord {
        topic: Topic::Events,
        partition,
        key: n.to_string(),
        value: format!("{{\"n\":{n}}}").into_bytes(),
    };
    opened.log.append(vec![event(PartitionId(0)), event(PartitionId(1))]).await.unwrap();
    opened.log.append_once("p", u64::from(n), vec![event(PartitionId(0))]).await.unwrap();
    let marker = Progress { next_offset: 2, time: Timestamp(1), behind: 0, notifications_offset: 0 };
    let notification = NewRecord { topic: Topic::Notifications, ..event(PartitionId(0)) };
    opened
        .log
        .commit(Commit { partition: PartitionId(0), progress: marker, records: vec![notification] })
        .await
        .unwrap();
    let users = vec![(UserId(i64::from(n)), Some(vec![n; 20]))];
    let checkpoint = Checkpoint { partition: PartitionId(0), users, is_whole: false, partition_state: vec![n], marker };
    if let Err(CheckpointError::Corrupt { .. }) = opened.checkpoints.write(checkpoint.clone()).await {
        // If many writes were lost, the last marker names files that have been merged since. A worker
        // then does without that checkpoint.
        opened.checkpoints.discard(PartitionId(0)).await.unwrap();
        opened.checkpoints.write(checkpoint).await.unwrap();
    }
}

/// Returns the files of a log as a killed process leaves them, after this many rounds of writes.
async fn killed_after(rounds: u8) -> (Files, String) {
    let folder = tempfile::tempdir().unwrap();
    let opened = open(folder.path(), Losses::Refuse).unwrap();
    for n in 0..rounds {
        write(&opened, n).await;
    }
    (files(folder.path()), state(&opened).await.unwrap())
}

/// Reads every file below a folder, with a journal's trailing zeros shortened.
fn files(folder: &Path) -> Files {
    let (mut folders, mut found) = (vec![folder.to_owned()], Vec::new());
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(inner).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mut bytes = fs::read(&path).unwrap();
            if path.extension().is_some_and(|extension| extension == "jnl") {
                let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                bytes.resize(written + UNWRITTEN as usize, 0);
            }
            found.push((path.strip_prefix(folder).unwrap().to_owned(), bytes));
        }
    }
    found.sort();
    found
}

fn put(files: &Files) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, bytes) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    for inner in ["tables", "blobs"] {
        for keyspace in fs::read_dir(folder.path().join("keyspaces")).into_iter().flatten() {
            fs::create_dir_all(keyspace.unwrap().path().join(inner)).unwrap();
        }
    }
    folder
}

fn journal(files: &mut Files) -> &mut Vec<u8> {
    &mut files.iter_mut().find(|(path, _)| path == Path::new("0.jnl")).unwrap().1
}

fn written(bytes: &[u8]) -> usize {
    bytes.len() - UNWRITTEN as usize
}

/// One file of a log that is damaged repeatedly. The other files are restored only after the log
/// was opened.
struct Damaged<'a> {
    files: &'a Files,
    path: &'a Path,
    folder: TempDir,
}

impl<'a> Damaged<'a> {
    fn new(files: &'a Files, path: &'a str) -> Self {
        Self { files, path: Path::new(path), folder: put(files) }
    }

    /// Like [`sound_or_refused`], with these bytes in the file.
    async fn with(&mut self, bytes: &[u8], sound: &str, what: &str) -> bool {
        fs::write(self.folder.path().join(self.path), bytes).unwrap();
        let is_opened = is_sound_or_refused(self.folder.path(), sound, what).await;
        if is_opened {
            self.folder = put(self.files);
        } else {
            assert!(fs::read(self.folder.path().join(self.path)).unwrap() == bytes, "{what}: the file was changed");
        }
        is_opened
    }
}

/// Opens damaged files. They must have the original state, or be refused and stay unchanged.
/// Returns whether they were opened.
async fn sound_or_refused(files: &Files, sound: &str, what: &str) -> bool {
    let folder = put(files);
    let is_opened = is_sound_or_refused(folder.path(), sound, what).await;
    for (path, bytes) in files.iter().filter(|_| !is_opened) {
        assert!(fs::read(folder.path().join(path)).unwrap() == *bytes, "{what}: {path:?} was changed");
    }
    is_opened
}

async fn is_sound_or_refused(folder: &Path, sound: &str, what: &str) -> bool {
    match open(folder, Losses::Refuse) {
        Ok(opened) => {
            if let Ok(found) = state(&opened).await {
                assert_eq!(found, sound, "{what}");
            }
            true
        }
        Err(OpenError::Lost(reason)) => {
            assert!(!reason.is_empty(), "{what}");
            false
        }
        Err(OpenError::Log(error)) => {
            assert!(error.to_string().contains("damaged"), "{what}: {error}");
            false
        }
    }
}

#[tokio::test]
async fn a_flipped_byte_of_the_journal_loses_nothing() {
    let (mut files, sound) = killed_after(2).await;
    assert!(sound_or_refused(&files, &sound, "as it was").await);
    let mut bytes = journal(&mut files).clone();
    let mut damaged = Damaged::new(&files, "0.jnl");
    for at in 0..written(&bytes) {
        let flip = 1 << (at % 8);
        bytes[at] ^= flip;
        damaged.with(&bytes, &sound, &format!("byte {at}")).await;
        bytes[at] ^= flip;
    }
}

#[tokio::test]
async fn a_truncated_or_zeroed_journal_loses_nothing() {
    let (mut files, sound) = killed_after(3).await;
    let whole = journal(&mut files).clone();
    let start = written(journal(&mut killed_after(0).await.0));
    // If the first write that is left cannot be read, only the opened database shows that writes
    // are missing.
    for at in [0, 1, 13, start / 2] {
        let mut nothing = files.clone();
        journal(&mut nothing).truncate(at);
        assert!(!is_sound_or_refused(put(&nothing).path(), &sound, &format!("cut at {at}")).await);
    }
    let mut damaged = Damaged::new(&files, "0.jnl");
    for at in start..written(&whole) {
        let is_opened = damaged.with(&whole[..at], &sound, &format!("cut at {at}")).await;
        assert!(!is_opened, "cut at {at}");
        let end = (at + 512).min(written(&whole));
        let mut zeroed = whole.clone();
        zeroed[at..end].fill(0);
        damaged.with(&zeroed, &sound, &format!("zeros from {at}")).await;
        let mut copied = whole.clone();
        copied.copy_within(at..end, 0);
        damaged.with(&copied, &sound, &format!("the beginning from {at}")).await;
    }
}

#[tokio::test]
async fn an_interrupted_write_is_left_out() {
    let (mut before, sound) = killed_after(2).await;
    let folder = put(&before);
    let opened = open(folder.path(), Losses::Refuse).unwrap();
    let event =
        NewRecord { topic: Topic::Events, partition: PartitionId(0), key: "9".to_owned(), value: b"{}".to_vec() };
    opened.log.append(vec![event]).await.unwrap();
    let mut after = files(folder.path());
    let whole = journal(&mut after).clone();
    let start = written(journal(&mut before));
    assert!(start + 50 < written(&whole));
    let mut torn = Damaged::new(&before, "0.jnl");
    for at in (start..written(&whole)).step_by(5) {
        // The unwritten part as zeros, and cut off.
        for length in [at, whole.len()] {
            let mut bytes = whole[..at].to_vec();
            bytes.resize(length, 0);
            assert!(torn.with(&bytes, &sound, &format!("torn at {at}")).await, "torn at {at}");
        }
    }
    // After a write that a full disk interrupted, fjall may have begun the next file.
    let (mut begun, middle) = (before.clone(), start + (written(&whole) - start) / 2);
    *journal(&mut begun) = whole[..middle].to_vec();
    begun.push(("1.jnl".into(), vec![0; UNWRITTEN as usize]));
    assert!(sound_or_refused(&begun, &sound, "torn, and the next file is empty").await);
    // If the mark says that the write was acknowledged, the same file is damaged.
    let mut lost = Damaged::new(&after, "0.jnl");
    assert!(!lost.with(&whole[..written(&whole) - 1], &sound, "acknowledged").await);
}

#[tokio::test]
async fn damage_of_the_pointer_files_loses_nothing() {
    let (files, sound) = killed_after(2).await;
    let mut tried = 0;
    for (index, (path, bytes)) in files.iter().enumerate() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let is_list = name.strip_prefix('v').is_some_and(|number| number.parse::<u64>().is_ok());
        if !is_list && !["current", "version", "acknowledged"].contains(&name.as_str()) {
            continue;
        }
        tried += 1;
        // The next start removes a replaced list.
        let current = files.iter().find(|(other, _)| *other == path.with_file_name("current"));
        let is_used = !is_list || current.unwrap().1[..8] == name[1..].parse::<u64>().unwrap().to_le_bytes();
        let may_go = name == "acknowledged" || !is_used;
        let mut damaged = Damaged::new(&files, path.to_str().unwrap());
        for at in (0..bytes.len()).step_by(if !is_list {
            1
        } else if is_used {
            5
        } else {
            97
        }) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            let is_opened = damaged.with(&flipped, &sound, &format!("{path:?}, byte {at}")).await;
            assert_eq!(is_opened, may_go, "{path:?}, byte {at}");
        }
        for length in [0, bytes.len() / 2, bytes.len() - 1] {
            damaged.with(&bytes[..length], &sound, &format!("{path:?}, {length} bytes")).await;
        }
        let mut damaged = files.clone();
        damaged.remove(index);
        let opened = sound_or_refused(&damaged, &sound, &format!("without {path:?}")).await;
        assert_eq!(opened, may_go, "without {path:?}");
    }
    assert!(tried >= 16, "{tried}");
}

#[tokio::test]
async fn missing_files_are_detected() {
    let (files, sound) = killed_after(2).await;
    let without =
        |removed: &dyn Fn(&Path) -> bool| files.iter().filter(|(path, _)| !removed(path)).cloned().collect::<Files>();
    let journals = without(&|path| path.extension().is_some_and(|extension| extension == "jnl"));
    assert!(!sound_or_refused(&journals, &sound, "no journal").await);
    let all_but_mark = without(&|path| path != Path::new("acknowledged"));
    assert!(!sound_or_refused(&all_but_mark, &sound, "nothing but the mark").await);
    for keyspace in 0..7 {
        let folder = format!("keyspaces/{keyspace}");
        let rest = without(&|path| path.starts_with(&folder));
        assert!(!sound_or_refused(&rest, &sound, &folder).await, "{folder}");
    }
}

#[tokio::test]
async fn a_damaged_mark_is_reported_and_created_again() {
    let (mut files, sound) = killed_after(1).await;
    files.iter_mut().find(|(path, _)| path == Path::new("acknowledged")).unwrap().1[0] ^= 1;
    let folder = put(&files);
    let opened = open(folder.path(), Losses::Refuse).unwrap();
    assert_eq!(opened.findings.iter().map(|finding| finding.code).collect::<Vec<_>>(), ["LOG_MARK_DAMAGED"]);
    assert_eq!(state(&opened).await.unwrap(), sound);
    drop(opened);
    assert!(open(folder.path(), Losses::Refuse).unwrap().findings.is_empty());
}

#[tokio::test]
async fn a_loss_is_accepted_only_on_request_and_the_log_continues() {
    let (mut files, _) = killed_after(3).await;
    let half = written(journal(&mut files)) / 2;
    journal(&mut files)[half] ^= 1;
    let folder = put(&files);
    assert!(matches!(open(folder.path(), Losses::Refuse), Err(OpenError::Lost(_))));
    let opened = open(folder.path(), Losses::GiveUp).unwrap();
    assert!(!opened.findings.is_empty());
    assert!(opened.findings.iter().all(|finding| finding.code == "LOG_LOSS_ACCEPTED"), "{:?}", opened.findings);
    assert!(opened.log.bounds(Topic::Events, PartitionId(1)).await.unwrap().1 < 3);
    assert_eq!(fs::read(folder.path().join("0.jnl.damaged")).unwrap(), *journal(&mut files), "nothing is thrown away");
    write(&opened, 9).await;
    let after = state(&opened).await.unwrap();
    opened.restore.remove().unwrap();
    drop(opened);
    let opened = open(folder.path(), Losses::Refuse).unwrap();
    assert!(opened.findings.is_empty(), "{:?}", opened.findings);
    assert_eq!(state(&opened).await.unwrap(), after);
}

/// Each kind of loss that can be given up.
async fn losses() -> Vec<(&'static str, Files)> {
    let (mut files, _) = killed_after(3).await;
    let end = written(journal(&mut files));
    let start = written(journal(&mut killed_after(0).await.0));
    let without =
        |removed: &dyn Fn(&Path) -> bool| files.iter().filter(|(path, _)| !removed(path)).cloned().collect::<Files>();
    let no_journal = without(&|path| path.extension().is_some_and(|extension| extension == "jnl"));
    let only_the_mark = without(&|path| path != Path::new("acknowledged"));
    let (mut flipped, mut cut) = (files.clone(), files.clone());
    journal(&mut flipped)[end / 2] ^= 1;
    journal(&mut cut)[end - 10..].fill(0);
    let mut emptied = files.clone();
    journal(&mut emptied)[..start].fill(0);
    journal(&mut emptied).truncate(start);
    vec![
        ("a flipped bit", flipped),
        ("a cut end", cut),
        ("an empty journal", emptied),
        ("no journal", no_journal),
        ("only the mark", only_the_mark),
    ]
}

#[tokio::test]
async fn a_given_up_loss_is_remembered_until_the_restore_has_ended() {
    for (what, files) in losses().await {
        let folder = put(&files);
        let Err(OpenError::Lost(lost)) = open(folder.path(), Losses::Refuse) else { panic!("{what}: not refused") };
        assert!(!folder.path().join("restore-pending").exists(), "{what}: a refused start changes nothing");
        // The first start stops after the log was opened, the second one as well.
        for start in 1..3 {
            let opened = open(folder.path(), Losses::GiveUp).unwrap_or_else(|error| panic!("{what}: {error}"));
            let mut codes = opened.findings.iter().map(|finding| finding.code);
            assert!(codes.any(|code| code == "LOG_LOSS_ACCEPTED"), "{what}, start {start}: {:?}", opened.findings);
            drop(opened);
            match open(folder.path(), Losses::Refuse).err() {
                Some(OpenError::Lost(message)) => {
                    for part in ["interrupted", &lost] {
                        assert!(message.contains(part), "{what}, start {start}: {part} is not in {message}");
                    }
                }
                other => panic!("{what}, start {start}: {other:?}"),
            }
        }
        open(folder.path(), Losses::GiveUp).unwrap().restore.remove().unwrap();
        let opened = open(folder.path(), Losses::Refuse).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(opened.findings.is_empty(), "{what}: {:?}", opened.findings);
    }
}

#[tokio::test]
async fn a_loss_is_not_given_up_if_that_cannot_be_recorded() {
    for (what, files) in losses().await {
        let folder = put(&files);
        // The file cannot be created where a folder is.
        fs::create_dir(folder.path().join("restore-pending.new")).unwrap();
        assert!(matches!(open(folder.path(), Losses::GiveUp), Err(OpenError::Log(_))), "{what}");
        assert!(matches!(open(folder.path(), Losses::Refuse), Err(OpenError::Lost(_))), "{what}: the loss still shows");
    }
}

#[tokio::test]
async fn a_log_of_an_earlier_build_can_be_opened() {
    let (files, sound) = killed_after(2).await;
    let unmarked: Files = files.into_iter().filter(|(path, _)| path != Path::new("acknowledged")).collect();
    let folder = put(&unmarked);
    let opened = open(folder.path(), Losses::Refuse).unwrap();
    assert_eq!(state(&opened).await.unwrap(), sound);
    assert!(folder.path().join("acknowledged").exists());
}

//! Tests damage anywhere in a data folder. The server starts with all data, or refuses the folder
//! with a message, or reports what it repaired. It is never silently wrong.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ports::config_store::{IdentityRules, Page};
use ports::log::Topic;
use segment_engine::ids::PartitionId;
use serde_json::json;
use support::{Launch, eventually};
use tokio::runtime::Handle;
use uss::serve::{Opened, Options, Runtimes, open_stores, start_service};
use uss::settings::Settings;

const PARTITIONS: u32 = 2;
/// Damaged places that are opened in this process.
const PLACES: u64 = 500;
/// Damaged places that are opened by the binary.
const PLACES_OF_BINARY: u64 = 24;
/// Threads that share the work.
const THREADS: u64 = 2;
/// How long the partitions may take to apply the log. One that cannot be opened never does.
const PATIENCE: Duration = Duration::from_secs(10);

type Files = Vec<(PathBuf, Vec<u8>)>;

fn read_folder(folder: &Path) -> Files {
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
                // A new journal has 64 MiB of zeros. Keep only some of them.
                let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                bytes.resize(written + 4096, 0);
            }
            found.push((path.strip_prefix(folder).unwrap().to_owned(), bytes));
        }
    }
    found.sort();
    found
}

fn write_folder(files: &Files, folder: &Path) {
    for (path, bytes) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    for keyspace in fs::read_dir(folder.join("log/keyspaces")).into_iter().flatten() {
        let keyspace = keyspace.unwrap().path();
        for inner in ["tables", "blobs"] {
            fs::create_dir_all(keyspace.join(inner)).unwrap();
        }
    }
}

fn launch(folder: &Path) -> Launch {
    Launch::new(folder).set("USS_UNKNOWN_USERS", "create").set("USS_PARTITIONS", &PARTITIONS.to_string())
}

/// Returns a small folder of a killed server, with data in fjall's tables and in its journal.
async fn folder_of_a_killed_server() -> Files {
    let data = tempfile::tempdir().unwrap();
    let server = launch(data.path()).set("USS_CHECKPOINT_SECONDS", "1").start();
    let segment = server.segment("twice", "count(*) >= 2").await;
    server.in_force(segment).await;
    let events: Vec<_> = (0..60).map(|n| json!({"id": format!("u{}", n % 40), "id_type": "cookie", "n": n})).collect();
    assert_eq!(server.event(&json!(events)).await.status, 200);
    let server = server.stop().start();
    for n in 0..20 {
        assert_eq!(server.event(&json!({"id": format!("v{}", n % 10), "id_type": "cookie"})).await.status, 200);
    }
    let preview = server.post("/segments/preview?fresh=true", &json!({"whereStatement": "count(*) >= 1"})).await;
    assert_eq!(preview.status, 200, "{}", preview.body);
    eventually("the memberships are stored", async || {
        let members = server.get("/users/segment/twice?fresh=true&limit=100").await;
        (members.body["data"].as_array().unwrap().len() == 30).then_some(())
    })
    .await;
    server.kill();
    read_folder(data.path())
}

/// Returns the contents of the stores as strings, or the error that the damage causes.
async fn state(opened: &Opened) -> Result<Vec<String>, String> {
    let shown = |error: &dyn std::fmt::Display| error.to_string();
    let mut parts = Vec::new();
    for topic in [Topic::Events, Topic::Errors, Topic::Notifications, Topic::Config] {
        for partition in PartitionId::all(topic.partitions(PARTITIONS)) {
            let batch = opened.log.read(topic, partition, 0, usize::MAX).await.map_err(|error| shown(&error))?;
            parts.push(format!("{topic:?} {partition}: {:?}", batch.records));
        }
    }
    for partition in PartitionId::all(PARTITIONS) {
        // The warehouse may have lost events that are still in the log, but none before its
        // position.
        let position = opened.warehouse.archive_position(partition).await.map_err(|error| shown(&error))?;
        let batch = opened.log.read(Topic::Events, partition, 0, usize::MAX).await.map_err(|error| shown(&error))?;
        let is_event = |value: &[u8]| serde_json::from_slice::<serde_json::Value>(value).unwrap()["type"].is_null();
        let expected =
            batch.records.iter().filter(|record| record.offset < position && is_event(&record.value)).count();
        let sql = format!(
            "SELECT count(DISTINCT log_offset), count(payload) FROM user_segment_analytics.events WHERE log_partition = {partition}"
        );
        let (_, rows) = opened.warehouse.query(&sql).await.map_err(|error| shown(&error))?;
        let counted = vec![Some(expected.to_string()); 2];
        assert_eq!(rows, [counted], "the position of the warehouse is {position} in partition {partition}");
    }
    Ok(parts)
}

async fn memberships(opened: &Opened) -> String {
    let users = opened.store.users(Page::ALL).await.unwrap();
    let members =
        users.iter().map(|user| (user.id, user.segments.iter().map(|segment| segment.segment_id.0).collect()));
    format!("{:?}", members.collect::<Vec<(_, Vec<i64>)>>())
}

/// The result of opening a folder.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Whole(Vec<String>),
    Reported(String),
}

async fn open(folder: &Path) -> Outcome {
    let settings = json!({"data_dir": folder, "partitions": PARTITIONS});
    let settings = Settings::read(None, &settings).unwrap();
    let opened = match open_stores(&settings, IdentityRules::default(), Options::default()).await {
        Ok(opened) => opened,
        Err(refused) => return Outcome::Reported(refused.to_string()),
    };
    let mut parts = match state(&opened).await {
        Ok(parts) => parts,
        Err(error) => return Outcome::Reported(error),
    };
    let here = &Handle::current();
    let service = match start_service(&opened, &settings, Runtimes { workers: here, storing: here }).await {
        Ok(service) => service,
        Err(refused) => return Outcome::Reported(refused.to_string()),
    };
    let handle = service.handle();
    let applied = tokio::time::timeout(PATIENCE, handle.wait_until_applied()).await;
    if !matches!(applied, Ok(Ok(()))) {
        return Outcome::Reported(format!("{applied:?}"));
    }
    parts.push(memberships(&opened).await);
    service.stop().await;
    let mut notifications = Vec::new();
    for partition in PartitionId::all(PARTITIONS) {
        let batch = opened.log.read(Topic::Notifications, partition, 0, usize::MAX).await.unwrap();
        notifications.push(format!("{:?}", batch.records));
    }
    parts.extend(notifications);
    Outcome::Whole(parts)
}

/// Damages one place, and returns its description.
fn damage(files: &mut Files, random: &mut fastrand::Rng) -> String {
    let candidates: Vec<usize> = (0..files.len()).filter(|at| !files[*at].1.is_empty()).collect();
    let file = candidates[random.usize(..candidates.len())];
    let other = candidates[random.usize(..candidates.len())];
    let content = files[other].clone();
    let (path, bytes) = &mut files[file];
    let length = bytes.len();
    let (from, size) = (random.usize(..length), [1, 16, 512, 4096][random.usize(..4)].min(length));
    let from = from.min(length - size);
    match random.u8(..5) {
        0 => {
            bytes[from] ^= 1 << random.u8(..8);
            format!("{path:?}: byte {from} flipped")
        }
        1 => {
            bytes[from..from + size].fill(0);
            format!("{path:?}: {size} bytes from {from} zeroed")
        }
        2 => {
            bytes.truncate(from);
            format!("{path:?}: cut at {from}")
        }
        3 => {
            let to = random.usize(..=length - size);
            bytes.copy_within(from..from + size, to);
            format!("{path:?}: {size} bytes from {from} copied to {to}")
        }
        _ => {
            *bytes = content.1;
            format!("{path:?} has the content of {:?}", content.0)
        }
    }
}

#[test]
fn damage_anywhere_is_never_silently_wrong() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let files = runtime.block_on(folder_of_a_killed_server());
    let sound = {
        let folder = tempfile::tempdir().unwrap();
        write_folder(&files, folder.path());
        runtime.block_on(open(folder.path()))
    };
    assert!(matches!(sound, Outcome::Whole(_)), "{sound:?}");
    let reported = std::thread::scope(|scope| {
        let run = |thread: u64| {
            let (files, sound, runtime) = (&files, &sound, &runtime);
            scope.spawn(move || {
                let seeds = (0..PLACES).filter(|seed| seed % THREADS == thread);
                seeds.filter(|seed| is_reported(*seed, files.clone(), sound, runtime)).count()
            })
        };
        (0..THREADS).map(run).collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
    });
    assert!(reported > PLACES as usize / 10, "only {reported} were reported: does the test damage anything?");
}

/// Returns whether the damage of a seed is reported. Fails if it is not reported but changes the
/// data.
fn is_reported(seed: u64, mut files: Files, sound: &Outcome, runtime: &tokio::runtime::Runtime) -> bool {
    let place = damage(&mut files, &mut fastrand::Rng::with_seed(seed));
    let folder = tempfile::tempdir().unwrap();
    write_folder(&files, folder.path());
    match runtime.block_on(open(folder.path())) {
        Outcome::Reported(message) => {
            assert!(message.len() > 10, "seed {seed}, {place}: {message}");
            true
        }
        whole => {
            assert!(whole == *sound, "seed {seed}, {place}: the server started with other data");
            false
        }
    }
}

#[test]
fn damage_of_the_note_about_a_pending_restore_does_not_hide_it() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut files = runtime.block_on(folder_of_a_killed_server());
    let note = (PathBuf::from("log/restore-pending"), b"its last 3 writes are missing\n".to_vec());
    files.push(note.clone());
    for seed in 0..60 {
        // Only the note is damaged. Another file's content may replace it.
        let mut alone = vec![note.clone(), (PathBuf::from("other"), files[0].1.clone())];
        let place = damage(&mut alone, &mut fastrand::Rng::with_seed(seed));
        files.last_mut().unwrap().1 = alone[0].1.clone();
        let folder = tempfile::tempdir().unwrap();
        write_folder(&files, folder.path());
        match runtime.block_on(open(folder.path())) {
            Outcome::Reported(message) => assert!(message.contains("interrupted"), "seed {seed}, {place}: {message}"),
            Outcome::Whole(_) => panic!("seed {seed}, {place}: the server started"),
        }
        assert!(read_folder(folder.path()).contains(files.last().unwrap()), "seed {seed}, {place}: it was changed");
    }
}

#[tokio::test]
async fn the_binary_refuses_damage_with_a_message_or_serves_as_before() {
    let sound = folder_of_a_killed_server().await;
    for seed in 0..PLACES_OF_BINARY {
        let mut files = sound.clone();
        let place = damage(&mut files, &mut fastrand::Rng::with_seed(1_000 + seed));
        let folder = tempfile::tempdir().unwrap();
        write_folder(&files, folder.path());
        match launch(folder.path()).try_start() {
            Ok(server) => {
                let members = server.get("/users/segment/twice?fresh=true&limit=100").await;
                let count = members.body["data"].as_array().map(Vec::len);
                assert_eq!(count, Some(30), "seed {seed}, {place}: {}", members.body);
            }
            Err(refused) => {
                assert_eq!(refused.status.code(), Some(1), "seed {seed}, {place}: {}", refused.message);
                assert!(
                    !refused.message.is_empty() && !refused.message.contains("panicked"),
                    "seed {seed}, {place}: {}",
                    refused.message
                );
            }
        }
    }
}

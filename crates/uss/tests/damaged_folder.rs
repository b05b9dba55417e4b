//! Damage anywhere in a data folder: it starts as before, or is refused clearly, or says what it mended. Never silently wrong.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ports::config_store::{IdentityRules, Page};
use ports::log::Topic;
use serde_json::json;
use support::{Launch, eventually};
use uss::serve::{Opened, Options, open_stores, start_service};
use uss::settings::Settings;

const PARTITIONS: u32 = 2;
/// Places that are damaged in this process, and by starting the binary.
const PLACES: u64 = 500;
const PLACES_OF_BINARY: u64 = 24;
/// Threads that share the work.
const THREADS: u64 = 2;
/// How long a partition may take that cannot be opened, before it is looked at whether that is said.
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
                // A journal is made with 64 MiB of zeros; some of them do.
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

/// A small folder: some of it in fjall's tables, some in its journal, and the process killed.
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
    let preview = server.post("/segments/preview", &json!({"whereStatement": "count(*) >= 1"})).await;
    assert_eq!(preview.status, 200, "{}", preview.body);
    eventually("the memberships are told", async || {
        let members = server.get("/users/segment/twice?fresh=true&limit=100").await;
        (members.body["data"].as_array().unwrap().len() == 30).then_some(())
    })
    .await;
    server.kill();
    read_folder(data.path())
}

/// What the stores hold, each part as text, or what is said about damage met on the way.
async fn state(opened: &Opened) -> Result<Vec<String>, String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let mut parts = Vec::new();
    for topic in [Topic::Events, Topic::Errors, Topic::Notifications, Topic::Config] {
        for partition in 0..topic.partitions(PARTITIONS) {
            let batch = opened.log.read(topic, partition, 0, usize::MAX).await.map_err(|error| told(&error))?;
            parts.push(format!("{topic:?} {partition}: {:?}", batch.records));
        }
    }
    for partition in 0..PARTITIONS {
        // Less may be archived than was, since the log has it: but not less than the position says.
        let position = opened.warehouse.archive_position(partition).await.map_err(|error| told(&error))?;
        let batch = opened.log.read(Topic::Events, partition, 0, usize::MAX).await.map_err(|error| told(&error))?;
        let is_event = |value: &[u8]| serde_json::from_slice::<serde_json::Value>(value).unwrap()["type"].is_null();
        let expected =
            batch.records.iter().filter(|record| record.offset < position && is_event(&record.value)).count();
        let sql = format!(
            "SELECT count(DISTINCT log_offset), count(payload) FROM user_segment_analytics.events WHERE log_partition = {partition}"
        );
        let (_, rows) = opened.warehouse.query(&sql).await.map_err(|error| told(&error))?;
        let counted = vec![Some(expected.to_string()); 2];
        assert_eq!(rows, [counted], "the warehouse stands at {position} of partition {partition}");
    }
    Ok(parts)
}

async fn memberships(opened: &Opened) -> String {
    let users = opened.store.users(Page::ALL).await.unwrap();
    let members = users.iter().map(|user| (user.id, user.segments.iter().map(|segment| segment.segment_id).collect()));
    format!("{:?}", members.collect::<Vec<(_, Vec<i64>)>>())
}

/// What came of opening a folder.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Whole(Vec<String>),
    Told(String),
}

async fn open(folder: &Path) -> Outcome {
    let settings = json!({"data_dir": folder, "partitions": PARTITIONS});
    let settings = Settings::read(None, &settings).unwrap();
    let opened = match open_stores(&settings, IdentityRules::default(), Options::default()).await {
        Ok(opened) => opened,
        Err(refused) => return Outcome::Told(refused.to_string()),
    };
    let mut parts = match state(&opened).await {
        Ok(parts) => parts,
        Err(told) => return Outcome::Told(told),
    };
    let service = match start_service(&opened, &settings).await {
        Ok(service) => service,
        Err(refused) => return Outcome::Told(refused.to_string()),
    };
    let handle = service.handle();
    let applied = tokio::time::timeout(PATIENCE, handle.wait_until_applied()).await;
    if !matches!(applied, Ok(Ok(()))) {
        return Outcome::Told(format!("{applied:?}"));
    }
    parts.push(memberships(&opened).await);
    service.stop().await;
    let mut told = Vec::new();
    for partition in 0..PARTITIONS {
        let batch = opened.log.read(Topic::Notifications, partition, 0, usize::MAX).await.unwrap();
        told.push(format!("{:?}", batch.records));
    }
    parts.extend(told);
    Outcome::Whole(parts)
}

/// Damages one place, and says where.
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
    let told = std::thread::scope(|scope| {
        let run = |thread: u64| {
            let (files, sound, runtime) = (&files, &sound, &runtime);
            scope.spawn(move || {
                let seeds = (0..PLACES).filter(|seed| seed % THREADS == thread);
                seeds.filter(|seed| tells(*seed, files.clone(), sound, runtime)).count()
            })
        };
        (0..THREADS).map(run).collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
    });
    assert!(told > PLACES as usize / 10, "only {told} were told: is anything damaged?");
}

/// Whether the damage of a seed is told; fails if it is neither told nor without consequence.
fn tells(seed: u64, mut files: Files, sound: &Outcome, runtime: &tokio::runtime::Runtime) -> bool {
    let place = damage(&mut files, &mut fastrand::Rng::with_seed(seed));
    let folder = tempfile::tempdir().unwrap();
    write_folder(&files, folder.path());
    match runtime.block_on(open(folder.path())) {
        Outcome::Told(message) => {
            assert!(message.len() > 10, "seed {seed}, {place}: {message}");
            true
        }
        whole => {
            assert!(whole == *sound, "seed {seed}, {place}: it started and is not as it was");
            false
        }
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

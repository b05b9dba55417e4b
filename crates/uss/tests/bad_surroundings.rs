//! Tests the server on a machine with ports and folders that are in use, closed, full or damaged.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ports::checkpoints::{Checkpoint, CheckpointStore};
use ports::log::Log;
use segment_engine::ids::UserId;
use serde_json::json;
use support::{Launch, PATIENCE, Server, eventually};

fn port(address: &str) -> &str {
    address.rsplit(':').next().unwrap()
}

#[tokio::test]
async fn a_port_or_a_folder_in_use_is_named() {
    let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Launch::new(data.path()).start();
    let ports = [
        ("INGESTION_API_PORT", &server.ingestion),
        ("CONFIGURATION_API_PORT", &server.configuration),
        ("INGESTION_METRICS_PORT", &server.metrics[0]),
        ("SEGMENT_USERS_METRICS_PORT", &server.metrics[1]),
    ];
    for (name, taken) in ports {
        let refused = Launch::new(other.path()).set(name, port(taken)).try_start().err().unwrap();
        assert!(!refused.status.success());
        assert!(refused.message.contains(name) && refused.message.contains("another process"), "{}", refused.message);
        assert_eq!(
            std::fs::read_dir(other.path()).unwrap().count(),
            0,
            "no data is touched before the ports are bound"
        );
    }
    let refused = Launch::new(data.path()).try_start().err().unwrap();
    assert!(refused.message.contains("another process has the data folder open"), "{}", refused.message);
    let exposed = Launch::new(other.path()).set("USS_BIND", "0.0.0.0").try_start().err().unwrap();
    assert!(exposed.message.contains("USS_API_KEYS"), "{}", exposed.message);
    for (name, value) in [("USS_PARTITIONS", "many"), ("USS_PARTITIONS", "0"), ("USS_EVENT_ID_HOURS", "4294967295")] {
        let refused = Launch::new(other.path()).set(name, value).try_start().err().unwrap();
        assert_eq!(refused.status.code(), Some(1), "{}", refused.message);
        assert!([name, value, "from 1 to"].iter().all(|part| refused.message.contains(part)), "{}", refused.message);
    }
    for (name, value) in [("ERROR_TOPIC", "event_ingested_topic"), ("USS_CONFIG_TOPIC", "")] {
        let refused = Launch::new(other.path()).set(name, value).try_start().err().unwrap();
        assert!(
            refused.message.contains(&format!("'{value}'")) && refused.message.contains(name),
            "{}",
            refused.message
        );
    }
    let launch = server.stop().set("USS_PARTITIONS", "4");
    let partitions = launch.try_start().err().unwrap();
    assert!(partitions.message.contains("USS_PARTITIONS=16"), "the way out is named: {}", partitions.message);
}

#[test]
fn a_variable_of_an_external_server_is_reported_as_unused() {
    let data = tempfile::tempdir().unwrap();
    // The test sees the log only if the start fails.
    let launch = Launch::new(data.path()).set("USS_UNKNOWN_USERS", "perhaps");
    let refused = launch.set("REDPANDA_BROKERS", "redpanda:29091").try_start().err().unwrap();
    let warnings: Vec<&str> = refused.message.lines().filter(|line| line.contains("is set but not used")).collect();
    assert!(matches!(&*warnings, [line] if line.contains("REDPANDA_BROKERS")), "{}", refused.message);
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    let data = tempfile::tempdir().unwrap();
    std::fs::set_permissions(data.path(), PermissionsExt::from_mode(0o555)).unwrap();
    // Root may write everywhere, so the server runs as another account.
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|it| std::os::unix::fs::MetadataExt::uid(&it) == 0);
    let launch = Launch::new(&data.path().join("inside")).under(if is_root { &nobody } else { &[] });
    let refused = launch.try_start().err().unwrap();
    assert!(!refused.status.success());
    for part in ["cannot be written", "USS_DATA_DIR", "inside"] {
        assert!(refused.message.contains(part), "{}", refused.message);
    }
}

/// Collects the modes of a folder and of everything in it.
fn modes(path: &Path, found: &mut Vec<(PathBuf, u32)>) {
    let data = std::fs::symlink_metadata(path).unwrap();
    found.push((path.to_owned(), data.permissions().mode() & 0o777));
    if data.is_dir() {
        std::fs::read_dir(path).unwrap().for_each(|entry| modes(&entry.unwrap().path(), found));
    }
}

#[tokio::test]
async fn the_data_folder_is_closed_to_other_accounts() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let all_closed = || {
        let mut found = Vec::new();
        modes(&data, &mut found);
        assert!(found.len() > 5, "{found:?}");
        for (path, mode) in &found {
            assert_eq!(*mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
        }
        found
    };
    let server = Launch::new(&data).start();
    server.user("known").await;
    all_closed();
    let launch = server.stop();
    // An earlier build left such modes.
    for (path, mode) in all_closed() {
        let open = if path.is_dir() { 0o755 } else { 0o644 };
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode | open)).unwrap();
    }
    let server = launch.start();
    all_closed();
    let launch = server.stop();
    // In a shared folder, only our own files are closed.
    std::fs::write(data.join("note.txt"), "not ours").unwrap();
    for path in [data.clone(), data.join("note.txt"), data.join("config.sqlite")] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let _server = launch.start();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&data), mode(&data.join("note.txt"))), (0o755, 0o755));
    assert_eq!(mode(&data.join("config.sqlite")), 0o600);
}

#[test]
fn an_empty_name_of_the_data_folder_is_refused() {
    let refused = Launch::new(Path::new("")).try_start().err().unwrap();
    assert!(refused.message.contains("USS_DATA_DIR") && refused.message.contains("empty"), "{}", refused.message);
}

/// Returns the event ids in the event topic.
async fn event_ids(server: &Server) -> std::collections::HashSet<String> {
    let records = server.records("event_ingested_topic").await;
    records.iter().filter_map(|record| Some(record["value"]["event_id"].as_str()?.to_owned())).collect()
}

#[tokio::test]
async fn a_full_disk_refuses_events_until_there_is_space() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().to_str().unwrap();
    // The mount ends with the process, also if the test fails.
    let script = format!(
        "mount -t tmpfs -o size=160m none {folder} && dd if=/dev/zero of={folder}/ballast bs=1M count=80 status=none && exec \"$@\""
    );
    let disk = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"];
    let server = Launch::new(data.path()).under(&disk).start();
    server.user("known").await;
    let mut acknowledged = Vec::new();
    let refused = loop {
        let event_id = format!("{}", acknowledged.len());
        let noise: String =
            (0..30_000).map(|at| char::from(b'a' + ((at * at + acknowledged.len()) % 26) as u8)).collect();
        let response = server.event(&json!({"id": "known", "event_id": event_id, "comment": noise})).await;
        if response.status != 200 {
            break response;
        }
        acknowledged.push(event_id);
        assert!(acknowledged.len() < 10_000, "the disk never became full");
    };
    assert_eq!((refused.status, refused.body["code"].as_str()), (503, Some("LOG_FULL")), "{}", refused.body);
    assert!(refused.headers.contains_key("retry-after"));
    let kept = event_ids(&server).await;
    assert_eq!(kept.len(), acknowledged.len(), "the log has exactly the acknowledged events");

    // The path of the folder inside the mount namespace of the server.
    std::fs::remove_file(format!("/proc/{}/root{folder}/ballast", server.id())).unwrap();
    let again = json!({"id": "known", "event_id": "afterwards"});
    eventually("events are accepted again", async || (server.event(&again).await.status == 200).then_some(())).await;
    let kept = event_ids(&server).await;
    assert!(acknowledged.iter().all(|event_id| kept.contains(event_id)) && kept.contains("afterwards"));
}

#[tokio::test]
async fn checkpoints_that_cannot_be_read_are_rebuilt_from_the_log() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::new(data.path()).start();
    let user = server.user("known").await;
    let segment = server.segment("seen", "count(*) >= 2").await;
    server.in_force(segment).await;
    for _ in 0..2 {
        server.event(&json!({"id": "known"})).await;
    }
    assert_eq!(server.segments_of(user).await, [segment]);
    let launch = server.stop();
    damage_checkpoint(&launch, user).await;
    let server = launch.start();
    assert_eq!(server.segments_of(user).await, [segment]);
    let transitions = server.transitions_of(user).await;
    assert_eq!(transitions.len(), 1, "a transition is not emitted twice: {transitions:?}");
    let explained = server.get(&format!("/users/{user}/segments/seen/explain")).await.body;
    assert_eq!(explained["data"]["member"], true, "{explained}");
}

/// Replaces the checkpoint of the user's partition by invalid bytes.
async fn damage_checkpoint(launch: &Launch, user: i64) {
    let clock = std::sync::Arc::new(ports::clock::SystemClock);
    let (log, checkpoints) = adapters::embedded::open(&launch.data().join("log"), 16, clock).unwrap();
    let partition = ports::log::partition_of(UserId(user), log.partitions());
    let marker = log.committed(partition).await.unwrap().unwrap();
    let users = vec![(UserId(user), Some(b"no block".to_vec()))];
    checkpoints
        .write(Checkpoint { partition, users, is_whole: false, partition_state: b"no state".to_vec(), marker })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_torn_write_at_the_end_of_the_log_is_dropped_and_everything_before_it_is_kept() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::new(data.path()).start();
    let user = server.user("known").await;
    let segment = server.segment("seen", "count(*) >= 5").await;
    server.in_force(segment).await;
    for number in 0..5 {
        let accepted = server.event(&json!({"id": "known", "event_id": number.to_string()})).await;
        assert_eq!(accepted.status, 200);
    }
    assert_eq!(server.segments_of(user).await, [segment]);
    let launch = server.kill();
    let journal = newest_journal(&launch.data().join("log"));
    let bytes = std::fs::read(&journal).unwrap();
    // A journal is written from its start, and the rest of the file is zeros. The first bytes of a
    // write at its end imitate one that was cut off.
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let file = std::fs::OpenOptions::new().write(true).open(&journal).unwrap();
    file.write_all_at(&bytes[..24], end as u64).unwrap();
    (&file).flush().unwrap();
    let server = launch.start();
    assert_eq!(server.segments_of(user).await, [segment]);
    assert_eq!(event_ids(&server).await.len(), 5);
    let accepted = server.event(&json!({"id": "known", "event_id": "5"})).await;
    assert_eq!(accepted.status, 200, "{}", accepted.body);
    let server = server.kill().start();
    assert_eq!(event_ids(&server).await.len(), 6);
}

fn newest_journal(folder: &Path) -> PathBuf {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|it| it == "jnl")).max().unwrap()
}

/// What is counted for a new segment with expensive patterns outlives the request.
#[tokio::test]
async fn a_stop_does_not_wait_for_a_query_whose_caller_has_gone() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::new(data.path()).start();
    server.user("known").await;
    // Letters without a period, so that the matcher's table of states never suffices: a linear
    // congruential generator with the constants of Numerical Recipes.
    let mut random = 1_u32;
    let mut letter = || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if random >> 31 == 0 { 'a' } else { 'b' }
    };
    for _ in 0..400 {
        let url: String = (0..15_000).map(|_| letter()).collect();
        let accepted = server.event(&json!({"id": "known", "payload": {"url": url}})).await;
        assert_eq!(accepted.status, 200, "{}", accepted.body);
    }
    eventually("the warehouse has all events", async || {
        let preview = server.post("/segments/preview", &json!({"whereStatement": "count(*) = 400"})).await.body;
        (preview["data"]["size"] == 1).then_some(())
    })
    .await;
    let patterns: Vec<_> = (0..50).map(|n| format!("url ~ '[ab]*b[ab]{{{}}}[cd]y{n}'", 14 + n % 6)).collect();
    let slow = json!({"tag": "slow", "whereStatement": patterns.join(" OR ")});
    let saved = server.post("/segments?estimate=true", &slow).await.body;
    assert_eq!(saved["data"]["wouldEnterReason"], "the warehouse has not responded within 2 s", "{saved}");
    let stopped = tokio::task::spawn_blocking(|| server.stop());
    tokio::time::timeout(PATIENCE, stopped).await.expect("the server stops").unwrap();
}

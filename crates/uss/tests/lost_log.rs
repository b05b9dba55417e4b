//! Tests that a start is refused if the log was removed, replaced by an older copy, or damaged,
//! unless the operator gives the lost data up.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::path::Path;
use std::sync::Arc;

use ports::clock::{Clock, ManualClock, SystemClock};
use ports::log::{Log, NewRecord, Topic};
use segment_engine::ids::PartitionId;
use segment_engine::time::Timestamp;
use serde_json::json;
use support::{Launch, Server, eventually};

const YEAR_MICROS: i64 = 365 * 86_400_000_000;

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

async fn event(server: &Server, id: &str) {
    let response = server.event(&json!({"id": id, "id_type": "cookie"})).await;
    assert_eq!(response.status, 200, "{}", response.body);
}

async fn id_of(server: &Server, client_id: &str) -> i64 {
    let found = server.get(&format!("/users?clientRefId={client_id}")).await.body;
    found["data"]["id"].as_i64().unwrap_or_else(|| panic!("{found}"))
}

/// Returns whether the engine has the user in the segment, whatever the config store has.
async fn computed(server: &Server, user: i64, tag: &str) -> bool {
    // While the engine still reads the log after a start, the response is 503.
    let path = format!("/users/{user}/segments/{tag}/explain");
    eventually("the engine explains", async || server.get(&path).await.body["data"]["member"].as_bool()).await
}

/// Waits until the warehouse has all events, as a preview does.
async fn archived(server: &Server) {
    let preview = server.post("/segments/preview?fresh=true", &json!({"whereStatement": "count(*) >= 1"})).await;
    assert_eq!(preview.status, 200, "{}", preview.body);
}

/// Waits until the user has exactly these memberships in the config store.
async fn is_in(server: &Server, user: i64, segments: &[i64]) {
    eventually("the memberships are stored", async || (server.segments_of(user).await == segments).then_some(())).await;
}

#[tokio::test]
async fn a_lost_log_is_refused_without_accept_loss_and_transitions_are_emitted_again_with_it() {
    let (data, old, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Launch::new(data.path())
        .set("USS_UNKNOWN_USERS", "create")
        .set("USS_PARTITIONS", "2")
        .set("USS_CHECKPOINT_SECONDS", "1")
        .start();
    let twice = server.segment("twice", "count(*) >= 2").await;
    let named = server.segment("named", "traits->>'plan' = 'pro'").await;
    let manual = server.post("/segments", &json!({"tag": "vips", "kind": "manual"})).await;
    let listed = manual.body["data"]["id"].as_i64().unwrap_or_else(|| panic!("{}", manual.body));
    for segment in [twice, named, listed] {
        server.in_force(segment).await;
    }
    event(&server, "early").await;
    let launch = server.stop();
    copy_folder(&data.path().join("log"), old.path());

    let server = launch.start();
    event(&server, "early").await;
    event(&server, "late").await;
    event(&server, "late").await;
    let (early, late) = (id_of(&server, "early").await, id_of(&server, "late").await);
    let set = server.call("PATCH", &format!("/users/{late}/traits"), &json!({"plan": "pro"})).await;
    assert_eq!(set.status, 200, "{}", set.body);
    let set = server.call("PUT", &format!("/users/{late}/segments"), &json!({"segments": [listed]})).await;
    assert_eq!(set.status, 200, "{}", set.body);
    let of_late = [twice, named, listed];
    is_in(&server, late, &of_late).await;
    is_in(&server, early, &[twice]).await;
    let before = server.transitions_of(late).await.len();
    archived(&server).await;
    let launch = server.stop();
    let log = data.path().join("log");
    copy_folder(&log, whole.path());

    for is_removed in [true, false] {
        std::fs::remove_dir_all(&log).unwrap();
        if !is_removed {
            copy_folder(old.path(), &log);
        }
        let refused = launch.try_start().err().unwrap();
        assert_eq!(refused.status.code(), Some(1), "{}", refused.message);
        for part in ["log/ was removed", "the warehouse has records", "Put log/", "--accept-loss"] {
            assert!(refused.message.contains(part), "{part}: {}", refused.message);
        }
        let server = launch.clone().flag("--accept-loss").start();
        // Without a log, memberships are computed from the archived events. With the older copy,
        // they are computed from its events.
        is_in(&server, late, if is_removed { &of_late } else { &of_late[1..] }).await;
        assert!(computed(&server, late, "named").await);
        assert_eq!(computed(&server, late, "twice").await, is_removed);
        assert_eq!(computed(&server, early, "twice").await, is_removed);
        event(&server, "new").await;
        event(&server, "new").await;
        let new = id_of(&server, "new").await;
        assert!(new > late, "{new}");
        is_in(&server, new, &[twice]).await;
        let launch = server.stop();
        let server = Launch::new(launch.data()).set("USS_PARTITIONS", "2").set("USS_UNKNOWN_USERS", "create").start();
        is_in(&server, new, &[twice]).await;
        let transitions = server.transitions_of(late).await;
        let sequences: Vec<u64> =
            transitions.iter().map(|transition| transition["sequence"].as_u64().unwrap()).collect();
        assert!(sequences.iter().all(|sequence| *sequence > before as u64), "no number is given twice: {sequences:?}");
        server.stop();
    }
}

#[tokio::test]
async fn a_damaged_log_is_refused_without_accept_loss() {
    let data = tempfile::tempdir().unwrap();
    let (launch, known, twice) = killed_server(data.path()).await;
    let journal = data.path().join("log/0.jnl");
    let sound = std::fs::read(&journal).unwrap();
    // A byte of the first batch, bytes in the middle, and the end.
    let written = sound.iter().rposition(|byte| *byte != 0).unwrap();
    for (from, to) in [(20, 21), (written / 2, written / 2 + 100), (written - 50, written)] {
        let mut damaged = sound.clone();
        damaged[from..to].iter_mut().for_each(|byte| *byte = !*byte);
        std::fs::write(&journal, &damaged).unwrap();
        let refused = launch.try_start().err().unwrap();
        for part in ["has lost something", "changed nothing", "Put log/", "--accept-loss"] {
            assert!(refused.message.contains(part), "{part}: {}", refused.message);
        }
        assert!(std::fs::read(&journal).unwrap() == damaged, "a refused start changed the journal");
    }
    std::fs::write(&journal, &sound).unwrap();
    let server = launch.start();
    assert_eq!(server.segments_of(known).await, [twice]);
    let launch = server.kill();

    let mut damaged = std::fs::read(&journal).unwrap();
    damaged[20] ^= 1;
    std::fs::write(&journal, &damaged).unwrap();
    let server = launch.clone().flag("--accept-loss").start();
    assert!(data.path().join("log/0.jnl.damaged").exists());
    is_in(&server, known, &[twice]).await;
    for _ in 0..2 {
        event(&server, "new").await;
    }
    let new = id_of(&server, "new").await;
    is_in(&server, new, &[twice]).await;
}

/// Returns a killed server's launch and the user and the segment that the user is in.
async fn killed_server(data: &Path) -> (Launch, i64, i64) {
    let server = Launch::new(data).set("USS_UNKNOWN_USERS", "create").set("USS_PARTITIONS", "2").start();
    let twice = server.segment("twice", "count(*) >= 2").await;
    server.in_force(twice).await;
    for _ in 0..2 {
        event(&server, "known").await;
    }
    let known = id_of(&server, "known").await;
    is_in(&server, known, &[twice]).await;
    archived(&server).await;
    (server.kill(), known, twice)
}

/// Refuses a plain start, with a message that says why and what to do.
fn is_refused_as_interrupted(launch: &Launch) {
    let refused = launch.try_start().err().expect("the restore is not done");
    assert_eq!(refused.status.code(), Some(1), "{}", refused.message);
    for part in ["a start with --accept-loss was interrupted", "Put log/", "`uss serve --accept-loss`"] {
        assert!(refused.message.contains(part), "{part}: {}", refused.message);
    }
}

/// Starts once with `--accept-loss` and then without it. Each time the user is in the segment.
async fn is_restored_once(launch: &Launch, known: i64, twice: i64) {
    let server = launch.clone().flag("--accept-loss").start();
    is_in(&server, known, &[twice]).await;
    assert!(computed(&server, known, "twice").await);
    assert!(!launch.data().join("log/restore-pending").exists());
    server.stop();
    let server = launch.start();
    is_in(&server, known, &[twice]).await;
    assert!(computed(&server, known, "twice").await);
    server.stop();
}

#[tokio::test]
async fn a_start_that_fails_after_it_gave_up_a_loss_must_be_repeated_with_accept_loss() {
    for broken in ["warehouse.duckdb", "config.sqlite"] {
        let data = tempfile::tempdir().unwrap();
        let (launch, known, twice) = killed_server(data.path()).await;
        let journal = data.path().join("log/0.jnl");
        let mut damaged = std::fs::read(&journal).unwrap();
        damaged[20] ^= 1;
        std::fs::write(&journal, &damaged).unwrap();
        let sound = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(data.path()).unwrap().map(Result::unwrap) {
            if entry.file_name().to_string_lossy().starts_with(broken) {
                std::fs::rename(entry.path(), sound.path().join(entry.file_name())).unwrap();
            }
        }
        std::fs::write(data.path().join(broken), [7; 10_000]).unwrap();
        let refused = launch.clone().flag("--accept-loss").try_start().err().unwrap();
        assert!(refused.message.contains(broken), "{}", refused.message);
        assert!(data.path().join("log/0.jnl.damaged").exists(), "{broken}: the loss was given up");
        copy_folder(sound.path(), data.path());

        is_refused_as_interrupted(&launch);
        is_refused_as_interrupted(&launch);
        is_restored_once(&launch, known, twice).await;
    }
}

#[tokio::test]
async fn a_start_that_a_wrong_clock_stops_after_it_gave_up_a_loss_must_be_repeated() {
    let data = tempfile::tempdir().unwrap();
    let then = Timestamp(SystemClock.now().0 - 3 * YEAR_MICROS);
    let journal = data.path().join("log/0.jnl");
    let first_end = {
        let clock = Arc::new(ManualClock::at(then));
        let (log, _) = adapters::embedded::open(&data.path().join("log"), 16, clock).unwrap();
        let record =
            || NewRecord { topic: Topic::Errors, partition: PartitionId(0), key: String::new(), value: b"{}".to_vec() };
        log.append(vec![record()]).await.unwrap();
        let first_end = std::fs::read(&journal).unwrap().iter().rposition(|byte| *byte != 0).unwrap() + 1;
        for _ in 0..2 {
            log.append(vec![record()]).await.unwrap();
        }
        first_end
    };
    let mut damaged = std::fs::read(&journal).unwrap();
    damaged[first_end + 10] ^= 1;
    std::fs::write(&journal, &damaged).unwrap();

    let launch = Launch::new(data.path());
    let refused = launch.clone().flag("--accept-loss").try_start().err().unwrap();
    assert!(refused.message.contains("--accept-clock"), "{}", refused.message);
    assert!(data.path().join("log/0.jnl.damaged").exists(), "the loss was given up");
    is_refused_as_interrupted(&launch);
    is_refused_as_interrupted(&launch.clone().flag("--accept-clock"));
    launch.clone().flag("--accept-loss").flag("--accept-clock").start().stop();
    launch.start().stop();
}

#[tokio::test]
async fn an_interrupted_restore_is_noticed_also_if_an_earlier_build_began_it() {
    for is_earlier_build in [false, true] {
        let data = tempfile::tempdir().unwrap();
        let (launch, known, twice) = killed_server(data.path()).await;
        if is_earlier_build {
            let clock = Arc::new(SystemClock);
            let (log, _) = adapters::embedded::open(&data.path().join("log"), 2, clock).unwrap();
            assert!(log.append_once("restore", 1, vec![]).await.unwrap());
        } else {
            std::fs::write(data.path().join("log/restore-pending"), "its end").unwrap();
        }
        is_refused_as_interrupted(&launch);
        is_restored_once(&launch, known, twice).await;
    }
}

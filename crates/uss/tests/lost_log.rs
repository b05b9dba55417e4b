//! Tests that a start is refused if the log was removed, replaced by an older copy, or damaged,
//! unless the operator gives the lost data up.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use serde_json::json;
use support::{Launch, Server, eventually};

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
    let explained = server.get(&format!("/users/{user}/segments/{tag}/explain")).await.body;
    explained["data"]["member"].as_bool().unwrap_or_else(|| panic!("{explained}"))
}

/// Waits until the warehouse has all events, as a preview does.
async fn archived(server: &Server) {
    let preview = server.post("/segments/preview", &json!({"whereStatement": "count(*) >= 1"})).await;
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
    let server = Launch::new(data.path()).set("USS_UNKNOWN_USERS", "create").set("USS_PARTITIONS", "2").start();
    let twice = server.segment("twice", "count(*) >= 2").await;
    server.in_force(twice).await;
    for _ in 0..2 {
        event(&server, "known").await;
    }
    let known = id_of(&server, "known").await;
    is_in(&server, known, &[twice]).await;
    archived(&server).await;
    let launch = server.kill();
    let journal = data.path().join("log/0.jnl");
    let sound = std::fs::read(&journal).unwrap();
    // A byte of the first batch, bytes in the middle, and the end.
    let written = sound.iter().rposition(|byte| *byte != 0).unwrap();
    for (from, to) in [(20, 21), (written / 2, written / 2 + 100), (written - 50, written)] {
        let mut damaged = sound.clone();
        damaged[from..to].iter_mut().for_each(|byte| *byte = !*byte);
        std::fs::write(&journal, &damaged).unwrap();
        let refused = launch.try_start().err().unwrap();
        for part in ["has lost something", "Nothing was changed", "Put log/", "--accept-loss"] {
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

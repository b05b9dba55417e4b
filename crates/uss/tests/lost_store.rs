//! Tests that a start is refused if the config store was removed or replaced by an older copy,
//! unless the operator gives the lost data up.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::path::Path;

use serde_json::json;
use support::{Launch, Server, eventually};

/// Copies the files of the config store. The server must not be running.
fn copy_store(from: &Path, to: &Path) {
    for name in ["config.sqlite", "config.sqlite-wal", "config.sqlite-shm"] {
        let _ = std::fs::remove_file(to.join(name));
        if from.join(name).exists() {
            std::fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}

fn remove_store(folder: &Path) {
    copy_store(Path::new("/nonexistent"), folder);
}

/// Sends an event of an unknown identity, and returns the user that it creates.
async fn event_of_new_user(server: &Server, id: &str) -> i64 {
    let response = server.event(&json!({"id": id, "id_type": "cookie"})).await;
    assert_eq!(response.status, 200, "{}", response.body);
    let found = server.get(&format!("/users?clientRefId={id}")).await.body;
    found["data"]["id"].as_i64().unwrap_or_else(|| panic!("{found}"))
}

#[tokio::test]
async fn a_config_store_older_than_the_log_is_refused_without_accept_loss() {
    let (data, old) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Launch::new(data.path()).set("USS_UNKNOWN_USERS", "create").start();
    let (first, kept) = (server.user("first").await, server.segment("kept", "count(*) >= 2").await);
    server.in_force(kept).await;
    let launch = server.stop();
    copy_store(data.path(), old.path());

    let server = launch.start();
    let victim = event_of_new_user(&server, "victim").await;
    for _ in 0..2 {
        assert_eq!(server.event(&json!({"id": "victim", "id_type": "cookie"})).await.status, 200);
    }
    let lost = server.segment("lost", "count(*) >= 1").await;
    server.in_force(lost).await;
    assert_eq!(server.segments_of(victim).await, [kept, lost]);
    let launch = server.stop();

    // A refused start changes nothing: once the store is put back, everything is as before.
    let new = tempfile::tempdir().unwrap();
    copy_store(data.path(), new.path());
    for is_removed in [true, false] {
        if is_removed {
            remove_store(data.path())
        } else {
            copy_store(old.path(), data.path())
        }
        let refused = launch.try_start().err().unwrap();
        assert_eq!(refused.status.code(), Some(1), "{}", refused.message);
        for part in ["config.sqlite", &format!("users up to {victim}, not"), "Put config.sqlite", "--accept-loss"] {
            assert!(refused.message.contains(part), "{part}: {}", refused.message);
        }
    }
    copy_store(new.path(), data.path());
    let server = launch.start();
    assert_eq!(server.segments_of(victim).await, [kept, lost]);
    let launch = server.stop();

    copy_store(old.path(), data.path());
    let server = launch.clone().flag("--accept-loss").start();
    let newcomer = event_of_new_user(&server, "newcomer").await;
    assert!(newcomer > victim, "no id is given a second time: {newcomer}, {victim}");
    assert_eq!(server.segments_of(newcomer).await, [] as [i64; 0], "a new user does not inherit segments");
    assert_eq!(server.get(&format!("/users/{victim}")).await.status, 404);
    assert_eq!(server.get(&format!("/users/{first}")).await.status, 200);
    let again = server.segment("lost", "count(*) >= 1").await;
    assert!(again > lost, "{again}, {lost}");
    server.in_force(again).await;
    assert_eq!(server.segments_of(newcomer).await, [again], "changes reach the engine");
    let explained = server.get(&format!("/users/{newcomer}/segments/kept/explain")).await;
    assert_eq!(explained.body["data"]["member"], false, "{}", explained.body);
    // After one start with --accept-loss, the next start does not need it.
    let server = server.stop();
    let launch = Launch::new(server.data()).set("USS_UNKNOWN_USERS", "create");
    let server = launch.start();
    assert_eq!(server.segments_of(newcomer).await, [again]);
    eventually("a new user has a new id", async || (event_of_new_user(&server, "last").await > newcomer).then_some(()))
        .await;
}

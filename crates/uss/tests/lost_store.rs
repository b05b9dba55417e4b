//! A config store that was removed or replaced by an older copy: refused, unless what is lost is given up.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use serde_json::json;
use support::{Launch, Server, eventually};

/// The files of the config store of a server that does not run, put away or put back.
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

/// An event of an unknown identity, whose user is made.
async fn stranger(server: &Server, id: &str) -> i64 {
    let answer = server.event(&json!({"id": id, "id_type": "cookie"})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let found = server.get(&format!("/users?clientRefId={id}")).await.body;
    found["data"]["id"].as_i64().unwrap_or_else(|| panic!("{found}"))
}

#[tokio::test]
async fn a_config_store_older_than_the_log_is_refused_and_given_up_only_on_request() {
    let (data, old) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Launch::new(data.path()).set("USS_UNKNOWN_USERS", "create").start();
    let (first, kept) = (server.user("first").await, server.segment("kept", "count(*) >= 2").await);
    server.in_force(kept).await;
    let launch = server.stop();
    copy_store(data.path(), old.path());

    let server = launch.start();
    let victim = stranger(&server, "victim").await;
    for _ in 0..2 {
        assert_eq!(server.event(&json!({"id": "victim", "id_type": "cookie"})).await.status, 200);
    }
    let lost = server.segment("lost", "count(*) >= 1").await;
    server.in_force(lost).await;
    assert_eq!(server.segments_of(victim).await, [kept, lost]);
    let launch = server.stop();

    // Put back, everything is as it was: a refused start touches nothing.
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
    let newcomer = stranger(&server, "newcomer").await;
    assert!(newcomer > victim, "no id is given a second time: {newcomer}, {victim}");
    assert_eq!(server.segments_of(newcomer).await, [] as [i64; 0], "nor does a stranger inherit segments");
    assert_eq!(server.get(&format!("/users/{victim}")).await.status, 404);
    assert_eq!(server.get(&format!("/users/{first}")).await.status, 200);
    let again = server.segment("lost", "count(*) >= 1").await;
    assert!(again > lost, "{again}, {lost}");
    server.in_force(again).await;
    assert_eq!(server.segments_of(newcomer).await, [again], "changes reach the engine");
    let explained = server.get(&format!("/users/{newcomer}/segments/kept/explain")).await;
    assert_eq!(explained.body["data"]["member"], false, "{}", explained.body);
    // What was given up once is not asked for again.
    let server = server.stop();
    let launch = Launch::new(server.data()).set("USS_UNKNOWN_USERS", "create");
    let server = launch.start();
    assert_eq!(server.segments_of(newcomer).await, [again]);
    eventually("a new user has a new id", async || (stranger(&server, "last").await > newcomer).then_some(())).await;
}

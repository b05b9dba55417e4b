//! Tests data folders of other builds: this build goes on with those of earlier builds, and does
//! not touch those of newer ones.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use support::{Launch, Server, text};

fn stored(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data_folders").join(name)
}

fn unpack(name: &str, into: &Path) -> Value {
    let archive = stored(&format!("{name}.tar.gz"));
    let unpacked = Command::new("tar").arg("xzf").arg(archive).arg("-C").arg(into).status().unwrap();
    assert!(unpacked.success());
    serde_json::from_slice(&std::fs::read(stored(&format!("{name}.json"))).unwrap()).unwrap()
}

fn launch(data: &Path) -> Launch {
    // The folders grow old: one day this machine's clock will be years ahead of them.
    let launch = Launch::new(data).flag("--accept-clock");
    launch.set("USS_PARTITIONS", "3").set("USS_LOG_RETENTION", "forever")
}

/// Compares every user's memberships and transitions with the responses of the build that made the
/// folder.
async fn assert_all_in_place(server: &Server, expected: &Value) {
    let users = expected["users"].as_array().unwrap();
    assert!(users.len() > 10);
    for user in users {
        let id = user["id"].as_i64().unwrap();
        let found = server.get(&format!("/users/{id}?fresh=true")).await.body;
        assert_eq!(
            (&found["data"]["clientRefId"], &found["data"]["email"]),
            (&user["clientRefId"], &user["email"]),
            "user {id}"
        );
        assert_eq!(json!(server.segments_of(id).await), user["segments"], "user {id}");
        let mut transitions = server.transitions_of(id).await;
        for transition in &mut transitions {
            let fields = ["sequence", "in_segments", "out_segments", "cause", "effective_at"];
            transition.as_object_mut().unwrap().retain(|name, _| fields.contains(&name.as_str()));
        }
        assert_eq!(json!(transitions), user["transitions"], "user {id}");
    }
}

/// Checks that accumulators, definitions, identities and redirects go on working.
async fn assert_goes_on(server: &Server, expected: &Value) {
    let segments: BTreeMap<String, i64> = serde_json::from_value(expected["segments"].clone()).unwrap();
    let user_of = async |client_id: &str| {
        server.get(&format!("/users/client-ref-id/{client_id}")).await.body["data"]["id"].as_i64().unwrap()
    };
    // Client 11 enters `three_views` with the third view.
    let eleven = user_of("c11").await;
    let before = server.segments_of(eleven).await;
    let views = "count(*) FILTER (WHERE activity_type = 'page_viewed')";
    let needed = 3 - value_of(server, eleven, views).await;
    assert!(needed > 0 && !before.contains(&segments["three_views"]));
    for n in 0..needed {
        assert!(!server.segments_of(eleven).await.contains(&segments["three_views"]));
        let view = json!({"id": "c11", "id_type": "cookie", "event_id": format!("after-{n}"),
            "payload": {"activity_type": "page_viewed"}});
        assert_eq!(server.event(&view).await.status, 200);
    }
    assert!(server.segments_of(eleven).await.contains(&segments["three_views"]));
    // Client 3 was merged into client 2, so its events count there.
    let merged = user_of("c2").await;
    let before = value_of(server, merged, views).await;
    let view = json!({"id": "c3", "id_type": "cookie", "payload": {"activity_type": "page_viewed"}});
    assert_eq!(server.event(&view).await.status, 200);
    assert_eq!(value_of(server, merged, views).await, before + 1);
    // A new segment is filled with the whole history.
    let all = server.segment("everyone_seen", "count(*) > 0").await;
    server.in_force(all).await;
    for user in expected["users"].as_array().unwrap() {
        let id = user["id"].as_i64().unwrap();
        let segments_of = server.segments_of(id).await;
        assert_eq!(segments_of.contains(&all), segments_of.contains(&segments["seen"]), "user {id}");
    }
}

/// Returns a user's count, by explain.
async fn value_of(server: &Server, user: i64, count: &str) -> i64 {
    let explained = server.get(&format!("/users/{user}/segments/three_views/explain")).await.body;
    let found = explained["data"]["conditions"].as_array().unwrap().iter().find_map(|condition| {
        let values = condition["values"].as_array()?;
        values.iter().find(|value| value["expression"] == count)?["value"].as_i64()
    });
    found.unwrap_or_else(|| panic!("{explained}"))
}

#[tokio::test]
async fn folders_of_earlier_builds_go_on_working() {
    for name in ["killed", "trimmed"] {
        let data = tempfile::tempdir().unwrap();
        let expected = unpack(name, data.path());
        let launch = launch(data.path());
        let server = launch.start();
        assert_all_in_place(&server, &expected).await;
        let metrics = text(&format!("http://{}/metrics", server.metrics[1].trim_start_matches("http://"))).await;
        let repaired = metrics.lines().find_map(|line| line.strip_prefix("uss_audit_disagreements_total "));
        assert_eq!(repaired, Some("0"), "{name}");
        // This restart reads what this build wrote.
        let server = server.stop().start();
        assert_all_in_place(&server, &expected).await;
        let server = server.kill().start();
        assert_goes_on(&server, &expected).await;
    }
}

/// Returns every file with its bytes.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else {
            files.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    files
}

#[tokio::test]
async fn a_folder_of_a_newer_build_is_refused_and_left_untouched() {
    let data = tempfile::tempdir().unwrap();
    unpack("trimmed", data.path());
    let launch = launch(data.path());
    drop(launch.start().stop());
    let ours = std::fs::read_to_string(data.path().join("FORMAT")).unwrap();
    for (mark, part) in [("1000\n", "A newer build made it"), ("x", "it does not hold the number")] {
        std::fs::write(data.path().join("FORMAT"), mark).unwrap();
        let before = contents(data.path());
        let refused = launch.try_start().err().unwrap();
        assert!(!refused.status.success());
        assert!(refused.message.contains(part), "{}", refused.message);
        assert!(contents(data.path()) == before, "{mark:?}: the folder changed");
    }
    std::fs::write(data.path().join("FORMAT"), ours).unwrap();
    drop(launch.start());
}

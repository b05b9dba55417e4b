//! Tests a full disk below the config store and the warehouse. `bad_surroundings.rs` tests a full
//! disk below the log.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use serde_json::{Value, json};
use support::{Launch, Server, eventually, response_to, text};

async fn health(server: &Server, address: &str) -> (u16, Value) {
    let response = response_to(server.client().get(format!("{address}/health-check"))).await.unwrap();
    (response.status, response.body)
}

/// Returns how many records the warehouse lacks.
async fn backlog(server: &Server) -> f64 {
    let page = text(&format!("{}/metrics", server.metrics[1])).await;
    let series = page.lines().filter(|line| line.starts_with("uss_archiver_backlog_records"));
    series.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}

#[tokio::test]
async fn acknowledged_users_and_events_survive_a_full_disk() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().to_str().unwrap();
    // The mount ends with its last process. A shell outlives the server and saves the contents of
    // the mount.
    let script = format!(
        "mount -t tmpfs -o size=192m none {folder} && setpriv --pdeathsig KILL \"$@\"; cp -a {folder}/. $SAVED"
    );
    let disk = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"];
    let saved = tempfile::tempdir().unwrap();
    let launch = Launch::new(data.path()).set("SAVED", saved.path().to_str().unwrap());
    let server = launch.under(&disk).set("USS_UNKNOWN_USERS", "create").start();
    let segment = server.segment("seen", "count(*) >= 1").await;
    server.in_force(segment).await;
    // The path of the folder inside the mount namespace of the server.
    let ballast = format!("/proc/{}/root{folder}/ballast", server.id());
    let _ = std::fs::write(&ballast, vec![1; 256 << 20]).expect_err("it does not fit");

    let mut names = Vec::new();
    let refused = eventually("the config store is full", async || {
        let name = format!("full {}", names.len());
        let user = json!({"clientRefId": name, "name": "x".repeat(900)});
        let response = server.post("/users", &user).await;
        if response.status == 201 {
            names.push(name);
            return None;
        }
        Some(response)
    })
    .await;
    assert_eq!((refused.status, &refused.body["code"]), (503, &json!("STORE_UNAVAILABLE")), "{}", refused.body);
    let noise: String = (0..20_000).map(|at| char::from(b'a' + (at * at % 26) as u8)).collect();
    let lines: String =
        (0..200).map(|n| format!("{}\n", json!({"id": "known", "n": n, "payload": {"noise": noise}}))).collect();
    server.send("application/x-ndjson", lines.clone()).await.unwrap();
    let (status, body) = health(&server, &server.configuration).await;
    assert_eq!((status, &body["status"]), (503, &json!("down")), "{body}");
    assert_eq!(body["components"]["configStore"]["code"], "STORE_UNAVAILABLE", "{body}");

    std::fs::remove_file(&ballast).unwrap();
    for address in [&server.ingestion, &server.metrics[1], &server.configuration] {
        eventually("the server is healthy again", async || {
            let (status, body) = health(&server, address).await;
            (status == 200 && body["status"] == "ok").then_some(())
        })
        .await;
    }
    for name in ["after 1", "after 2", "after 3"] {
        let created = server.post("/users", &json!({"clientRefId": name})).await;
        assert_eq!(created.status, 201, "{}", created.body);
        names.push(name.to_owned());
    }
    let accepted = server.send("application/x-ndjson", lines).await.unwrap();
    assert_eq!(accepted.body["ok"], true, "{}", accepted.body);
    eventually("the warehouse has everything", async || (backlog(&server).await == 0.0).then_some(())).await;
    let preview = server.post("/segments/preview?fresh=true", &json!({"whereStatement": "count(*) >= 1"})).await;
    assert_eq!(preview.body["data"]["size"], 1, "{}", preview.body);

    let _launch = stop(server);
    let server = Launch::new(saved.path()).start();
    for name in &names {
        let found = server.get(&format!("/users?clientRefId={}", name.replace(' ', "%20"))).await;
        assert_eq!(found.body["data"]["clientRefId"], json!(name), "the response was 201");
    }
    let member = server.get("/users/segment/seen?fresh=true").await;
    assert_eq!(member.body["data"].as_array().unwrap().len(), 1, "{}", member.body);
}

/// Stops the server, which is a child of the shell that keeps the mount.
fn stop(server: Server) -> Launch {
    let shell = server.id();
    let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
    let child = children.split_whitespace().next().unwrap();
    let signalled = std::process::Command::new("kill").args(["-TERM", child]).status().unwrap();
    assert!(signalled.success());
    server.wait()
}

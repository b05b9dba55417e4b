//! Very many new users at once, against the built binary: each event is stored, or its request is
//! refused as a whole and may be sent again. No request fails because others came with it.

mod support;

use serde_json::json;
use support::{Launch, Server, eventually};

const CONNECTIONS: usize = 64;
const USERS: usize = 2_000;

async fn count(server: &Server) -> serde_json::Value {
    let preview = server.post("/segments/preview", &json!({"whereStatement": "", "sample": 1})).await;
    preview.body["data"]["population"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_users_from_many_connections_wait_or_are_refused_as_a_whole() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::new(data.path()).set("USS_UNKNOWN_USERS", "create").start();
    let body = |connection: usize| {
        let line = |user: usize| format!("{{\"id\":\"{user}-{connection}\",\"id_type\":\"cookie\"}}\n");
        (0..USERS).map(line).collect::<String>()
    };
    let requests = (0..CONNECTIONS).map(|connection| {
        let request = server.client().post(format!("{}/api/v1/events", server.ingestion));
        let request = request.header("content-type", "application/x-ndjson").body(body(connection));
        tokio::spawn(support::response_to(request))
    });
    let mut accepted = 0;
    for request in requests.collect::<Vec<_>>() {
        let response = request.await.unwrap().unwrap();
        match response.status {
            200 => {
                assert_eq!(response.body["accepted"], USERS, "{}", response.body);
                accepted += USERS;
            }
            status => {
                assert_eq!((status, &response.body["code"]), (429, &json!("OVER_CAPACITY")), "{}", response.body);
                assert!(response.headers.contains_key("retry-after"));
            }
        }
    }
    assert!(accepted > 0);
    assert_eq!(count(&server).await, accepted);
    // The start after a kill finds them, and makes nobody twice.
    let launch = server.kill();
    let server = launch.start();
    assert_eq!(server.send("application/x-ndjson", body(0)).await.unwrap().status, 200);
    let expected = accepted.max(USERS);
    eventually("all are counted", async || (count(&server).await == expected).then_some(())).await;
}

//! Tests who may connect, from where, and for how long: pages of browsers, idle clients, slow
//! clients, subscribers that do not read.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;
use support::{Launch, Server, eventually, response_to, text};

#[tokio::test]
async fn a_page_of_another_origin_cannot_use_a_server_without_keys() {
    let data = tempfile::tempdir().unwrap();
    let shop = "https://shop.example";
    let server = Launch::new(data.path()).set("USS_ALLOWED_ORIGINS", shop).set("USS_UNKNOWN_USERS", "create").start();
    let (ingestion, configuration) =
        (format!("{}/api/v1", server.ingestion), format!("{}/api/v1", server.configuration));
    let evil = "https://evil.example";
    let changes = [
        ("POST", format!("{configuration}/db-actions/seed/data")),
        ("POST", format!("{configuration}/db-actions/seed/analytics")),
        ("DELETE", format!("{configuration}/users/1")),
        ("POST", format!("{ingestion}/events?unknown_users=create")),
        ("POST", format!("{ingestion}/errors/0/replay")),
        ("POST", format!("{ingestion}/errors/replay")),
    ];
    for (method, url) in changes {
        let request = server.client().request(method.parse().unwrap(), &url).header("sec-fetch-site", "cross-site");
        let refused = response_to(request.header("origin", evil).body(r#"{"id":"injected"}"#)).await.unwrap();
        assert_eq!((refused.status, &refused.body["code"]), (403, &json!("ORIGIN_NOT_ALLOWED")), "{method} {url}");
    }
    let pages = server.metrics.iter().map(|address| format!("{address}/metrics"));
    for url in pages.chain([format!("{configuration}/users"), format!("{ingestion}/errors")]) {
        let request = server.client().get(&url).header("host", "evil.example:3000");
        let refused = response_to(request).await.unwrap();
        assert_eq!((refused.status, &refused.body["code"]), (421, &json!("HOST_NOT_ALLOWED")), "{url}");
    }
    let beacon = server.client().post(format!("{ingestion}/events")).header("content-type", "text/plain");
    let beacon = beacon.header("origin", shop).header("sec-fetch-site", "cross-site").body(r#"{"id":"a"}"#);
    assert_eq!(response_to(beacon).await.unwrap().status, 200, "an allowed page may send events");
    let users = server.get("/users").await.body;
    assert_eq!(users["data"].as_array().unwrap().len(), 1, "only the beacon's: {users}");
}

#[test]
fn an_empty_list_of_keys_does_not_open_the_address() {
    let data = tempfile::tempdir().unwrap();
    for keys in ["", ",", " , ,", "  "] {
        let launch = Launch::new(data.path()).set("USS_BIND", "0.0.0.0").set("USS_API_KEYS", keys);
        let refused = launch.try_start().err().unwrap_or_else(|| panic!("it serves with the keys `{keys}`"));
        assert!(refused.message.contains("USS_API_KEYS"), "{}", refused.message);
    }
}

fn connect(address: &str) -> TcpStream {
    TcpStream::connect(address.strip_prefix("http://").unwrap()).unwrap()
}

/// Returns a metric of the page that has the metrics of all connections.
async fn metric(server: &Server, series: &str) -> f64 {
    let page = text(&format!("{}/metrics", server.metrics[1])).await;
    let value = page.lines().find_map(|line| line.strip_prefix(series)).map(str::trim);
    value.map_or(0.0, |value| value.parse().unwrap())
}

#[tokio::test]
async fn idle_clients_of_one_port_block_neither_it_nor_the_other_ports() {
    let data = tempfile::tempdir().unwrap();
    let launch = Launch::new(data.path()).set("USS_UNKNOWN_USERS", "create");
    let server = launch.under(&["bash", "-c", "ulimit -n 512; exec \"$0\" \"$@\""]).start();
    for url in [&server.metrics[0], &server.ingestion, &server.configuration] {
        // More connections than there are descriptors. Half of them send nothing, the others one request.
        let clients: Vec<TcpStream> = (0..600)
            .map(|number| {
                let mut client = connect(url);
                if number % 2 == 0 {
                    // The connection may have been closed for the next already.
                    let _closed = client.write_all(b"GET /health-check HTTP/1.1\r\nhost: localhost\r\n\r\n");
                }
                client
            })
            .collect();
        if *url == server.metrics[0] {
            assert_eq!(server.event(&json!({"id": "a"})).await.status, 200, "events are accepted meanwhile");
            assert_eq!(server.post("/users", &json!({"clientRefId": "b"})).await.status, 201);
        }
        eventually("the port answers", async || {
            let response = reqwest::Client::new().get(format!("{url}/health-check")).send().await.ok()?;
            (response.status() != 503).then_some(())
        })
        .await;
        drop(clients);
    }
    for port in ["ingestion_metrics", "ingestion", "configuration"] {
        let closed = metric(&server, &format!("uss_connections_closed_idle_total{{port=\"{port}\"}}")).await;
        assert!(closed > 0.0, "{port}");
        assert_eq!(metric(&server, &format!("uss_accept_errors_total{{port=\"{port}\"}}")).await, 0.0, "{port}");
    }
}

#[tokio::test]
async fn a_stop_does_not_wait_for_idle_clients() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::new(data.path()).set("USS_UNKNOWN_USERS", "create").start();
    let everyone = server.segment("everyone", "").await;
    server.in_force(everyone).await;
    let mut clients = Vec::new();
    for number in 0..600 {
        let mut client = connect(if number % 2 == 0 { &server.configuration } else { &server.ingestion });
        let sent: &[u8] = match number % 3 {
            0 => b"",
            1 => b"GET /health-check HTTP/1.1\r\nhost: localhost\r\n\r\n",
            _ => b"GET /api/v1/transitions/stream HTTP/1.1\r\nhost: localhost\r\n\r\n",
        };
        client.write_all(sent).unwrap();
        clients.push(client);
    }
    eventually("all streams are open", async || {
        let page = text(&format!("{}/metrics", server.configuration)).await;
        page.lines().any(|line| line == "uss_stream_subscribers 100").then_some(())
    })
    .await;
    // Notifications are streamed to clients that do not read.
    let lines: String = (0..2_000).map(|number| format!("{{\"id\":\"user-{number}\"}}\n")).collect();
    assert_eq!(server.send("application/x-ndjson", lines).await.unwrap().status, 200);
    server.stop();
    for mut client in clients {
        let mut rest = Vec::new();
        // The connection may be reset or closed: both end the read.
        let _ended = client.read_to_end(&mut rest);
    }
}

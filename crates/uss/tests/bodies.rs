//! Tests request bodies on real connections: compressed, refused and slow bodies.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use support::Launch;

const KEY: &str = "admin-0123456789abcdef";
const EVENT: &str = r#"{"id":"known","payload":{"activity_type":"page_viewed"}}"#;
/// How long a response may take, on a machine that is busy with other tests.
const RESPONSE_TIME_MAX: Duration = Duration::from_secs(60);

/// A connection for requests that are written byte by byte.
struct Connection(TcpStream);

#[derive(Debug)]
struct Response {
    status: u16,
    closes: bool,
    body: Value,
}

impl Connection {
    fn to(url: &str) -> Self {
        let address = url.strip_prefix("http://").unwrap().to_socket_addrs().unwrap().next().unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(RESPONSE_TIME_MAX)).unwrap();
        Self(stream)
    }

    /// Writes as much of a request as the server takes.
    fn send(&mut self, path: &str, headers: &str, body: &[u8]) {
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        let sent = self.0.write_all(head.as_bytes()).and_then(|()| self.0.write_all(body));
        if let Err(error) = sent {
            assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
        }
    }

    fn post(&mut self, path: &str, headers: &str, body: &[u8]) -> Response {
        self.send(path, &format!("{headers}Content-Length: {}\r\n", body.len()), body);
        self.response()
    }

    fn response(&mut self) -> Response {
        let mut text = Vec::new();
        let end = loop {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            text.push(byte[0]);
            if text.ends_with(b"\r\n\r\n") {
                break text.len();
            }
        };
        let head = String::from_utf8(text[..end].to_vec()).unwrap().to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        let closes = head.lines().any(|line| line == "connection: close");
        Response { status: head[9..12].parse().unwrap(), closes, body: serde_json::from_slice(&body).unwrap() }
    }

    /// Returns whether a response has begun.
    fn has_response(&self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        let peeked = self.0.peek(&mut [0]);
        self.0.set_nonblocking(false).unwrap();
        peeked.is_ok_and(|bytes| bytes > 0)
    }
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn every_member_of_a_gzip_body_is_read() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::new(data.path()).start();
    server.user("known").await;
    let lines: Vec<u8> = (0..3).flat_map(|_| gzip(&format!("{EVENT}\n"))).collect();
    let packed = "Content-Type: application/x-ndjson\r\nContent-Encoding: identity, X-Gzip\r\n";
    let mut connection = Connection::to(&server.ingestion);
    let response = connection.post("/api/v1/events", packed, &lines);
    assert_eq!((response.status, &response.body["accepted"]), (200, &json!(3)));
    let bomb = gzip(&"x\n".repeat(1 << 20));
    let response = connection.post("/api/v1/events", packed, &bomb);
    assert_eq!((response.status, &response.body["code"]), (200, &json!("TOO_MANY_REJECTED")));
    assert_eq!(response.body["rejected"].as_array().unwrap().len(), 10_000);
    assert_eq!(server.events_of_known().await, 3);
}

#[tokio::test]
async fn a_refused_body_leaves_the_connection_open_or_announces_its_close() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::new(data.path()).set("USS_API_KEYS", &format!("admin:{KEY}")).start();
    let key = format!("Authorization: Bearer {KEY}\r\n");
    let json = format!("{key}Content-Type: application/json\r\n");
    let xml = format!("{key}Content-Type: text/xml\r\n");
    let (events, users) = ("/api/v1/events", "/api/v1/users");
    let cases = [
        (&server.ingestion, events, json.as_str(), 17 << 20, 413),
        (&server.ingestion, events, &xml, 4 << 20, 415),
        (&server.ingestion, events, "", 4 << 20, 401),
        (&server.ingestion, "/nowhere", &json, 4 << 20, 404),
        (&server.configuration, users, &json, 4 << 20, 413),
        (&server.configuration, users, &xml, 4 << 20, 415),
        (&server.configuration, users, "", 4 << 20, 401),
        (&server.configuration, "/nowhere", &json, 4 << 20, 404),
    ];
    for (api, path, headers, length, status) in cases {
        let response = Connection::to(api).post(path, headers, &vec![b' '; length]);
        assert_eq!((response.status, response.closes), (status, true), "{path} {headers} {}", response.body);
        if status != 413 {
            let mut connection = Connection::to(api);
            for _ in 0..2 {
                let response = connection.post(path, headers, &vec![b' '; 100 << 10]);
                assert_eq!((response.status, response.closes), (status, false), "{path} {headers} {}", response.body);
            }
        }
    }
}

#[tokio::test]
async fn slow_bodies_do_not_block_other_clients() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::new(data.path()).start();
    server.user("known").await;
    let lines = "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n";
    let idle = (0..128).map(|_| {
        let mut connection = Connection::to(&server.ingestion);
        connection.send("/api/v1/events", lines, b"1\r\n \r\n");
        connection
    });
    let mut idle: Vec<Connection> = idle.collect();
    let begun = [
        (&server.ingestion, "/api/v1/events"),
        (&server.ingestion, "/api/v1/errors/0/replay"),
        (&server.configuration, "/api/v1/users"),
        (&server.configuration, "/api/v1/identities/resolve"),
    ];
    let late: Vec<(&str, Connection)> = begun
        .map(|(address, path)| {
            let mut connection = Connection::to(address);
            connection.send(path, "Content-Type: application/json\r\nContent-Length: 9\r\n", b"{");
            (path, connection)
        })
        .into();
    assert_eq!(server.send("application/json", EVENT).await.unwrap().status, 200);

    // One address fills its share with bodies that do not end. Only requests of this address have
    // to wait for room.
    let whole = "Content-Type: application/json\r\nContent-Length: 16777215\r\n";
    let full = (0..6).map(|_| {
        let mut connection = Connection::to(&server.ingestion);
        connection.send("/api/v1/events", whole, &vec![b' '; 15 << 20]);
        connection
    });
    let mut full: Vec<Connection> = full.collect();
    let refused = support::eventually("one is refused", async || full.iter().position(Connection::has_response)).await;
    let response = full[refused].response();
    assert_eq!((response.status, response.closes), (429, true), "{}", response.body);
    assert_eq!(response.body["code"], "OVER_CAPACITY");
    let other = reqwest::Client::builder().no_proxy().local_address(std::net::IpAddr::from([127, 0, 0, 2])).build();
    let request = other.unwrap().post(format!("{}/api/v1/events", server.ingestion));
    let response = request.header("content-type", "application/json").body(EVENT).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 200, "another address");

    for (path, mut connection) in late {
        let response = connection.response();
        assert_eq!((response.status, response.closes), (408, true), "{path}");
        assert_eq!(response.body["code"], "BODY_TOO_SLOW", "{path}");
    }
    let last = idle.last_mut().unwrap();
    last.0.write_all(format!("{:x}\r\n{EVENT}\r\n0\r\n\r\n", EVENT.len()).as_bytes()).unwrap();
    assert_eq!(last.response().body["accepted"], 1, "a slow body may still be completed");
}

//! Packed bodies: what they may hold, and for how long.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::ConnectInfo;
use axum::http::Request;
use flate2::Compression;
use flate2::write::GzEncoder;
use ingestion_api::Limits;
use serde_json::{Value, json};
use support::{SAMPLE, World, channel, gzip, post_gzip, read};
use tokio::sync::mpsc::Sender;
use tokio::task::JoinHandle;
use uss_http::pace::Pace;

const KIB: usize = 1 << 10;

/// Says from which address a request comes.
fn from(address: &str, mut request: Request<Body>) -> Request<Body> {
    let peer: SocketAddr = format!("{address}:1").parse().unwrap();
    request.extensions_mut().insert(ConnectInfo(peer));
    request
}

/// Returns the start of a gzip stream, from which all of `bytes` can be unpacked.
fn begun(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.flush().unwrap();
    encoder.get_ref().clone()
}

/// A request that has sent a part of its body.
struct Unfinished {
    sender: Sender<Result<Bytes, std::io::Error>>,
    answer: JoinHandle<(u16, Value)>,
}

impl Unfinished {
    /// Sends the start of a packed body. Returns when it has been read, or the request has been refused.
    async fn start(world: &Arc<World>, address: &str, media: &str, packed: Vec<u8>) -> Self {
        let (sender, body) = channel();
        let (world, request) = (world.clone(), from(address, post_gzip(media, body)));
        let answer = tokio::spawn(async move { read(world.send(request).await).await });
        // A piece is taken out of the channel when the one before has been dealt with.
        for piece in [packed, Vec::new(), Vec::new()] {
            if sender.send(Ok(Bytes::from(piece))).await.is_err() {
                break;
            }
        }
        Self { sender, answer }
    }

    async fn finish(self, rest: &[u8]) -> (u16, Value) {
        self.sender.send(Ok(Bytes::copy_from_slice(rest))).await.unwrap();
        drop(self.sender);
        self.answer.await.unwrap()
    }
}

#[tokio::test]
async fn a_packed_array_holds_what_was_sent_until_it_is_whole() {
    let limits = Limits { in_flight_bytes_max: 256 * KIB, client_bytes_max: 64 * KIB, ..Limits::default() };
    let world = Arc::new(World::with(limits));
    let whole = gzip(format!("[{}{SAMPLE}]", " ".repeat(60 * KIB)).as_bytes());
    let (first, rest) = whole.split_at(whole.len() - 4);
    let mut unfinished = Vec::new();
    for _ in 0..8 {
        unfinished.push(Unfinished::start(&world, "192.0.2.1", "application/json", first.to_vec()).await);
    }
    let event = from("192.0.2.1", Request::post("/api/v1/events").body(Body::from(SAMPLE)).unwrap());
    assert_eq!(world.send(event).await.status().as_u16(), 200, "there is room for the same address");
    for request in unfinished {
        let (status, answer) = request.finish(rest).await;
        assert_eq!((status, &answer["accepted"]), (200, &json!(1)), "{answer}");
    }
    let large = gzip(&vec![b' '; 65 * KIB]);
    let (status, answer) = read(world.send(from("192.0.2.1", post_gzip("application/json", large))).await).await;
    assert_eq!((status, &answer["code"]), (429, &json!("OVER_CAPACITY")), "what is unpacked counts");
}

#[tokio::test]
async fn only_what_is_sent_earns_a_packed_body_time() {
    let pace = Pace { grace: Duration::ZERO, bytes_per_second_min: KIB, time_max: Duration::from_secs(3_600) };
    let limits = Limits { body_pace: pace, body_pause_max: Duration::from_secs(3_600), ..Limits::default() };
    let world = World::with(limits);
    let packed = begun(&vec![b' '; 500 * KIB]);
    assert!(packed.len() < KIB * 3);
    for path in ["/api/v1/events", "/api/v1/errors/0/replay"] {
        let (sender, body) = channel();
        sender.send(Ok(Bytes::from(packed.clone()))).await.unwrap();
        let request = Request::post(path).header("content-type", "application/json").header("content-encoding", "gzip");
        let answer = async { read(world.send(request.body(body).unwrap()).await).await };
        // Unpacked, it would have 500 seconds.
        let (status, answer) = tokio::time::timeout(Duration::from_secs(120), answer).await.unwrap();
        assert_eq!((status, &answer["code"]), (408, &json!("BODY_TOO_SLOW")), "{path}");
        drop(sender);
    }
}

#[tokio::test]
async fn four_addresses_cannot_take_the_room_of_others() {
    let limits = Limits { in_flight_bytes_max: 256 * KIB, client_bytes_max: 64 * KIB, ..Limits::default() };
    let world = Arc::new(World::with(limits));
    let line = begun(format!("{{\"id\":\"a\",\"x\":\"{}", "x".repeat(KIB)).as_bytes());
    let mut unfinished = Vec::new();
    for address in 1..=4 {
        for _ in 0..40 {
            let address = format!("192.0.2.{address}");
            unfinished.push(Unfinished::start(&world, &address, "application/x-ndjson", line.clone()).await);
        }
    }
    let refused = unfinished.iter().filter(|request| request.answer.is_finished()).count();
    assert!(refused > 40, "each address has reached its share, but only {refused} requests were refused");
    let event = format!("{SAMPLE}{}", " ".repeat(16 * KIB));
    let event = from("192.0.2.5", Request::post("/api/v1/events").body(Body::from(event)).unwrap());
    assert_eq!(world.send(event).await.status().as_u16(), 200);
    drop(unfinished);
}

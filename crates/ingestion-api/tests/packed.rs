//! Packed bodies: what they may hold and for how long, and how much a few packed bytes may cost.
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

fn gzip_best(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
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

#[tokio::test]
async fn an_array_of_bad_elements_is_read_as_far_as_lines_are() {
    let world = World::new();
    // The elements, how many are accepted, and the first that is not read.
    let alternating: Vec<&str> = [SAMPLE, "1"].into_iter().cycle().take(20_002).collect();
    let unknown_users: Vec<&str> = std::iter::repeat_n(r#"{"id":"nobody"}"#, 20_000).collect();
    let mut late = vec![SAMPLE; 11_000];
    late.extend(vec!["1"; 10_001]);
    for (elements, accepted, not_read_from) in [
        (vec!["1"; 49_999], 0, 10_000),
        (alternating, 10_001, 20_001),
        (unknown_users, 0, 10_000),
        (late, 11_000, 21_000),
    ] {
        let (events, errors) = (world.events().await.len(), world.errors().await.len());
        let packed = gzip(format!("[{}]", elements.join(",")).as_bytes());
        let (status, answer) = read(world.send(post_gzip("application/json", packed)).await).await;
        assert_eq!((status, &answer["ok"], &answer["code"]), (200, &json!(false), &json!("TOO_MANY_REJECTED")));
        assert_eq!((&answer["accepted"], &answer["not_read_from"]), (&json!(accepted), &json!(not_read_from)));
        assert_eq!(answer["rejected"].as_array().unwrap().len(), 10_000);
        assert_eq!(world.events().await.len() - events, accepted);
        assert_eq!(world.errors().await.len() - errors, 10_000);
    }
    let mut at_the_bound = vec!["1"; 10_000];
    at_the_bound.push(SAMPLE);
    let (status, answer) = world.post("application/json", format!("[{}]", at_the_bound.join(","))).await;
    assert_eq!((status, &answer["accepted"], answer.get("not_read_from")), (200, &json!(1), None));
}

#[tokio::test]
async fn a_body_that_unpacks_to_far_more_than_events_do_is_refused() {
    let world = World::new();
    let good = format!("{SAMPLE}\n");
    // The same event again and again: gzip makes it 200 times smaller and more.
    let (below, beyond) = (good.repeat(10_000), good.repeat(40_000));
    assert!(below.len() < 1 << 20 && beyond.len() > 2 << 20);
    for (media, text) in [
        ("application/x-ndjson", below.clone()),
        ("application/json", format!("[{}]", below.trim_end().replace('\n', ","))),
    ] {
        let packed = gzip_best(text.as_bytes());
        assert!(packed.len() * 200 < text.len(), "the ratio does not matter below a mebibyte");
        let (status, answer) = read(world.send(post_gzip(media, packed)).await).await;
        assert_eq!((status, &answer["accepted"], &answer["ok"]), (200, &json!(10_000), &json!(true)), "{media}");
    }
    let array = format!("[{}]", beyond.trim_end().replace('\n', ","));
    let (status, answer) = read(world.send(post_gzip("application/json", gzip_best(array.as_bytes()))).await).await;
    assert_eq!((status, &answer["code"]), (400, &json!("COMPRESSION_RATIO_TOO_HIGH")));
    assert!(answer["message"].as_str().unwrap().contains("more than 200 times its size"), "{answer}");
    let lines = post_gzip("application/x-ndjson", gzip_best(beyond.as_bytes()));
    let (status, answer) = read(world.send(lines).await).await;
    assert_eq!((status, &answer["code"]), (200, &json!("COMPRESSION_RATIO_TOO_HIGH")));
    let accepted = answer["accepted"].as_u64().unwrap();
    assert!((10_000..40_000).contains(&accepted), "what came before is stored: {accepted}");
    let replay = Request::post("/api/v1/errors/0/replay").header("content-type", "application/json");
    let replay = replay.header("content-encoding", "gzip").body(Body::from(gzip_best(&vec![b' '; 4 << 20]))).unwrap();
    assert_eq!(world.send(replay).await.status().as_u16(), 400);
}

/// Lines as real programs write them stay far below the bound, packed as well as gzip can.
#[tokio::test]
async fn ordinary_lines_are_not_refused_for_their_ratio() {
    let world = World::new();
    let lines: String = (0..40_000)
        .map(|number| {
            format!(
                "{{\"id\":\"a\",\"event_id\":\"e-{number}\",\"country\":\"US\",\"region\":\"California\",\"payload\":\
                 {{\"activity_type\":\"page_viewed\",\"url\":\"https://shop.example/products/{}\"}}}}\n",
                number % 7
            )
        })
        .collect();
    let packed = gzip_best(lines.as_bytes());
    let ratio = lines.len() / packed.len();
    assert!(lines.len() > 4 << 20 && ratio < 100, "{ratio}");
    let (status, answer) = read(world.send(post_gzip("application/x-ndjson", packed)).await).await;
    assert_eq!((status, &answer["accepted"], &answer["ok"]), (200, &json!(40_000), &json!(true)), "{answer}");
}

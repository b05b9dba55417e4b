//! Clients that post events until each is acknowledged, across any number of restarts.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use segment_engine::time::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::answer;

/// How long a client waits before it sends again what was not acknowledged.
const RETRY: Duration = Duration::from_millis(20);

/// The server at present, if one serves: a client and the address of the ingestion API.
pub type Present = Option<(reqwest::Client, String)>;

/// One client: sends bursts to random users until told to stop, then answers what was acknowledged: event ids, and
/// whose they are.
pub async fn client(
    number: u64,
    seed: u64,
    users: Vec<String>,
    server: watch::Receiver<Present>,
    stop: watch::Receiver<bool>,
) -> BTreeMap<String, String> {
    let mut random = fastrand::Rng::with_seed(seed.wrapping_add(number));
    let (mut acknowledged, mut next) = (BTreeMap::new(), 0_u64);
    // Every other client sends lines, the rest one event at a time.
    let lines = number % 2 == 1;
    while !*stop.borrow() {
        let mut events = Vec::new();
        for _ in 0..if lines { 8 } else { 1 } {
            let user = &users[random.u64(..users.len() as u64) as usize];
            for _ in 0..=random.u64(..3) {
                next += 1;
                events.push(event(user, format!("{number}-{next}"), &mut random));
            }
        }
        let batches = if lines { vec![events] } else { events.into_iter().map(|event| vec![event]).collect() };
        for batch in batches {
            let mut server = server.clone();
            while !send(&batch, lines, &mut server).await {
                tokio::time::sleep(RETRY).await;
            }
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            acknowledged.extend(batch.iter().map(|event| (text(&event["event_id"]), text(&event["id"]))));
        }
        tokio::time::sleep(Duration::from_millis(10 + random.u64(..if lines { 400 } else { 60 }))).await;
    }
    acknowledged
}

/// An event created at its receipt or, every fourth, up to a second before or after the client's clock.
fn event(user: &str, event_id: String, random: &mut fastrand::Rng) -> Value {
    let mut event = json!({
        "id": user, "id_type": "cookie", "event_id": event_id,
        "payload": {"activity_type": "page_viewed", "order_total": random.u64(..50)}
    });
    if random.u64(..4) == 0 {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros() as i64;
        let created_at = Timestamp(now - 1_000_000 + random.u64(..2_000_000) as i64);
        event["created_at"] = json!(ports::records::instant::format(created_at));
    }
    event
}

/// Whether all of the events were acknowledged.
async fn send(events: &[Value], lines: bool, server: &mut watch::Receiver<Present>) -> bool {
    let serves = server.wait_for(Option::is_some).await;
    let Some((client, address)) = serves.ok().and_then(|present| present.clone()) else { return false };
    let media = if lines { "application/x-ndjson" } else { "application/json" };
    let body: String = events.iter().map(|event| format!("{event}\n")).collect();
    let request = client.post(format!("{address}/api/v1/events")).header(CONTENT_TYPE, media).body(body);
    let Ok(answer) = answer(request).await else { return false };
    match answer.status {
        200 if lines => answer.body["accepted"] == events.len(),
        200 => true,
        // What may be sent again later.
        429 | 503 => false,
        status => panic!("{status}: {}", answer.body),
    }
}

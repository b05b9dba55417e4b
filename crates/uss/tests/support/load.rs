//! Clients that post each event until it is acknowledged, across any number of restarts.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use segment_engine::time::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::response_to;

/// How long a client waits before it sends events again that were not acknowledged.
const RETRY: Duration = Duration::from_millis(20);

/// A client and the address of the ingestion API; `None` while no server runs.
pub(crate) type Present = Option<(reqwest::Client, String)>;

/// Sends bursts of events of random users until `stop` is true. Returns the acknowledged events:
/// their users by event id.
pub(crate) async fn client(
    number: u64,
    seed: u64,
    users: Vec<String>,
    server: watch::Receiver<Present>,
    stop: watch::Receiver<bool>,
) -> BTreeMap<String, String> {
    let mut random = fastrand::Rng::with_seed(seed.wrapping_add(number));
    let (mut acknowledged, mut next) = (BTreeMap::new(), 0_u64);
    // Every other client sends lines, the others send single events.
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

/// Returns an event without `created_at`. Every fourth has one up to a second before or after now.
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

/// Returns whether all events were acknowledged.
async fn send(events: &[Value], lines: bool, server: &mut watch::Receiver<Present>) -> bool {
    let serves = server.wait_for(Option::is_some).await;
    let Some((client, address)) = serves.ok().and_then(|present| present.clone()) else { return false };
    let media = if lines { "application/x-ndjson" } else { "application/json" };
    let body: String = events.iter().map(|event| format!("{event}\n")).collect();
    let request = client.post(format!("{address}/api/v1/events")).header(CONTENT_TYPE, media).body(body);
    let Ok(response) = response_to(request).await else { return false };
    match response.status {
        200 if lines => response.body["accepted"] == events.len(),
        200 => true,
        // The client may try again later.
        429 | 503 => false,
        status => panic!("{status}: {}", response.body),
    }
}

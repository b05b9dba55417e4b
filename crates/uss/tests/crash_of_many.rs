//! Kills the server while very many users come for the first time, while new segments read their
//! history, and while they take effect for all. Nobody is left out, nothing is counted or emitted
//! twice.
//!
//! `USS_CRASH_KILLS` sets the number of kills of each kind, and `USS_CRASH_SEED` repeats the choices
//! of a run.

#![expect(clippy::print_stderr)]

#[path = "support/check.rs"]
mod check;
mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use support::{Launch, Server};

/// In each of two partitions more than twice as many as catch up in one turn.
const USERS: usize = 2_500;
const LINES: usize = 50;
/// How far a segment is when its history was read.
const SCANNED: f64 = 0.95;

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name}={value}")))
}

/// Two events of each user, in requests. Every third user has looked at the second page.
fn requests() -> Vec<String> {
    let line = |number: usize| {
        let (user, nth) = (number % USERS, number / USERS);
        let url = if nth == 1 && user.is_multiple_of(3) { "/second" } else { "/first" };
        json!({"id": format!("user-{user}"), "id_type": "cookie", "event_id": format!("{user}-{nth}"),
            "payload": {"url": url}})
        .to_string()
            + "\n"
    };
    let lines: Vec<String> = (0..2 * USERS).map(line).collect();
    lines.chunks(LINES).map(|lines| lines.concat()).collect()
}

/// The clause of the n-th segment, which no other segment has, and how many users are in it.
fn clause(number: usize) -> (String, usize) {
    match number % 3 {
        0 => (format!("count(*) FILTER (WHERE url <> '/{number}') >= 2"), USERS),
        1 => (format!("count(*) FILTER (WHERE url IN ('/second', '/{number}')) >= 1"), USERS.div_ceil(3)),
        _ => (format!("count(DISTINCT url) FILTER (WHERE url <> '/{number}') = 1"), USERS - USERS.div_ceil(3)),
    }
}

/// Sends requests until the server is killed, and returns how many of them were answered.
async fn send(server: &Server, requests: &[String]) -> usize {
    for (number, request) in requests.iter().enumerate() {
        match server.send("application/x-ndjson", request.clone()).await {
            Ok(response) if response.status == 200 => assert_eq!(response.body["accepted"], LINES, "{}", response.body),
            _ => return number,
        }
    }
    requests.len()
}

fn restart(launch: &Launch) -> Server {
    tokio::task::block_in_place(|| launch.start())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_contacts_histories_and_new_segments_survive_kills_at_any_moment() {
    let kills = from_environment("USS_CRASH_KILLS", 20);
    let clock = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64;
    let seed = from_environment("USS_CRASH_SEED", clock);
    eprintln!("USS_CRASH_SEED={seed}, {kills} kills of each kind");
    let mut random = fastrand::Rng::with_seed(seed);
    let data = tempfile::tempdir().unwrap();
    let launch = Launch::new(data.path()).set("USS_UNKNOWN_USERS", "create").set("USS_PARTITIONS", "2");
    let mut server = launch.set("USS_CHECKPOINT_SECONDS", "1").start();

    let requests = requests();
    let (mut answered, mut coming) = (0, 0);
    for _ in 0..kills {
        let life = Duration::from_micros(random.u64(..25_000));
        // One request more than was answered may be stored: it is sent again.
        let sending = tokio::time::timeout(life, async {
            for request in &requests[answered..] {
                answered += send(&server, std::slice::from_ref(request)).await;
            }
        });
        coming += u64::from(sending.await.is_err());
        server = restart(&server.kill());
    }
    eprintln!("{coming} of {kills} kills interrupted users who came");
    assert!(coming > 0, "no kill came before all users had come");
    assert_eq!(send(&server, &requests[answered..]).await, requests.len() - answered);

    // In how many kills the newest segment was reading its history, and was taking effect.
    let (mut segments, mut reading, mut activating) = (BTreeMap::new(), 0, 0);
    for kill in 0..kills {
        for _ in 0..=random.usize(..3) {
            let (clause, members) = clause(segments.len());
            let new = json!({"tag": format!("s{}", segments.len()), "whereStatement": clause});
            let created = server.post("/segments", &new).await;
            segments.insert(created.body["data"]["id"].as_i64().unwrap(), members);
        }
        // The first at once, so that at least one segment is not in force.
        tokio::time::sleep(Duration::from_millis(if kill == 0 { 0 } else { random.u64(..80) })).await;
        let path = format!("/segments/{}/progress", segments.keys().last().unwrap());
        let ratio = server.get(&path).await.body["data"]["ratio"].as_f64().unwrap();
        server = restart(&server.kill());
        reading += u64::from(ratio < SCANNED);
        activating += u64::from((SCANNED..1.0).contains(&ratio));
    }
    eprintln!("{reading} of {kills} kills interrupted a history, and {activating} a segment that was taking effect");
    assert!(reading + activating > 0, "no kill came before the newest segment was in force");
    for segment in segments.keys() {
        server.in_force(*segment).await;
    }
    server.segments_of(1).await;
    let histories = check::histories(&server.records("user_segment_notification_topic").await);
    for (segment, members) in &segments {
        let entered = histories.values().filter_map(|history| history.transitions.get(segment));
        let entered: Vec<_> = entered.collect();
        assert_eq!(entered.len(), *members, "segment {segment}");
        assert!(entered.iter().all(|transitions| transitions.len() == 1), "segment {segment}: each entered once");
    }
    let population = server.post("/segments/preview", &json!({"whereStatement": "", "sample": 1})).await;
    assert_eq!(population.body["data"]["population"], USERS, "{}", population.body);
    let events = server.records("event_ingested_topic").await;
    let (_, deliveries) = check::events(&events);
    assert_eq!(deliveries.len(), 2 * USERS);
    assert!(deliveries.values().all(|users| users.iter().all(|user| *user == users[0])), "one user for each identity");
}

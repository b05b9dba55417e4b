//! Kills the server again and again under load. No acknowledged event is lost or counts twice, and
//! every transition is emitted once, with its instant.
//!
//! `USS_CRASH_KILLS` sets the number of kills, and `USS_CRASH_SEED` repeats the choices of a run.

#![expect(clippy::unwrap_used, clippy::print_stderr)]

#[path = "support/check.rs"]
mod check;
#[path = "support/load.rs"]
mod load;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use load::Present;
use serde_json::{Value, json};
use support::{Launch, Server, eventually};
use tokio::sync::watch;

/// Users that are never linked. Their transitions are recomputed one by one. A preview shows at
/// most 100 users, so all users together are no more.
const PLAIN: usize = 52;
/// Users that are linked: of each four, the first two, the last two, then the second with the
/// third.
const LINKED: usize = 48;
const CLIENTS: u64 = 6;

const BUSY: &str = "count(*) FILTER (WHERE created_at >= now() - INTERVAL '2 seconds') >= 2";
const RECENT: &str = "count(*) FILTER (WHERE created_at >= now() - INTERVAL '1 second') >= 1";
const BUYERS: &str = "sum(order_total) >= 200";
/// The clauses that the edited segment gets, one after the other.
const EDITS: [&str; 5] = [
    "count(*) FILTER (WHERE created_at >= now() - INTERVAL '3 seconds') >= 3",
    "count(*) >= 12",
    "count(*) FILTER (WHERE created_at <= now() - INTERVAL '2 seconds') >= 7",
    "count(DISTINCT order_total) >= 4 AND NOT segment('recent')",
    "funnel(INTERVAL '1 second', order_total > 5, TRUE, TRUE) FILTER (WHERE created_at >= now() - INTERVAL '4 seconds') >= 3",
];

struct Segments {
    busy: i64,
    recent: i64,
    buyers: i64,
    edited: i64,
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name}={value}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_is_lost_and_no_transition_is_emitted_twice_while_segments_change_and_users_merge() {
    let kills = from_environment("USS_CRASH_KILLS", 30);
    let clock = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64;
    let seed = from_environment("USS_CRASH_SEED", clock);
    eprintln!("USS_CRASH_SEED={seed}, {kills} kills");
    let mut random = fastrand::Rng::with_seed(seed);
    let data = tempfile::tempdir().unwrap();
    let launch = Launch::new(data.path()).set("USS_CHECKPOINT_SECONDS", "1");
    let server = launch.start();
    let names: Vec<String> = (0..PLAIN + LINKED).map(|number| format!("user-{number}")).collect();
    let mut users = BTreeMap::new();
    for name in &names {
        users.insert(name.clone(), server.user(name).await);
    }
    let segments = Segments {
        busy: server.segment("busy", BUSY).await,
        recent: server.segment("recent", RECENT).await,
        buyers: server.segment("buyers", BUYERS).await,
        edited: server.segment("edited", "count(*) >= 2").await,
    };
    for id in [segments.busy, segments.recent, segments.buyers, segments.edited] {
        server.in_force(id).await;
    }

    let (present, serving) = watch::channel::<Present>(None);
    let (stop, stopped) = watch::channel(false);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| tokio::spawn(load::client(number, seed, names.clone(), serving.clone(), stopped.clone())))
        .collect();
    let server = crash_again_and_again(server, kills, &mut random, &present, &segments).await;
    present.send_replace(Some((server.client(), server.ingestion.clone())));
    stop.send_replace(true);
    let mut acknowledged = BTreeMap::new();
    for client in clients {
        acknowledged.extend(client.await.unwrap());
    }
    eprintln!("{} events were acknowledged", acknowledged.len());
    check(server, &segments, &users, &acknowledged).await;
}

/// Kills the server at random moments while clients send events and definitions change. Returns the
/// last server, running.
async fn crash_again_and_again(
    mut server: Server,
    kills: u64,
    random: &mut fastrand::Rng,
    present: &watch::Sender<Present>,
    segments: &Segments,
) -> Server {
    for round in 0..kills {
        present.send_replace(Some((server.client(), server.ingestion.clone())));
        let life = Duration::from_millis(50 + random.u64(..900));
        // Requests in progress when the time is over are cut off.
        let changes = async { tokio::join!(change_segments(&server, round, segments), link(&server, round)) };
        let ((), _cut_off) = tokio::join!(tokio::time::sleep(life), tokio::time::timeout(life, changes));
        let launch = server.kill();
        present.send_replace(None);
        if random.u64(..4) == 0 {
            // Long enough for windows to end while no server runs.
            tokio::time::sleep(Duration::from_millis(random.u64(..2_500))).await;
        }
        let in_recovery = random.u64(..4) == 0;
        let after = Duration::from_millis(random.u64(..400));
        server = tokio::task::block_in_place(|| {
            if in_recovery {
                launch.start_and_kill(after);
            }
            launch.start()
        });
    }
    server
}

/// Edits a segment, or creates and deletes one.
async fn change_segments(server: &Server, round: u64, segments: &Segments) {
    if round.is_multiple_of(2) {
        let clause = EDITS[(round / 2) as usize % EDITS.len()];
        let path = format!("/segments/{}", segments.edited);
        server.call("PUT", &path, &json!({"whereStatement": clause})).await;
        return;
    }
    let new = json!({"tag": format!("passing-{round}"), "whereStatement": "count(*) >= 3"});
    let created = server.post("/segments", &new).await;
    if let Some(id) = created.body["data"]["id"].as_i64() {
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.call("DELETE", &format!("/segments/{id}"), &Value::Null).await;
    }
}

/// Links two users, which may be merged users already.
async fn link(server: &Server, round: u64) {
    let four = PLAIN as u64 + round / 3 * 4 % LINKED as u64;
    let (one, other) = [(0, 1), (2, 3), (1, 2)][(round % 3) as usize];
    let key = |number: u64| json!({"idType": "cookie", "id": format!("user-{number}")});
    server.post("/identities/link", &json!({"from": key(four + one), "to": key(four + other)})).await;
}

async fn check(
    server: Server,
    segments: &Segments,
    users: &BTreeMap<String, i64>,
    acknowledged: &BTreeMap<String, String>,
) {
    eventually("the last windows have ended", async || {
        let mut members = 0;
        for tag in ["busy", "recent"] {
            let response = server.get(&format!("/users/segment/{tag}?fresh=true")).await;
            members += response.body["data"].as_array().unwrap().len();
        }
        (members == 0).then_some(())
    })
    .await;
    // A clause without a window can be compared with SQL. The last edit may have a window that has
    // not ended.
    let without_window = json!({"whereStatement": EDITS[1]});
    let path = format!("/segments/{}", segments.edited);
    assert_eq!(server.call("PUT", &path, &without_window).await.status, 200);
    server.in_force(segments.edited).await;
    server.segments_of(1).await;
    let (events, deliveries) = check::events(&server.records("event_ingested_topic").await);
    let histories = check::histories(&server.records("user_segment_notification_topic").await);
    for event_id in acknowledged.keys() {
        assert!(deliveries.contains_key(event_id), "{event_id} was acknowledged but is not in the log");
    }
    let again = deliveries.values().filter(|deliveries| deliveries.len() > 1).count();
    eprintln!("{again} of {} events were delivered more than once", deliveries.len());

    let mut compared = 0;
    for number in 0..PLAIN {
        let user = users[&format!("user-{number}")];
        let nothing = Vec::new();
        let seen = events.get(&user).unwrap_or(&nothing);
        for (segment, window, least) in [(segments.busy, 2_000_000, 2), (segments.recent, 1_000_000, 1)] {
            let emitted = histories.get(&user).and_then(|history| history.transitions.get(&segment));
            let expected = check::flips(seen, window, least);
            assert_eq!(emitted.unwrap_or(&no_transitions()), &expected, "user {user}, segment {segment}");
            compared += expected.len();
        }
    }
    eprintln!("{compared} transitions are as recomputed");
    assert!(compared > 0, "the run had no transitions to compare");
    check::memberships(&server, &histories).await;
    let launch = server.stop();
    check_warehouse(launch.data(), acknowledged, &deliveries);
}

fn no_transitions() -> Vec<(bool, i64)> {
    Vec::new()
}

/// Checks that each acknowledged event is one row of the warehouse. An event may have two rows if
/// it was sent again for the survivor of a merge before the events of the absorbed user had arrived
/// there.
fn check_warehouse(
    data: &Path,
    acknowledged: &BTreeMap<String, String>,
    deliveries: &std::collections::HashMap<String, Vec<i64>>,
) {
    let warehouse = duckdb::Connection::open(data.join("warehouse.duckdb")).unwrap();
    let sql = "SELECT event_id, count(*) FROM user_segment_analytics.events GROUP BY event_id";
    let mut statement = warehouse.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))).unwrap();
    let rows: BTreeMap<String, i64> = rows.map(Result::unwrap).collect();
    for (event_id, user) in acknowledged {
        let found = rows.get(event_id).copied().unwrap_or(0);
        let received_for: BTreeSet<i64> = deliveries[event_id].iter().copied().collect();
        let expected = 1..=received_for.len() as i64;
        assert!(expected.contains(&found), "{found} rows of {event_id} of {user}, received for {received_for:?}");
    }
    assert_eq!(rows.len(), deliveries.len());
}

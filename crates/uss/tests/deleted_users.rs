//! Tests that a deleted user leaves the data folder: after the log's retention and two erasures no
//! file has data of the user.
//!
//! Another user stays. The same search must find the data of this user, so that the test can fail.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use adapters::duckdb::DuckDbWarehouse;
use adapters::embedded;
use adapters::sql::SqlConfigStore;
use configuration_api::{Holds, Relay};
use ports::clock::{Clock, ManualClock};
use ports::config_store::{ConfigStore, IdentityKey, IdentityRules, IdentityStore, NewUser, TraitStore, UserStore};
use ports::log::{Log, NewRecord, Topic, partition_of};
use segment_engine::ids::{PartitionId, UserId};
use segment_engine::time::Timestamp;
use segment_users::erasure::Erasure;
use segment_users::left_out::LeftOut;
use segment_users::partition::{Background, Ports};
use segment_users::plans::Plans;
use segment_users::retention::Retention;
use segment_users::service::Service;
use segment_users::settings::Settings;
use serde_json::json;
use support::{Launch, Server, eventually};

const PARTITIONS: u32 = 2;
const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

const KINDS: [&str; 8] = ["client", "email", "name", "cookie", "trait", "url", "note", "event"];
/// Kinds that are readable in files while their user exists. Stores compress some of the others.
const PLAIN: [&str; 4] = ["client", "email", "name", "cookie"];

/// Returns random letters, which cannot be compressed. They are longer than the eight bytes in
/// DuckDB's statistics.
fn secret(user: &str, kind: &str) -> String {
    let seed = format!("{user} {kind}").bytes().fold(7_u64, |seed, byte| seed.wrapping_mul(257) ^ u64::from(byte));
    let mut random = fastrand::Rng::with_seed(seed);
    (0..24).map(|_| random.lowercase()).collect()
}

/// Returns which kinds of a user's data are in which files of the folder.
fn found(folder: &Path, user: &str) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            found.extend(self::found(&path, user));
            continue;
        }
        // A running server may have removed the file.
        let Ok(bytes) = std::fs::read(&path) else { continue };
        let has = |text: String| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        let kinds = KINDS.into_iter().filter(|kind| has(secret(user, kind)));
        found.extend(kinds.map(|kind| (kind, path.display().to_string())));
    }
    found
}

/// Checks that the search finds a user that exists.
fn assert_plain_is_found(folder: &Path, user: &str) {
    let found = found(folder, user);
    for kind in PLAIN {
        assert!(found.iter().any(|(other, _)| *other == kind), "the {kind} of {user} is not found: {found:?}");
    }
}

/// The whole system on its real stores, and a clock that the test sets.
struct World {
    clock: Arc<ManualClock>,
    ports: Ports,
    store: Arc<SqlConfigStore>,
    relay: Relay,
}

fn settings() -> Settings {
    Settings { checkpoint_interval_micros: SECOND, ..Settings::default() }
}

impl World {
    async fn open(folder: &Path, now: Timestamp) -> Self {
        let clock = Arc::new(ManualClock::at(now));
        let (log, checkpoints) = embedded::open(&folder.join("log"), PARTITIONS, clock.clone()).unwrap();
        let log: Arc<dyn Log> = Arc::new(log);
        let warehouse = DuckDbWarehouse::open(&folder.join("warehouse.duckdb")).unwrap();
        let store = SqlConfigStore::open_sqlite(&folder.join("config.sqlite"), IdentityRules::default()).await.unwrap();
        let store = Arc::new(store);
        let relay = Relay::new(store.clone(), log.clone(), Arc::new(Holds::new(Arc::default())));
        let ports = Ports {
            log,
            checkpoints: Arc::new(checkpoints),
            warehouse: Arc::new(warehouse),
            clock: clock.clone(),
            plans: Plans::default(),
            left_out: LeftOut::default(),
            background: Background::default(),
        };
        Self { clock, ports, store, relay }
    }

    async fn service(&self) -> Service {
        Service::start(self.ports.clone(), settings(), self.store.clone(), tokio::runtime::Handle::current())
            .await
            .unwrap()
    }

    async fn user(&self, name: &str) -> UserId {
        let given = |kind| Some(secret(name, kind));
        let new = NewUser { client_ref_id: given("client"), name: given("name"), email: given("email") };
        let id = self.store.create_user(new, self.clock.now()).await.unwrap().id;
        let cookie = IdentityKey { id_type: "cookie".to_owned(), id: secret(name, "cookie") };
        self.store.attach_identity(id, cookie, self.clock.now()).await.unwrap();
        let traits = serde_json::from_value(json!({"plan": secret(name, "trait")})).unwrap();
        self.store.set_traits(id, traits, self.clock.now()).await.unwrap();
        self.relay.move_all().await.unwrap();
        id
    }

    /// Appends three events and a dead letter, as ingestion does.
    async fn events(&self, name: &str, id: UserId) {
        let (client, url, note) = (secret(name, "cookie"), secret(name, "url"), secret(name, "note"));
        let mut records = Vec::new();
        for number in 0..3 {
            let value = json!({"user_id": id.0, "client_ref_id": client, "id_type": "cookie", "payload": {"url": url, "note": note},
                "event_id": format!("{}-{number}", secret(name, "event")), "received_at": "2026-01-01T12:00:00.000000Z"});
            let partition = partition_of(id, PARTITIONS);
            let value = value.to_string().into_bytes();
            records.push(NewRecord { topic: Topic::Events, partition, key: id.to_string(), value });
        }
        let rejected = json!({"error_type": "ingest_event_error", "code": "BAD_TIME", "data": {"client_ref_id": client, "note": note}});
        let value = rejected.to_string().into_bytes();
        records.push(NewRecord { topic: Topic::Errors, partition: PartitionId::ONLY, key: client, value });
        self.ports.log.append(records).await.unwrap();
    }

    /// Trims all records that are in the log. Their retention must have passed, and checkpoints
    /// must have been written.
    async fn trim(&self) {
        let log = &self.ports.log;
        let places = [(Topic::Errors, 0), (Topic::Events, 0), (Topic::Events, 1)];
        let mut ends = Vec::new();
        for (topic, partition) in places {
            ends.push(log.bounds(topic, PartitionId(partition)).await.unwrap().1);
        }
        let retention = Retention::new(self.ports.clone(), settings(), self.store.clone()).unwrap();
        eventually("the records are trimmed", async || {
            retention.trim_once().await;
            let mut left = 0;
            for ((topic, partition), end) in places.iter().zip(&ends) {
                left += end - log.bounds(*topic, PartitionId(*partition)).await.unwrap().0;
            }
            (left == 0).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_retention_a_deleted_user_is_in_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let start = Timestamp(1_790_000_000 * SECOND);
    let world = World::open(folder, start).await;
    let service = world.service().await;
    let (stays, goes) = (world.user("stays").await, world.user("goes").await);
    world.events("stays", stays).await;
    world.events("goes", goes).await;
    service.handle().wait_until_applied().await.unwrap();
    service.handle().wait_until_archived().await.unwrap();
    assert_plain_is_found(folder, "stays");
    assert_plain_is_found(folder, "goes");

    world.clock.set(Timestamp(start.0 + DAY));
    world.store.delete_user(goes).await.unwrap();
    world.relay.move_all().await.unwrap();
    service.handle().wait_until_applied().await.unwrap();
    service.handle().wait_until_archived().await.unwrap();
    world.store.wipe().await.unwrap();
    let erasure = Erasure::new(world.ports.clone(), settings()).unwrap();
    erasure.erase_once().await;
    let left = found(folder, "goes");
    let in_log = folder.join("log").display().to_string();
    assert!(left.iter().all(|(_, file)| file.starts_with(&in_log)), "after a day only the log has data: {left:?}");
    let records =
        world.ports.log.read(Topic::Events, partition_of(goes, PARTITIONS), 0, usize::MAX).await.unwrap().records;
    let deletion =
        records.iter().map(|record| String::from_utf8_lossy(&record.value)).find(|value| value.contains("\"delete\""));
    let deletion = deletion.expect("the deletion is a record");
    assert!(KINDS.iter().all(|kind| !deletion.contains(&secret("goes", kind))), "{deletion}");

    // The record of the deletion is trimmed seven days later. The next erasures remove it from the
    // files.
    world.clock.set(Timestamp(start.0 + 9 * DAY));
    world.trim().await;
    world.events("stays", stays).await;
    erasure.erase_once().await;
    assert_eq!(found(folder, "goes"), []);
    assert_plain_is_found(folder, "stays");
    service.stop().await;
    drop((world, erasure));

    let world = World::open(folder, Timestamp(start.0 + 9 * DAY + DAY / 2)).await;
    let service = world.service().await;
    world.events("stays", stays).await;
    service.handle().wait_until_archived().await.unwrap();
    assert_eq!(found(folder, "goes"), [], "after a restart");
    assert_plain_is_found(folder, "stays");
    let events = "SELECT count(*), count(DISTINCT user_id) FROM user_segment_analytics.user_events";
    let events = world.ports.warehouse.query(events).await.unwrap().1.concat();
    assert_eq!(events, [Some("6".to_owned()), Some("1".to_owned())], "the last three repeat ids of half a day before");
    service.stop().await;
}

/// Creates a user with every kind of data, over HTTP.
async fn with_everything(server: &Server, name: &str) -> i64 {
    let body =
        json!({"clientRefId": secret(name, "client"), "email": secret(name, "email"), "name": secret(name, "name")});
    let created = server.post("/users", &body).await;
    assert_eq!(created.status, 201, "{}", created.body);
    let id = created.body["data"]["id"].as_i64().unwrap();
    let cookie = json!({"idType": "cookie", "id": secret(name, "cookie")});
    let linked = server.post(&format!("/users/{id}/identities"), &cookie).await;
    assert!(linked.status < 300, "{}", linked.body);
    let traits = json!({"plan": secret(name, "trait")});
    assert_eq!(server.call("PATCH", &format!("/users/{id}/traits"), &traits).await.status, 200);
    for number in 0..3 {
        let event = json!({"id": secret(name, "cookie"), "id_type": "cookie", "event_id": format!("{}-{number}", secret(name, "event")),
            "payload": {"url": secret(name, "url"), "note": secret(name, "note")}});
        assert_eq!(server.event(&event).await.status, 200);
    }
    server
        .event(&json!({"id": secret(name, "cookie"), "created_at": "bad", "payload": {"note": secret(name, "note")}}))
        .await;
    id
}

/// Erasures run all the time, so that some of the kills interrupt them.
#[tokio::test]
async fn kills_during_erasures_keep_no_data_of_deleted_users_and_all_data_of_others() {
    let data = tempfile::tempdir().unwrap();
    let launch = Launch::new(data.path())
        .set("USS_CHECKPOINT_SECONDS", "1")
        .set("USS_LOG_RETENTION", "1 second")
        .set("USS_ERASE_INTERVAL", "1 second");
    let mut server = launch.start();
    let three = server.segment("three", "count(*) >= 3").await;
    server.in_force(three).await;
    let stays = with_everything(&server, "stays").await;
    let mut random = fastrand::Rng::with_seed(21);
    for round in 0..3 {
        let name = format!("goes {round}");
        let goes = with_everything(&server, &name).await;
        assert_eq!(server.segments_of(goes).await, [three]);
        assert!(!found(data.path(), &name).is_empty());
        let deleted = server.call("DELETE", &format!("/users/{goes}"), &json!(null)).await;
        assert_eq!(deleted.status, 200, "{}", deleted.body);
        tokio::time::sleep(Duration::from_millis(random.u64(..2_500))).await;
        server.kill();
        launch.start_and_kill(Duration::from_millis(random.u64(..1_500)));
        server = launch.start();
        assert_eq!(server.segments_of(stays).await, [three]);
    }
    eventually("no file has data of the deleted users", async || {
        let left = (0..3).flat_map(|round| found(data.path(), &format!("goes {round}")));
        (left.count() == 0).then_some(())
    })
    .await;
    assert_plain_is_found(data.path(), "stays");
    let preview = server.post("/segments/preview?fresh=true", &json!({"whereStatement": "count(*) = 3"})).await.body;
    assert_eq!(preview["data"]["size"], 1, "{preview}");
    server.stop();
    let left = (0..3).flat_map(|round| found(data.path(), &format!("goes {round}"))).collect::<Vec<_>>();
    assert_eq!(left, [], "after a stop");
    assert_plain_is_found(data.path(), "stays");
}

//! The relay from the outbox to the log.

use std::sync::Arc;

use configuration_api::{Holds, Relay, StoreIdentities};
use configuration_api::{PRODUCER, RelayError};
use ports::identities::{Identities, Identity};
use ports::log::{Log, Topic, partition_of};
use ports_testkit::memory::MemoryConfigStore;
use segment_engine::ids::{PartitionId, UserId};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::world::{PARTITIONS, World};

async fn appended(world: &World, topic: Topic, partition: PartitionId) -> Vec<(String, Value)> {
    let records = world.log.read(topic, partition, 0, usize::MAX).await.unwrap().records;
    records.into_iter().map(|record| (record.key, serde_json::from_slice(&record.value).unwrap())).collect()
}

#[tokio::test]
async fn every_change_is_appended_once_and_in_its_partition() {
    let world = World::new();
    for id in ["a", "b", "c"] {
        world.data("POST", "/api/v1/users", json!({"clientRefId": id})).await;
    }
    world.data("POST", "/api/v1/segments", json!({"tag": "s", "whereStatement": ""})).await;
    world.data("PATCH", "/api/v1/users/2/traits", json!({"plan": "pro"})).await;
    let rows = world.store.outbox(0, 100).await.unwrap();
    assert_eq!(world.relay().move_all().await.unwrap(), 5);
    assert_eq!(world.relay().move_all().await.unwrap(), 0);
    let of_second = appended(&world, Topic::Events, partition_of(UserId(2), PARTITIONS)).await;
    let of_second: Vec<&str> =
        of_second.iter().filter(|(key, _)| key == "2").map(|(_, value)| value["type"].as_str().unwrap()).collect();
    assert_eq!(of_second, ["user", "traits"]);
    assert_eq!(appended(&world, Topic::Config, PartitionId::ONLY).await.len(), 1);
    assert_eq!(world.log.producer_sequence(PRODUCER).await.unwrap(), rows.last().unwrap().id);
}

#[tokio::test]
async fn a_relay_that_died_before_it_marked_the_rows_repeats_nothing() {
    let world = World::new();
    world.data("POST", "/api/v1/users", json!({})).await;
    let rows = world.store.outbox(0, 100).await.unwrap();
    let records = rows.iter().map(|row| row.entry.clone().record(PARTITIONS)).collect();
    world.log.append_once(PRODUCER, rows[0].id, records).await.unwrap();
    world.data("POST", "/api/v1/users", json!({})).await;
    assert_eq!(world.relay().move_all().await.unwrap(), 1);
    let mut all = Vec::new();
    for partition in PartitionId::all(PARTITIONS) {
        all.extend(appended(&world, Topic::Events, partition).await.into_iter().map(|(key, _)| key));
    }
    all.sort();
    assert_eq!(all, ["1", "2"]);
}

#[tokio::test]
async fn a_replaced_store_is_an_error() {
    let world = World::new();
    world.data("POST", "/api/v1/users", json!({})).await;
    world.relay().move_all().await.unwrap();
    let empty = Arc::new(MemoryConfigStore::default());
    let relay = Relay::new(empty, world.log.clone(), world.holds.clone());
    let error = relay.move_all().await.unwrap_err();
    assert!(matches!(error, RelayError::Replaced { log: 1, store: 0 }), "{error}");
}

#[tokio::test]
async fn a_write_wakes_the_running_relay() {
    let world = World::new();
    let written = Arc::new(Notify::new());
    let holds = Arc::new(Holds::new(written.clone()));
    let relay = Relay::new(world.store.clone(), world.log.clone(), holds);
    let running = tokio::spawn(async move { relay.run().await });
    world.data("POST", "/api/v1/users", json!({})).await;
    written.notify_one();
    world.log.wait_for(Topic::Events, partition_of(UserId(1), PARTITIONS), 0).await;
    running.abort();
    assert_eq!(appended(&world, Topic::Events, partition_of(UserId(1), PARTITIONS)).await.len(), 1);
}

#[tokio::test]
async fn a_user_created_for_an_event_is_held_until_the_event_is_appended() {
    let world = World::new();
    let identities = StoreIdentities::new(world.store.clone(), world.clock.clone(), world.holds.clone());
    let identity = |id: &str| Identity { id_type: None, id: id.to_owned() };
    world.data("POST", "/api/v1/users", json!({})).await;
    let first = identities.create(&[identity("a")]).await.unwrap();
    let second = identities.create(&[identity("a"), identity("b")]).await.unwrap();
    world.data("PATCH", "/api/v1/users/1/traits", json!({"plan": "pro"})).await;
    assert_eq!(world.relay().move_all().await.unwrap(), 1, "rows written before are not held");
    drop(second.hold);
    assert_eq!(world.relay().move_all().await.unwrap(), 0, "user b comes after user a");
    drop(first.hold);
    assert_eq!(world.relay().move_all().await.unwrap(), 3, "in case ingestion died before its append");
}

#[tokio::test]
async fn users_whose_records_are_in_the_log_are_not_appended_again() {
    let world = World::new();
    let identities = StoreIdentities::new(world.store.clone(), world.clock.clone(), world.holds.clone());
    let several = |ids: [&str; 3]| ids.map(|id| Identity { id_type: None, id: id.to_owned() });
    let relayed = async || {
        let mut all = Vec::new();
        for partition in PartitionId::all(PARTITIONS) {
            all.extend(appended(&world, Topic::Events, partition).await.into_iter().map(|(key, _)| key));
        }
        all.sort();
        all
    };
    let relay = world.relay();
    let first = identities.create(&several(["a", "b", "c"])).await.unwrap();
    world.data("POST", "/api/v1/users", json!({})).await;
    let second = identities.create(&several(["d", "a", "e"])).await.unwrap();
    let third = identities.create(&several(["f", "g", "h"])).await.unwrap();
    second.hold.appended();
    assert_eq!(relay.move_all().await.unwrap(), 0, "the first come before");
    first.hold.appended();
    assert_eq!(relay.move_all().await.unwrap(), 1, "user 4, whom nobody else appends");
    drop(third.hold);
    world.data("POST", "/api/v1/users", json!({})).await;
    assert_eq!(relay.move_all().await.unwrap(), 4, "7, 8 and 9, whose creator died, and 10");
    assert_eq!(relayed().await, ["10", "4", "7", "8", "9"]);
    let end = world.store.outbox_end().await.unwrap();
    assert_eq!((world.log.producer_sequence(PRODUCER).await.unwrap(), *relay.relayed().borrow()), (end, end));
    assert_eq!(relay.move_all().await.unwrap(), 0);
    // A process that dies before its relay has passed them forgets who was appended; repeats do no
    // harm.
    identities.create(&several(["i", "j", "k"])).await.unwrap().hold.appended();
    let relay = Relay::new(world.store.clone(), world.log.clone(), Arc::new(Holds::new(Arc::default())));
    assert_eq!(relay.move_all().await.unwrap(), 3);
}

//! Memberships: manual segments, and the batches of the membership writer.

use ports::log::partition_of;
use segment_engine::ids::{PartitionId, UserId};
use serde_json::{Value, json};

use crate::world::{PARTITIONS, STARTED, World};

#[tokio::test]
async fn manual_segments_are_set_and_other_ids_are_ignored() {
    let world = World::new();
    world.data("POST", "/api/v1/users", json!({})).await;
    world.data("POST", "/api/v1/segments", json!({"tag": "vip", "kind": "manual"})).await;
    world.data("POST", "/api/v1/segments", json!({"tag": "all", "whereStatement": ""})).await;
    let path = "/api/v1/users/1/segments";
    let (status, response) = world.call("PUT", path, json!({"segments": [1, 2, 7]})).await;
    assert_eq!((status, &response["ignored"]), (200, &json!([2, 7])));
    let membership = json!([{"userId": 1, "segmentId": 1, "createdAt": STARTED, "updatedAt": STARTED}]);
    assert_eq!(response["data"]["segments"], membership);
    let (_, response) = world.call("PUT", path, json!({"segments": []})).await;
    assert_eq!((&response["ignored"], &response["data"]["segments"]), (&json!([]), &json!([])));
    world.refuses(&[("PUT", path, json!({"segments": ["x"]}), 400, "INVALID_BODY")]).await;
}

#[tokio::test]
async fn a_batch_is_applied_once_and_only_at_its_position() {
    let world = World::new();
    world.data("POST", "/api/v1/users", json!({})).await;
    let user = (1..)
        .find(|user| partition_of(UserId(*user), PARTITIONS) == PartitionId(1))
        .expect("every partition has users");
    for _ in 0..10 {
        world.notify(user, &[5], &[]).await;
    }
    let path = "/api/v1/memberships";
    let changes = json!([{"userId": 1, "entered": [5], "effectiveAt": STARTED}]);
    let batch = json!({"partition": 1, "from": 0, "to": 4, "changes": changes});
    assert_eq!(world.data("PUT", path, batch.clone()).await, json!({"applied": true, "position": 4}));
    assert_eq!(world.data("PUT", path, batch).await, json!({"applied": false, "position": 4}));
    let positions = world.data("GET", "/api/v1/memberships/positions", Value::Null).await;
    assert_eq!(positions, json!([{"partition": 1, "position": 4}]));
    let batch =
        |from: u64, to: u64, changes: Value| json!({"partition": 1, "from": from, "to": to, "changes": changes});
    world
        .refuses(&[
            ("PUT", path, batch(9, 10, json!([])), 409, "MEMBERSHIP_POSITION"),
            ("PUT", path, batch(5, 4, json!([])), 400, "INVALID_RANGE"),
            ("PUT", path, batch(4, 11, json!([])), 400, "POSITION_BEYOND_END"),
            ("PUT", path, batch(4, i64::MAX.unsigned_abs(), json!([])), 400, "POSITION_BEYOND_END"),
            ("PUT", path, batch(4, u64::MAX, json!([])), 400, "POSITION_BEYOND_END"),
            ("PUT", path, batch(u64::MAX, u64::MAX, json!([])), 400, "POSITION_BEYOND_END"),
            ("PUT", path, json!({"partition": 0, "from": 0, "to": 1, "changes": []}), 400, "POSITION_BEYOND_END"),
            ("PUT", path, batch(4, 5, json!([{"userId": 1, "effectiveAt": "x"}])), 400, "INVALID_TIME"),
            ("PUT", path, json!({"partition": -1}), 400, "INVALID_BODY"),
            (
                "PUT",
                path,
                json!({"partition": PARTITIONS, "from": 0, "to": 5, "changes": []}),
                400,
                "INVALID_PARTITION",
            ),
        ])
        .await;
    let positions = world.data("GET", "/api/v1/memberships/positions", Value::Null).await;
    assert_eq!(positions, json!([{"partition": 1, "position": 4}]), "refused batches leave nothing behind");
    let to_the_end = world.data("PUT", path, batch(4, 10, json!([]))).await;
    assert_eq!(to_the_end, json!({"applied": true, "position": 10}));
}

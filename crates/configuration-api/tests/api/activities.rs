//! `/api/v1/activities`, and links to segments from both sides.

use serde_json::{Value, json};

use crate::world::{STARTED, World};

#[tokio::test]
async fn an_activity_from_creation_to_deletion() {
    let world = World::new();
    let body = json!({"title": "Viewed", "description": null, "code": "page_viewed"});
    let (status, response) = world.call("POST", "/api/v1/activities", body).await;
    let activity = json!({"id": 1, "title": "Viewed", "description": null, "code": "page_viewed",
        "createdAt": STARTED, "updatedAt": STARTED});
    assert_eq!((status, &response["data"]), (201, &activity));
    for path in ["/api/v1/activities/1", "/api/v1/activities/code/page_viewed"] {
        assert_eq!(world.data("GET", path, Value::Null).await, activity, "{path}");
    }
    assert_eq!(world.data("GET", "/api/v1/activities", Value::Null).await, json!([activity]));
    let changed = world.data("PUT", "/api/v1/activities/1", json!({"description": "d"})).await;
    assert_eq!((&changed["title"], &changed["description"]), (&json!("Viewed"), &json!("d")));
    world
        .refuses(&[
            ("POST", "/api/v1/activities", json!({"title": "t"}), 400, "INVALID_BODY"),
            ("POST", "/api/v1/activities", json!({"title": "t", "code": " "}), 400, "INVALID_FIELD"),
            ("POST", "/api/v1/activities", json!({"title": "t", "code": "page_viewed"}), 409, "CODE_TAKEN"),
            ("GET", "/api/v1/activities/2", Value::Null, 404, "ACTIVITY_NOT_FOUND"),
            ("GET", "/api/v1/activities/code/x", Value::Null, 404, "ACTIVITY_NOT_FOUND"),
            ("PUT", "/api/v1/activities/2", json!({}), 404, "ACTIVITY_NOT_FOUND"),
            ("DELETE", "/api/v1/activities/2", Value::Null, 404, "ACTIVITY_NOT_FOUND"),
        ])
        .await;
    assert_eq!(world.data("DELETE", "/api/v1/activities/1", Value::Null).await, json!(true));
    assert_eq!(world.data("GET", "/api/v1/activities", Value::Null).await, json!([]));
}

#[tokio::test]
async fn an_activity_and_a_segment_are_linked_from_either_side() {
    let world = World::new();
    world.data("POST", "/api/v1/activities", json!({"code": "viewed"})).await;
    world.data("POST", "/api/v1/activities", json!({"code": "bought"})).await;
    world.data("POST", "/api/v1/segments", json!({"tag": "s", "whereStatement": ""})).await;
    let cases = [
        ("PUT", "/api/v1/activities/2/segments/1", 1),
        ("PUT", "/api/v1/activities/2/segments/1", 1),
        ("DELETE", "/api/v1/segments/1/activities/2", 0),
        ("PUT", "/api/v1/segments/1/activities/2", 1),
        ("DELETE", "/api/v1/activities/2/segments/1", 0),
        ("DELETE", "/api/v1/activities/2/segments/1", 0),
    ];
    for (method, path, linked) in cases {
        assert_eq!(world.call(method, path, Value::Null).await, (200, json!({"data": true})), "{method} {path}");
        let segments = world.data("GET", "/api/v1/segments/generics-and-by/bought", Value::Null).await;
        assert_eq!(segments.as_array().unwrap().len(), linked, "{method} {path}");
        let activities = world.data("GET", "/api/v1/segments/1/activities", Value::Null).await;
        assert_eq!(activities.as_array().unwrap().len(), linked);
    }
    world
        .refuses(&[
            ("PUT", "/api/v1/activities/9/segments/1", Value::Null, 404, "ACTIVITY_NOT_FOUND"),
            ("PUT", "/api/v1/activities/1/segments/9", Value::Null, 404, "SEGMENT_NOT_FOUND"),
            ("DELETE", "/api/v1/segments/9/activities/1", Value::Null, 404, "SEGMENT_NOT_FOUND"),
            ("PUT", "/api/v1/activities/x/segments/1", Value::Null, 400, "INVALID_PATH"),
        ])
        .await;
}

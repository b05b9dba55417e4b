//! `/api/v1/db-actions/seed`

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use crate::world::World;

const DATA: &str = "/api/v1/db-actions/seed/data";
const ANALYTICS: &str = "/api/v1/db-actions/seed/analytics";

#[tokio::test]
async fn sample_data_is_added_once_and_changes_nothing_else() {
    let world = World::new();
    let own =
        world.data("POST", "/api/v1/users", json!({"clientRefId": "mine", "email": "ada.adams@example.com"})).await;
    let segment = json!({"tag": "active_visitor", "title": "Mine", "whereStatement": "count(*) > 5"});
    world.data("POST", "/api/v1/segments", segment).await;
    for _ in 0..2 {
        assert_eq!(world.call("POST", DATA, Value::Null).await, (200, json!({"data": true})));
        let count = |rows: Value| rows.as_array().unwrap().len();
        assert_eq!(count(world.data("GET", "/api/v1/users", Value::Null).await), 101);
        assert_eq!(count(world.data("GET", "/api/v1/activities", Value::Null).await), 3);
        assert_eq!(count(world.data("GET", "/api/v1/segments", Value::Null).await), 3);
    }
    assert_eq!(world.data("GET", "/api/v1/users/1", Value::Null).await, own);
    assert_eq!(world.data("GET", "/api/v1/segments/1", Value::Null).await["title"], "Mine");
    let linked = world.data("GET", "/api/v1/segments/generics-and-by/page_viewed", Value::Null).await;
    assert_eq!(linked[0]["tag"], "mobile_no_recent_activity");
}

#[tokio::test]
async fn a_page_of_another_origin_cannot_ask_for_sample_data() {
    let world = World::new();
    for path in [DATA, ANALYTICS] {
        for content_type in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
            let request =
                content_type.iter().fold(Request::post(path), |request, it| request.header("content-type", *it));
            let response = world.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!(response.status().as_u16(), 415, "{path} {content_type:?}");
        }
    }
    assert_eq!(world.data("GET", "/api/v1/users", Value::Null).await, json!([]));
}

#[tokio::test]
async fn the_first_sample_user_is_the_documented_one() {
    let world = World::new();
    world.data("POST", DATA, Value::Null).await;
    let path = "/api/v1/users/client-ref-id/c1d1caef-b216-4fca-bd2d-d776bd6204d6";
    assert_eq!(world.data("GET", path, Value::Null).await["id"], 1);
}

#[tokio::test]
async fn sample_events_are_submitted_for_all_users_but_the_first() {
    let world = World::new();
    assert_eq!(world.data("POST", ANALYTICS, Value::Null).await, json!(false), "there are no users");
    world.data("POST", DATA, Value::Null).await;
    assert_eq!(world.data("POST", ANALYTICS, Value::Null).await, json!(true));
    let events = world.sink.0.lock().unwrap();
    assert_eq!(events.len(), 1_000);
    let first = "c1d1caef-b216-4fca-bd2d-d776bd6204d6";
    assert!(events.iter().all(|event| event["id"] != first), "user 1 gets none");
}

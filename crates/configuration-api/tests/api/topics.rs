//! `/api/v1/topics`

use serde_json::{Value, json};

use crate::world::World;

#[tokio::test]
async fn topics_and_their_records_are_listed() {
    let world = World::new();
    for tag in ["a", "b", "c"] {
        world.data("POST", "/api/v1/segments", json!({"tag": tag, "whereStatement": ""})).await;
    }
    world.relay().move_all().await.unwrap();
    let topics = world.data("GET", "/api/v1/topics", Value::Null).await;
    let shape: Vec<(&str, usize)> = topics
        .as_array()
        .unwrap()
        .iter()
        .map(|topic| (topic["name"].as_str().unwrap(), topic["partitions"].as_array().unwrap().len()))
        .collect();
    let names = ["event_ingested_topic", "error_topic", "user_segment_notification_topic", "segment_config_topic"];
    assert_eq!(shape, names.into_iter().zip([4, 1, 4, 1]).collect::<Vec<_>>());

    let path = "/api/v1/topics/segment_config_topic/records";
    let tags = |response: &Value| -> Vec<String> {
        let rows = response["data"].as_array().unwrap();
        rows.iter().map(|row| row["value"]["tag"].as_str().unwrap().to_owned()).collect()
    };
    let cases = [
        ("", vec!["a", "b", "c"]),
        ("?limit=2", vec!["a", "b"]),
        ("?offset=1&limit=1", vec!["b"]),
        ("?offset=-1", vec!["c"]),
    ];
    for (query, expected) in cases {
        let (_, response) = world.get(&format!("{path}{query}")).await;
        assert_eq!(tags(&response), expected, "{query}");
        let last = response["data"].as_array().unwrap().last().unwrap()["offset"].as_u64().unwrap();
        assert_eq!(response["nextOffset"], last + 1);
    }
    let (_, beyond) = world.get(&format!("{path}?offset=3")).await;
    assert_eq!(beyond, json!({"data": [], "nextOffset": 3}));
    world
        .refuses(&[
            ("GET", "/api/v1/topics/none/records", Value::Null, 404, "TOPIC_NOT_FOUND"),
            ("GET", "/api/v1/topics/error_topic/records?partition=1", Value::Null, 400, "INVALID_PARTITION"),
            ("GET", "/api/v1/topics/error_topic/records?limit=0", Value::Null, 400, "INVALID_LIMIT"),
            ("GET", "/api/v1/topics/error_topic/records?offset=x", Value::Null, 400, "INVALID_QUERY"),
        ])
        .await;
}

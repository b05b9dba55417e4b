//! Transitions of a user, of a segment, and live.

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::world::World;

async fn world() -> World {
    let world = World::new();
    for tag in ["a", "b"] {
        world.data("POST", "/api/v1/users", json!({"clientRefId": tag})).await;
        world.data("POST", "/api/v1/segments", json!({"tag": tag, "whereStatement": ""})).await;
    }
    world
}

#[tokio::test]
async fn transitions_of_a_user_and_of_a_segment_come_in_pages() {
    let world = world().await;
    for (user, entered, left) in
        [(1, vec![1], vec![]), (2, vec![1, 2], vec![]), (1, vec![2], vec![1]), (2, vec![], vec![2])]
    {
        world.clock.advance_micros(1_000);
        world.notify(user, &entered, &left).await;
    }
    let cases = [
        ("/api/v1/users/1/transitions", vec![(1, vec![1]), (1, vec![2])]),
        ("/api/v1/users/2/transitions", vec![(2, vec![1, 2]), (2, vec![])]),
        ("/api/v1/segments/1/transitions", vec![(1, vec![1]), (2, vec![1, 2]), (1, vec![2])]),
        ("/api/v1/segments/2/transitions", vec![(2, vec![1, 2]), (1, vec![2]), (2, vec![])]),
    ];
    for (path, expected) in cases {
        for limit in [1, 2, 1_000] {
            let mut seen: Vec<(i64, Vec<i64>)> = Vec::new();
            let mut page = format!("{path}?limit={limit}");
            loop {
                let (status, response) = world.get(&page).await;
                assert_eq!(status, 200, "{response}");
                for transition in response["data"].as_array().unwrap() {
                    let entered = transition["in_segments"].as_array().unwrap().iter().map(|id| id.as_i64().unwrap());
                    seen.push((transition["user_id"].as_i64().unwrap(), entered.collect()));
                }
                let Some(cursor) = response["nextCursor"].as_str() else { break };
                page = format!("{path}?limit={limit}&cursor={cursor}");
            }
            assert_eq!(seen, expected, "{path} by {limit}");
        }
    }
    world
        .refuses(&[
            ("GET", "/api/v1/users/9/transitions", Value::Null, 404, "USER_NOT_FOUND"),
            ("GET", "/api/v1/users/1/transitions?cursor=0:0,9:9", Value::Null, 400, "INVALID_CURSOR"),
            ("GET", "/api/v1/users/1/transitions?limit=0", Value::Null, 400, "INVALID_LIMIT"),
            ("GET", "/api/v1/transitions/stream?from=x", Value::Null, 400, "INVALID_CURSOR"),
        ])
        .await;
}

#[tokio::test]
async fn a_live_stream_starts_now_or_at_a_position() {
    let world = world().await;
    world.notify(1, &[1], &[]).await;
    let request = Request::get("/api/v1/transitions/stream").body(Body::empty()).unwrap();
    let mut live = world.send(request).await.into_body();
    world.notify(2, &[2], &[]).await;
    let event = frame(&mut live).await;
    assert!(event.contains("event: transition") && event.contains("\"user_id\":2"), "{event}");

    let request = Request::get("/api/v1/transitions/stream?from=0:0,1:0,2:0,3:0").body(Body::empty()).unwrap();
    let mut from_start = world.send(request).await.into_body();
    let (first, second) = (frame(&mut from_start).await, frame(&mut from_start).await);
    assert!([&first, &second].iter().any(|event| event.contains("\"user_id\":1")), "{first}{second}");

    let position = first.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
    let request = Request::get("/api/v1/transitions/stream").header("last-event-id", position);
    let mut resumed = world.send(request.body(Body::empty()).unwrap()).await.into_body();
    assert_eq!(frame(&mut resumed).await, second, "goes on after the last event seen");
}

#[tokio::test]
async fn a_live_stream_ends_when_the_server_stops() {
    let world = world().await;
    let open = async || {
        let request = Request::get("/api/v1/transitions/stream").body(Body::empty()).unwrap();
        world.send(request).await.into_body()
    };
    let (mut waiting, mut behind) = (open().await, open().await);
    world.notify(1, &[1], &[]).await;
    assert!(frame(&mut waiting).await.contains("\"user_id\":1"));
    // A stream that waits for more is woken; one that has not read yet reconnects for what is
    // there.
    let end = tokio::spawn(async move { waiting.frame().await.is_none() });
    tokio::task::yield_now().await;
    world.stop.send_replace(true);
    assert!(end.await.unwrap());
    assert!(behind.frame().await.is_none());
}

async fn frame(body: &mut Body) -> String {
    let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
    String::from_utf8(frame.to_vec()).unwrap()
}

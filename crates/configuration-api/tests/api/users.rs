//! `/api/v1/users`

use axum::body::Body;
use axum::http::Request;
use ports::log::partition_of;
use ports::records::decode::{Input, decode_input};
use ports::records::json::DEPTH_MAX;
use segment_engine::event::Position;
use segment_engine::ids::{PartitionId, UserId};
use serde_json::{Value, json};

use crate::world::{PARTITIONS, START, STARTED, World, text};

#[tokio::test]
async fn a_user_from_creation_to_deletion() {
    let world = World::new();
    let body = json!({"clientRefId": "c1", "name": "Ada", "email": "a@b.c"});
    let (status, response) = world.call("POST", "/api/v1/users", body).await;
    let user = json!({"id": 1, "clientRefId": "c1", "name": "Ada", "email": "a@b.c", "createdAt": STARTED,
        "updatedAt": STARTED, "segments": []});
    assert_eq!((status, response), (201, json!({"data": user})));
    for path in ["/api/v1/users/1", "/api/v1/users/client-ref-id/c1", "/api/v1/users?clientRefId=c1"] {
        assert_eq!(world.get(path).await, (200, json!({"data": user})), "{path}");
    }
    for path in ["/api/v1/users/client-ref-id/c2", "/api/v1/users?clientRefId=c2"] {
        assert_eq!(world.get(path).await, (200, json!({"data": null})), "{path}");
    }
    let changed = world.data("PUT", "/api/v1/users/1", json!({"name": null})).await;
    assert_eq!((&changed["name"], &changed["email"]), (&Value::Null, &json!("a@b.c")));
    let (status, response) = world.call("DELETE", "/api/v1/users/1", Value::Null).await;
    assert_eq!((status, &response["data"]), (200, &json!(true)));
    let erasure = &response["erasure"];
    assert_eq!(erasure["configStoreBy"], "2026-01-01T00:00:01.000000Z");
    assert_eq!((&erasure["warehouseBy"], &erasure["logBy"]), (&json!("2026-01-01T00:01:00.000000Z"), &Value::Null));
    assert!(erasure["message"].as_str().is_some_and(|message| message.contains("USS_LOG_RETENTION")), "{erasure}");
    let empty = json!({});
    world
        .refuses(&[
            ("GET", "/api/v1/users/1", Value::Null, 404, "USER_NOT_FOUND"),
            ("PUT", "/api/v1/users/1", empty.clone(), 404, "USER_NOT_FOUND"),
            ("DELETE", "/api/v1/users/1", Value::Null, 404, "USER_NOT_FOUND"),
            ("GET", "/api/v1/users/1/traits", Value::Null, 404, "USER_NOT_FOUND"),
            ("GET", "/api/v1/users/1/identities", Value::Null, 404, "USER_NOT_FOUND"),
            ("PUT", "/api/v1/users/1/segments", json!({"segments": []}), 404, "USER_NOT_FOUND"),
        ])
        .await;
    assert_eq!(world.data("POST", "/api/v1/users", empty).await["id"], 2);
}

#[tokio::test]
async fn bad_users_are_refused() {
    let world = World::new();
    world.data("POST", "/api/v1/users", json!({"clientRefId": "a", "email": "a@b.c"})).await;
    world.data("POST", "/api/v1/users", json!({"clientRefId": "b"})).await;
    world
        .refuses(&[
            ("POST", "/api/v1/users", json!({"clientRefId": "a"}), 409, "CLIENT_REF_ID_TAKEN"),
            ("POST", "/api/v1/users", json!({"email": "a@b.c"}), 409, "EMAIL_TAKEN"),
            ("PUT", "/api/v1/users/2", json!({"email": "a@b.c"}), 409, "EMAIL_TAKEN"),
            ("POST", "/api/v1/users", json!({"clientRefId": ""}), 400, "INVALID_FIELD"),
            ("POST", "/api/v1/users", json!({"name": "x".repeat(2_000)}), 400, "INVALID_FIELD"),
            ("POST", "/api/v1/users", json!({"email": "a\u{0}b"}), 400, "INVALID_FIELD"),
        ])
        .await;
}

#[tokio::test]
async fn users_are_listed_whole_or_in_pages() {
    let world = World::new();
    for id in 0..2_500 {
        let new = ports::config_store::NewUser { client_ref_id: Some(id.to_string()), ..Default::default() };
        world.store.create_user(new, START).await.unwrap();
    }
    let all = world.data("GET", "/api/v1/users", Value::Null).await;
    let ids: Vec<i64> = all.as_array().unwrap().iter().map(|user| user["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, (1..=2_500).collect::<Vec<i64>>(), "more than one chunk");

    let mut seen = Vec::new();
    let mut path = "/api/v1/users?limit=1000".to_owned();
    loop {
        let (_, response) = world.get(&path).await;
        seen.extend(response["data"].as_array().unwrap().iter().map(|user| user["id"].as_i64().unwrap()));
        let Some(cursor) = response["nextCursor"].as_str() else { break };
        path = format!("/api/v1/users?limit=1000&cursor={cursor}");
    }
    assert_eq!(seen, ids);
}

#[tokio::test]
async fn members_of_a_segment_as_json_and_csv() {
    let world = World::new();
    for body in [json!({"clientRefId": "x", "name": "Quote \", comma"}), json!({"email": "b@c.d"}), json!({})] {
        world.data("POST", "/api/v1/users", body).await;
    }
    world.data("POST", "/api/v1/segments", json!({"tag": "all", "whereStatement": ""})).await;
    let changes = json!([{"userId": 1, "entered": [1], "effectiveAt": STARTED},
        {"userId": 2, "entered": [1], "effectiveAt": "2026-01-01T00:00:01Z"}]);
    let notified = (1..).find(|user| partition_of(UserId(*user), PARTITIONS) == PartitionId(2)).unwrap();
    for _ in 0..9 {
        world.notify(notified, &[1], &[]).await;
    }
    world.data("PUT", "/api/v1/memberships", json!({"partition": 2, "from": 0, "to": 9, "changes": changes})).await;

    let members = world.data("GET", "/api/v1/users/segment/all", Value::Null).await;
    assert_eq!(members.as_array().unwrap().len(), 2);
    let membership = json!([{"userId": 1, "segmentId": 1, "createdAt": STARTED, "updatedAt": STARTED}]);
    assert_eq!(members[0]["segments"], membership);

    let csv = |path: &str| Request::get(path).header("accept", "text/csv").body(Body::empty()).unwrap();
    let response = world.send(csv("/api/v1/users/segment/all")).await;
    assert_eq!(response.headers()["content-type"], "text/csv; charset=utf-8");
    assert_eq!(response.headers()["uss-position"], "0:0,1:0,2:9,3:0");
    let header = "id,clientRefId,name,email,enteredAt\n";
    let first = format!("1,x,\"Quote \"\", comma\",,{STARTED}\n");
    // A user without a client id is shown by their email.
    let second = "2,b@c.d,,b@c.d,2026-01-01T00:00:01.000000Z\n";
    assert_eq!(text(response).await, format!("{header}{first}{second}"));

    let response = world.send(csv("/api/v1/users/segment/all?limit=1")).await;
    let cursor = response.headers()["uss-next-cursor"].to_str().unwrap().to_owned();
    assert_eq!(text(response).await, format!("{header}{first}"));
    let response = world.send(csv(&format!("/api/v1/users/segment/all?limit=1&cursor={cursor}"))).await;
    assert!(response.headers().get("uss-next-cursor").is_none());
    assert_eq!(text(response).await, format!("{header}{second}"));
    world.refuses(&[("GET", "/api/v1/users/segment/none", Value::Null, 404, "SEGMENT_NOT_FOUND")]).await;
}

#[tokio::test]
async fn no_cell_of_a_csv_is_a_formula() {
    let world = World::new();
    world.data("POST", "/api/v1/segments", json!({"tag": "all", "whereStatement": ""})).await;
    // A client id, and its cell.
    let cases = [
        ("=HYPERLINK(\"http://evil.example\")", "\"'=HYPERLINK(\"\"http://evil.example\"\")\""),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(1)", "'@SUM(1)"),
        ("1=1", "1=1"),
        (" =1", "' =1"),
        ("\u{a0} @SUM(1)", "'\u{a0} @SUM(1)"),
        (" 1=1", " 1=1"),
        ("'=1", "'=1"),
        ("a@b.c", "a@b.c"),
    ];
    let notified = (1..)
        .find(|user| partition_of(UserId(*user), PARTITIONS) == PartitionId(2))
        .expect("every partition has users");
    for (user, (client_id, _)) in (1..).zip(cases) {
        world.data("POST", "/api/v1/users", json!({"clientRefId": client_id, "name": client_id})).await;
        world.notify(notified, &[1], &[]).await;
        let changes = json!([{"userId": user, "entered": [1], "effectiveAt": STARTED}]);
        let body = json!({"partition": 2, "from": user - 1, "to": user, "changes": changes});
        world.data("PUT", "/api/v1/memberships", body).await;
    }
    let request = Request::get("/api/v1/users/segment/all").header("accept", "text/csv");
    let rows = text(world.send(request.body(Body::empty()).unwrap()).await).await;
    let expected: String =
        (1..).zip(cases).map(|(user, (_, cell))| format!("{user},{cell},{cell},,{STARTED}\n")).collect();
    assert_eq!(rows, format!("id,clientRefId,name,email,enteredAt\n{expected}"));
    let json = world.data("GET", "/api/v1/users/2", Value::Null).await;
    assert_eq!(json["clientRefId"], "+1", "JSON has the string as it is");
}

#[tokio::test]
async fn traits_are_patched_key_by_key() {
    let world = World::new();
    world.data("POST", "/api/v1/users", json!({})).await;
    let path = "/api/v1/users/1/traits";
    world.data("PATCH", path, json!({"plan": "pro", "seats": 3})).await;
    let older = "/api/v1/users/1/traits?createdAt=2025-01-01T00:00:00Z";
    let after = world.data("PATCH", older, json!({"plan": "free", "home": "US"})).await;
    assert_eq!(after, json!({"plan": "pro", "seats": 3, "home": "US"}));
    assert_eq!(world.data("PATCH", path, json!({"seats": null})).await, json!({"plan": "pro", "home": "US"}));
    assert_eq!(world.data("GET", path, Value::Null).await, json!({"plan": "pro", "home": "US"}));
    let bad = "/api/v1/users/1/traits?createdAt=yesterday";
    world
        .refuses(&[
            ("PATCH", bad, json!({}), 400, "INVALID_TIME"),
            ("PATCH", "/api/v1/users/1/traits?createdAt=9999-12-31T23:59:59-23:59", json!({}), 400, "INVALID_TIME"),
            ("PATCH", path, json!([]), 400, "INVALID_BODY"),
            ("PATCH", path, json!({"": 1}), 400, "INVALID_FIELD"),
            ("PATCH", "/api/v1/users/9/traits", json!({}), 404, "USER_NOT_FOUND"),
        ])
        .await;
}

/// One client with a wrong clock must not set a trait that nobody can change for years.
#[tokio::test]
async fn a_trait_from_the_future_gets_the_time_of_receipt() {
    let world = World::new();
    world.data("POST", "/api/v1/users", json!({})).await;
    let path = "/api/v1/users/1/traits";
    let ahead = |spelling: &str| format!("{path}?createdAt={spelling}");
    let (status, body) = world.call("PATCH", &ahead("2099-01-01T00:00:00Z"), json!({"plan": "trial"})).await;
    assert_eq!((status, &body["data"]), (200, &json!({"plan": "trial"})));
    assert_eq!(body["warnings"][0]["code"], "CREATED_AT_AHEAD");
    assert!(body["warnings"][0]["message"].as_str().unwrap().contains(STARTED), "{body}");
    let (status, body) = world.call("PATCH", path, json!({"plan": "pro"})).await;
    assert_eq!((status, body), (200, json!({"data": {"plan": "pro"}})));
    // Clocks differ a little: up to five minutes ahead, the client's time holds.
    let (_, body) = world.call("PATCH", &ahead("2026-01-01T00:05:00Z"), json!({"plan": "max"})).await;
    assert_eq!(body, json!({"data": {"plan": "max"}}));
    assert_eq!(world.data("PATCH", path, json!({"plan": "late"})).await, json!({"plan": "max"}));
    let (_, body) = world.call("PATCH", &ahead("2026-01-01T02:05:00.000001%2B0200"), json!({"plan": "late"})).await;
    assert_eq!((&body["data"], &body["warnings"][0]["code"]), (&json!({"plan": "max"}), &json!("CREATED_AT_AHEAD")));
    world.clock.advance_micros(300_000_000);
    assert_eq!(world.data("PATCH", path, json!({"plan": null})).await, json!({}));
}

/// The workers can read everything that the API accepts, in values and in names.
#[tokio::test]
async fn what_no_record_can_hold_is_refused_and_not_put_into_the_outbox() {
    let world = World::new();
    world.data("POST", "/api/v1/users", json!({})).await;
    let sent = world.store.outbox_end().await.unwrap();
    let nested = |levels: u32| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    let path = "/api/v1/users/1/traits";
    world
        .refuses(&[
            ("PATCH", path, json!({"plan": "pro", "note": "a\0b"}), 400, "INVALID_FIELD"),
            ("PATCH", path, json!({"plan": "pro", "home": {"a\0b": [1]}}), 400, "INVALID_FIELD"),
            ("PATCH", path, json!({"plan": "pro", "n": nested(DEPTH_MAX + 1)}), 400, "INVALID_FIELD"),
            ("PATCH", path, json!({"plan": "pro", "n": nested(200)}), 400, "INVALID_FIELD"),
            ("PUT", "/api/v1/users/1", json!({"name": "a\0b"}), 400, "INVALID_FIELD"),
            ("POST", "/api/v1/segments", json!({"tag": "a\0b", "whereStatement": ""}), 400, "INVALID_FIELD"),
            (
                "POST",
                "/api/v1/segments",
                json!({"tag": "a", "description": "a\0b", "whereStatement": ""}),
                400,
                "INVALID_FIELD",
            ),
            (
                "POST",
                "/api/v1/segments",
                json!({"tag": "a", "whereStatement": "users.name = 'a\0b'"}),
                400,
                "WHERE_SYNTAX",
            ),
        ])
        .await;
    assert_eq!(world.store.outbox_end().await.unwrap(), sent);
    // The deepest value that is accepted can be read by a worker, also inside of `forward` records.
    world.data("PATCH", path, json!({"n": nested(DEPTH_MAX)})).await;
    let row = world.store.outbox(sent, 10).await.unwrap().pop().unwrap();
    let mut record = row.entry.value;
    for _ in 0..3 {
        let place = Position { partition: PartitionId(0), offset: 0 };
        assert!(matches!(decode_input(record.as_bytes(), place, START).unwrap(), Input::User(_)));
        record =
            format!(r#"{{"type":"forward","user_id":2,"partition":0,"offset":0,"appended_at":0,"record":{record}}}"#);
    }
}

/// Down to the last digit: no value becomes a floating-point number on its way in, to the log, or
/// out.
#[tokio::test]
async fn traits_are_shown_as_they_were_sent() {
    let world = World::new();
    world.data("POST", "/api/v1/users", json!({})).await;
    let sent = r#"{"big":123456789012345678901234567890,"nested":{"z":[1e2],"a":0.10},"price":19.90}"#;
    let call = |method: &str, path: &str, body: &'static str| {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        world.send(request.body(Body::from(body)).unwrap())
    };
    let shown = format!(r#"{{"data":{sent}}}"#);
    assert_eq!(text(call("PATCH", "/api/v1/users/1/traits", sent).await).await, shown);
    assert_eq!(text(call("GET", "/api/v1/users/1/traits", "").await).await, shown);
    world.relay().move_all().await.unwrap();
    let partition = partition_of(UserId(1), PARTITIONS);
    let path = format!("/api/v1/topics/event_ingested_topic/records?partition={partition}");
    let records = text(call("GET", &path, "").await).await;
    assert!(records.contains(&format!(r#""traits":{sent}"#)), "{records}");
}

//! `/api/v1/segments`

use configuration_api::SegmentBound;
use ports::config_store::{MembershipBatch, MembershipChange};
use segment_engine::ids::{PartitionId, SegmentId, UserId};
use serde_json::{Value, json};

use crate::world::{DEFECT, ENDLESS, HUGE, START, STARTED, World};

const PATH: &str = "/api/v1/segments";

#[tokio::test]
async fn a_segment_from_creation_to_deletion() {
    let world = World::new();
    let body = json!({"title": "Views", "description": null, "tag": "views", "whereStatement": "count(*) > 3",
        "isGeneric": true});
    let (status, response) = world.call("POST", PATH, body).await;
    let segment = json!({"id": 1, "title": "Views", "description": null, "tag": "views",
        "whereStatement": "count(*) > 3", "isGeneric": true, "kind": "computed", "version": 1, "createdAt": STARTED,
        "updatedAt": STARTED});
    assert_eq!(status, 201);
    for (name, value) in segment.as_object().unwrap() {
        assert_eq!(&response["data"][name], value, "{name}");
    }
    assert_eq!(world.data("GET", "/api/v1/segments/1", Value::Null).await, segment);
    assert_eq!(world.data("GET", PATH, Value::Null).await, json!([segment]));
    let generics = world.data("GET", "/api/v1/segments/generics-and-by/unknown", Value::Null).await;
    assert_eq!(generics, json!([segment]));
    let changed = world.data("PUT", "/api/v1/segments/1", json!({"whereStatement": "count(*) > 4"})).await;
    assert_eq!((&changed["version"], &changed["title"]), (&json!(2), &json!("Views")));
    assert_eq!(world.data("DELETE", "/api/v1/segments/1", Value::Null).await, json!(true));
    world
        .refuses(&[
            ("GET", "/api/v1/segments/1", Value::Null, 404, "SEGMENT_NOT_FOUND"),
            ("PUT", "/api/v1/segments/1", json!({}), 404, "SEGMENT_NOT_FOUND"),
            ("DELETE", "/api/v1/segments/1", Value::Null, 404, "SEGMENT_NOT_FOUND"),
            ("GET", "/api/v1/segments/1/progress", Value::Null, 404, "SEGMENT_NOT_FOUND"),
            ("GET", "/api/v1/segments/1/transitions", Value::Null, 404, "SEGMENT_NOT_FOUND"),
        ])
        .await;
}

#[tokio::test]
async fn bad_segments_are_refused() {
    let world = World::new();
    world.data("POST", PATH, json!({"tag": "a", "whereStatement": ""})).await;
    world.data("POST", PATH, json!({"tag": "b", "whereStatement": "segment('a')"})).await;
    world.data("POST", PATH, json!({"tag": "m", "kind": "manual"})).await;
    let post = |body: Value, status: u16, code: &'static str| ("POST", PATH, body, status, code);
    world
        .refuses(&[
            post(json!({"tag": "a", "whereStatement": ""}), 409, "TAG_TAKEN"),
            post(json!({"tag": "x"}), 400, "WHERE_MISSING"),
            post(json!({"whereStatement": ""}), 400, "INVALID_BODY"),
            post(json!({"tag": "a b", "whereStatement": ""}), 400, "INVALID_FIELD"),
            post(json!({"tag": "x", "kind": "other"}), 400, "INVALID_BODY"),
            post(json!({"tag": "x", "kind": "manual", "whereStatement": "count(*) > 1"}), 400, "MANUAL_WITH_CLAUSE"),
            post(json!({"tag": "x", "whereStatement": "segment('none')"}), 400, "UNKNOWN_SEGMENT"),
            post(json!({"tag": "x", "whereStatement": "segment('x')"}), 400, "SEGMENT_CYCLE"),
            post(json!({"tag": "x", "whereStatement": "colour = 'red'"}), 400, "WHERE_UNKNOWN_COLUMN"),
            ("PUT", "/api/v1/segments/1", json!({"whereStatement": "segment('b')"}), 400, "SEGMENT_CYCLE"),
            ("PUT", "/api/v1/segments/1", json!({"tag": "c"}), 409, "SEGMENT_IN_USE"),
            ("PUT", "/api/v1/segments/1", json!({"tag": "b"}), 409, "TAG_TAKEN"),
            ("PUT", "/api/v1/segments/1", json!({"kind": "manual"}), 400, "KIND_FIXED"),
            ("PUT", "/api/v1/segments/3", json!({"whereStatement": "count(*) > 1"}), 400, "MANUAL_WITH_CLAUSE"),
            ("DELETE", "/api/v1/segments/1", Value::Null, 409, "SEGMENT_IN_USE"),
        ])
        .await;
    let (_, response) = world.call("DELETE", "/api/v1/segments/1", Value::Null).await;
    assert!(response["message"].as_str().unwrap().contains("'b'"), "{response}");
    let (_, response) = world.call("PUT", "/api/v1/segments/1", json!({"whereStatement": "segment('b')"})).await;
    assert!(response["message"].as_str().unwrap().contains("a -> b -> a"), "{response}");
}

#[tokio::test]
async fn a_clause_is_validated_and_errors_have_positions() {
    let world = World::new();
    let path = "/api/v1/segments/validate";
    let valid = world.data("POST", path, json!({"whereStatement": "count(*) > 3"})).await;
    assert_eq!((&valid["valid"], &valid["segments"]), (&json!(true), &json!([])));
    assert_eq!(valid["cost"], "O(1)");
    assert!(valid["normalForm"].as_str().unwrap().contains("count(*)"));
    let (status, response) =
        world.call("POST", path, json!({"whereStatement": "count(*) > 3\nAND colour = 'red'"})).await;
    assert_eq!((status, &response["position"]), (400, &json!({"line": 2, "column": 5})), "{response}");
    world
        .refuses(&[
            ("POST", path, json!({"whereStatement": "segment('none')"}), 400, "UNKNOWN_SEGMENT"),
            ("POST", path, json!({}), 400, "INVALID_BODY"),
            ("POST", path, json!({"whereStatement": "count(*) >"}), 400, "WHERE_SYNTAX"),
            ("POST", path, json!({"whereStatement": "count(DISTINCT url) > 100000"}), 400, "WHERE_THRESHOLD"),
            (
                "POST",
                PATH,
                json!({"tag": "never", "whereStatement": "count(DISTINCT url) > 100000"}),
                400,
                "WHERE_THRESHOLD",
            ),
        ])
        .await;
}

#[tokio::test]
async fn saving_returns_cost_movements_and_progress() {
    let world = World::new();
    let asking = |path: &str| format!("{path}?estimate=true");
    let saved = world.data("POST", &asking(PATH), json!({"tag": "a", "whereStatement": "count(*) > 3"})).await;
    let effects = |saved: &Value| {
        let names = ["cost", "wouldEnter", "wouldLeave", "wouldEnterReason", "progress"];
        json!(names.map(|name| saved[name].clone()))
    };
    let progress = json!({"segmentId": 1, "version": 2, "ratio": 0.5, "partitions": {"inForce": 2, "total": 4}});
    assert_eq!(effects(&saved), json!(["O(1)", 7, 0, null, progress]));
    assert!(saved.get("wouldEnterReason").is_none(), "only where there is something to say: {saved}");

    // Two users are in it. The new clause selects seven, one of the two among them.
    for id in ["x", "y"] {
        world.data("POST", "/api/v1/users", json!({"clientRefId": id})).await;
    }
    let entered = |user| MembershipChange {
        user_id: UserId(user),
        entered: vec![SegmentId(1)],
        left: vec![],
        effective_at: START,
    };
    let changes = vec![entered(1), entered(2)];
    world
        .store
        .apply_memberships(MembershipBatch { partition: PartitionId(0), from: 0, to: 2, changes })
        .await
        .unwrap();
    let path = &asking("/api/v1/segments/1");
    let saved = world.data("PUT", path, json!({"whereStatement": "count(*) > 4"})).await;
    assert_eq!(effects(&saved), json!(["O(1)", 6, 1, null, progress]));
    let saved = world.data("PUT", path, json!({"title": "More", "whereStatement": "count(*) > 4"})).await;
    assert_eq!(effects(&saved), json!(["O(1)", 0, 0, null, progress]), "the clause means the same as before");

    // Nobody waits for what nobody asked for.
    let not_asked = "not computed: ask with ?estimate=true, or preview the clause";
    let saved = world.data("PUT", "/api/v1/segments/1", json!({"whereStatement": ENDLESS})).await;
    // It has its place among the events, and no partition has read it yet.
    let ordered =
        json!({"segmentId": 1, "version": saved["version"], "ratio": 0.0, "partitions": {"inForce": 0, "total": 4}});
    assert_eq!(effects(&saved), json!(["O(1)", null, null, not_asked, ordered]));
    let saved = world.data("POST", PATH, json!({"tag": "b", "whereStatement": ENDLESS})).await;
    assert_eq!(saved["wouldEnterReason"], not_asked);

    let manual = world.data("POST", PATH, json!({"tag": "m", "kind": "manual"})).await;
    assert_eq!((&manual["cost"], &manual["wouldEnter"]), (&Value::Null, &json!(0)));
}

#[tokio::test]
async fn a_segment_is_saved_even_if_its_preview_fails() {
    let world = World::new();
    for (tag, clause, reason) in [("a", ENDLESS, "within 2 s"), ("b", HUGE, "cannot hold"), ("c", DEFECT, "its log")] {
        let path = format!("{PATH}?estimate=true");
        let (status, response) = world.call("POST", &path, json!({"tag": tag, "whereStatement": clause})).await;
        let saved = &response["data"];
        assert_eq!((status, &saved["tag"], &saved["wouldEnter"]), (201, &json!(tag), &Value::Null), "{response}");
        assert!(saved["wouldEnterReason"].as_str().unwrap().contains(reason), "{saved}");
        assert_eq!((&saved["cost"], &saved["progress"]["ratio"]), (&json!("O(1)"), &json!(0.5)));
    }
    assert_eq!(world.data("GET", PATH, Value::Null).await.as_array().unwrap().len(), 3);
    let preview = "/api/v1/segments/preview";
    world
        .refuses(&[
            ("POST", preview, json!({"whereStatement": HUGE}), 503, "QUERY_TOO_LARGE"),
            ("POST", preview, json!({"whereStatement": DEFECT}), 500, "INTERNAL"),
        ])
        .await;
}

#[tokio::test]
async fn preview_progress_and_explain_show_what_the_engine_returns() {
    let world = World::new();
    world.data("POST", "/api/v1/users", json!({})).await;
    world.data("POST", PATH, json!({"tag": "a", "whereStatement": ""})).await;
    let preview = world.data("POST", "/api/v1/segments/preview", json!({"whereStatement": ""})).await;
    assert_eq!(
        (&preview["size"], &preview["population"], &preview["sample"][0]["id"]),
        (&json!(7), &json!(9), &json!(1))
    );
    let progress = world.data("GET", "/api/v1/segments/1/progress", Value::Null).await;
    let expected = json!({"segmentId": 1, "version": 2, "ratio": 0.5, "partitions": {"inForce": 2, "total": 4}});
    assert_eq!(progress, expected);
    let explained = world.data("GET", "/api/v1/users/1/segments/a/explain", Value::Null).await;
    let message = "the user has more than 100000 events or values in one window; those beyond are left out, so the \
        condition may be wrong. Shorten the window or use a lower threshold";
    let condition = json!({"condition": "count(*) > 0", "truth": true, "nextChange": null,
        "limited": true, "message": message,
        "values": [{"expression": "count(*)", "value": 1, "counted": 1},
            {"expression": "min(created_at)", "value": STARTED, "counted": null}],
        "evidence": [{"of": 0, "createdAt": null, "value": null, "until": STARTED},
            {"of": 1, "createdAt": STARTED, "value": STARTED, "until": null}]});
    let expected = json!({"userId": 1, "segmentId": 1, "tag": "a", "version": 1, "at": STARTED, "member": true,
        "normalForm": "count(*) > 0", "conditions": [condition], "nextChange": {"at": STARTED, "member": false}});
    assert_eq!(explained, expected);
    let preview = "/api/v1/segments/preview";
    world
        .refuses(&[
            ("POST", preview, json!({"whereStatement": "nonsense("}), 400, "WHERE_SYNTAX"),
            ("POST", preview, json!({"whereStatement": "", "sample": 101}), 400, "INVALID_SAMPLE"),
            ("GET", "/api/v1/users/1/segments/none/explain", Value::Null, 404, "SEGMENT_NOT_FOUND"),
            ("GET", "/api/v1/users/9/segments/a/explain", Value::Null, 404, "USER_NOT_FOUND"),
        ])
        .await;
}

#[tokio::test]
async fn the_number_of_segments_is_bounded() {
    let world = World { segments: SegmentBound::of(3), ..World::new() };
    let tags = ["a", "b", "c", "d", "e"];
    let bodies = tags.map(|tag| json!({"tag": tag, "whereStatement": ""}));
    let [a, b, c, d, e] = bodies.map(|body| world.call("POST", PATH, body));
    // All at once, so that two of them find no place.
    let (a, b, c, d, e) = tokio::join!(a, b, c, d, e);
    let mut responses = [a, b, c, d, e];
    responses.sort_by_key(|(status, _)| *status);
    assert_eq!(responses.each_ref().map(|(status, _)| *status), [201, 201, 201, 409, 409]);
    for (_, refused) in &responses[3..] {
        assert_eq!(refused["code"], "SEGMENTS_FULL", "{refused}");
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains("3 segments") && message.contains("USS_SEGMENTS_MAX"), "{message}");
    }
    let manual = json!({"tag": "m", "kind": "manual"});
    world.refuses(&[("POST", PATH, manual.clone(), 409, "SEGMENTS_FULL")]).await;
    // Existing segments can be changed, and a deletion makes room.
    world.data("PUT", "/api/v1/segments/1", json!({"title": "A"})).await;
    world.data("DELETE", "/api/v1/segments/1", Value::Null).await;
    assert_eq!(world.call("POST", PATH, manual).await.0, 201);
}

//! Keys, unknown paths, health.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use crate::world::World;

#[tokio::test]
async fn everything_but_health_needs_an_admin_key() {
    let mut world = World::new();
    world.keys = "admin:0123456789abcdef,ingest:fedcba9876543210".parse().unwrap();
    assert_eq!(world.get("/health-check").await.0, 200);
    let cases =
        [(None, 401), (Some("0123456789abcdef"), 200), (Some("fedcba9876543210"), 403), (Some("nonsense"), 401)];
    for (key, expected) in cases {
        let mut request = Request::get("/api/v1/users");
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let response = world.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status().as_u16(), expected, "{key:?}");
    }
}

#[tokio::test]
async fn wrong_paths_and_parameters_are_refused_with_their_codes() {
    let world = World::new();
    world
        .refuses(&[
            ("GET", "/api/v1/nothing", Value::Null, 404, "UNKNOWN_PATH"),
            ("DELETE", "/api/v1/users", Value::Null, 405, "METHOD_NOT_ALLOWED"),
            ("GET", "/api/v1/users/abc", Value::Null, 400, "INVALID_PATH"),
            ("GET", "/api/v1/users/99999999999999999999", Value::Null, 400, "INVALID_PATH"),
            ("GET", "/api/v1/users?limit=x", Value::Null, 400, "INVALID_QUERY"),
            ("GET", "/api/v1/users?limit=0", Value::Null, 400, "INVALID_LIMIT"),
            ("GET", "/api/v1/users?cursor=x", Value::Null, 400, "INVALID_CURSOR"),
            ("GET", "/api/v1/users?fresh=true", Value::Null, 503, "ENGINE_UNAVAILABLE"),
            ("POST", "/api/v1/users", json!([1]), 400, "INVALID_BODY"),
        ])
        .await;
}

#[tokio::test]
async fn broken_bodies_are_refused_with_their_codes() {
    let world = World::new();
    let cases = [
        ("{", "application/json", 400, "INVALID_JSON"),
        ("", "application/json", 400, "INVALID_JSON"),
        (r#"{"name": 5}"#, "application/json", 400, "INVALID_BODY"),
        ("name=x", "application/x-www-form-urlencoded", 415, "UNSUPPORTED_MEDIA_TYPE"),
    ];
    for (body, media, status, code) in cases {
        let request = Request::post("/api/v1/users").header("content-type", media).body(Body::from(body)).unwrap();
        let response = world.send(request).await;
        assert_eq!(response.status().as_u16(), status, "{body}");
        let problem: Value = serde_json::from_str(&crate::world::text(response).await).unwrap();
        assert_eq!(problem["code"], code, "{body}");
    }
}

//! What a client sees: statuses, bodies and headers of errors, keys, health and metrics.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Extension, Router};
use http_body_util::BodyExt;
use metrics_exporter_prometheus::PrometheusBuilder;
use ports::ErrorCode;
use ports::log::LogError;
use ports::segment_queries::SegmentQueryError;
use ports::warehouse::WarehouseError;
use serde_json::{Value, json};
use tower::ServiceExt;
use uss_http::extract::{Json, Path, Query};
use uss_http::operations::Condition;
use uss_http::serve::{Shape, finish};
use uss_http::{Access, ApiKeys, Problem, operations};

const ADMIN: &str = "admin-0123456789abcdef";
const INGEST: &str = "ingest-0123456789abcdef";

#[derive(serde::Deserialize)]
struct Count {
    n: u32,
}

async fn body(response: Response<Body>) -> Value {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&bytes).unwrap_or(Value::Null)
}

fn api(shape: Shape) -> Router {
    let router = Router::new()
        .route("/count/{n}", get(|Path(n): Path<u32>| async move { n.to_string() }))
        .route("/query", get(|Query(count): Query<Count>| async move { count.n.to_string() }))
        .route("/body", post(|Json(count): Json<Count>| async move { count.n.to_string() }))
        .route("/log", get(|| async { Err::<(), _>(Problem::from(LogError::Unavailable("down".into()))) }))
        .route("/detail", get(|| async { Problem::conflict(ErrorCode::CodeTaken, "taken").with("tag", "a") }));
    finish(router, shape)
}

#[tokio::test]
async fn a_query_error_decides_status_and_code() {
    let cases = [
        (WarehouseError::Unavailable("down".into()), 503, "WAREHOUSE_UNAVAILABLE"),
        (WarehouseError::TooLarge("no memory".into()), 503, "QUERY_TOO_LARGE"),
        (WarehouseError::Refused("Binder Error: no column u".into()), 500, "INTERNAL"),
    ];
    for (error, status, code) in cases {
        let problem = Problem::from(SegmentQueryError::from(error));
        assert_eq!((problem.kind.status().as_u16(), problem.code.as_str()), (status, code));
        assert!(
            status == 503 || !problem.message.contains("Binder"),
            "internal details are only logged: {}",
            problem.message
        );
    }
    let slow = Problem::from(SegmentQueryError::TooSlow(std::time::Duration::from_secs(30)));
    assert_eq!((slow.kind.status().as_u16(), slow.code.as_str()), (503, "QUERY_TOO_SLOW"));
    assert!(slow.message.contains("30 s"), "{}", slow.message);
    let behind = Problem::from(SegmentQueryError::Behind(std::time::Duration::from_secs(10)));
    assert_eq!((behind.kind.status().as_u16(), behind.code.as_str()), (503, "ENGINE_BEHIND"));
    assert!(["10 s", "ask again"].iter().all(|part| behind.message.contains(part)), "{}", behind.message);
    assert!(behind.into_response().headers().contains_key("retry-after"));
}

#[tokio::test]
async fn every_error_has_a_status_a_code_and_a_message() {
    let cases = [
        ("GET", "/count/x", "", 400, "INVALID_PATH"),
        ("GET", "/query?n=-1", "", 400, "INVALID_QUERY"),
        ("POST", "/body", "{", 400, "INVALID_JSON"),
        ("POST", "/body", "{}", 400, "INVALID_BODY"),
        ("GET", "/log", "", 503, "LOG_UNAVAILABLE"),
        ("GET", "/nothing", "", 404, "UNKNOWN_PATH"),
        ("PUT", "/body", "", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/detail", "", 409, "CODE_TAKEN"),
    ];
    for shape in [Shape::Ingestion, Shape::Configuration] {
        for (method, path, sent, status, code) in cases {
            let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
            let response = api(shape).oneshot(request.body(Body::from(sent)).unwrap()).await.unwrap();
            assert_eq!(response.status().as_u16(), status, "{method} {path}");
            assert_eq!(response.headers().contains_key("retry-after"), status == 503, "{method} {path}");
            assert_eq!(response.headers()["content-type"], "application/json", "{method} {path}");
            let body = body(response).await;
            assert_eq!(body["code"], code, "{method} {path}");
            assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{method} {path}");
            match shape {
                Shape::Ingestion => assert_eq!((&body["ok"], &body["error"]), (&json!(false), &json!(code))),
                Shape::Configuration => assert_eq!(body.get("data"), Some(&Value::Null)),
            }
        }
    }
}

#[tokio::test]
async fn a_body_without_the_json_content_type_is_415() {
    let request = Request::post("/body").body(Body::from("{}")).unwrap();
    let response = api(Shape::Configuration).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn details_are_fields_of_the_body() {
    let request = Request::get("/detail").body(Body::empty()).unwrap();
    let body = body(api(Shape::Configuration).oneshot(request).await.unwrap()).await;
    assert_eq!(body, json!({"data": null, "code": "CODE_TAKEN", "message": "taken", "tag": "a"}));
}

#[tokio::test]
async fn a_key_grants_its_access_and_no_more() {
    let keys: ApiKeys = format!("admin:{ADMIN}, ingest:{INGEST}").parse().unwrap();
    let access = |Extension(access): Extension<Access>| async move { format!("{access:?}") };
    let ingest = keys.guard(Router::new().route("/events", get(access)), Access::Ingest);
    let admin = keys.guard(Router::new().route("/users", get(access)), Access::Admin);
    let router = finish(ingest.merge(admin), Shape::Ingestion);
    let bearer = |key: &str| Some(format!("Bearer {key}"));
    let cases = [
        ("/events", bearer(ADMIN), 200),
        ("/events", bearer(INGEST), 200),
        ("/events", bearer("something else"), 401),
        ("/events", Some(format!("bearer {INGEST}")), 200),
        ("/events", Some(format!("BEARER  {INGEST}")), 200),
        ("/events", Some(format!("Basic {INGEST}")), 401),
        ("/events", Some(ADMIN.to_owned()), 401),
        ("/events", None, 401),
        ("/users", bearer(ADMIN), 200),
        ("/users", bearer(INGEST), 403),
        (&format!("/events?x=1&api_key={INGEST}"), None, 200),
        (&format!("/users?api_key={ADMIN}"), None, 401),
    ];
    for (path, authorization, status) in cases {
        let mut request = Request::get(path);
        if let Some(value) = &authorization {
            request = request.header("authorization", value);
        }
        let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{path} {authorization:?}");
        assert_eq!(response.headers().contains_key("www-authenticate"), status == 401);
    }
}

#[test]
fn errors_of_key_lists_do_not_show_the_keys() {
    for (list, entry) in
        [("root:0123456789abcdef", "1"), (&format!("admin:{ADMIN},0123456789abcdef"), "2"), ("admin:0123", "1")]
    {
        let message = list.parse::<ApiKeys>().unwrap_err().to_string();
        assert!(message.contains(&format!("entry {entry}")) && !message.contains("0123"), "{message}");
    }
    assert!("".parse::<ApiKeys>().unwrap().is_empty());
}

#[tokio::test]
async fn without_keys_everyone_is_an_admin() {
    let access = |Extension(access): Extension<Access>| async move { format!("{access:?}") };
    let router = ApiKeys::default().guard(Router::new().route("/", get(access)), Access::Admin);
    let response = router.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "Admin");
}

#[test]
fn requests_are_measured_by_route_and_status() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    metrics::with_local_recorder(&recorder, || {
        for path in ["/count/1", "/count/2", "/nothing"] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            runtime.block_on(api(Shape::Ingestion).oneshot(request)).unwrap();
        }
    });
    let router = operations::metrics(move || std::future::ready(handle.render()));
    let page = router.oneshot(Request::get("/metrics").body(Body::empty()).unwrap());
    let text = runtime.block_on(async { page.await.unwrap().into_body().collect().await.unwrap().to_bytes() });
    let text = String::from_utf8(text.to_vec()).unwrap();
    let counted = r#"uss_http_request_duration_seconds_count{route="/count/{n}",status="200"} 2"#;
    assert!(text.contains(counted), "{text}");
    assert!(text.contains(r#"route="unmatched",status="404""#), "{text}");
}

#[tokio::test]
async fn health_shows_the_result_of_the_check() {
    let full = || Problem::from(LogError::Full("disk".into()));
    let bad = move || async move { vec![("store", Condition::Ok), ("log", Condition::Down(full()))] };
    let routers = [operations::health(bad), finish(operations::health(bad), Shape::Ingestion)];
    for router in routers {
        let response = router.oneshot(Request::get("/health-check").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()["retry-after"], "1");
        let message = full().message;
        let log = json!({"status": "down", "code": "LOG_FULL", "message": message});
        let components = json!({"store": {"status": "ok"}, "log": log});
        let expected = json!({"status": "down", "code": "LOG_FULL", "message": message, "components": components});
        assert_eq!(body(response).await, expected);
    }
    let router = operations::health(|| async {
        let clock = Condition::Warning { code: ErrorCode::ClockBehind, message: "an hour".to_owned() };
        vec![("log", Ok::<_, Problem>(()).into()), ("clock", clock)]
    });
    let response = router.oneshot(Request::get("/health-check").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "nothing is down");
    let clock = json!({"status": "warning", "code": "CLOCK_BEHIND", "message": "an hour"});
    let components = json!({"log": {"status": "ok"}, "clock": clock});
    assert_eq!(body(response).await, json!({"status": "ok", "components": components}));
}

#[tokio::test]
async fn a_component_that_does_not_answer_is_down() {
    let router = operations::health(|| async {
        let stuck = std::future::pending::<Result<(), LogError>>();
        let (store, log, users) = tokio::join!(
            operations::check(ErrorCode::StoreUnavailable, stuck),
            operations::check(ErrorCode::LogUnavailable, async { Err(LogError::Full("disk".into())) }),
            operations::check(ErrorCode::UsersUnavailable, async { Ok::<_, LogError>(()) }),
        );
        vec![("configStore", store), ("log", log), ("users", users)]
    });
    let response = router.oneshot(Request::get("/health-check").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let body = body(response).await;
    assert_eq!((&body["code"], &body["components"]["log"]["code"]), (&json!("STORE_UNAVAILABLE"), &json!("LOG_FULL")));
    assert!(body["message"].as_str().unwrap().contains("did not answer"), "{body}");
    assert_eq!(body["components"]["users"], json!({"status": "ok"}));
}

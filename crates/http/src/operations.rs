//! `/health-check` and `/metrics`.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

use crate::extract::Json;
use crate::problem::{Problem, RETRY_AFTER_SECONDS};

/// `GET /metrics`: what `page` returns, in the text format of Prometheus.
pub fn metrics<F, Fut>(page: F) -> Router
where
    F: Fn() -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = String> + Send + 'static,
{
    let answer = move || {
        let text = page();
        async move { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text.await) }
    };
    Router::new().route("/metrics", get(answer))
}

/// The components that an API needs, each with its health: `("log", Ok(()))`.
pub type Health = Vec<(&'static str, Result<(), Problem>)>;

/// `GET /health-check`: 200 if every component that `check` names is healthy, else 503 and which are down.
pub fn health<F, Fut>(check: F) -> Router
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Health> + Send + 'static,
{
    let check = Arc::new(check);
    let answer = move || {
        let check = Arc::clone(&check);
        async move { health_answer(check().await) }
    };
    Router::new().route("/health-check", get(answer))
}

/// Every component with its status, and its code if it is down. The code of the first that is down stands at the top too.
fn health_answer(health: Health) -> Response {
    let is_down = health.iter().find_map(|(_, state)| state.as_ref().err());
    let mut body = json!({"status": if is_down.is_some() { "down" } else { "ok" }});
    let status = match is_down {
        None => StatusCode::OK,
        Some(problem) => {
            body["code"] = json!(problem.code);
            body["message"] = json!(problem.message);
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    let component = |(name, state): (&str, Result<(), Problem>)| {
        let state = match state {
            Ok(()) => json!({"status": "ok"}),
            Err(problem) => json!({"status": "down", "code": problem.code, "message": problem.message}),
        };
        (name.to_owned(), state)
    };
    body["components"] = health.into_iter().map(component).collect();
    let mut response = (status, Json(body)).into_response();
    if status != StatusCode::OK {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
    }
    response
}

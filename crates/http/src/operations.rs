//! `/health-check` and `/metrics`.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::json;

use crate::extract::Json;
use crate::problem::Problem;

/// `GET /metrics`: what `page` writes in Prometheus' text format.
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

/// `GET /health-check`: 200 if `check` says so, else its error.
pub fn health<F, Fut>(check: F) -> Router
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Problem>> + Send + 'static,
{
    let check = Arc::new(check);
    let answer = move || {
        let check = Arc::clone(&check);
        async move {
            match check().await {
                Ok(()) => Json(json!({"status": "ok"})).into_response(),
                Err(problem) => problem.into_response(),
            }
        }
    };
    Router::new().route("/health-check", get(answer))
}

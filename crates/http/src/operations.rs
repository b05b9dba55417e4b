//! `/health-check` and `/metrics`.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;

use crate::extract::Json;
use crate::problem::Problem;

/// `GET /metrics`: Prometheus' text format, from the recorder that the composition root installed.
pub fn metrics(handle: PrometheusHandle) -> Router {
    let answer = move || {
        let text = handle.render();
        async move { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text) }
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

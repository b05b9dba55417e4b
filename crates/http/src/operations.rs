//! `/health-check` and `/metrics`.

use ports::ErrorCode;
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

/// How something is that a port needs for its work.
#[derive(Debug)]
pub enum Condition {
    /// Well.
    Ok,
    /// It works, but somebody should look at it. The port answers 200: a restart would not help.
    Warning {
        /// For programs.
        code: ErrorCode,
        /// Says what is wrong, and what to do.
        message: String,
    },
    /// It does not work.
    Down(Problem),
}

impl<E: Into<Problem>> From<Result<(), E>> for Condition {
    fn from(result: Result<(), E>) -> Self {
        result.map_or_else(|error| Condition::Down(error.into()), |()| Condition::Ok)
    }
}

/// What a port needs for its work, each with how it is: `("log", Condition::Ok)`.
pub type Health = Vec<(&'static str, Condition)>;

/// `GET /health-check`: 503 if anything that `check` names is down, else 200.
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

/// Every component with its status, those that are not well with their code; at the top the code of the first that is down, for
/// those who read no further.
fn health_answer(health: Health) -> Response {
    let is_down = health.iter().find_map(|(_, condition)| match condition {
        Condition::Down(problem) => Some(problem),
        Condition::Ok | Condition::Warning { .. } => None,
    });
    let mut body = json!({"status": if is_down.is_some() { "down" } else { "ok" }});
    let status = match is_down {
        None => StatusCode::OK,
        Some(problem) => {
            body["code"] = json!(problem.code);
            body["message"] = json!(problem.message);
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    let component = |(name, condition): (&str, Condition)| {
        let condition = match condition {
            Condition::Ok => json!({"status": "ok"}),
            Condition::Warning { code, message } => json!({"status": "warning", "code": code, "message": message}),
            Condition::Down(Problem { code, message, .. }) => {
                json!({"status": "down", "code": code, "message": message})
            }
        };
        (name.to_owned(), condition)
    };
    body["components"] = health.into_iter().map(component).collect();
    let mut response = (status, Json(body)).into_response();
    if status != StatusCode::OK {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
    }
    response
}

//! `/health-check` and `/metrics`.

use ports::ErrorCode;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tokio::time::timeout;

use crate::extract::Json;
use crate::problem::{Kind, Problem, RETRY_AFTER_SECONDS};

/// How long a health check waits for a component. Many probes wait a second for the response. A
/// store that waits for a lock would answer after several, with the same result.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(800);

/// `GET /metrics`: returns the text of `page`, in the format of Prometheus.
pub fn metrics<F, Fut>(page: F) -> Router
where
    F: Fn() -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = String> + Send + 'static,
{
    let handler = move || {
        let text = page();
        async move { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text.await) }
    };
    Router::new().route("/metrics", get(handler))
}

/// The condition of a component that a port needs.
#[derive(Debug)]
pub enum Condition {
    /// The component works.
    Ok,
    /// The component works, but an operator should look at it. The health check returns 200,
    /// because a restart would not help.
    Warning {
        /// A code for programs.
        code: ErrorCode,
        /// Says what is wrong and what to do.
        message: String,
    },
    /// The component does not work.
    Down(Problem),
}

impl<E: Into<Problem>> From<Result<(), E>> for Condition {
    fn from(result: Result<(), E>) -> Self {
        result.map_or_else(|error| Condition::Down(error.into()), |()| Condition::Ok)
    }
}

/// Returns the condition of a component by its answer to a ping. A component that does not answer
/// in time is down, with this code.
pub async fn check<E: Into<Problem>>(code: ErrorCode, ping: impl Future<Output = Result<(), E>>) -> Condition {
    match timeout(ANSWER_TIME_MAX, ping).await {
        Ok(answer) => answer.into(),
        Err(_) => {
            let message = "it did not answer a health check in time: it is busy, or another process has locked it";
            Condition::Down(Problem::new(Kind::Unavailable, code, message))
        }
    }
}

/// The components that a port needs, with their conditions: `("log", Condition::Ok)`.
pub type Health = Vec<(&'static str, Condition)>;

/// `GET /health-check`: 503 if any component of `check` is down, else 200.
pub fn health<F, Fut>(check: F) -> Router
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Health> + Send + 'static,
{
    let check = Arc::new(check);
    let handler = move || {
        let check = Arc::clone(&check);
        async move { health_response(check().await) }
    };
    Router::new().route("/health-check", get(handler))
}

/// Lists every component with its status, and with a code unless it is ok. The code of the first
/// component that is down is also at the top, for clients that read no further.
fn health_response(health: Health) -> Response {
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

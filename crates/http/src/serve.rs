//! Gives the router of an API its error bodies and measures its requests.

use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use metrics::{Histogram, histogram};
use ports::ErrorCode;
use serde_json::{Map, Value, json};

use crate::problem::{Kind, Problem};

/// The shape of error bodies. Each API has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `{"ok": false, "error": CODE, "code": CODE, "message": …}`
    Ingestion,
    /// `{"data": null, "code": CODE, "message": …}`
    Configuration,
}

impl Shape {
    /// Returns the body of an error.
    pub fn body(self, problem: &Problem) -> Value {
        let mut body: Map<String, Value> = problem.details.clone();
        match self {
            Shape::Ingestion => {
                body.insert("ok".into(), json!(false));
                body.insert("error".into(), json!(problem.code));
            }
            Shape::Configuration => {
                body.insert("data".into(), Value::Null);
            }
        }
        body.insert("code".into(), json!(problem.code));
        body.insert("message".into(), json!(problem.message));
        Value::Object(body)
    }
}

/// Adds what every API needs around all of its routes: errors for unknown paths and methods, error
/// bodies in the API's shape, and request durations.
pub fn finish(router: Router, shape: Shape) -> Router {
    router.fallback(unknown_path).method_not_allowed_fallback(wrong_method).layer(from_fn_with_state(shape, measure))
}

async fn unknown_path(request: Request) -> Problem {
    let message = format!("there is nothing at {}; the reference lists the paths", request.uri().path());
    Problem::new(Kind::NotFound, ErrorCode::UnknownPath, message)
}

async fn wrong_method(request: Request) -> Problem {
    let message = format!("{} cannot be used here; the header Allow lists what can", request.method());
    Problem::new(Kind::MethodNotAllowed, ErrorCode::MethodNotAllowed, message)
}

/// Writes the body of an error in the API's shape.
pub(crate) fn write_error(shape: Shape, response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let Some(problem) = parts.extensions.remove::<Problem>() else {
        return Response::from_parts(parts, body);
    };
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    parts.headers.remove(header::CONTENT_LENGTH);
    (parts, Body::from(shape.body(&problem).to_string())).into_response()
}

/// Writes error bodies, and records `uss_http_request_duration_seconds` by the route's pattern. Paths
/// would be an unbounded number of labels.
async fn measure(State(shape): State<Shape>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let started = Instant::now();
    let response = write_error(shape, next.run(request).await);
    let route = route.unwrap_or_else(|| "unmatched".to_owned());
    let status = response.status().as_str().to_owned();
    duration(shape, route, status).record(started.elapsed().as_secs_f64());
    response
}

/// Returns the histogram of an API's crate: the target decides which metrics page shows it.
fn duration(api: Shape, route: String, status: String) -> Histogram {
    let labels = [("route", route), ("status", status)];
    match api {
        Shape::Ingestion => histogram!(target: "ingestion_api", "uss_http_request_duration_seconds", &labels),
        Shape::Configuration => histogram!(target: "configuration_api", "uss_http_request_duration_seconds", &labels),
    }
}

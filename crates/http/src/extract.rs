//! Axum's extractors, with our error bodies as rejections.

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use ports::ErrorCode;
use serde::de::DeserializeOwned;

use crate::problem::{Kind, Problem};

/// The JSON body of a request or a response.
#[derive(Clone, Copy, Debug)]
pub struct Json<T>(pub T);

/// The query string.
#[derive(Clone, Copy, Debug)]
pub struct Query<T>(pub T);

/// The parameters of the path.
#[derive(Clone, Copy, Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let axum::Json(body) = axum::Json::from_request(request, state).await.map_err(json_problem)?;
        Ok(Self(body))
    }
}

/// Requires the header of a JSON body, but reads no body. For calls that change something and need
/// no body: a page cannot send that header to a server of another origin unless the server allows
/// it.
#[derive(Clone, Copy, Debug)]
pub struct JsonContentType;

impl<S: Send + Sync> FromRequestParts<S> for JsonContentType {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let value = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let is_json =
            essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"));
        if is_json { Ok(Self) } else { Err(not_json()) }
    }
}

impl<T: serde::Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query: Result<axum::extract::Query<T>, QueryRejection> =
            axum::extract::Query::from_request_parts(parts, state).await;
        query.map(|axum::extract::Query(query)| Self(query)).map_err(|rejection| {
            let message = format!("{}; correct the query string", rejection.body_text());
            Problem::invalid(ErrorCode::InvalidQuery, message)
        })
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path: Result<axum::extract::Path<T>, PathRejection> =
            axum::extract::Path::from_request_parts(parts, state).await;
        path.map(|axum::extract::Path(path)| Self(path)).map_err(|rejection| {
            Problem::invalid(ErrorCode::InvalidPath, format!("{}; correct the path", rejection.body_text()))
        })
    }
}

fn not_json() -> Problem {
    let message = "send the body as JSON with the header Content-Type: application/json";
    Problem::new(Kind::UnsupportedMedia, ErrorCode::UnsupportedMediaType, message)
}

fn json_problem(rejection: JsonRejection) -> Problem {
    let reason = rejection.body_text();
    match rejection {
        JsonRejection::JsonSyntaxError(_) => {
            Problem::invalid(ErrorCode::InvalidJson, format!("{reason}; send one JSON value"))
        }
        JsonRejection::JsonDataError(_) => {
            Problem::invalid(ErrorCode::InvalidBody, format!("{reason}; correct that field"))
        }
        JsonRejection::MissingJsonContentType(_) => not_json(),
        other if other.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let message = "the body is larger than this call takes; send less at once";
            Problem::new(Kind::TooLarge, ErrorCode::BodyTooLarge, message)
        }
        _ => Problem::invalid(ErrorCode::InvalidBody, format!("{reason}; send the whole body")),
    }
}

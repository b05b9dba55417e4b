//! Responses: each is `{"data": …}`, some with `warnings` beside it.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ports::ErrorCode;
use serde::Serialize;
use uss_http::extract::Json;

/// 200.
pub(crate) struct Data<T>(pub T);

/// 201.
pub(crate) struct Created<T>(pub T);

/// 200, and what was not done as the client asked.
pub(crate) struct WithWarnings<T> {
    pub data: T,
    pub warnings: Vec<Warning>,
}

/// Says that part of the request was not done as asked.
#[derive(Serialize)]
pub(crate) struct Warning {
    /// For programs.
    pub code: ErrorCode,
    /// Says what was done instead, and what to do.
    pub message: String,
}

/// 200 with `true`, for calls that return nothing else.
pub(crate) const DONE: Data<bool> = Data(true);

impl<T: Serialize> IntoResponse for Data<T> {
    fn into_response(self) -> Response {
        WithWarnings { data: self.0, warnings: Vec::new() }.into_response()
    }
}

impl<T: Serialize> IntoResponse for WithWarnings<T> {
    fn into_response(self) -> Response {
        /// Serialised directly: by way of `serde_json::Value` numbers would be rounded.
        #[derive(Serialize)]
        struct Body<T> {
            data: T,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            warnings: Vec<Warning>,
        }
        let Self { data, warnings } = self;
        Json(Body { data, warnings }).into_response()
    }
}

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        (StatusCode::CREATED, Data(self.0)).into_response()
    }
}

//! Answers: everything is `{"data": …}`.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use uss_http::extract::Json;

/// 200.
pub(crate) struct Data<T>(pub T);

/// 201.
pub(crate) struct Created<T>(pub T);

/// 200 with `true`: for calls that have nothing else to say.
pub(crate) const DONE: Data<bool> = Data(true);

impl<T: Serialize> IntoResponse for Data<T> {
    fn into_response(self) -> Response {
        /// Written as it is: a tree of values would round the numbers in it.
        #[derive(Serialize)]
        struct Body<T> {
            data: T,
        }
        Json(Body { data: self.0 }).into_response()
    }
}

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        (StatusCode::CREATED, Data(self.0)).into_response()
    }
}

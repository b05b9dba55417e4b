//! The one place that maps an error kind to a status, a stable code and a message.

use std::borrow::Cow;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ports::checkpoints::CheckpointError;
use ports::config_store::ConfigStoreError;
use ports::identities::IdentityError;
use ports::log::LogError;
use ports::segment_queries::SegmentQueryError;
use ports::warehouse::WarehouseError;
use serde_json::{Map, Value};

/// How long a client should wait before it sends the same request again, unless the error says otherwise.
pub const RETRY_AFTER_SECONDS: u64 = 1;

/// Error kinds, by what the caller would do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Change the request: 400.
    Invalid,
    /// Send a key: 401.
    Unauthorized,
    /// Send another key: 403.
    Forbidden,
    /// Ask for something that exists: 404.
    NotFound,
    /// Use another method: 405.
    MethodNotAllowed,
    /// Send the body faster: 408.
    TooSlow,
    /// Give it another name, or change what stands in the way: 409.
    Conflict,
    /// Begin anew: 410.
    Gone,
    /// Send less at once: 413.
    TooLarge,
    /// Send another content type: 415.
    UnsupportedMedia,
    /// Call the server by another name: 421.
    Misdirected,
    /// Slow down: 429, with Retry-After.
    TooMany,
    /// A defect of ours: 500.
    Internal,
    /// Send the same again, later: 503, with Retry-After.
    Unavailable,
}

impl Kind {
    /// The status of the answer.
    pub fn status(self) -> StatusCode {
        match self {
            Kind::Invalid => StatusCode::BAD_REQUEST,
            Kind::Unauthorized => StatusCode::UNAUTHORIZED,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Kind::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::Gone => StatusCode::GONE,
            Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::UnsupportedMedia => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Kind::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Kind::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn retries(self) -> bool {
        matches!(self, Kind::TooMany | Kind::Unavailable)
    }
}

/// An error on its way to the client.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Decides the status.
    pub kind: Kind,
    /// Stable, upper case, for programs.
    pub code: Cow<'static, str>,
    /// Says what to do, for people.
    pub message: String,
    /// More fields of the body, for instance `position`.
    pub details: Map<String, Value>,
}

impl Problem {
    /// An error without details.
    pub fn new(kind: Kind, code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { kind, code: code.into(), message: message.into(), details: Map::new() }
    }

    /// 400.
    pub fn invalid(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, code, message)
    }

    /// 404.
    pub fn not_found(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, code, message)
    }

    /// 409.
    pub fn conflict(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, code, message)
    }

    /// Adds a field to the body. The names `data`, `ok`, `error`, `code` and `message` are taken.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    fn unavailable(code: &'static str, error: impl std::fmt::Display) -> Self {
        Self::new(Kind::Unavailable, code, format!("{error}; nothing was stored, send the same request again later"))
    }

    /// A question that is too much, at least now.
    fn unanswered(code: &'static str, error: impl std::fmt::Display) -> Self {
        Self::new(Kind::Unavailable, code, format!("{error}; ask for less, or ask again when it has less to do"))
    }

    /// A wait that became too long.
    fn behind(error: impl std::fmt::Display) -> Self {
        let advice = "ask again later, or without fresh=true for what is known now; if it stays so, a worker may be stuck: \
                      see uss_consumer_lag_records and the service's log";
        Self::new(Kind::Unavailable, "ENGINE_BEHIND", format!("{error}; {advice}"))
    }

    /// A defect of ours: logged here, since the client's message tells nothing of the inside.
    pub fn internal(error: impl std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed by a defect");
        Self::new(Kind::Internal, "INTERNAL", "the service failed; its log says why")
    }
}

/// The response carries the problem as an extension; [`crate::serve::finish`] writes the body in the API's shape.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.kind.status().into_response();
        if self.kind.retries() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
        }
        if self.kind == Kind::Unauthorized {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<LogError> for Problem {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Unavailable(_) => Self::unavailable("LOG_UNAVAILABLE", error),
            LogError::Full(_) => Self::unavailable("LOG_FULL", error),
            LogError::Corrupt(_) | LogError::Partitions { .. } | LogError::NoSuchPartition { .. } => {
                Self::internal(error)
            }
        }
    }
}

impl From<WarehouseError> for Problem {
    fn from(error: WarehouseError) -> Self {
        match error {
            WarehouseError::Unavailable(_) => Self::unavailable("WAREHOUSE_UNAVAILABLE", error),
            WarehouseError::TooLarge(_) => Self::unanswered("QUERY_TOO_LARGE", error),
            WarehouseError::Moved { .. } | WarehouseError::Refused(_) => Self::internal(error),
        }
    }
}

impl From<CheckpointError> for Problem {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::Unavailable(_) => Self::unavailable("CHECKPOINTS_UNAVAILABLE", error),
            CheckpointError::Corrupt { .. } => Self::internal(error),
        }
    }
}

impl From<IdentityError> for Problem {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Unavailable(_) => Self::unavailable("USERS_UNAVAILABLE", error),
        }
    }
}

impl From<ConfigStoreError> for Problem {
    fn from(error: ConfigStoreError) -> Self {
        match error {
            ConfigStoreError::NotFound { what, .. } => {
                Self::not_found(format!("{}_NOT_FOUND", what.to_uppercase()), format!("{error}; check the id"))
            }
            ConfigStoreError::Conflict { code, message } => Self::conflict(code, message),
            ConfigStoreError::Invalid { code, message } => Self::invalid(code, message),
            ConfigStoreError::Unavailable(_) => Self::unavailable("STORE_UNAVAILABLE", error),
            ConfigStoreError::Corrupt(_) => {
                tracing::error!(code = "STORE_DAMAGED", %error, "a request failed by damage");
                Self::new(Kind::Internal, "STORE_DAMAGED", error.to_string())
            }
        }
    }
}

impl From<SegmentQueryError> for Problem {
    fn from(error: SegmentQueryError) -> Self {
        match error {
            SegmentQueryError::NotFound(_) => Self::not_found("NOT_FOUND", error.to_string()),
            SegmentQueryError::Refused { code, message } => Self::invalid(code, message),
            SegmentQueryError::TooLarge => Self::unanswered("QUERY_TOO_LARGE", error),
            SegmentQueryError::TooSlow(_) => Self::unanswered("QUERY_TOO_SLOW", error),
            SegmentQueryError::Behind(_) => Self::behind(error),
            SegmentQueryError::Unavailable(_) => Self::unavailable("ENGINE_UNAVAILABLE", error),
            SegmentQueryError::Warehouse(_) => Self::unavailable("WAREHOUSE_UNAVAILABLE", error),
            SegmentQueryError::Failed(_) => Self::internal(error),
        }
    }
}

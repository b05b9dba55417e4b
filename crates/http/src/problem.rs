//! Errors as HTTP responses: the one place that maps a port's error to a status, a code and a
//! message.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ports::ErrorCode;
use ports::checkpoints::CheckpointError;
use ports::config_store::{ConfigStoreError, Resource};
use ports::identities::IdentityError;
use ports::log::LogError;
use ports::segment_queries::SegmentQueryError;
use ports::warehouse::WarehouseError;
use serde_json::{Map, Value};

/// The default wait before a client should send the same request again.
pub const RETRY_AFTER_SECONDS: u64 = 1;

/// Kinds of errors, by what the caller does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Change the request: 400.
    Invalid,
    /// Send a key: 401.
    Unauthorized,
    /// Send another key: 403.
    Forbidden,
    /// Use something that exists: 404.
    NotFound,
    /// Use another method: 405.
    MethodNotAllowed,
    /// Send the body faster: 408.
    TooSlow,
    /// Choose another name, or change what conflicts: 409.
    Conflict,
    /// Start over: 410.
    Gone,
    /// Send less at once: 413.
    TooLarge,
    /// Send another content type: 415.
    UnsupportedMedia,
    /// Call the server by another name: 421.
    Misdirected,
    /// Slow down: 429, with Retry-After.
    TooMany,
    /// A bug of the service: 500.
    Internal,
    /// Send the same request later: 503, with Retry-After.
    Unavailable,
}

impl Kind {
    /// Returns the status of the response.
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

    fn is_temporary(self) -> bool {
        matches!(self, Kind::TooMany | Kind::Unavailable)
    }
}

/// An error that becomes a response.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Decides the status.
    pub kind: Kind,
    /// Says what went wrong, for programs.
    pub code: ErrorCode,
    /// Says what to do, for people.
    pub message: String,
    /// Additional fields of the body, for example `position`.
    pub details: Map<String, Value>,
}

impl Problem {
    /// Creates an error without details.
    pub fn new(kind: Kind, code: ErrorCode, message: impl Into<String>) -> Self {
        Self { kind, code, message: message.into(), details: Map::new() }
    }

    /// Creates a 400.
    pub fn invalid(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, code, message)
    }

    /// Creates a 404.
    pub fn not_found(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, code, message)
    }

    /// Creates a 409.
    pub fn conflict(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, code, message)
    }

    /// Adds a field to the body. The names `data`, `ok`, `error`, `code` and `message` are
    /// reserved.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    fn unavailable(code: ErrorCode, error: impl std::fmt::Display) -> Self {
        Self::new(Kind::Unavailable, code, format!("{error}; nothing was stored, send the same request again later"))
    }

    /// A query that needs too much, at least at this time.
    fn too_much(code: ErrorCode, error: impl std::fmt::Display) -> Self {
        Self::new(Kind::Unavailable, code, format!("{error}; ask for less, or ask again when the service is less busy"))
    }

    /// A wait that took too long.
    fn behind(error: impl std::fmt::Display) -> Self {
        let advice = "ask again later, or without fresh=true for the current state; if this lasts, a worker may be \
                      stuck: see uss_consumer_lag_records and the service's log";
        Self::new(Kind::Unavailable, ErrorCode::EngineBehind, format!("{error}; {advice}"))
    }

    /// Creates a 500 for a bug. Logs the error, because the message to the client does not contain
    /// it.
    pub fn internal(error: impl std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed because of a bug");
        Self::new(Kind::Internal, ErrorCode::Internal, "the service failed; its log has the reason")
    }
}

/// The response carries the problem as an extension. [`crate::serve::finish`] writes the body in
/// the API's shape.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.kind.status().into_response();
        if self.kind.is_temporary() {
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
            LogError::Unavailable(_) => Self::unavailable(ErrorCode::LogUnavailable, error),
            LogError::Full(_) => Self::unavailable(ErrorCode::LogFull, error),
            LogError::Corrupt(_) | LogError::Partitions { .. } | LogError::NoSuchPartition { .. } => {
                Self::internal(error)
            }
        }
    }
}

impl From<WarehouseError> for Problem {
    fn from(error: WarehouseError) -> Self {
        match error {
            WarehouseError::Unavailable(_) => Self::unavailable(ErrorCode::WarehouseUnavailable, error),
            WarehouseError::TooLarge(_) => Self::too_much(ErrorCode::QueryTooLarge, error),
            WarehouseError::Moved { .. } | WarehouseError::Refused(_) => Self::internal(error),
        }
    }
}

impl From<CheckpointError> for Problem {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::Unavailable(_) => Self::unavailable(ErrorCode::CheckpointsUnavailable, error),
            CheckpointError::Corrupt { .. } => Self::internal(error),
        }
    }
}

impl From<IdentityError> for Problem {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Unavailable(_) => Self::unavailable(ErrorCode::UsersUnavailable, error),
        }
    }
}

impl From<ConfigStoreError> for Problem {
    fn from(error: ConfigStoreError) -> Self {
        match error {
            ConfigStoreError::NotFound { what, .. } => {
                let code = match what {
                    Resource::User => ErrorCode::UserNotFound,
                    Resource::Segment => ErrorCode::SegmentNotFound,
                    Resource::Activity => ErrorCode::ActivityNotFound,
                    Resource::Identity => ErrorCode::IdentityNotFound,
                };
                Self::not_found(code, format!("{error}; check the id"))
            }
            ConfigStoreError::Conflict { code, message } => Self::conflict(code, message),
            ConfigStoreError::Invalid { code, message } => Self::invalid(code, message),
            ConfigStoreError::Unavailable(_) => Self::unavailable(ErrorCode::StoreUnavailable, error),
            ConfigStoreError::Corrupt(_) => {
                tracing::error!(code = %ErrorCode::StoreDamaged, %error, "a request failed because of damaged data");
                Self::new(Kind::Internal, ErrorCode::StoreDamaged, error.to_string())
            }
        }
    }
}

impl From<SegmentQueryError> for Problem {
    fn from(error: SegmentQueryError) -> Self {
        match error {
            SegmentQueryError::NotFound(_) => Self::not_found(ErrorCode::NotFound, error.to_string()),
            SegmentQueryError::Refused { code, message } => Self::invalid(code, message),
            SegmentQueryError::TooLarge => Self::too_much(ErrorCode::QueryTooLarge, error),
            SegmentQueryError::TooSlow(_) => Self::too_much(ErrorCode::QueryTooSlow, error),
            SegmentQueryError::Behind(_) => Self::behind(error),
            SegmentQueryError::Unavailable(_) => Self::unavailable(ErrorCode::EngineUnavailable, error),
            SegmentQueryError::Warehouse(_) => Self::unavailable(ErrorCode::WarehouseUnavailable, error),
            SegmentQueryError::Failed(_) => Self::internal(error),
        }
    }
}

//! Reads the fields of an event, by the same rules where it comes in and where its record is decoded.

use segment_engine::decimal::Decimal;
use segment_engine::schema::EventColumn;
use segment_engine::time::Timestamp;

use super::instant;
use super::json::{Json, Kind};

use crate::ErrorCode;

/// Why a field cannot be read. The messages do not quote the value: it may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// For programs.
    pub code: ErrorCode,
    /// Says what to do.
    pub message: String,
}

impl FieldError {
    /// The error for a value of a kind that the field cannot have.
    pub fn wrong_type(field: &str, wanted: &str, found: Kind) -> Self {
        Self { code: ErrorCode::InvalidField, message: format!("`{field}` must be {wanted}, not {}", found.name()) }
    }
}

/// Reads a string; null is `None`.
pub fn string<'a>(field: &str, value: Json<'a>) -> Result<Option<Json<'a>>, FieldError> {
    match value.kind() {
        Kind::String => Ok(Some(value)),
        Kind::Null => Ok(None),
        other => Err(FieldError::wrong_type(field, "a string or null", other)),
    }
}

/// Reads a decimal column: a number, or a number in a string. `""` and null are `None`.
pub fn decimal(column: EventColumn, value: Json<'_>) -> Result<Option<Decimal>, FieldError> {
    let text = match value.kind() {
        Kind::Null => return Ok(None),
        Kind::Number => value.raw().into(),
        Kind::String => value.text().unwrap_or_default(),
        other => return Err(FieldError::wrong_type(column.field(), "a number, or a string with one", other)),
    };
    if text.is_empty() {
        return Ok(None);
    }
    Decimal::parse(&text).map(Some).ok_or_else(|| FieldError {
        code: match column {
            EventColumn::OrderTotal => ErrorCode::InvalidOrderTotal,
            _ => ErrorCode::InvalidField,
        },
        message: format!(
            "`{}` must be a decimal number with at most 29 digits before the point, as a number or a string; leave it out or \
             send \"\" if there is none",
            column.field()
        ),
    })
}

/// Reads `created_at`, a time; null is `None`.
pub fn created_at(value: Json<'_>) -> Result<Option<Timestamp>, FieldError> {
    let read = match value.kind() {
        Kind::Null => return Ok(None),
        Kind::String => value.text().and_then(|text| instant::parse(&text)),
        other => return Err(FieldError::wrong_type("created_at", "a string", other)),
    };
    read.map(Some).ok_or_else(|| FieldError {
        code: ErrorCode::InvalidCreatedAt,
        message: "`created_at` must be a time like 2023-10-31T00:00:00 (UTC) or 2023-10-31T02:00:00.5+02:00, in the years 0000 to 9999 in UTC; leave it out to use the time of receipt".to_owned(),
    })
}

//! Checks the fields of request bodies. What records of the log cannot hold is refused here: it
//! would be saved, and then no worker could read it.

use ports::ErrorCode;
use ports::records::json::Reader;
use serde::{Deserialize, Deserializer};
use uss_http::Problem;

/// The longest name, title, email, tag, code or id, in bytes.
pub(crate) const FIELD_BYTES_MAX: usize = 1_024;
/// The longest description, in bytes.
pub(crate) const DESCRIPTION_BYTES_MAX: usize = 16_384;

/// Distinguishes an absent field (`None`) from one that is null (`Some(None)`). Use with
/// `#[serde(default)]`.
pub(crate) fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    field: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(field).map(Some)
}

/// Checks a name: not empty, not longer than [`FIELD_BYTES_MAX`], no control characters.
pub(crate) fn name(field: &str, value: &str) -> Result<(), Problem> {
    if value.trim().is_empty() {
        return Err(refused(field, "must not be empty; leave it out or give it a value"));
    }
    if value.len() > FIELD_BYTES_MAX {
        return Err(refused(field, &format!("must not be longer than {FIELD_BYTES_MAX} bytes")));
    }
    if value.chars().any(char::is_control) {
        return Err(refused(field, "must not contain control characters"));
    }
    Ok(())
}

/// Like [`name`], for a field that may be null or absent.
pub(crate) fn optional_name(field: &str, value: Option<&str>) -> Result<(), Problem> {
    value.map_or(Ok(()), |value| name(field, value))
}

/// Checks a tag: like [`name`], and fit for paths and for `segment('…')`.
pub(crate) fn tag(field: &str, value: &str) -> Result<(), Problem> {
    name(field, value)?;
    if value.chars().any(|c| c.is_whitespace() || matches!(c, '/' | '\'' | '"' | '?' | '#' | '%' | '\\')) {
        return Err(refused(field, "must not contain blanks, quotes or any of / ? # % \\; use _ or -"));
    }
    Ok(())
}

/// Checks a description, which may be empty.
pub(crate) fn description(description: Option<&str>) -> Result<(), Problem> {
    let Some(description) = description else { return Ok(()) };
    if description.len() > DESCRIPTION_BYTES_MAX {
        return Err(refused("description", &format!("must not be longer than {DESCRIPTION_BYTES_MAX} bytes")));
    }
    string("description", description)
}

/// Checks that a record can hold the string.
pub(crate) fn string(field: &str, value: &str) -> Result<(), Problem> {
    if value.contains('\0') {
        return Err(refused(field, "must not contain the character NUL (\\u0000); leave it out"));
    }
    Ok(())
}

/// Checks that a record can hold the JSON: the reader of records must accept it.
pub(crate) fn json(field: &str, json: &str) -> Result<(), Problem> {
    let mut reader = Reader::new(json);
    let read = reader.value().and_then(|_| reader.end());
    read.map_err(|error| refused(field, &format!("has {error}; send it without")))
}

fn refused(field: &str, why: &str) -> Problem {
    Problem::invalid(ErrorCode::InvalidField, format!("{field} {why}")).with("field", field)
}

//! The values and types of the language.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::decimal::Decimal;
use crate::time::{Interval, Timestamp};

/// The type of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Type {
    /// `boolean`.
    Bool,
    /// `bigint`: counts, whole numbers.
    Int,
    /// `numeric`: DECIMAL(38,9), for every fractional number.
    Decimal,
    /// `text`, compared by bytes.
    Text,
    /// `timestamptz`: an instant.
    Timestamp,
    /// `timestamp`: a time on a calendar and a clock, in no zone.
    LocalTimestamp,
    /// `date`.
    Date,
    /// `interval`.
    Interval,
    /// A JSON value on the way to a deeper step.
    Json,
}

/// A value. Equality and order between values of one type are SQL's, NULL aside.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Value {
    /// SQL's NULL, of any type.
    Null,
    /// A boolean.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A fractional number.
    Decimal(Decimal),
    /// Text.
    Text(Arc<str>),
    /// An instant.
    Timestamp(Timestamp),
    /// A local time: microseconds since 1970-01-01 00:00 on that calendar.
    LocalTimestamp(i64),
    /// Days since 1970-01-01.
    Date(i32),
    /// A length of time.
    Interval(Interval),
    /// A JSON value, as its text.
    Json(Arc<str>),
}

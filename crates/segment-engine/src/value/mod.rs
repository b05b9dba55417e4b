//! The values and types of the language.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::decimal::Decimal;
use crate::time::calendar::DAY;
use crate::time::{Interval, Timestamp};

mod arithmetic;
mod cast;
mod operator;

#[cfg(test)]
mod tests;

pub use operator::{ArithmeticOp, CompareOp};

/// The type of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// A JSON value, for further steps and tests.
    Json,
}

impl Type {
    /// Whether it is one of the three types of points in time.
    pub fn is_time(self) -> bool {
        matches!(self, Type::Timestamp | Type::LocalTimestamp | Type::Date)
    }
}

/// A value.
///
/// `==` and the hash compare the representation, because equality of plans needs that. SQL's
/// comparison is [`sql_cmp`](Value::sql_cmp). Between [`distinct_key`](Value::distinct_key)s, `==`
/// is SQL's equality too.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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

impl Value {
    /// Returns how many bytes of text it refers to.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Value::Text(text) | Value::Json(text) => text.len(),
            _ => 0,
        }
    }

    /// Whether it is NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// Returns the truth of a condition; `None` for NULL and for values that are not boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(truth) => Some(*truth),
            _ => None,
        }
    }

    /// Whether a condition is TRUE, as `WHERE` needs it: NULL is not.
    pub fn is_true(&self) -> bool {
        matches!(self, Value::Bool(true))
    }

    /// Compares as SQL does; `None` if either value is NULL, or if the types do not compare. Int
    /// and Decimal compare as numbers, the three time types as instants in UTC (a date as its
    /// midnight), text by bytes, intervals with months of 30 days.
    pub fn sql_cmp(&self, other: &Value) -> Option<Ordering> {
        match (self, other) {
            (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
            (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
            (Value::Text(left), Value::Text(right)) => Some(left.cmp(right)),
            (Value::Interval(left), Value::Interval(right)) => Some(left.sql_cmp(*right)),
            _ => match (self.instant(), other.instant()) {
                (Some(left), Some(right)) => Some(left.cmp(&right)),
                _ => Some(self.decimal()?.cmp(&other.decimal()?)),
            },
        }
    }

    /// `self op other`; NULL if either is.
    pub fn compare(&self, op: CompareOp, other: &Value) -> Value {
        self.sql_cmp(other).map(|ordering| op.holds(ordering)).into()
    }

    /// `IS NOT DISTINCT FROM`: equality that takes NULL as a value.
    pub fn not_distinct(&self, other: &Value) -> bool {
        match (self.is_null(), other.is_null()) {
            (false, false) => self.sql_cmp(other) == Some(Ordering::Equal),
            (left, right) => left == right,
        }
    }

    /// Returns one representative of all values that are equal in SQL, for `DISTINCT`. Only for
    /// intervals is it another value: `1 month` equals `30 days`.
    pub fn distinct_key(self) -> Value {
        match self {
            Value::Interval(interval) => Value::Interval(interval.normalized().unwrap_or(interval)),
            other => other,
        }
    }

    /// Three-valued `NOT`.
    pub fn negation(&self) -> Value {
        self.as_bool().map(|truth| !truth).into()
    }

    /// Three-valued `AND`: FALSE wins over NULL.
    pub fn and(&self, other: &Value) -> Value {
        match (self.as_bool(), other.as_bool()) {
            (Some(false), _) | (_, Some(false)) => Value::Bool(false),
            (Some(true), Some(true)) => Value::Bool(true),
            _ => Value::Null,
        }
    }

    /// Three-valued `OR`: TRUE wins over NULL.
    pub fn or(&self, other: &Value) -> Value {
        match (self.as_bool(), other.as_bool()) {
            (Some(true), _) | (_, Some(true)) => Value::Bool(true),
            (Some(false), Some(false)) => Value::Bool(false),
            _ => Value::Null,
        }
    }

    /// Returns the microseconds since 1970-01-01 00:00 for the three time types. Wide, since a date
    /// can be further away than an instant.
    pub(crate) fn instant(&self) -> Option<i128> {
        match self {
            Value::Timestamp(Timestamp(micros)) | Value::LocalTimestamp(micros) => Some(i128::from(*micros)),
            Value::Date(days) => Some(i128::from(*days) * i128::from(DAY)),
            _ => None,
        }
    }

    fn decimal(&self) -> Option<Decimal> {
        match self {
            Value::Int(number) => Some(Decimal::from_int(*number)),
            Value::Decimal(number) => Some(*number),
            _ => None,
        }
    }
}

impl From<Option<bool>> for Value {
    fn from(truth: Option<bool>) -> Value {
        truth.map_or(Value::Null, Value::Bool)
    }
}

impl From<Option<Decimal>> for Value {
    fn from(number: Option<Decimal>) -> Value {
        number.map_or(Value::Null, Value::Decimal)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text.into())
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Value {
        text.map_or(Value::Null, Value::from)
    }
}

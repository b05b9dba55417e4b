//! Casts as in Postgres, except that a cast that fails gives NULL.

use std::sync::Arc;

use super::{Type, Value};
use crate::decimal::Decimal;
use crate::time::{self, Interval, Timestamp, calendar};

impl Value {
    /// Returns the value as another type; NULL if that is not possible. Local times and dates are
    /// taken as UTC, and fractions are rounded to whole numbers half away from zero.
    pub fn cast(&self, to: Type) -> Value {
        let result = match to {
            Type::Text => self.to_text().map(Value::Text),
            Type::Bool => self.to_bool().map(Value::Bool),
            Type::Int => self.to_int().map(Value::Int),
            Type::Decimal => self.to_decimal().map(Value::Decimal),
            Type::Timestamp => self.to_instant().map(Value::Timestamp),
            Type::LocalTimestamp => self.to_local().map(Value::LocalTimestamp),
            Type::Date => self.to_date().map(Value::Date),
            Type::Interval => self.to_interval().map(Value::Interval),
            Type::Json => match self {
                Value::Json(_) => Some(self.clone()),
                _ => None,
            },
        };
        result.unwrap_or(Value::Null)
    }

    /// Returns the value as an integer of this many bytes; NULL outside its range, and where
    /// [`cast`](Value::cast) gives NULL.
    pub fn cast_int(&self, bytes: u8) -> Value {
        let bits = u32::from(bytes) * 8;
        match self.to_int() {
            // The number fits if extending the sign of its lowest bits gives it back.
            Some(number) if bits >= 64 || number << (64 - bits) >> (64 - bits) == number => Value::Int(number),
            _ => Value::Null,
        }
    }

    fn to_text(&self) -> Option<Arc<str>> {
        Some(match self {
            Value::Null => return None,
            Value::Text(text) | Value::Json(text) => Arc::clone(text),
            Value::Bool(truth) => truth.to_string().into(),
            Value::Int(number) => number.to_string().into(),
            Value::Decimal(number) => number.to_string().into(),
            Value::Timestamp(instant) => instant.sql_text().into(),
            Value::LocalTimestamp(micros) => time::local_text(*micros).into(),
            Value::Date(days) => time::date_text(*days).into(),
            Value::Interval(interval) => interval.to_string().into(),
        })
    }

    fn to_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(truth) => Some(*truth),
            Value::Int(number) => Some(*number != 0),
            Value::Text(text) => parse_bool(text),
            _ => None,
        }
    }

    fn to_int(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            Value::Bool(truth) => Some(i64::from(*truth)),
            Value::Decimal(number) => number.to_int(),
            Value::Text(text) => trim(text).parse().ok(),
            _ => None,
        }
    }

    fn to_decimal(&self) -> Option<Decimal> {
        match self {
            Value::Text(text) => Decimal::parse(text),
            other => other.decimal(),
        }
    }

    fn to_instant(&self) -> Option<Timestamp> {
        match self {
            Value::Text(text) => Timestamp::parse(text),
            other => other.calendar_micros().map(Timestamp),
        }
    }

    fn to_local(&self) -> Option<i64> {
        match self {
            Value::Text(text) => time::parse_local(text),
            other => other.calendar_micros(),
        }
    }

    fn to_date(&self) -> Option<i32> {
        match self {
            Value::Text(text) => time::parse_date(text),
            Value::Date(days) => Some(*days),
            other => i32::try_from(calendar::split(other.calendar_micros()?).0).ok(),
        }
    }

    fn to_interval(&self) -> Option<Interval> {
        match self {
            Value::Interval(interval) => Some(*interval),
            Value::Text(text) => Interval::parse(text),
            _ => None,
        }
    }
}

/// Removes the blanks that Postgres ignores around a number or a boolean.
fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\n', '\r', '\u{b}', '\u{c}'])
}

/// Reads Postgres' words: any unambiguous prefix of true, false, yes, no, on, off, in any case; 1
/// and 0.
fn parse_bool(text: &str) -> Option<bool> {
    const WORDS: [(&str, usize, bool); 8] = [
        ("true", 1, true),
        ("false", 1, false),
        ("yes", 1, true),
        ("no", 1, false),
        ("on", 2, true),
        ("off", 2, false),
        ("1", 1, true),
        ("0", 1, false),
    ];
    let text = trim(text).to_ascii_lowercase();
    let found = WORDS.iter().find(|(word, least, _)| text.len() >= *least && word.starts_with(&text));
    found.map(|(_, _, truth)| *truth)
}

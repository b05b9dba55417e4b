//! Arithmetic. A result beyond the range of its type is NULL, as is a division by zero.

use super::{ArithmeticOp, Value};
use crate::decimal::Decimal;
use crate::time::calendar::{self, DAY};
use crate::time::{Interval, Timestamp};

impl Value {
    /// Returns `left op right`; NULL if either is NULL, on overflow, on division by zero, and for
    /// types without this operator.
    pub fn arithmetic(op: ArithmeticOp, left: &Value, right: &Value) -> Value {
        numbers(op, left, right).or_else(|| times(op, left, right)).unwrap_or(Value::Null)
    }

    /// `-x`; NULL on overflow.
    pub fn negate(&self) -> Value {
        match self {
            Value::Int(number) => number.checked_neg().map_or(Value::Null, Value::Int),
            Value::Decimal(number) => number.checked_neg().into(),
            Value::Interval(interval) => interval.checked_neg().map_or(Value::Null, Value::Interval),
            _ => Value::Null,
        }
    }

    /// `abs(x)`; NULL on overflow.
    pub fn abs(&self) -> Value {
        match self {
            Value::Int(number) => number.checked_abs().map_or(Value::Null, Value::Int),
            Value::Decimal(number) => number.checked_abs().into(),
            _ => Value::Null,
        }
    }

    /// `round(x, places)`, half away from zero; NULL on overflow.
    pub fn round(&self, places: u8) -> Value {
        match self {
            Value::Int(number) => Value::Int(*number),
            Value::Decimal(number) => number.round(places).into(),
            _ => Value::Null,
        }
    }
}

fn numbers(op: ArithmeticOp, left: &Value, right: &Value) -> Option<Value> {
    if let (Value::Int(left), Value::Int(right)) = (left, right) {
        return match op {
            ArithmeticOp::Add => left.checked_add(*right).map(Value::Int),
            ArithmeticOp::Sub => left.checked_sub(*right).map(Value::Int),
            ArithmeticOp::Mul => left.checked_mul(*right).map(Value::Int),
            ArithmeticOp::Div => Decimal::from_int(*left).checked_div(Decimal::from_int(*right)).map(Value::Decimal),
        };
    }
    let (left, right) = (left.decimal()?, right.decimal()?);
    let result = match op {
        ArithmeticOp::Add => left.checked_add(right),
        ArithmeticOp::Sub => left.checked_sub(right),
        ArithmeticOp::Mul => left.checked_mul(right),
        ArithmeticOp::Div => left.checked_div(right),
    };
    result.map(Value::Decimal)
}

fn times(op: ArithmeticOp, left: &Value, right: &Value) -> Option<Value> {
    match (op, left, right) {
        (ArithmeticOp::Add, Value::Interval(left), Value::Interval(right)) => {
            left.checked_add(*right).map(Value::Interval)
        }
        (ArithmeticOp::Sub, Value::Interval(left), Value::Interval(right)) => {
            left.checked_sub(*right).map(Value::Interval)
        }
        (ArithmeticOp::Add, time, Value::Interval(interval)) | (ArithmeticOp::Add, Value::Interval(interval), time) => {
            shifted(time, *interval)
        }
        (ArithmeticOp::Sub, time, Value::Interval(interval)) => shifted(time, interval.checked_neg()?),
        (ArithmeticOp::Add, Value::Date(date), Value::Int(days)) => moved_date(*date, *days),
        (ArithmeticOp::Add, Value::Int(days), Value::Date(date)) => moved_date(*date, *days),
        (ArithmeticOp::Sub, Value::Date(date), Value::Int(days)) => moved_date(*date, days.checked_neg()?),
        (ArithmeticOp::Sub, Value::Date(left), Value::Date(right)) => {
            Some(Value::Int(i64::from(*left) - i64::from(*right)))
        }
        (ArithmeticOp::Sub, left, right) => {
            let micros = i64::try_from(left.instant()? - right.instant()?).ok()?;
            Interval::from_difference(micros.into()).map(Value::Interval)
        }
        _ => None,
    }
}

/// Returns `time + interval`. For a date it is a local time, counted from midnight.
fn shifted(time: &Value, interval: Interval) -> Option<Value> {
    match time {
        Value::Timestamp(instant) => instant.checked_add(interval).map(Value::Timestamp),
        Value::LocalTimestamp(micros) => calendar::add(*micros, interval).map(Value::LocalTimestamp),
        Value::Date(days) => {
            let midnight = calendar::within_time(i64::from(*days).checked_mul(DAY)?)?;
            calendar::add(midnight, interval).map(Value::LocalTimestamp)
        }
        _ => None,
    }
}

fn moved_date(date: i32, days: i64) -> Option<Value> {
    calendar::within_dates(i64::from(date).checked_add(days)?).map(Value::Date)
}

impl Value {
    /// Returns a time, or the midnight of a date, as microseconds on its calendar; `None` for other
    /// types and for dates after the end of time.
    pub(crate) fn calendar_micros(&self) -> Option<i64> {
        match self {
            Value::Timestamp(Timestamp(micros)) | Value::LocalTimestamp(micros) => Some(*micros),
            Value::Date(days) => i64::from(*days).checked_mul(DAY).and_then(calendar::within_time),
            _ => None,
        }
    }
}

//! The scalar functions.

use super::{Scope, evaluate, letters};
use crate::plan::{CompareOp, Expr, Field, Function, Unit, Zone};
use crate::time::{Timestamp, calendar, is_within_written_years};
use crate::value::Value;

/// Returns the value of a call. NULL for a NULL argument, except for `nullif`.
pub(super) fn call<S: Scope>(function: &Function, arguments: &[Expr], scope: &mut S) -> Value {
    if *function == Function::JsonArrayLength {
        let items = scope.borrowed_json(&arguments[0]).and_then(serde_json::Value::as_array);
        return items.map_or(Value::Null, |items| Value::Int(items.len() as i64));
    }
    let first = evaluate(&arguments[0], scope);
    match function {
        Function::Lower => text(&first, letters::lower),
        Function::Upper => text(&first, letters::upper),
        Function::Length => match &first {
            Value::Text(text) => Value::Int(text.chars().count() as i64),
            _ => Value::Null,
        },
        Function::StartsWith => match (&first, evaluate(&arguments[1], scope)) {
            (Value::Text(text), Value::Text(start)) => Value::Bool(text.starts_with(&*start)),
            _ => Value::Null,
        },
        Function::Round(places) => first.round(*places),
        Function::Abs => first.abs(),
        Function::NullIf => {
            let second = evaluate(&arguments[1], scope);
            if first.compare(CompareOp::Eq, &second).is_true() { Value::Null } else { first }
        }
        Function::DateTrunc(unit) => date_trunc(*unit, &first),
        Function::Extract(field) => extract(*field, &first),
        Function::AtTimeZone(zone) => at_time_zone(zone, &first),
        Function::ToTimestamp => to_timestamp(&first),
        Function::Concat
        | Function::Trim(_)
        | Function::Left
        | Function::Right
        | Function::Substring
        | Function::SplitPart
        | Function::Replace
        | Function::StrPos => {
            let rest = arguments[1..].iter().map(|argument| evaluate(argument, scope)).collect::<Vec<_>>();
            super::text::call(function, &first, &rest).unwrap_or(Value::Null)
        }
        Function::JsonArrayLength => unreachable!("handled above, without a copy of the list"),
    }
}

/// Converts seconds since 1970. Digits beyond microseconds are cut off, as in times read from text.
fn to_timestamp(seconds: &Value) -> Value {
    let micros = match seconds {
        Value::Decimal(seconds) => i64::try_from(seconds.scaled().div_euclid(1_000)).ok(),
        _ => None,
    };
    let micros = micros.filter(|micros| is_within_written_years(*micros));
    micros.map_or(Value::Null, |micros| Value::Timestamp(Timestamp(micros)))
}

fn text(value: &Value, change: impl Fn(&str) -> String) -> Value {
    match value {
        Value::Text(text) => Value::Text(change(text).into()),
        _ => Value::Null,
    }
}

/// Returns `date_trunc(unit, x)`, of the type of `x`.
pub(crate) fn date_trunc(unit: Unit, x: &Value) -> Value {
    let floor = x.calendar_micros().and_then(|micros| unit.floor(micros)).and_then(calendar::within_time);
    let Some(floor) = floor else { return Value::Null };
    match x {
        Value::Timestamp(_) => Value::Timestamp(Timestamp(floor)),
        Value::Date(_) => Value::LocalTimestamp(floor).cast(crate::value::Type::Date),
        _ => Value::LocalTimestamp(floor),
    }
}

/// `extract(field FROM x)`.
pub(crate) fn extract(field: Field, x: &Value) -> Value {
    match x {
        Value::Interval(interval) => field.of_interval(*interval).into(),
        time => time.calendar_micros().map(|micros| field.of_time(micros)).into(),
    }
}

/// `x AT TIME ZONE zone`.
pub(crate) fn at_time_zone(zone: &Zone, x: &Value) -> Value {
    match x {
        Value::Timestamp(Timestamp(instant)) => Value::LocalTimestamp(zone.to_local(*instant)),
        Value::LocalTimestamp(local) => Value::Timestamp(Timestamp(zone.to_instant(*local))),
        _ => Value::Null,
    }
}

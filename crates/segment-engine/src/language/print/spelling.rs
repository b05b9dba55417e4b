//! The spelling of constants, units and types.

use crate::language::quote::quoted;
use crate::time::Interval;
use crate::value::{Type, Value};

/// Returns a constant, with its type where the spelling does not show it.
pub(super) fn literal(value: &Value, ty: Type) -> String {
    match value {
        Value::Null => format!("NULL::{}", type_name(ty)),
        Value::Bool(true) => "TRUE".to_owned(),
        Value::Bool(false) => "FALSE".to_owned(),
        // Without its sign this number does not fit 64 bits.
        Value::Int(i64::MIN) => format!("'{}'::bigint", i64::MIN),
        Value::Int(number) => number.to_string(),
        Value::Decimal(number) => {
            let digits = number.to_string();
            if digits.contains('.') { digits } else { format!("{digits}.0") }
        }
        Value::Text(text) => quoted(text),
        Value::Interval(interval) => interval_literal(*interval),
        Value::Timestamp(_) => format!("TIMESTAMPTZ {}", quoted(&text_of(value))),
        Value::LocalTimestamp(_) => format!("TIMESTAMP {}", quoted(&text_of(value))),
        Value::Date(_) => format!("DATE {}", quoted(&text_of(value))),
        Value::Json(json) => quoted(json),
    }
}

pub(super) fn interval_literal(interval: Interval) -> String {
    const UNITS: [(i64, &str); 3] = [(3_600_000_000, "hour"), (60_000_000, "minute"), (1_000_000, "second")];
    let (months, days, micros) = (i64::from(interval.months), i64::from(interval.days), interval.micros);
    let months = if months % 12 == 0 { (months / 12, "year") } else { (months, "month") };
    let micros = match UNITS.iter().find(|(length, _)| micros % length == 0) {
        Some((length, unit)) => (micros / length, *unit),
        None => (micros, "microsecond"),
    };
    let parts: Vec<String> = [months, (days, "day"), micros]
        .into_iter()
        .filter(|(number, _)| *number != 0)
        .map(|(number, unit)| format!("{number} {unit}{}", if number == 1 { "" } else { "s" }))
        .collect();
    if parts.is_empty() { "INTERVAL '0 days'".to_owned() } else { format!("INTERVAL '{}'", parts.join(" ")) }
}

/// Returns an interval of this many microseconds, as days and the rest.
pub(super) fn fixed_interval(micros: i64) -> String {
    let interval = Interval::from_difference(micros.into()).expect("the days of 64 bits of microseconds fit 32 bits");
    interval_literal(interval)
}

fn text_of(value: &Value) -> String {
    match value.cast(Type::Text) {
        Value::Text(text) => text.to_string(),
        _ => String::new(),
    }
}

pub(super) fn text_array(texts: &[String]) -> String {
    format!("array[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "))
}

pub(super) fn type_name(ty: Type) -> &'static str {
    match ty {
        Type::Bool => "boolean",
        Type::Int => "bigint",
        Type::Decimal => "numeric",
        Type::Text => "text",
        Type::Timestamp => "timestamptz",
        Type::LocalTimestamp => "timestamp",
        Type::Date => "date",
        Type::Interval => "interval",
        Type::Json => "jsonb",
    }
}

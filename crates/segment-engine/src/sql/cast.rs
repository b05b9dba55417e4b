//! Constants and casts. Postgres and DuckDB read and print text differently, so macros convert
//! text.

use crate::sql::text::{call, quoted};
use crate::sql::time;
use crate::value::{Type, Value};

/// Returns a constant. NULL gets its type, so that DuckDB chooses the same operators as for other
/// values.
pub(super) fn literal_sql(value: &Value, ty: Type) -> String {
    match value {
        Value::Null => format!("CAST(NULL AS {})", type_name(ty)),
        Value::Bool(true) => "TRUE".to_owned(),
        Value::Bool(false) => "FALSE".to_owned(),
        Value::Int(number) => format!("({number})::BIGINT"),
        Value::Decimal(number) => format!("'{number}'::DECIMAL(38,9)"),
        Value::Text(text) => quoted(text),
        Value::Timestamp(instant) => time::timestamp(*instant),
        Value::LocalTimestamp(micros) => format!("make_timestamp({micros}::BIGINT)"),
        Value::Date(days) => format!("(DATE '1970-01-01' + ({days}))"),
        Value::Interval(length) => time::interval(length),
        Value::Json(json) => format!("{}::JSON", quoted(json)),
    }
}

fn type_name(ty: Type) -> &'static str {
    match ty {
        Type::Bool => "BOOLEAN",
        Type::Int => "BIGINT",
        Type::Decimal => "DECIMAL(38,9)",
        Type::Text => "VARCHAR",
        Type::Timestamp => "TIMESTAMPTZ",
        Type::LocalTimestamp => "TIMESTAMP",
        Type::Date => "DATE",
        Type::Interval => "INTERVAL",
        Type::Json => "JSON",
    }
}

/// Returns `CAST(x AS to)`; NULL where it fails.
pub(super) fn cast_sql(x: &str, from: Type, to: Type) -> String {
    match (from, to) {
        _ if from == to => x.to_owned(),
        (Type::Text, Type::Bool) => call("text_to_bool", &[x]),
        (Type::Text, Type::Int) => call("text_to_int", &[x]),
        (Type::Text, Type::Decimal) => call("text_to_decimal", &[x]),
        (Type::Text, Type::Timestamp) => call("text_to_instant", &[x]),
        (Type::Text, Type::LocalTimestamp) => call("text_to_local", &[x]),
        (Type::Text, Type::Date) => call("text_to_date", &[x]),
        (Type::Text, Type::Interval) => call("text_to_interval", &[x]),
        (Type::Decimal, Type::Text) => call("decimal_to_text", &[x]),
        (Type::Timestamp, Type::Text) => call("instant_to_text", &[&time::as_local(x, from)]),
        (Type::LocalTimestamp | Type::Date, Type::Text) => call("time_to_text", &[x]),
        (Type::Interval, Type::Text) => call("interval_to_text", &[x]),
        (_, Type::Timestamp) => time::as_instant(x, from),
        (_, Type::LocalTimestamp) => time::as_local(x, from),
        (Type::Timestamp, Type::Date) => format!("CAST({} AS DATE)", time::as_local(x, from)),
        _ => format!("TRY_CAST({x} AS {})", type_name(to)),
    }
}

/// Returns a cast to a whole number of 4 or 2 bytes; NULL outside its range. It does not use
/// `TRY_CAST`: DuckDB 1.5.6 drops a narrowing `TRY_CAST` from a comparison with a constant, and with it
/// the NULL.
pub(super) fn cast_int_sql(x: &str, from: Type, bytes: u8) -> String {
    call(if bytes == 2 { "int2" } else { "int4" }, &[&cast_sql(x, from, Type::Int)])
}

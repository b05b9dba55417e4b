//! Times in SQL. Every step on an instant goes through UTC explicitly, so that the session's time zone is never asked.

use crate::plan::{NowExpr, NowStep};
use crate::sql::text::{call, quoted};
use crate::time::{Field, Interval, Timestamp, Unit};
use crate::value::Type;

/// An instant as a constant.
pub fn timestamp(instant: Timestamp) -> String {
    format!("make_timestamptz({}::BIGINT)", instant.0)
}

/// An interval as a constant.
pub fn interval(interval: &Interval) -> String {
    format!("(to_months({}) + to_days({}) + to_microseconds({}))", interval.months, interval.days, interval.micros)
}

/// A time of one of the three types as an instant: a local time is read in UTC, a date as its midnight.
pub fn as_instant(sql: &str, ty: Type) -> String {
    match ty {
        Type::LocalTimestamp => format!("({sql} AT TIME ZONE 'UTC')"),
        Type::Date => format!("(CAST({sql} AS TIMESTAMP) AT TIME ZONE 'UTC')"),
        _ => sql.to_owned(),
    }
}

/// A time of one of the three types as a local time in UTC.
pub fn as_local(sql: &str, ty: Type) -> String {
    match ty {
        Type::Timestamp => format!("({sql} AT TIME ZONE 'UTC')"),
        Type::Date => format!("CAST({sql} AS TIMESTAMP)"),
        _ => sql.to_owned(),
    }
}

/// `time operator interval`: of an instant an instant (days and months in UTC), of a local time or date a local time.
pub fn shifted(time: &str, ty: Type, operator: char, interval: &str) -> String {
    let local = format!("({} {operator} {interval})", as_local(time, ty));
    match ty {
        Type::Timestamp => format!("TRY({})", as_instant(&local, Type::LocalTimestamp)),
        _ => format!("TRY{local}"),
    }
}

/// `date_trunc(unit, time)`, keeping the type of an instant (in UTC) and of a local time.
pub fn truncated(unit: Unit, time: &str, ty: Type) -> String {
    let local = format!("date_trunc('{}', {})", unit.name(), as_local(time, ty));
    match ty {
        Type::Timestamp => as_instant(&local, Type::LocalTimestamp),
        _ => local,
    }
}

/// `extract(field FROM …)` of a time as a DECIMAL(38,9): seconds have their fraction, as in Postgres.
pub fn extracted(field: Field, time: &str, ty: Type) -> String {
    let local = as_local(time, ty);
    let millionths = |micros: String| call("millionths", &[&micros]);
    let name = match field {
        Field::Epoch => return millionths(format!("epoch_us({local})")),
        Field::Second => return millionths(format!("extract(microsecond FROM {local})")),
        Field::Millisecond => return millionths(format!("extract(microsecond FROM {local}) * 1000")),
        other => other.name(),
    };
    format!("CAST(extract({name} FROM {local}) AS DECIMAL(38,9))")
}

/// `extract(epoch FROM interval)`: a year has 365¼ days, a month left over 30, as in Postgres.
pub fn interval_seconds(interval: &str) -> String {
    let micros = format!(
        "(extract(year FROM {interval}) * 31557600000000 + extract(month FROM {interval}) * 2592000000000 \
         + extract(day FROM {interval}) * 86400000000 + extract(hour FROM {interval}) * 3600000000 \
         + extract(minute FROM {interval}) * 60000000 + extract(microsecond FROM {interval}))"
    );
    format!("TRY({})", call("millionths", &[&micros]))
}

/// `g(now())`, from now as a constant.
pub fn bound(bound: &NowExpr, now: Timestamp) -> String {
    let mut sql = timestamp(now);
    let mut ty = Type::Timestamp;
    for (done, step) in bound.steps.iter().enumerate() {
        sql = match step {
            NowStep::Add(by) => shifted(&sql, ty, '+', &interval(by)),
            NowStep::Trunc(unit) => truncated(*unit, &sql, ty),
            NowStep::AtTimeZone(zone) => at_zone(&sql, zone.name()),
            NowStep::ToDate => format!("CAST({} AS DATE)", as_local(&sql, ty)),
            NowStep::ToLocal => as_local(&sql, ty),
            NowStep::ToTimestamp => as_instant(&sql, ty),
            NowStep::Extract(field) => extracted(*field, &sql, ty),
        };
        ty = NowExpr { steps: bound.steps[..=done].to_vec() }.value_type();
    }
    sql
}

/// `time AT TIME ZONE zone`, both ways: DuckDB tells them apart by the type.
pub fn at_zone(time: &str, zone: &str) -> String {
    format!("({time} AT TIME ZONE {})", quoted(zone))
}

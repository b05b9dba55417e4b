//! Times in SQL. Every step on an instant goes through UTC explicitly, so that the session's time
//! zone does not matter.

use crate::plan::{NowExpr, NowStep};
use crate::sql::text::{call, quoted};
use crate::time::{Field, Interval, Timestamp, Unit};
use crate::value::Type;

/// Returns an instant as a constant.
pub(super) fn timestamp(instant: Timestamp) -> String {
    format!("make_timestamptz({}::BIGINT)", instant.0)
}

/// Returns an interval as a constant.
pub(super) fn interval(interval: &Interval) -> String {
    format!("(to_months({}) + to_days({}) + to_microseconds({}))", interval.months, interval.days, interval.micros)
}

/// Returns a time of any type as an instant: a local time is in UTC, a date is its midnight, which
/// is NULL after the end of time.
pub(super) fn as_instant(sql: &str, ty: Type) -> String {
    match ty {
        Type::LocalTimestamp | Type::Date => format!("make_timestamptz(epoch_us({}))", as_local(sql, ty)),
        _ => sql.to_owned(),
    }
}

/// Returns a time of any type as a local time in UTC; a date as in [`as_instant`].
pub(super) fn as_local(sql: &str, ty: Type) -> String {
    match ty {
        Type::Timestamp => format!("make_timestamp(epoch_us({sql}))"),
        Type::Date => call("midnight", &[sql]),
        _ => sql.to_owned(),
    }
}

/// Returns a time of any type as an instant for comparisons: a date after the end of time is after
/// all instants.
pub(super) fn in_order(sql: &str, ty: Type) -> String {
    match ty {
        Type::Date => call("midnight_in_order", &[sql]),
        _ => as_instant(sql, ty),
    }
}

/// Returns `time operator interval`: for an instant an instant (days and months in UTC), for a
/// local time or date a local time.
pub(super) fn shifted(time: &str, ty: Type, operator: char, interval: &str) -> String {
    let local = call("in_time", &[&format!("TRY({} {operator} {interval})", as_local(time, ty))]);
    match ty {
        Type::Timestamp => as_instant(&local, Type::LocalTimestamp),
        _ => local,
    }
}

/// Returns a date moved by days.
pub(super) fn moved_date(date: &str, operator: char, days: &str) -> String {
    call("in_dates", &[&format!("TRY({date} {operator} CAST({days} AS INTEGER))")])
}

/// Returns `date_trunc(unit, time)`: for an instant an instant (in UTC), for other times a local
/// time.
pub(super) fn truncated(unit: Unit, time: &str, ty: Type) -> String {
    let local = call("in_time", &[&format!("date_trunc('{}', {})", unit.name(), as_local(time, ty))]);
    match ty {
        Type::Timestamp => as_instant(&local, Type::LocalTimestamp),
        _ => local,
    }
}

/// Returns `extract(field FROM …)` of a time as a DECIMAL(38,9): seconds have their fraction, as in
/// Postgres.
pub(super) fn extracted(field: Field, time: &str, ty: Type) -> String {
    let local = as_local(time, ty);
    let millionths = |micros: String| call("millionths", &[&micros]);
    let name = match field {
        Field::Epoch => return millionths(format!("epoch_us({local})")),
        Field::Second => return millionths(format!("extract(microsecond FROM {local})")),
        Field::Millisecond => return millionths(format!("extract(microsecond FROM {local}) * 1000")),
        Field::Year | Field::IsoYear => {
            let year = call("written_year", &[&format!("extract({} FROM {local})", field.name())]);
            return format!("CAST({year} AS DECIMAL(38,9))");
        }
        other => other.name(),
    };
    format!("CAST(extract({name} FROM {local}) AS DECIMAL(38,9))")
}

/// Returns `extract(field FROM interval)`; NULL for the fields that only a date has.
pub(super) fn extracted_from_interval(field: Field, interval: &str) -> String {
    let part = |name: &str| format!("datepart('{name}', {interval})");
    let number = match field {
        Field::Epoch => return call("interval_epoch", &[interval]),
        Field::Second => return call("millionths", &[&part("microsecond")]),
        Field::Millisecond => return call("millionths", &[&format!("{} * 1000", part("microsecond"))]),
        Field::Microsecond | Field::Minute | Field::Hour | Field::Day | Field::Month | Field::Year => {
            part(field.name())
        }
        Field::Quarter => format!("{} // 3 + 1", part("month")),
        Field::DayOfWeek | Field::IsoDayOfWeek | Field::DayOfYear | Field::IsoWeek | Field::IsoYear => {
            "NULL".to_owned()
        }
    };
    format!("CAST({number} AS DECIMAL(38,9))")
}

/// Returns `g(now())`, with now as a constant.
pub(super) fn bound(bound: &NowExpr, now: Timestamp) -> String {
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

/// Returns `time AT TIME ZONE zone`. DuckDB chooses the direction by the type.
pub(super) fn at_zone(time: &str, zone: &str) -> String {
    format!("({time} AT TIME ZONE {})", quoted(zone))
}

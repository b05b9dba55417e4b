//! Comparisons with `now()`: the only way in which time alone changes the truth of a clause.

use super::{CompareOp, Expr};
use crate::time::Interval;
use crate::value::Type;

/// `x op g(now())`, where `x` does not depend on now.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TimeCompare {
    /// The side that does not depend on now: a time, or a number if the bound ends in [`NowStep::Extract`].
    pub x: Expr,
    /// The comparison, `x` on its left.
    pub op: CompareOp,
    /// The side that does.
    pub bound: NowExpr,
}

/// `g(now())`: steps applied to now in order. No step: now itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NowExpr {
    /// The steps, the first one applied first.
    pub steps: Vec<NowStep>,
}

/// One step of a [`NowExpr`]. The value starts as a timestamp.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NowStep {
    /// `± INTERVAL`: of a timestamp (days and months in UTC), of a local timestamp, or of a date (gives a local timestamp).
    Add(Interval),
    /// `date_trunc(unit, …)`: of a timestamp (in UTC) or a local timestamp.
    Trunc(Unit),
    /// `AT TIME ZONE`: a timestamp becomes the local time there, a local timestamp the timestamp.
    AtTimeZone(Zone),
    /// `::date`.
    ToDate,
    /// `::timestamp` (in UTC, or of a date its midnight).
    ToLocal,
    /// `::timestamptz` (a local time or date is taken as UTC).
    ToTimestamp,
    /// `extract(field FROM …)`: a number, only as the last step.
    Extract(Field),
}

impl NowExpr {
    /// The type of `g(now())`.
    pub fn value_type(&self) -> Type {
        self.steps.iter().fold(Type::Timestamp, |ty, step| match step {
            NowStep::Add(_) if ty == Type::Date => Type::LocalTimestamp,
            NowStep::Add(_) | NowStep::Trunc(_) => ty,
            NowStep::AtTimeZone(_) if ty == Type::Timestamp => Type::LocalTimestamp,
            NowStep::AtTimeZone(_) => Type::Timestamp,
            NowStep::ToDate => Type::Date,
            NowStep::ToLocal => Type::LocalTimestamp,
            NowStep::ToTimestamp => Type::Timestamp,
            NowStep::Extract(_) => Type::Decimal,
        })
    }
}

/// An IANA time zone by its canonical name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Zone(pub String);

/// A unit of `date_trunc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the units'")]
pub enum Unit {
    Microsecond,
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    /// From Monday, as ISO 8601 and Postgres have it.
    Week,
    Month,
    Quarter,
    Year,
}

/// A field of `extract`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the fields'")]
pub enum Field {
    Epoch,
    Microsecond,
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    /// Sunday 0 to Saturday 6.
    DayOfWeek,
    /// Monday 1 to Sunday 7.
    IsoDayOfWeek,
    DayOfYear,
    IsoWeek,
    IsoYear,
    Month,
    Quarter,
    Year,
}

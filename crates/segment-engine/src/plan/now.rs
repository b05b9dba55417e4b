//! Comparisons with `now()`: only through them does time change the truth of a clause.

use super::{CompareOp, EventColumn, Expr};
use crate::time::calendar::{self, DAY};
use crate::time::{Field, Interval, OFFSET_MICROS_MAX, Timestamp, Unit, Zone};
use crate::value::{Type, Value};

/// `x op g(now())`, where `x` does not depend on now.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TimeCompare {
    /// The side that does not depend on now: a time, or a number if the bound ends in
    /// [`NowStep::Extract`].
    pub x: Expr,
    /// The comparison, with `x` on the left.
    pub op: CompareOp,
    /// The side that depends on now.
    pub bound: NowExpr,
}

/// `g(now())`: steps that are applied to now in order. Without steps it is now.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NowExpr {
    /// The first step is applied first.
    pub steps: Vec<NowStep>,
}

/// One step of a [`NowExpr`]. The value starts as a timestamp.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NowStep {
    /// `± INTERVAL` on a timestamp (days and months in UTC), a local timestamp, or a date (gives a
    /// local timestamp).
    Add(Interval),
    /// `date_trunc(unit, …)` on a timestamp (in UTC) or a local timestamp.
    Trunc(Unit),
    /// `AT TIME ZONE`: a timestamp becomes a local time, a local time becomes a timestamp.
    AtTimeZone(Zone),
    /// `::date`.
    ToDate,
    /// `::timestamp` (in UTC; a date becomes its midnight).
    ToLocal,
    /// `::timestamptz` (a local time or date is taken as UTC).
    ToTimestamp,
    /// `extract(field FROM …)`: a number, only as the last step.
    Extract(Field),
}

impl NowStep {
    /// Returns the type of the step's value, given that of its operand.
    fn value_type(&self, operand: Type) -> Type {
        match self {
            NowStep::Add(_) if operand == Type::Date => Type::LocalTimestamp,
            NowStep::Add(_) | NowStep::Trunc(_) => operand,
            NowStep::AtTimeZone(_) if operand == Type::Timestamp => Type::LocalTimestamp,
            NowStep::AtTimeZone(_) | NowStep::ToTimestamp => Type::Timestamp,
            NowStep::ToDate => Type::Date,
            NowStep::ToLocal => Type::LocalTimestamp,
            NowStep::Extract(_) => Type::Decimal,
        }
    }

    /// Returns what the step does to the microseconds of an operand of this type.
    fn motion(&self, operand: Type) -> Motion<'_> {
        match self {
            NowStep::Add(interval) if interval.months == 0 => Motion::Shift(interval.fixed_micros()),
            NowStep::Add(interval) => Motion::Months(*interval),
            NowStep::Trunc(unit) => Motion::Floor(*unit),
            NowStep::AtTimeZone(zone) if operand == Type::Timestamp => Motion::ToLocal(zone),
            NowStep::AtTimeZone(zone) => Motion::ToInstant(zone),
            NowStep::ToDate => Motion::Floor(Unit::Day),
            NowStep::ToLocal | NowStep::ToTimestamp | NowStep::Extract(_) => Motion::Shift(0),
        }
    }
}

/// A step as a function of microseconds since 1970-01-01 00:00, for all three time types (a date as
/// its midnight). Results are clamped to 64 bits, whose ends are outside the range of time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Motion<'a> {
    /// Moves by a fixed length.
    Shift(i128),
    /// Moves by an interval with months.
    Months(Interval),
    /// Moves to the start of the unit.
    Floor(Unit),
    /// Converts an instant to local time.
    ToLocal(&'a Zone),
    /// Converts a local time to an instant.
    ToInstant(&'a Zone),
}

impl Motion<'_> {
    /// Returns how far it can move a time.
    fn reach(self) -> i128 {
        match self {
            Motion::Shift(length) => length.abs(),
            Motion::Months(interval) => {
                i128::from(interval.months).abs() * i128::from(31 * DAY) + interval.fixed_micros().abs()
            }
            Motion::Floor(_) => i128::from(366 * DAY),
            Motion::ToLocal(_) | Motion::ToInstant(_) => i128::from(OFFSET_MICROS_MAX),
        }
    }

    /// Whether a result outside the range of time is NULL. Not for a zone's offset, which is only
    /// hours.
    pub(super) fn can_leave_time(self) -> bool {
        match self {
            Motion::Shift(length) => length != 0,
            Motion::Months(_) | Motion::Floor(_) => true,
            Motion::ToLocal(_) | Motion::ToInstant(_) => false,
        }
    }

    pub(super) fn apply(self, micros: i64) -> i64 {
        match self {
            Motion::Shift(length) => calendar::saturate(i128::from(micros) + length),
            Motion::Months(interval) => calendar::add_saturating(micros, interval),
            Motion::Floor(unit) => unit.floor(micros).unwrap_or(i64::MIN),
            Motion::ToLocal(zone) => zone.to_local(micros),
            Motion::ToInstant(zone) => zone.to_instant(micros),
        }
    }
}

impl NowExpr {
    /// Returns the type of `g(now())`.
    pub fn value_type(&self) -> Type {
        self.steps.iter().fold(Type::Timestamp, |ty, step| step.value_type(ty))
    }

    /// Returns `g(now)`; NULL if a step leaves the range of time.
    pub fn value(&self, now: Timestamp) -> Value {
        let Some(micros) = self.micros(now) else { return Value::Null };
        match self.field() {
            Some(field) => Value::Decimal(field.of_time(micros)),
            None => match self.value_type() {
                Type::LocalTimestamp => Value::LocalTimestamp(micros),
                Type::Date => Value::Date(calendar::saturate_days(micros.div_euclid(DAY))),
                _ => Value::Timestamp(Timestamp(micros)),
            },
        }
    }

    /// Returns the field that the last step extracts, if it does.
    pub fn field(&self) -> Option<Field> {
        match self.steps.last() {
            Some(NowStep::Extract(field)) => Some(*field),
            _ => None,
        }
    }

    /// Whether the bound never steps back while now advances. Then the instants at which a `>` or
    /// `<` holds are one interval. Months step back at the ends of months, local times when the
    /// clock is set back.
    pub fn is_non_decreasing(&self) -> bool {
        self.motions().all(|motion| matches!(motion, Motion::Shift(_) | Motion::Floor(_))) && self.field().is_none()
    }

    /// Returns the length in microseconds if the bound is just `now + length`.
    pub fn fixed_shift(&self) -> Option<i128> {
        let length = self.motions().try_fold(0, |sum: i128, motion| match motion {
            Motion::Shift(length) => Some(sum + length),
            _ => None,
        });
        length.filter(|_| self.field().is_none() && self.stays_in_time())
    }

    /// Whether no step leaves the range of time for any realistic now.
    pub(super) fn stays_in_time(&self) -> bool {
        const MARGIN: i128 = 4_000 * 366 * DAY as i128;
        self.motions().map(Motion::reach).sum::<i128>() < MARGIN
    }

    /// Returns the microseconds of `g(now)`, or, if it extracts a field, of the time that the field
    /// is extracted from. `None` if a step leaves the range of time.
    pub(super) fn micros(&self, now: Timestamp) -> Option<i64> {
        self.motions().try_fold(now.0, |micros, motion| {
            let moved = motion.apply(micros);
            if motion.can_leave_time() { calendar::within_time(moved) } else { Some(moved) }
        })
    }

    pub(super) fn motions(&self) -> impl Iterator<Item = Motion<'_>> {
        self.steps.iter().scan(Type::Timestamp, |ty, step| {
            let motion = step.motion(*ty);
            *ty = step.value_type(*ty);
            Some(motion)
        })
    }
}

impl TimeCompare {
    /// Whether `x op g(now)`, given the value of `x`; NULL if that is NULL.
    pub fn truth(&self, x: &Value, now: Timestamp) -> Value {
        x.compare(self.op, &self.bound.value(now))
    }

    /// For `created_at >= now() - length` (or `>`), returns the window: an event counts at every
    /// instant before `created_at` + this many microseconds. `None` for other comparisons.
    pub fn created_at_window(&self) -> Option<i64> {
        match self.op {
            CompareOp::GtEq => self.age_of_created_at(1),
            CompareOp::Gt => self.age_of_created_at(0),
            _ => None,
        }
    }

    /// For `created_at <= now() - length` (or `<`), returns the delay: an event counts from
    /// `created_at` + this many microseconds on. `None` for other comparisons.
    pub fn created_at_delay(&self) -> Option<i64> {
        match self.op {
            CompareOp::LtEq => self.age_of_created_at(0),
            CompareOp::Lt => self.age_of_created_at(1),
            _ => None,
        }
    }

    fn age_of_created_at(&self, beyond: i128) -> Option<i64> {
        if self.x != Expr::Event(EventColumn::CreatedAt) {
            return None;
        }
        i64::try_from(beyond - self.bound.fixed_shift()?).ok()
    }
}

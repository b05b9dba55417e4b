//! A length of time as SQL has it.

use std::cmp::Ordering;

use super::units::DAY;

/// A length of time as SQL has it: months, days and microseconds are kept apart, since neither a month nor (in a zone
/// with daylight saving) a day has a fixed length.
///
/// `==` compares the parts, as equality of plans needs it (a month is not 30 days when it is added);
/// [`sql_cmp`](Interval::sql_cmp) is SQL's comparison (where `1 month = 30 days`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Interval {
    /// Calendar months (a year is 12).
    pub months: i32,
    /// Calendar days.
    pub days: i32,
    /// Everything shorter, in microseconds.
    pub micros: i64,
}

const DAYS_PER_MONTH: i64 = 30;

impl Interval {
    /// An interval of days and less that equals a difference of instants: hours are justified into days, as Postgres'
    /// `timestamp - timestamp` does. `None` if the days are too many.
    pub fn from_difference(micros: i128) -> Option<Interval> {
        let day = i128::from(DAY);
        // Truncating division keeps one sign in both parts.
        Some(Interval { months: 0, days: i32::try_from(micros / day).ok()?, micros: (micros % day) as i64 })
    }

    /// The part of fixed length on a calendar without changes of offset, in microseconds: days (24 h) and the rest.
    pub fn fixed_micros(self) -> i128 {
        i128::from(self.days) * i128::from(DAY) + i128::from(self.micros)
    }

    /// The length by which SQL compares intervals, in microseconds: a month is 30 days, a day 24 hours.
    pub fn comparable_micros(self) -> i128 {
        i128::from(self.months) * i128::from(DAYS_PER_MONTH * DAY) + self.fixed_micros()
    }

    /// SQL's comparison.
    pub fn sql_cmp(self, other: Interval) -> Ordering {
        self.comparable_micros().cmp(&other.comparable_micros())
    }

    /// The one representative of all intervals that SQL calls equal to this one: for grouping and `DISTINCT`, where `==`
    /// and the hash must agree with SQL's equality. `None` if its days are too many for the type.
    pub fn normalized(self) -> Option<Interval> {
        Interval::from_difference(self.comparable_micros())
    }

    /// The sum, part by part.
    pub fn checked_add(self, other: Interval) -> Option<Interval> {
        Some(Interval {
            months: self.months.checked_add(other.months)?,
            days: self.days.checked_add(other.days)?,
            micros: self.micros.checked_add(other.micros)?,
        })
    }

    /// The difference, part by part.
    pub fn checked_sub(self, other: Interval) -> Option<Interval> {
        Some(Interval {
            months: self.months.checked_sub(other.months)?,
            days: self.days.checked_sub(other.days)?,
            micros: self.micros.checked_sub(other.micros)?,
        })
    }

    /// The interval with all parts negated.
    pub fn checked_neg(self) -> Option<Interval> {
        Some(Interval {
            months: self.months.checked_neg()?,
            days: self.days.checked_neg()?,
            micros: self.micros.checked_neg()?,
        })
    }
}

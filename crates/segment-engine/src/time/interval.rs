//! SQL's intervals.

use std::cmp::Ordering;

use super::units::DAY;

/// An interval of SQL. Months, days and microseconds are separate, since neither a month nor, in a
/// zone with daylight saving, a day has a fixed length.
///
/// `==` compares the parts, because equality of plans needs that: adding a month is not adding 30
/// days. [`sql_cmp`](Interval::sql_cmp) is SQL's comparison, where `1 month = 30 days`.
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
    /// Returns the interval of a difference between instants: 24 hours become a day, as in
    /// Postgres' `timestamp - timestamp`. `None` if there are too many days.
    pub fn from_difference(micros: i128) -> Option<Interval> {
        let day = i128::from(DAY);
        // Division truncates, so both parts have the same sign.
        Some(Interval { months: 0, days: i32::try_from(micros / day).ok()?, micros: (micros % day) as i64 })
    }

    /// Returns the microseconds of the days, with 24 hours each, and of the rest.
    pub fn fixed_micros(self) -> i128 {
        i128::from(self.days) * i128::from(DAY) + i128::from(self.micros)
    }

    /// Returns the microseconds by which SQL compares intervals: a month is 30 days, a day 24
    /// hours.
    pub fn comparable_micros(self) -> i128 {
        i128::from(self.months) * i128::from(DAYS_PER_MONTH * DAY) + self.fixed_micros()
    }

    /// Compares as SQL does.
    pub fn sql_cmp(self, other: Interval) -> Ordering {
        self.comparable_micros().cmp(&other.comparable_micros())
    }

    /// Returns one representative of all intervals that are equal in SQL, for `DISTINCT`, where
    /// `==` and the hash must agree with SQL's equality. `None` if there are too many days.
    pub fn normalized(self) -> Option<Interval> {
        Interval::from_difference(self.comparable_micros())
    }

    /// Returns the sum, part by part.
    pub fn checked_add(self, other: Interval) -> Option<Interval> {
        Some(Interval {
            months: self.months.checked_add(other.months)?,
            days: self.days.checked_add(other.days)?,
            micros: self.micros.checked_add(other.micros)?,
        })
    }

    /// Returns the difference, part by part.
    pub fn checked_sub(self, other: Interval) -> Option<Interval> {
        Some(Interval {
            months: self.months.checked_sub(other.months)?,
            days: self.days.checked_sub(other.days)?,
            micros: self.micros.checked_sub(other.micros)?,
        })
    }

    /// Returns the interval with all parts negated.
    pub fn checked_neg(self) -> Option<Interval> {
        Some(Interval {
            months: self.months.checked_neg()?,
            days: self.days.checked_neg()?,
            micros: self.micros.checked_neg()?,
        })
    }
}

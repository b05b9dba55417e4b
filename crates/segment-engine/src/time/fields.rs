//! `date_trunc` and `extract` over a calendar: microseconds since 1970-01-01 00:00, in UTC or
//! local.

use super::Interval;
use super::calendar::{self, Civil, DAY, HOUR, MINUTE, SECOND};
use crate::decimal::Decimal;

/// A unit of `date_trunc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the units'")]
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
#[expect(missing_docs, reason = "the names are the fields'")]
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

/// How long a unit is.
enum Length {
    Micros(i64),
    Months(i64),
}

impl Unit {
    /// As SQL writes it.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Microsecond => "microsecond",
            Unit::Millisecond => "millisecond",
            Unit::Second => "second",
            Unit::Minute => "minute",
            Unit::Hour => "hour",
            Unit::Day => "day",
            Unit::Week => "week",
            Unit::Month => "month",
            Unit::Quarter => "quarter",
            Unit::Year => "year",
        }
    }

    fn length(self) -> Length {
        match self {
            Unit::Microsecond => Length::Micros(1),
            Unit::Millisecond => Length::Micros(1_000),
            Unit::Second => Length::Micros(SECOND),
            Unit::Minute => Length::Micros(MINUTE),
            Unit::Hour => Length::Micros(HOUR),
            Unit::Day => Length::Micros(DAY),
            Unit::Week => Length::Micros(7 * DAY),
            Unit::Month => Length::Months(1),
            Unit::Quarter => Length::Months(3),
            Unit::Year => Length::Months(12),
        }
    }

    /// Returns the start of the unit that `micros` is in, as `date_trunc` does. Non-decreasing.
    /// `None` before the range of the type.
    pub fn floor(self, micros: i64) -> Option<i64> {
        self.start(micros, 0)
    }

    /// Returns the start of the next unit, where [`floor`](Unit::floor) changes.
    pub fn next(self, micros: i64) -> Option<i64> {
        self.start(micros, 1)
    }

    /// Returns the start of the unit that is `later` units after the one that `micros` is in.
    fn start(self, micros: i64, later: i64) -> Option<i64> {
        match self.length() {
            Length::Micros(length) => {
                // 1970-01-01 was a Thursday, 3 days after the start of a week. All other units
                // start at 0.
                let phase = if self == Unit::Week { 3 * DAY } else { 0 };
                let floor = i128::from(micros) - (i128::from(micros) + i128::from(phase)).rem_euclid(length.into());
                i64::try_from(floor + i128::from(length * later)).ok()
            }
            Length::Months(months) => {
                let Civil { year, month, .. } = Civil::from_days(calendar::split(micros).0);
                let index = (year * 12 + month - 1).div_euclid(months) * months + months * later;
                let first = Civil { year: index.div_euclid(12), month: index.rem_euclid(12) + 1, day: 1 };
                first.to_days().checked_mul(DAY)
            }
        }
    }
}

impl Field {
    /// As SQL writes it.
    pub fn name(self) -> &'static str {
        match self {
            Field::Epoch => "epoch",
            Field::Microsecond => "microsecond",
            Field::Millisecond => "millisecond",
            Field::Second => "second",
            Field::Minute => "minute",
            Field::Hour => "hour",
            Field::Day => "day",
            Field::DayOfWeek => "dow",
            Field::IsoDayOfWeek => "isodow",
            Field::DayOfYear => "doy",
            Field::IsoWeek => "week",
            Field::IsoYear => "isoyear",
            Field::Month => "month",
            Field::Quarter => "quarter",
            Field::Year => "year",
        }
    }

    /// Returns `extract(field FROM …)` of a time.
    pub fn of_time(self, micros: i64) -> Decimal {
        let (days, time_of_day) = calendar::split(micros);
        let civil = Civil::from_days(days);
        // Monday 0 to Sunday 6; 1970-01-01 was a Thursday.
        let weekday = (days + 3).rem_euclid(7);
        // The ISO year of a day is the year of its week's Thursday.
        let thursday = days - weekday + 3;
        let number = match self {
            Field::Epoch => return decimal_fraction(micros, SECOND),
            Field::Microsecond => time_of_day % MINUTE,
            Field::Millisecond => return decimal_fraction(time_of_day % MINUTE, 1_000),
            Field::Second => return decimal_fraction(time_of_day % MINUTE, SECOND),
            Field::Minute => time_of_day % HOUR / MINUTE,
            Field::Hour => time_of_day / HOUR,
            Field::Day => civil.day,
            Field::DayOfWeek => (weekday + 1) % 7,
            Field::IsoDayOfWeek => weekday + 1,
            Field::DayOfYear => day_of_year(days),
            Field::IsoWeek => (day_of_year(thursday) - 1) / 7 + 1,
            Field::IsoYear => written_year(Civil::from_days(thursday).year),
            Field::Month => civil.month,
            Field::Quarter => (civil.month - 1) / 3 + 1,
            Field::Year => written_year(civil.year),
        };
        Decimal::from_int(number)
    }

    /// Returns `extract(field FROM …)` of an interval; `None` for the fields that only a date has.
    pub fn of_interval(self, interval: Interval) -> Option<Decimal> {
        let (months, micros) = (i64::from(interval.months), interval.micros);
        let number = match self {
            Field::Epoch => return epoch_of_interval(interval),
            Field::Microsecond => micros % MINUTE,
            Field::Millisecond => return Some(decimal_fraction(micros % MINUTE, 1_000)),
            Field::Second => return Some(decimal_fraction(micros % MINUTE, SECOND)),
            Field::Minute => micros % HOUR / MINUTE,
            Field::Hour => micros / HOUR,
            Field::Day => i64::from(interval.days),
            Field::Month => months % 12,
            Field::Quarter => months % 12 / 3 + 1,
            Field::Year => months / 12,
            Field::DayOfWeek | Field::IsoDayOfWeek | Field::DayOfYear | Field::IsoWeek | Field::IsoYear => return None,
        };
        Some(Decimal::from_int(number))
    }

    /// Returns the greatest unit within which the field has one value; `None` for the fields that
    /// change with every microsecond.
    pub fn constant_within(self) -> Option<Unit> {
        match self {
            Field::Epoch | Field::Microsecond | Field::Millisecond | Field::Second => None,
            Field::Minute => Some(Unit::Minute),
            Field::Hour => Some(Unit::Hour),
            Field::Day | Field::DayOfWeek | Field::IsoDayOfWeek | Field::DayOfYear => Some(Unit::Day),
            Field::IsoWeek | Field::IsoYear => Some(Unit::Week),
            Field::Month => Some(Unit::Month),
            Field::Quarter => Some(Unit::Quarter),
            Field::Year => Some(Unit::Year),
        }
    }
}

/// Returns `number / divisor`, exactly. The divisor is a power of ten up to 10⁶.
fn decimal_fraction(number: i64, divisor: i64) -> Decimal {
    let scaled = i128::from(number) * (Decimal::ONE.scaled() / i128::from(divisor));
    Decimal::from_scaled(scaled).expect("an i64 times at most 10⁶ has fewer than 38 digits")
}

/// For the epoch of an interval, Postgres counts a year as 365.25 days and a month as 30.
fn epoch_of_interval(interval: Interval) -> Option<Decimal> {
    const YEAR: i128 = (DAY / 4) as i128 * 1_461;
    let months = i128::from(interval.months);
    let micros = months / 12 * YEAR + months % 12 * i128::from(30 * DAY) + interval.fixed_micros();
    Decimal::from_scaled(micros * 1_000)
}

fn day_of_year(days: i64) -> i64 {
    let year = Civil::from_days(days).year;
    days - Civil { year, month: 1, day: 1 }.to_days() + 1
}

/// SQL's years have no 0: the year before 1 is −1.
fn written_year(year: i64) -> i64 {
    if year > 0 { year } else { year - 1 }
}

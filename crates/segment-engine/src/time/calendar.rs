//! The proleptic Gregorian calendar over plain numbers: days and microseconds since 1970-01-01
//! 00:00.
//!
//! It serves instants in UTC and local times. It is our own arithmetic, because no library covers
//! the whole range of 64-bit microseconds, and every bound of `now()` must be in range.

use super::Interval;
pub use super::units::{DAY, HOUR, MINUTE, SECOND};

/// The first microsecond of time, PostgreSQL's: 24 November 4714 BC.
pub const EARLIEST: i64 = -210_866_803_200_000_000;
/// The last microsecond of time: the end of the year 294246, the last whole year that 64 bits hold.
/// (PostgreSQL's is 30 years later.)
pub const LATEST: i64 = 9_223_371_244_799_999_999;
/// The first and the last date, PostgreSQL's: 24 November 4714 BC, 31 December 5874897.
pub const DATES: std::ops::RangeInclusive<i64> = -2_440_588..=2_145_042_905;

/// Days in the 400 years after which the calendar repeats, days of the week included.
pub const CYCLE_DAYS: i64 = 146_097;

/// A day of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// The astronomical year: 0 is 1 BC.
    pub year: i64,
    /// 1 to 12.
    pub month: i64,
    /// 1 to 31.
    pub day: i64,
}

impl Civil {
    /// Returns the day of the calendar, by the algorithm `civil_from_days` of Howard Hinnant,
    /// "chrono-Compatible Low-Level Date Algorithms". Years begin in March, so that the leap day is
    /// the last of its year.
    pub fn from_days(days: i64) -> Civil {
        let shifted = days + 719_468; // since 0000-03-01
        let cycle = shifted.div_euclid(CYCLE_DAYS);
        let day_of_cycle = shifted.rem_euclid(CYCLE_DAYS);
        let year_of_cycle =
            (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
        let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        Civil {
            year: year_of_cycle + cycle * 400 + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
        }
    }

    /// Returns the days since 1970-01-01, by the algorithm `days_from_civil` of the same source.
    pub fn to_days(self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let cycle = year.div_euclid(400);
        let year_of_cycle = year.rem_euclid(400);
        let month_from_march = (self.month + 9) % 12;
        let day_of_year = (153 * month_from_march + 2) / 5 + self.day - 1;
        let day_of_cycle = year_of_cycle * 365 + year_of_cycle / 4 - year_of_cycle / 100 + day_of_year;
        cycle * CYCLE_DAYS + day_of_cycle - 719_468
    }
}

/// Returns how many days a month has.
pub fn month_length(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Adds months to a day, clamped to the end of the month: 31 January + 1 month is 28 or 29
/// February. Non-decreasing in `days`.
pub fn add_months(days: i64, months: i64) -> i64 {
    let Civil { year, month, day } = Civil::from_days(days);
    let index = year * 12 + (month - 1) + months;
    let (year, month) = (index.div_euclid(12), index.rem_euclid(12) + 1);
    Civil { year, month, day: day.min(month_length(year, month)) }.to_days()
}

/// Returns the day and the time of day.
pub fn split(micros: i64) -> (i64, i64) {
    (micros.div_euclid(DAY), micros.rem_euclid(DAY))
}

/// Adds an interval in Postgres' order: months, days, the rest. `None` outside the range of time.
pub fn add(micros: i64, interval: Interval) -> Option<i64> {
    i64::try_from(add_wide(micros, interval)).ok().and_then(within_time)
}

/// Returns the microseconds; `None` before [`EARLIEST`] or after [`LATEST`].
pub fn within_time(micros: i64) -> Option<i64> {
    (EARLIEST..=LATEST).contains(&micros).then_some(micros)
}

/// Returns the date; `None` outside [`DATES`].
pub fn within_dates(days: i64) -> Option<i32> {
    i32::try_from(days).ok().filter(|_| DATES.contains(&days))
}

/// Like [`add`], but clamped to the range of 64 bits.
pub fn add_saturating(micros: i64, interval: Interval) -> i64 {
    saturate(add_wide(micros, interval))
}

fn add_wide(micros: i64, interval: Interval) -> i128 {
    let fixed = interval.fixed_micros();
    if interval.months == 0 {
        return i128::from(micros) + fixed;
    }
    let (day, time_of_day) = split(micros);
    i128::from(add_months(day, i64::from(interval.months))) * i128::from(DAY) + i128::from(time_of_day) + fixed
}

/// Clamps microseconds to 64 bits.
pub fn saturate(micros: i128) -> i64 {
    micros.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

/// Clamps days to 32 bits.
pub fn saturate_days(days: i64) -> i32 {
    days.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(year: i64, month: i64, day: i64) -> i64 {
        Civil { year, month, day }.to_days()
    }

    #[test]
    fn days_and_dates_agree_over_two_cycles_and_at_the_ends_of_the_range() {
        let mut expected = Civil { year: -1, month: 1, day: 1 };
        let first = expected.to_days();
        for day in first..first + 2 * CYCLE_DAYS {
            assert_eq!(Civil::from_days(day), expected);
            assert_eq!(expected.to_days(), day);
            expected.day += 1;
            if expected.day > month_length(expected.year, expected.month) {
                expected = match expected.month {
                    12 => Civil { year: expected.year + 1, month: 1, day: 1 },
                    month => Civil { year: expected.year, month: month + 1, day: 1 },
                };
            }
        }
        for end in [i64::MIN, i64::MAX] {
            let (day, _) = split(end);
            assert_eq!(Civil::from_days(day).to_days(), day);
        }
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(days(2026, 1, 1), 20_454);
    }

    #[test]
    fn months_clamp_to_the_end_of_the_month() {
        let cases = [
            ((2026, 1, 31), 1, (2026, 2, 28)),
            ((2024, 1, 31), 1, (2024, 2, 29)),
            ((2024, 2, 29), 12, (2025, 2, 28)),
            ((2024, 2, 29), -48, (2020, 2, 29)),
            ((2026, 3, 31), -1, (2026, 2, 28)),
            ((2026, 12, 15), 1, (2027, 1, 15)),
            ((2026, 1, 15), -1, (2025, 12, 15)),
            ((2026, 5, 31), 13, (2027, 6, 30)),
        ];
        for ((y, m, d), months, (year, month, day)) in cases {
            let result = Civil::from_days(add_months(days(y, m, d), months));
            assert_eq!(result, Civil { year, month, day }, "{y}-{m}-{d} + {months} months");
        }
    }

    #[test]
    fn addition_beyond_the_range_is_none_or_clamped() {
        let century = Interval { months: 1200, days: 0, micros: 0 };
        assert_eq!(add(i64::MAX, century), None);
        assert_eq!(add_saturating(i64::MAX, century), i64::MAX);
        let back = Interval { months: i32::MIN, days: i32::MIN, micros: i64::MIN };
        assert_eq!(add_saturating(i64::MIN, back), i64::MIN);
    }
}

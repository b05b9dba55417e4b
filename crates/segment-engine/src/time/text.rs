//! Times as text: what events, imports and casts read, and what is printed.

use std::fmt;
use std::ops::RangeInclusive;

use super::Timestamp;
use super::calendar::{self, Civil, HOUR, MINUTE, SECOND};
use super::written::Written;

/// 0001-01-01.
const FIRST_DAY: i64 = -719_162;
/// The days that RFC 3339 can write: 0000-01-01 to 9999-12-31.
const RFC3339_DAYS: RangeInclusive<i64> = -719_528..=2_932_896;

/// Whether an instant in UTC or a local time is in the years 0001 to 9999, which can be written.
pub fn is_within_written_years(micros: i64) -> bool {
    (FIRST_DAY..=*RFC3339_DAYS.end()).contains(&calendar::split(micros).0)
}

impl Timestamp {
    /// Reads a time as a cast in a clause does: those spellings of [`Timestamp::parse_iso`] that
    /// PostgreSQL reads too, as the same instant. Without an offset it is UTC. Years 0001 to 9999.
    pub fn parse(text: &str) -> Option<Timestamp> {
        as_in_sql(text).map(|written| instant(&written, written.local()))
    }

    /// Reads everything that ISO 8601, RFC 3339 and common exporters write:
    /// `2026-01-01T00:00:00.5+02:00`, also with a blank for `T` and a comma for the point, with
    /// `Z`, `UTC`, `+0200` or `+02`, after a blank too, without seconds, time (midnight) or offset
    /// (UTC), and without separators. Years 0000 to 9999, as written and in UTC, so that every time
    /// that is read can be printed and read again.
    pub fn parse_iso(text: &str) -> Option<Timestamp> {
        Timestamp::parse_iso_in(text, |local| local)
    }

    /// Like [`Timestamp::parse_iso`], but `to_instant` returns the instant of a local time without
    /// an offset.
    pub fn parse_iso_in(text: &str, to_instant: impl FnOnce(i64) -> i64) -> Option<Timestamp> {
        let written = Written::read(text)?;
        let local = written.local();
        let instant = instant(&written, if written.offset.is_some() { local } else { to_instant(local) });
        RFC3339_DAYS.contains(&calendar::split(instant.0).0).then_some(instant)
    }

    /// Returns Postgres' text of a `timestamptz` in UTC: `2026-01-01 00:00:00.5+00`.
    pub fn sql_text(self) -> String {
        let (text, era) = local_parts(self.0);
        format!("{text}+00{era}")
    }
}

/// Reads a local time, `timestamp` in SQL, like [`Timestamp::parse`]. An offset is ignored, as in
/// Postgres. Returns microseconds since 1970-01-01 00:00 on that calendar.
pub fn parse_local(text: &str) -> Option<i64> {
    Some(as_in_sql(text)?.local())
}

/// Reads a date. A time after it is ignored, as in Postgres. Returns days since 1970-01-01.
pub fn parse_date(text: &str) -> Option<i32> {
    i32::try_from(as_in_sql(text)?.day).ok()
}

/// Returns Postgres' text of a `timestamp`: `2026-01-01 00:00:00.5`.
pub fn local_text(micros: i64) -> String {
    let (text, era) = local_parts(micros);
    text + era
}

/// Returns Postgres' text of a `date`: `2026-01-01`.
pub fn date_text(days: i32) -> String {
    let (text, era) = date_parts(i64::from(days));
    text + era
}

/// RFC 3339 in UTC with six fractional digits: `2026-01-01T00:00:00.000000Z`. Years beyond 9999
/// have more digits and years before 0 a sign.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, time) = calendar::split(self.0);
        let Civil { year, month, day } = Civil::from_days(days);
        let (hour, minute, second, micro) = clock(time);
        if (0..=9_999).contains(&year) {
            // This runs for every event, and `write!` is slow.
            let mut text = *b"0000-00-00T00:00:00.000000Z";
            let ends = [(year, 4), (month, 7), (day, 10), (hour, 13), (minute, 16), (second, 19), (micro, 26)];
            for (mut number, mut end) in ends {
                while number > 0 {
                    end -= 1;
                    text[end] = b'0' + (number % 10) as u8;
                    number /= 10;
                }
            }
            return f.write_str(std::str::from_utf8(&text).expect("digits and separators are ASCII"));
        }
        let sign = if year < 0 { "-" } else { "" };
        let year = year.unsigned_abs();
        write!(f, "{sign}{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micro:06}Z")
    }
}

/// Reads what a cast reads. SQL has no year 0.
fn as_in_sql(text: &str) -> Option<Written> {
    Written::read(text).filter(|written| written.in_sql && written.day >= FIRST_DAY)
}

fn instant(written: &Written, local: i64) -> Timestamp {
    Timestamp(local - written.offset.unwrap_or(0))
}

fn date_parts(days: i64) -> (String, &'static str) {
    let Civil { year, month, day } = Civil::from_days(days);
    let (year, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    (format!("{year:04}-{month:02}-{day:02}"), era)
}

fn local_parts(micros: i64) -> (String, &'static str) {
    let (days, time) = calendar::split(micros);
    let (date, era) = date_parts(days);
    let (hour, minute, second, micro) = clock(time);
    (format!("{date} {hour:02}:{minute:02}:{second:02}{}", fraction_text(micro)), era)
}

/// Returns `.5` for half a second, and nothing for 0.
pub(super) fn fraction_text(micros: i64) -> String {
    if micros == 0 {
        return String::new();
    }
    let digits = format!(".{micros:06}");
    digits.trim_end_matches('0').to_owned()
}

fn clock(time: i64) -> (i64, i64, i64, i64) {
    (time / HOUR, time % HOUR / MINUTE, time % MINUTE / SECOND, time % SECOND)
}

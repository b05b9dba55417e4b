//! Reading and writing times: RFC 3339, and the spellings of it that SQL adds.

use std::fmt;
use std::ops::RangeInclusive;

use super::Timestamp;
use super::calendar::{self, Civil, DAY, HOUR, MINUTE, SECOND, month_length};

/// 0001-01-01.
const FIRST_DAY: i64 = -719_162;
/// From 0000-01-01 to 9999-12-31: the days that RFC 3339 can write.
const RFC3339_DAYS: RangeInclusive<i64> = -719_528..=2_932_896;

/// Whether texts of times reach these microseconds, of an instant in UTC or of a local time: years 0001 to 9999.
pub fn is_within_written_years(micros: i64) -> bool {
    (FIRST_DAY..=*RFC3339_DAYS.end()).contains(&calendar::split(micros).0)
}

impl Timestamp {
    /// Reads RFC 3339 (`2026-01-01T00:00:00.5+02:00`), also with a blank for the `T`, without seconds, without the time
    /// (midnight), or without the offset (then UTC). Fractions beyond microseconds are cut off; second 60 is the next
    /// minute's first and 24:00 the next day's, as Postgres reads them. Years 0001 to 9999.
    pub fn parse(text: &str) -> Option<Timestamp> {
        Written::parse(text).map(|written| written.instant())
    }

    /// Reads RFC 3339 without what SQL adds to it, but for a blank for the `T` and a missing offset, which is UTC.
    /// Fractions beyond microseconds are cut off; second 60 is the next minute's first. Years 0000 to 9999, as written and
    /// in UTC: what is read can be written, and then be read again.
    pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
        if !has_shape_of_rfc3339(text.as_bytes()) {
            return None;
        }
        let instant = Written::read(text)?.instant();
        let (day, _) = calendar::split(instant.0);
        RFC3339_DAYS.contains(&day).then_some(instant)
    }

    /// The text Postgres gives for a `timestamptz` in UTC: `2026-01-01 00:00:00.5+00`.
    pub fn sql_text(self) -> String {
        let (text, era) = local_parts(self.0);
        format!("{text}+00{era}")
    }
}

/// Reads a local time, `timestamp` in SQL: as [`Timestamp::parse`], but an offset is read and ignored, as Postgres does.
/// Microseconds since 1970-01-01 00:00 on that calendar.
pub fn parse_local(text: &str) -> Option<i64> {
    Some(Written::parse(text)?.local())
}

/// Reads a date; a time after it is read and ignored, as Postgres does. Days since 1970-01-01.
pub fn parse_date(text: &str) -> Option<i32> {
    i32::try_from(Written::parse(text)?.day).ok()
}

/// The text Postgres gives for a `timestamp`: `2026-01-01 00:00:00.5`.
pub fn local_text(micros: i64) -> String {
    let (text, era) = local_parts(micros);
    text + era
}

/// The text Postgres gives for a `date`: `2026-01-01`.
pub fn date_text(days: i32) -> String {
    let (text, era) = date_parts(i64::from(days));
    text + era
}

/// RFC 3339 in UTC with six fractional digits: `2026-01-01T00:00:00.000000Z`. Years beyond 9999 have more digits and
/// years before 0 a sign.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, time) = calendar::split(self.0);
        let Civil { year, month, day } = Civil::from_days(days);
        let (hour, minute, second, micro) = clock(time);
        if (0..=9_999).contains(&year) {
            // Once per event, so without the machinery of `write!`.
            let parts = [(year, 4, b'-'), (month, 2, b'-'), (day, 2, b'T'), (hour, 2, b':'), (minute, 2, b':')];
            let mut text = Vec::with_capacity("0000-00-00T00:00:00.000000Z".len());
            for (number, width, separator) in parts.into_iter().chain([(second, 2, b'.'), (micro, 6, b'Z')]) {
                text.extend((0..width).rev().map(|place| b'0' + (number / 10_i64.pow(place) % 10) as u8));
                text.push(separator);
            }
            return f.write_str(std::str::from_utf8(&text).expect("digits and separators are ASCII"));
        }
        let sign = if year < 0 { "-" } else { "" };
        let year = year.unsigned_abs();
        write!(f, "{sign}{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micro:06}Z")
    }
}

/// Whether every digit and separator stands where RFC 3339 has it, and the hour is none that only SQL knows.
fn has_shape_of_rfc3339(text: &[u8]) -> bool {
    let Some((fixed, rest)) = text.split_first_chunk::<19>() else { return false };
    let fits = |(byte, shape): (&u8, &u8)| match shape {
        b'0' => byte.is_ascii_digit(),
        b'T' => b"Tt ".contains(byte),
        _ => byte == shape,
    };
    let digits = |from: &[u8]| from.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let offset = rest.strip_prefix(b".").map_or(rest, |fraction| &fraction[digits(fraction)..]);
    let offset_fits = match offset {
        [] | [b'Z' | b'z'] => true,
        [b'+' | b'-', offset @ ..] => offset.len() == 5 && offset.iter().zip(b"00:00").all(fits),
        _ => false,
    };
    fixed.iter().zip(b"0000-00-00T00:00:00").all(fits) && offset_fits && !fixed[11..].starts_with(b"24")
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

/// `.5` for half a second, nothing for none.
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

/// A time as written.
struct Written {
    /// The day, since 1970-01-01.
    day: i64,
    /// The time of day: up to 24:00, which is the next day as a time, but not as a date.
    time: i64,
    /// The offset from UTC, if written.
    offset: Option<i64>,
}

impl Written {
    /// As SQL has it, which has no year 0.
    fn parse(text: &str) -> Option<Written> {
        Written::read(text).filter(|written| written.day >= FIRST_DAY)
    }

    fn read(text: &str) -> Option<Written> {
        let mut reader = Reader { rest: text.trim_ascii().as_bytes() };
        let mut written = Written { day: reader.date()?, time: 0, offset: None };
        if reader.rest.is_empty() {
            return Some(written);
        }
        if !(reader.skip(b'T') || reader.skip(b't')) {
            if !reader.skip(b' ') {
                return None;
            }
            reader.skip_blanks();
        }
        written.time = reader.time_of_day()?;
        reader.skip_blanks();
        if !reader.rest.is_empty() {
            written.offset = Some(reader.offset()?);
        }
        reader.rest.is_empty().then_some(written)
    }

    fn local(&self) -> i64 {
        self.day * DAY + self.time
    }

    fn instant(&self) -> Timestamp {
        Timestamp(self.local() - self.offset.unwrap_or(0))
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn skip(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn skip_blanks(&mut self) {
        while self.skip(b' ') {}
    }

    /// A number of `min` to `max` digits, of which no more follow.
    fn number(&mut self, min: usize, max: usize) -> Option<i64> {
        let length = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if !(min..=max).contains(&length) {
            return None;
        }
        let (digits, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
    }

    fn date(&mut self) -> Option<i64> {
        let year = self.number(4, 4)?;
        let month = self.skip(b'-').then(|| self.number(1, 2))??;
        let day = self.skip(b'-').then(|| self.number(1, 2))??;
        let valid = (1..=12).contains(&month) && (1..=month_length(year, month)).contains(&day);
        valid.then(|| Civil { year, month, day }.to_days())
    }

    fn time_of_day(&mut self) -> Option<i64> {
        let hour = self.number(1, 2)?;
        let minute = self.skip(b':').then(|| self.number(1, 2))??;
        let mut second = 0;
        let mut fraction = 0;
        if self.skip(b':') {
            second = self.number(1, 2)?;
            if self.skip(b'.') {
                fraction = self.fraction()?;
            }
        }
        let time = hour * HOUR + minute * MINUTE + second * SECOND + fraction;
        (minute < 60 && second <= 60 && time <= DAY).then_some(time)
    }

    /// Fractional digits of a second, in microseconds, cut off.
    fn fraction(&mut self) -> Option<i64> {
        let length = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.rest.split_at(length);
        self.rest = rest;
        let digit_at = |place: usize| digits.get(place).map_or(0, |digit| i64::from(digit - b'0'));
        (length > 0).then(|| (0..6).fold(0, |micros, place| micros * 10 + digit_at(place)))
    }

    /// `Z`, `UTC`, `+02`, `+0200`, `+02:00`, `+02:00:30`.
    fn offset(&mut self) -> Option<i64> {
        if [&b"z"[..], b"utc", b"gmt"].iter().any(|name| self.rest.eq_ignore_ascii_case(name)) {
            self.rest = &[];
            return Some(0);
        }
        let negative = !self.skip(b'+');
        if negative && !self.skip(b'-') {
            return None;
        }
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (hour, minute, second) = if digits == 4 {
            let number = self.number(4, 4)?;
            (number / 100, number % 100, 0)
        } else {
            let hour = self.number(1, 2)?;
            let minute = if self.skip(b':') { self.number(2, 2)? } else { 0 };
            let second = if self.skip(b':') { self.number(2, 2)? } else { 0 };
            (hour, minute, second)
        };
        let offset = hour * HOUR + minute * MINUTE + second * SECOND;
        (hour < 24 && minute < 60 && second < 60).then_some(if negative { -offset } else { offset })
    }
}

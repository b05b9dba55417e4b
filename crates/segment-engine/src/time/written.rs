//! The one reader of times, for everything that ISO 8601, RFC 3339 and common exporters write.
//!
//! It reads from left to right, and plain RFC 3339 without a detour, because it reads every event's
//! time. Each spelling has one meaning. PostgreSQL refuses some spellings, or reads them as another
//! time. A cast in a clause must not read these, so the reader notes whether it met one.

use super::calendar::{Civil, DAY, HOUR, MINUTE, SECOND, month_length};

/// PostgreSQL reads only offsets below this.
const SQL_OFFSET_END: i64 = 16 * HOUR;
/// How many letters a zone's abbreviation has at most.
const ABBREVIATION_LETTERS_MAX: usize = 5;

/// A time as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// Days since 1970-01-01.
    pub day: i64,
    /// The time of day in microseconds, up to 24:00: as a time that is the next day, but as a date
    /// it is not.
    pub time: i64,
    /// The offset from UTC in microseconds, if written.
    pub offset: Option<i64>,
    /// Whether PostgreSQL reads this spelling too, as the same time.
    pub in_sql: bool,
}

impl Written {
    /// Reads a time, ignoring blanks around it. Digits beyond microseconds are cut off, second 60
    /// is the first of the next minute, and the years are 0000 to 9999.
    pub(super) fn read(text: &str) -> Option<Written> {
        let mut reader = TimeReader { rest: text.trim_ascii().as_bytes(), in_sql: true };
        let mut written = Written { day: reader.date()?, time: 0, offset: None, in_sql: true };
        let date_end = reader.rest;
        if reader.skip(b'T') || reader.skip(b't') {
            written.time = reader.time_of_day()?;
        } else {
            reader.skip_blanks();
            if reader.rest.first().is_some_and(u8::is_ascii_digit) {
                written.time = reader.time_of_day()?;
            } else {
                // PostgreSQL takes this `-` for one of the date.
                reader.in_sql &= !date_end.starts_with(b"-");
            }
        }
        reader.skip_blanks();
        if !reader.rest.is_empty() {
            written.offset = Some(reader.offset()?);
            reader.zone_names()?;
        }
        written.in_sql = reader.in_sql;
        Some(written)
    }

    /// Returns the microseconds since 1970-01-01 00:00 as written, without the offset.
    pub(super) fn local(&self) -> i64 {
        self.day * DAY + self.time
    }
}

struct TimeReader<'a> {
    rest: &'a [u8],
    /// Whether PostgreSQL reads everything so far in the same way.
    in_sql: bool,
}

impl TimeReader<'_> {
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

    /// Returns how many digits come next.
    fn digits(&self) -> usize {
        self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
    }

    /// Reads a number of `length` digits, which the caller has counted.
    fn take(&mut self, length: usize) -> i64 {
        let (digits, rest) = self.rest.split_at(length);
        self.rest = rest;
        digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'))
    }

    /// Reads a number of `min` to `max` digits that no other digit follows.
    fn number(&mut self, min: usize, max: usize) -> Option<i64> {
        let length = self.digits();
        (min..=max).contains(&length).then(|| self.take(length))
    }

    /// Reads `2023-10-31`, `2023/10/31`, `20231031`, a day of the year `2023-304`, a day of a week
    /// `2023-W44-2` or `2023W442`.
    fn date(&mut self) -> Option<i64> {
        match self.digits() {
            4 => {
                let year = self.take(4);
                let separator = *self.rest.first()?;
                if !matches!(separator, b'-' | b'/') {
                    return self.week_date(year);
                }
                self.rest = &self.rest[1..];
                match self.digits() {
                    1 | 2 => {
                        let month = self.number(1, 2)?;
                        let day = self.skip(separator).then(|| self.number(1, 2))??;
                        date(year, month, day)
                    }
                    3 => date(year, 1, 1).map(|first| first + self.take(3) - 1).filter(|day| is_in(year, *day)),
                    _ if separator == b'-' => self.week_date(year),
                    _ => None,
                }
            }
            8 => self.basic_date(),
            // The time follows directly, which PostgreSQL does not read.
            14 => {
                self.in_sql = false;
                self.basic_date()
            }
            _ => None,
        }
    }

    fn basic_date(&mut self) -> Option<i64> {
        let (year, month, day) = (self.take(4), self.take(2), self.take(2));
        date(year, month, day)
    }

    /// Reads `W44-2` or `W442`. The first week is the one with 4 January.
    fn week_date(&mut self, year: i64) -> Option<i64> {
        self.in_sql = false;
        if !(self.skip(b'W') || self.skip(b'w')) {
            return None;
        }
        let (week, day) = match self.digits() {
            2 => (self.take(2), self.skip(b'-').then(|| self.number(1, 1))??),
            3 => (self.take(2), self.take(1)),
            _ => return None,
        };
        let fourth = date(year, 1, 4)?;
        // 1970-01-01 was a Thursday.
        let first_monday = fourth - (fourth + 3).rem_euclid(7);
        let thursday = first_monday + (week - 1) * 7 + 3;
        let valid = week > 0 && (1..=7).contains(&day) && is_in(year, thursday);
        valid.then_some(thursday + day - 4)
    }

    /// Reads `11:59:00.5`, `11:59`, `115900.5`, `1159` or `11`, with a point or a comma.
    fn time_of_day(&mut self) -> Option<i64> {
        let (hour, minute, second) = match self.digits() {
            4 => (self.take(2), self.take(2), None),
            6 => (self.take(2), self.take(2), Some(self.take(2))),
            length => {
                let hour = self.number(1, 2)?;
                if self.skip(b':') {
                    let minute = self.number(1, 2)?;
                    (hour, minute, if self.skip(b':') { Some(self.number(1, 2)?) } else { None })
                } else {
                    self.in_sql = false;
                    (length == 2).then_some((hour, 0, None))?
                }
            }
        };
        // PostgreSQL and ISO 8601 disagree about fractions of a minute or an hour, so they are
        // refused.
        let fraction = if second.is_some() { self.fraction()? } else { 0 };
        let second = second.unwrap_or(0);
        let time = hour * HOUR + minute * MINUTE + second * SECOND + fraction;
        (minute < 60 && second <= 60 && time <= DAY).then_some(time)
    }

    /// Reads the fraction of a second, if there is one, as microseconds. More digits are cut off.
    fn fraction(&mut self) -> Option<i64> {
        if !self.skip(b'.') {
            if !self.skip(b',') {
                return Some(0);
            }
            self.in_sql = false;
        }
        let (digits, rest) = self.rest.split_at(self.digits());
        self.rest = rest;
        let digit_at = |place: usize| digits.get(place).map_or(0, |digit| i64::from(digit - b'0'));
        (!digits.is_empty()).then(|| (0..6).fold(0, |micros, place| micros * 10 + digit_at(place)))
    }

    /// Reads `Z`, `UTC`, `GMT`, `+02`, `+0200`, `+02:00` or `+02:00:30`. ISO 8601 allows the
    /// character U+2212 for minus.
    fn offset(&mut self) -> Option<i64> {
        for name in [&b"z"[..], b"utc", b"gmt"] {
            if let Some((start, rest)) = self.rest.split_at_checked(name.len())
                && start.eq_ignore_ascii_case(name)
            {
                self.rest = rest;
                return Some(0);
            }
        }
        let negative = if let Some(rest) = self.rest.strip_prefix("\u{2212}".as_bytes()) {
            self.rest = rest;
            self.in_sql = false;
            true
        } else {
            self.skip(b'-')
        };
        if !negative && !self.skip(b'+') {
            return None;
        }
        let length = self.digits();
        let (hour, minute, second) = if matches!(length, 3 | 4) {
            (self.take(length - 2), self.take(2), 0)
        } else {
            let hour = self.number(1, 2)?;
            let minute = if self.skip(b':') { self.number(2, 2)? } else { 0 };
            let second = if self.skip(b':') { self.number(2, 2)? } else { 0 };
            (hour, minute, second)
        };
        let offset = hour * HOUR + minute * MINUTE + second * SECOND;
        self.in_sql &= offset < SQL_OFFSET_END;
        (hour < 24 && minute < 60 && second < 60).then_some(if negative { -offset } else { offset })
    }

    /// Skips what Go (`+0200 CEST`) and Java (`+02:00[Europe/Paris]`, RFC 9557) write after the
    /// offset, which is already complete. `None` if anything else follows.
    fn zone_names(&mut self) -> Option<()> {
        if self.rest.is_empty() {
            return Some(());
        }
        self.in_sql = false;
        while self.skip(b'[') {
            let end = self.rest.iter().position(|byte| *byte == b']')?;
            self.rest = &self.rest[end + 1..];
        }
        if self.skip(b' ') {
            let letters = self.rest.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
            if !(1..=ABBREVIATION_LETTERS_MAX).contains(&letters) {
                return None;
            }
            self.rest = &self.rest[letters..];
        }
        self.rest.is_empty().then_some(())
    }
}

fn date(year: i64, month: i64, day: i64) -> Option<i64> {
    let valid = (1..=12).contains(&month) && (1..=month_length(year, month)).contains(&day);
    valid.then(|| Civil { year, month, day }.to_days())
}

fn is_in(year: i64, day: i64) -> bool {
    Civil::from_days(day).year == year
}

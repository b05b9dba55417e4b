//! Reading and writing intervals as Postgres does (`IntervalStyle = postgres`).

use std::fmt;

use super::Interval;
use super::calendar::{DAY, HOUR, MINUTE, SECOND};
use super::text::fraction_text;

/// Numbers are read with this many fractional digits; more are cut off.
const FRACTION_DIGITS: usize = 9;
/// The characters between two amounts.
const SEPARATORS: [char; 2] = [' ', ','];
const FRACTION_UNIT: i128 = 1_000_000_000;

impl Interval {
    /// Reads an interval: `7 days`, `1 year 2 months`, `90 min`, `1 day 02:03:04.5`, `-1 week`, `3
    /// hours ago`, `1.5 days`, `1-2` (years and months), `1 2:03` (days, hours and minutes), ISO
    /// 8601 `P1DT2H`. A fraction of a unit is given in smaller units as in Postgres (that of a
    /// month as days of a month of 30 days). `None` if the text is not an interval, or if it is too
    /// long.
    pub fn parse(text: &str) -> Option<Interval> {
        let text = text.trim_ascii().to_ascii_lowercase();
        match text.strip_prefix('p') {
            Some(iso) => parse_iso(iso),
            None => parse_words(&text),
        }
    }
}

fn parse_words(text: &str) -> Option<Interval> {
    let mut parts = Parts::default();
    let mut rest = text.trim_start_matches(['@', ' ']);
    let mut seen = 0_u32;
    while !rest.is_empty() {
        if rest == "ago" && seen != 0 {
            return parts.finish()?.checked_neg();
        }
        let (amount, after) = Amount::parse(rest)?;
        rest = after.trim_ascii_start();
        if !matches!(amount, Amount::Number(_)) && rest.len() == after.len() && !rest.is_empty() {
            return None;
        }
        let bits = match amount {
            // A number before a clock is days.
            Amount::Number(number)
                if after.starts_with(' ') && matches!(Amount::parse(rest), Some((Amount::Clock(_), _))) =>
            {
                parts.add(number, IntervalUnit::Day);
                1 << IntervalUnit::Day as u32
            }
            Amount::Number(number) => {
                let (word, after) = take_while(rest, |character| character.is_ascii_alphabetic());
                if !after.is_empty() && !after.starts_with(SEPARATORS) {
                    return None;
                }
                // The last number may have no unit: it is seconds.
                let unit = if rest.is_empty() { IntervalUnit::Second } else { unit_of_word(word)? };
                parts.add(number, unit);
                rest = after.trim_start_matches(SEPARATORS);
                1 << unit as u32
            }
            Amount::Clock(micros) => {
                parts.micros += i128::from(micros);
                1 << IntervalUnit::Hour as u32 | 1 << IntervalUnit::Minute as u32 | 1 << IntervalUnit::Second as u32
            }
            Amount::YearsMonths(months) => {
                parts.months += i128::from(months);
                1 << IntervalUnit::Year as u32 | 1 << IntervalUnit::Month as u32
            }
        };
        // No unit may come twice.
        if seen & bits != 0 {
            return None;
        }
        seen |= bits;
    }
    if seen == 0 { None } else { parts.finish() }
}

fn parse_iso(text: &str) -> Option<Interval> {
    let mut parts = Parts::default();
    let (mut rest, mut in_time, mut any) = (text, false, false);
    while !rest.is_empty() {
        if !in_time && let Some(after) = rest.strip_prefix('t') {
            (rest, in_time, any) = (after, true, true);
            continue;
        }
        let (number, after) = Number::parse(rest)?;
        let designator = after.chars().next()?;
        let unit = match (designator, in_time) {
            ('y', false) => IntervalUnit::Year,
            ('m', false) => IntervalUnit::Month,
            ('w', false) => IntervalUnit::Week,
            ('d', false) => IntervalUnit::Day,
            ('h', true) => IntervalUnit::Hour,
            ('m', true) => IntervalUnit::Minute,
            ('s', true) => IntervalUnit::Second,
            _ => return None,
        };
        parts.add(number, unit);
        rest = &after[1..];
        any = true;
    }
    if any { parts.finish() } else { None }
}

#[derive(Clone, Copy)]
enum IntervalUnit {
    Microsecond,
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Year,
    Decade,
    Century,
    Millennium,
}

/// Reads Postgres' words for the units.
fn unit_of_word(word: &str) -> Option<IntervalUnit> {
    Some(match word {
        "microsecond" | "microseconds" | "microsecon" | "us" | "usec" | "usecs" | "useconds" => {
            IntervalUnit::Microsecond
        }
        "millisecond" | "milliseconds" | "ms" | "msec" | "msecs" | "mseconds" => IntervalUnit::Millisecond,
        "second" | "seconds" | "sec" | "secs" | "s" => IntervalUnit::Second,
        "minute" | "minutes" | "min" | "mins" | "m" => IntervalUnit::Minute,
        "hour" | "hours" | "hr" | "hrs" | "h" => IntervalUnit::Hour,
        "day" | "days" | "d" => IntervalUnit::Day,
        "week" | "weeks" | "w" => IntervalUnit::Week,
        "month" | "months" | "mon" | "mons" => IntervalUnit::Month,
        "year" | "years" | "yr" | "yrs" | "y" => IntervalUnit::Year,
        "decade" | "decades" | "dec" | "decs" => IntervalUnit::Decade,
        "century" | "centuries" | "cent" | "c" => IntervalUnit::Century,
        "millennium" | "millennia" | "mil" | "mils" => IntervalUnit::Millennium,
        _ => return None,
    })
}

/// A number with a fraction: `whole + fraction / 10⁹`, both with the number's sign.
struct Number {
    whole: i64,
    fraction: i128,
}

impl Number {
    fn parse(text: &str) -> Option<(Number, &str)> {
        let (negative, text) = sign(text);
        let (digits, mut rest) = take_digits(text);
        let mut fraction = 0;
        let mut fraction_length = 0;
        if let Some(after) = rest.strip_prefix('.') {
            let (decimals, after) = take_digits(after);
            fraction_length = decimals.len();
            for place in 0..FRACTION_DIGITS {
                let digit = decimals.as_bytes().get(place).map_or(0, |digit| i128::from(digit - b'0'));
                fraction = fraction * 10 + digit;
            }
            rest = after;
        }
        if digits.len() + fraction_length == 0 {
            return None;
        }
        // Wider than 64 bits, because the least number has no positive counterpart.
        let whole: i128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
        let (whole, fraction) = if negative { (-whole, -fraction) } else { (whole, fraction) };
        Some((Number { whole: i64::try_from(whole).ok()?, fraction }, rest))
    }

    /// Returns `fraction × scale` as a whole number and a fraction.
    fn spread(&self, scale: i64) -> (i64, Number) {
        let product = self.fraction * i128::from(scale);
        ((product / FRACTION_UNIT) as i64, Number { whole: 0, fraction: product % FRACTION_UNIT })
    }
}

enum Amount {
    Number(Number),
    /// `02:03:04.5`, in microseconds.
    Clock(i64),
    /// `1-2`, in months.
    YearsMonths(i64),
}

impl Amount {
    fn parse(text: &str) -> Option<(Amount, &str)> {
        let (negative, unsigned) = sign(text);
        let (digits, rest) = take_digits(unsigned);
        let signed = |number: i64| if negative { -number } else { number };
        if let Some(rest) = rest.strip_prefix(':') {
            let hours: i64 = digits.parse().ok()?;
            let (minutes, rest) = take_digits(rest);
            let minutes: i64 = minutes.parse().ok()?;
            let mut micros = i128::from(hours) * i128::from(HOUR) + i128::from(minutes) * i128::from(MINUTE);
            let mut after = rest;
            if let Some(rest) = rest.strip_prefix(':') {
                let (seconds, rest) = Number::parse(rest).filter(|_| !rest.starts_with(['+', '-']))?;
                if rest.starts_with(':') || seconds.whole > 60 {
                    return None;
                }
                let fraction = seconds.spread(SECOND).0;
                micros += i128::from(seconds.whole * SECOND + fraction);
                after = rest;
            }
            let micros = i64::try_from(if negative { -micros } else { micros }).ok()?;
            return (minutes < 60).then_some((Amount::Clock(micros), after));
        }
        if let Some(rest) = rest.strip_prefix('-') {
            let years: i64 = digits.parse().ok()?;
            let (months, rest) = take_digits(rest);
            let months: i64 = months.parse().ok()?;
            let total = years.checked_mul(12)?.checked_add(months)?;
            // With a third number it is a date.
            let is_one = months < 12 && !rest.starts_with('-');
            return is_one.then_some((Amount::YearsMonths(signed(total)), rest));
        }
        let (number, rest) = Number::parse(text)?;
        Some((Amount::Number(number), rest))
    }
}

fn sign(text: &str) -> (bool, &str) {
    match text.as_bytes().first() {
        Some(b'-') => (true, text[1..].trim_ascii_start()),
        Some(b'+') => (false, text[1..].trim_ascii_start()),
        _ => (false, text),
    }
}

fn take_digits(text: &str) -> (&str, &str) {
    take_while(text, |character| character.is_ascii_digit())
}

fn take_while(text: &str, wanted: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|character| !wanted(character)).unwrap_or(text.len());
    text.split_at(end)
}

/// The sum of the amounts so far. Wide, so that only the whole interval must fit.
#[derive(Default)]
struct Parts {
    months: i128,
    days: i128,
    micros: i128,
}

impl Parts {
    fn add(&mut self, number: Number, unit: IntervalUnit) {
        match unit {
            IntervalUnit::Microsecond => self.add_micros(&number, 1),
            IntervalUnit::Millisecond => self.add_micros(&number, 1_000),
            IntervalUnit::Second => self.add_micros(&number, SECOND),
            IntervalUnit::Minute => self.add_micros(&number, MINUTE),
            IntervalUnit::Hour => self.add_micros(&number, HOUR),
            IntervalUnit::Day => self.add_days(&number, 1),
            IntervalUnit::Week => self.add_days(&number, 7),
            IntervalUnit::Month => {
                self.months += i128::from(number.whole);
                self.add_days(&Number { whole: 0, ..number }, 30);
            }
            IntervalUnit::Year => self.add_years(&number, 1),
            IntervalUnit::Decade => self.add_years(&number, 10),
            IntervalUnit::Century => self.add_years(&number, 100),
            IntervalUnit::Millennium => self.add_years(&number, 1_000),
        }
    }

    fn add_micros(&mut self, number: &Number, length: i64) {
        let (whole, rest) = number.spread(length);
        // To the nearest microsecond; exactly half is dropped, as in Postgres.
        let nearest = i128::from(rest.fraction.abs() > FRACTION_UNIT / 2) * rest.fraction.signum();
        self.micros += i128::from(number.whole) * i128::from(length) + i128::from(whole) + nearest;
    }

    fn add_days(&mut self, number: &Number, length: i64) {
        let (whole, rest) = number.spread(length);
        self.days += i128::from(number.whole) * i128::from(length) + i128::from(whole);
        self.add_micros(&rest, DAY);
    }

    /// A fraction of a year is rounded to months.
    fn add_years(&mut self, number: &Number, years: i64) {
        let (whole, rest) = number.spread(years * 12);
        let nearest = i128::from(rest.fraction.abs() * 2 >= FRACTION_UNIT) * rest.fraction.signum();
        self.months += i128::from(number.whole) * i128::from(years * 12) + i128::from(whole) + nearest;
    }

    fn finish(self) -> Option<Interval> {
        Some(Interval {
            months: i32::try_from(self.months).ok()?,
            days: i32::try_from(self.days).ok()?,
            micros: i64::try_from(self.micros).ok()?,
        })
    }
}

/// Postgres' text, which can be read again: `1 year 2 mons -3 days +04:05:06.7`.
impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = Vec::with_capacity(4);
        let mut after_negative = false;
        let named = [(self.months / 12, "year"), (self.months % 12, "mon"), (self.days, "day")];
        for (number, name) in named.into_iter().filter(|(number, _)| *number != 0) {
            let plus = if after_negative && number > 0 { "+" } else { "" };
            let plural = if number == 1 { "" } else { "s" };
            parts.push(format!("{plus}{number} {name}{plural}"));
            after_negative = number < 0;
        }
        if self.micros != 0 || parts.is_empty() {
            let sign = match (self.micros < 0, after_negative) {
                (true, _) => "-",
                (false, true) => "+",
                (false, false) => "",
            };
            let micros = self.micros.unsigned_abs() as i128;
            let (hour, minute) = (micros / i128::from(HOUR), micros % i128::from(HOUR) / i128::from(MINUTE));
            let (second, fraction) = (micros % i128::from(MINUTE) / i128::from(SECOND), micros % i128::from(SECOND));
            let fraction = fraction_text(fraction as i64);
            parts.push(format!("{sign}{hour:02}:{minute:02}:{second:02}{fraction}"));
        }
        f.pad(&parts.join(" "))
    }
}

//! Instants as text: RFC 3339.

use segment_engine::time::Timestamp;

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// Reads RFC 3339, and the same without an offset, which is UTC then. Fractions beyond microseconds are cut off; a leap
/// second is the first second of the next minute. `None` for anything else.
pub fn parse(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let fixed: &[u8; 19] = bytes.first_chunk()?;
    let separators = [(4, b"--"), (7, b"--"), (10, b"Tt"), (13, b"::"), (16, b"::")];
    if !separators.iter().all(|(at, allowed)| allowed.contains(&fixed[*at]) || (*at == 10 && fixed[10] == b' ')) {
        return None;
    }
    let (year, month, day) = (number(&fixed[0..4])?, number(&fixed[5..7])?, number(&fixed[8..10])?);
    let (hour, minute, second) = (number(&fixed[11..13])?, number(&fixed[14..16])?, number(&fixed[17..19])?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (micros, rest) = fraction(&bytes[19..])?;
    let seconds = days_from_civil(year, month, day) * SECONDS_PER_DAY + hour * 3_600 + minute * 60 + second;
    Some(Timestamp((seconds - offset(rest)?) * MICROS_PER_SECOND + micros))
}

/// Writes RFC 3339 in UTC with six fractional digits.
pub fn format(instant: Timestamp) -> String {
    let seconds = instant.0.div_euclid(MICROS_PER_SECOND);
    let micros = instant.0.rem_euclid(MICROS_PER_SECOND);
    let (days, second) = (seconds.div_euclid(SECONDS_PER_DAY), seconds.rem_euclid(SECONDS_PER_DAY));
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    if !(0..=9_999).contains(&year) {
        return format!("{year:05}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z");
    }
    // Once per event, so without the machinery of `format!`.
    let mut text = String::with_capacity("0000-00-00T00:00:00.000000Z".len());
    let parts = [(year, 4, '-'), (month, 2, '-'), (day, 2, 'T'), (hour, 2, ':'), (minute, 2, ':'), (second, 2, '.')];
    for (number, width, separator) in parts.into_iter().chain([(micros, 6, 'Z')]) {
        push_digits(&mut text, number, width);
        text.push(separator);
    }
    text
}

fn push_digits(text: &mut String, number: i64, width: u32) {
    for place in (0..width).rev() {
        let digit = number / 10_i64.pow(place) % 10;
        text.push(char::from(b'0' + digit as u8));
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'9' => Some(number * 10 + i64::from(digit - b'0')),
        _ => None,
    })
}

/// Microseconds of an optional `.123…`, and what follows.
fn fraction(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let Some(digits) = bytes.strip_prefix(b".") else { return Some((0, bytes)) };
    let length = digits.iter().take_while(|digit| digit.is_ascii_digit()).count();
    let kept = &digits[..length.min(6)];
    let micros = number(kept)? * 10_i64.pow(6 - kept.len() as u32);
    if length == 0 { None } else { Some((micros, &digits[length..])) }
}

/// Seconds east of UTC.
fn offset(bytes: &[u8]) -> Option<i64> {
    match bytes {
        [] | [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
            let seconds = hours * 3_600 + minutes * 60;
            (hours < 24 && minutes < 60).then_some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01. From Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms" (days_from_civil).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse (civil_from_days there).
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_rfc_3339_and_local_forms() {
        let cases = [
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000Z"),
            ("2023-10-31T00:00:00", "2023-10-31T00:00:00.000000Z"),
            ("2023-10-31T00:00:00.5", "2023-10-31T00:00:00.500000Z"),
            ("2023-10-31 12:34:56.1234569Z", "2023-10-31T12:34:56.123456Z"),
            ("2023-10-31t12:34:56.000001z", "2023-10-31T12:34:56.000001Z"),
            ("2023-10-31T01:00:00+02:00", "2023-10-30T23:00:00.000000Z"),
            ("2023-10-31T23:30:00-00:30", "2023-11-01T00:00:00.000000Z"),
            ("2024-02-29T23:59:60Z", "2024-03-01T00:00:00.000000Z"),
            ("1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000000Z"),
            ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999Z"),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).map(format).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(parse("2000-03-01T00:00:00Z"), Some(Timestamp(951_868_800_000_000)));
    }

    #[test]
    fn refuses_everything_else() {
        let cases = [
            "",
            "2023-10-31",
            "2023-10-31T00:00",
            "2023-10-31T00:00:00.",
            "2023-10-31T00:00:00.x",
            "2023-10-31T00:00:00+0200",
            "2023-10-31T00:00:00+24:00",
            "2023-10-31T00:00:00 Z",
            "2023-10-31x00:00:00Z",
            "2023-13-01T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2023-00-01T00:00:00Z",
            "2023-01-00T00:00:00Z",
            "2023-01-01T24:00:00Z",
            "2023-01-01T00:60:00Z",
            "2023-01-01T00:00:61Z",
            "+023-01-01T00:00:00Z",
            "1698710400",
            "yesterday",
            "２023-10-31T00:00",
        ];
        for text in cases {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_of_eight_centuries_comes_back() {
        let (mut year, mut month, mut day) = (1600, 1, 1);
        for days in days_from_civil(1600, 1, 1)..days_from_civil(2400, 1, 1) {
            assert_eq!(civil_from_days(days), (year, month, day));
            assert_eq!(days_from_civil(year, month, day), days);
            day += 1;
            if day > days_in_month(year, month) {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }
}

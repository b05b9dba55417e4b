//! Reads the times of files.

use jiff::fmt::strtime;
use jiff::tz::{Offset, TimeZone};
use segment_engine::time::{Timestamp, Zone};

/// Digits of a Unix time in microseconds, of this century and the next two.
const MICROS_DIGITS: usize = 16;
const NANOS_PER_MICRO: i128 = 1_000;

/// How the times of a file are read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times {
    /// The zone of times without an offset. `None` is UTC.
    pub(crate) zone: Option<Zone>,
    /// Directives of `strftime`. If given, no other form is read.
    pub(crate) format: Option<String>,
}

impl Times {
    /// Parses a time by the format, if there is one. Else it takes Unix seconds (10 digits),
    /// milliseconds (13), microseconds (16) or nanoseconds (19), also with a fraction, and all
    /// forms of an event's `created_at`.
    pub(crate) fn parse(&self, text: &str) -> Option<Timestamp> {
        let text = text.trim();
        match &self.format {
            Some(format) => self.by_format(format, text),
            None => unix_time(text).or_else(|| Timestamp::parse_iso_in(date_of(text), |local| self.instant_of(local))),
        }
    }

    fn instant_of(&self, local: i64) -> i64 {
        self.zone.as_ref().map_or(local, |zone| zone.to_instant(local))
    }

    fn by_format(&self, format: &str, text: &str) -> Option<Timestamp> {
        let read = strtime::parse(format, text).ok()?;
        let instant = if read.offset().is_some() || read.timestamp().is_some() {
            micros(read.to_timestamp().ok()?)
        } else if read.iana_time_zone().is_some() {
            micros(read.to_zoned().ok()?.timestamp())
        } else {
            self.instant_of(micros(Offset::UTC.to_timestamp(read.to_datetime().ok()?).ok()?))
        };
        Some(Timestamp(instant))
    }
}

/// Rounds down, as the engine does.
fn micros(instant: jiff::Timestamp) -> i64 {
    instant.as_nanosecond().div_euclid(NANOS_PER_MICRO) as i64 // fits: jiff has the years −9999 to 9999
}

fn unix_time(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !matches!(whole.len(), 10 | 13 | 16 | 19) || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    // Seconds lack six digits of microseconds, milliseconds three; nanoseconds have three too many.
    let digits = format!("{whole}{fraction:0<MICROS_DIGITS$}");
    digits[..MICROS_DIGITS].parse().ok().map(Timestamp)
}

/// Removes the `.0` of a date that a program kept as a float: `20231031.0`.
fn date_of(text: &str) -> &str {
    text.strip_suffix(".0").filter(|date| date.len() == 8 && !date.contains(['-', '/'])).unwrap_or(text)
}

/// Parses `--time-zone`: the Area/City of a zone, or UTC.
///
/// # Errors
/// There is no such zone.
pub(crate) fn zone(name: &str) -> Result<Zone, String> {
    // An abbreviation can mean a fixed offset or a zone with summer time.
    let named = Zone::parse(name).filter(|zone| zone.name().contains('/') || zone.name().eq_ignore_ascii_case("UTC"));
    named.ok_or_else(|| {
        format!("there is no time zone `{name}`; write Area/City, e.g. Europe/Berlin or America/New_York, or UTC")
    })
}

/// Parses `--time-format`. It must read again a time that it writes.
///
/// # Errors
/// The directives are wrong, or do not give a time.
pub(crate) fn format(text: &str) -> Result<String, String> {
    let probe = jiff::Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    let advice = "write directives of strftime, e.g. %d.%m.%Y %H:%M:%S, %m/%d/%Y %I:%M %p or %s";
    let written = strtime::format(text, &probe).map_err(|error| format!("{error}; {advice}"))?;
    let times = Times { zone: None, format: Some(text.to_owned()) };
    match times.parse(&written) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!("a time in this format (`{written}`) cannot be read again; {advice}")),
    }
}

#[cfg(test)]
mod tests {

    use ports::records::instant;

    use super::*;

    fn read(times: &Times, text: &str) -> Option<String> {
        times.parse(text).map(instant::format)
    }

    #[test]
    fn every_form_is_read_in_one_way() {
        let day = "2023-10-31T00:00:00.000000Z";
        let half = "2023-10-31T11:59:00.500000Z";
        let cases = [
            ("2023-10-31T00:00:00Z", Some(day)),
            ("2023-10-31 02:00:00+02", Some(day)),
            ("2023-10-30 22:30:00-0130", Some(day)),
            ("2023-10-30 20:00:00 -0400", Some(day)),
            ("2023-10-31 00:00:00 UTC", Some(day)),
            ("2023-10-31 00:00:00 +0000", Some(day)),
            ("2023-10-31 00:00", Some(day)),
            ("2023-10-31T00:00Z", Some(day)),
            (" 2023-10-31 ", Some(day)),
            ("20231031", Some(day)),
            ("20231031.0", Some(day)),
            ("20231031000000", Some(day)),
            ("1698710400", Some(day)),
            ("1698710400.0", Some(day)),
            ("1698710400.", Some(day)),
            ("1698710400000", Some(day)),
            ("1698710400000.0", Some(day)),
            ("1698710400000000", Some(day)),
            ("1698710400000000.0", Some(day)),
            ("1698710400000000000", Some(day)),
            ("1698753540.5", Some(half)),
            ("1698753540.5000009", Some(half)),
            ("1698753540500", Some(half)),
            ("1698753540500.0009", Some(half)),
            ("1698753540500000999", Some(half)),
            ("2023-10-31 11:59:00,5", Some(half)),
            ("2023-10-31 00:00:00.25", Some("2023-10-31T00:00:00.250000Z")),
            ("", None),
            ("0", None),
            ("-1698710400", None),
            ("16987104001", None),
            ("1698710400.5.5", None),
            ("1.698710400e9", None),
            ("1698710400,5", None),
            ("169871040\u{661}", None),
            ("31.10.2023", None),
            ("10/31/2023", None),
            ("20231331", None),
            ("N/A", None),
        ];
        for (text, expected) in cases {
            assert_eq!(read(&Times::default(), text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn the_zone_applies_to_times_without_an_offset() {
        let times = Times { zone: Some(zone("europe/berlin").unwrap()), format: None };
        let cases = [
            ("2023-07-01 12:00:00", "2023-07-01T10:00:00.000000Z"),
            ("2023-12-01", "2023-11-30T23:00:00.000000Z"),
            ("20231201", "2023-11-30T23:00:00.000000Z"),
            ("2023-07-01 12:00:00Z", "2023-07-01T12:00:00.000000Z"),
            ("1698710400", "2023-10-31T00:00:00.000000Z"),
        ];
        for (text, expected) in cases {
            assert_eq!(read(&times, text).as_deref(), Some(expected), "{text}");
        }
        for name in ["CET", "EST5EDT", "+02:00", "Berlin", ""] {
            assert!(zone(name).unwrap_err().contains("Area/City"), "{name}");
        }
        assert_eq!(zone("UTC").unwrap().to_instant(5), 5);
    }

    #[test]
    fn a_format_excludes_all_other_forms() {
        let berlin = Some(zone("Europe/Berlin").unwrap());
        let cases = [
            ("%d.%m.%Y %H:%M:%S", None, "31.10.2023 11:59:00", Some("2023-10-31T11:59:00.000000Z")),
            ("%d.%m.%Y %H:%M:%S", berlin.clone(), "31.10.2023 11:59:00", Some("2023-10-31T10:59:00.000000Z")),
            ("%d.%m.%Y", berlin.clone(), "1.7.2023", Some("2023-06-30T22:00:00.000000Z")),
            ("%m/%d/%Y %I:%M %p", None, "10/31/2023 1:05 PM", Some("2023-10-31T13:05:00.000000Z")),
            (
                "%a, %d %b %Y %H:%M:%S %z",
                berlin.clone(),
                "Tue, 31 Oct 2023 12:00:00 +0200",
                Some("2023-10-31T10:00:00.000000Z"),
            ),
            ("%Y-%m-%dT%H:%M:%S%.f", None, "2023-10-31T12:00:00.1234569", Some("2023-10-31T12:00:00.123456Z")),
            ("%s", berlin.clone(), "0", Some("1970-01-01T00:00:00.000000Z")),
            ("%s", None, "-1", Some("1969-12-31T23:59:59.000000Z")),
            ("%d.%m.%Y", None, "2023-10-31", None),
            ("%d.%m.%Y", None, "31.02.2023", None),
        ];
        for (written, zone, text, expected) in cases {
            let times = Times { zone, format: Some(format(written).unwrap()) };
            assert_eq!(read(&times, text).as_deref(), expected, "{text} by {written}");
        }
        for wrong in ["%H:%M", "%Z", "%!", "%d.%m", "yesterday", ""] {
            assert!(format(wrong).unwrap_err().contains("strftime"), "{wrong}");
        }
    }
}

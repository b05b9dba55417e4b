//! Times as files have them: more forms than the API takes, each with one meaning.

use ports::records::instant;
use segment_engine::time::Timestamp;

/// Reads RFC 3339, `2023-10-31 12:00:00` (UTC), the same followed by ` UTC`, `+00` or `+0000`, `2023-10-31` and `20231031`
/// (midnight UTC), and Unix times in seconds (10 digits), milliseconds (13) and microseconds (16).
pub fn parse(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return parse_digits(text);
    }
    let utc = text.strip_suffix("UTC").map(str::trim_end);
    instant::parse(utc.unwrap_or(text)).or_else(|| instant::parse(&completed(text)?))
}

fn parse_digits(text: &str) -> Option<Timestamp> {
    let number: i64 = text.parse().ok()?;
    match text.len() {
        8 => instant::parse(&format!("{}-{}-{}T00:00:00", &text[..4], &text[4..6], &text[6..])),
        10 => Some(Timestamp(number * 1_000_000)),
        13 => Some(Timestamp(number * 1_000)),
        16 => Some(Timestamp(number)),
        _ => None,
    }
}

/// What databases leave out: the time of a date, the minutes or the colon of an offset.
fn completed(text: &str) -> Option<String> {
    if text.len() == 10 {
        return Some(format!("{text}T00:00:00"));
    }
    let sign = text.rfind(['+', '-']).filter(|at| *at > 10)?;
    let (time, offset) = text.split_at(sign);
    match offset.len() {
        3 => Some(format!("{time}{offset}:00")),
        5 => Some(format!("{time}{}:{}", offset.get(..3)?, offset.get(3..)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_has_one_meaning() {
        let day = "2023-10-31T00:00:00.000000Z";
        let cases = [
            ("2023-10-31T00:00:00Z", Some(day)),
            ("2023-10-31 02:00:00+02", Some(day)),
            ("2023-10-30 22:30:00-0130", Some(day)),
            ("2023-10-31 00:00:00 UTC", Some(day)),
            (" 2023-10-31 ", Some(day)),
            ("20231031", Some(day)),
            ("1698710400", Some(day)),
            ("1698710400000", Some(day)),
            ("1698710400000000", Some(day)),
            ("2023-10-31 00:00:00.25", Some("2023-10-31T00:00:00.250000Z")),
            ("", None),
            ("0", None),
            ("31.10.2023", None),
            ("10/31/2023", None),
            ("20231331", None),
            ("2023-10-31T00:00", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).map(instant::format).as_deref(), expected, "{text}");
        }
    }
}

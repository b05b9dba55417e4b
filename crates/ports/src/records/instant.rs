//! Instants as text: RFC 3339.

use segment_engine::time::Timestamp;

/// Reads RFC 3339, and the same without an offset, which is UTC then. `None` for anything else, and for what is not in the
/// years 0000 to 9999 in UTC, since [`format`] could not write it so that it can be read.
pub fn parse(text: &str) -> Option<Timestamp> {
    Timestamp::parse_rfc3339(text)
}

/// Writes RFC 3339 in UTC with six fractional digits.
pub fn format(instant: Timestamp) -> String {
    instant.to_string()
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
            ("0000-01-01T00:00:00-23:59", "0000-01-01T23:59:00.000000Z"),
            ("9999-12-31T23:59:59+23:59", "9999-12-31T00:00:59.000000Z"),
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
            "9999-12-31T23:59:60Z",
            "9999-12-31T23:59:59-00:01",
            "9999-12-31T23:59:59-23:59",
            "0000-01-01T00:00:00+00:01",
            "0000-01-01T00:00:00+23:59",
            "1698710400",
            "yesterday",
            "２023-10-31T00:00",
        ];
        for text in cases {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}

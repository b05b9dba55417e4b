//! Spellings of times: what events and imports read, and what casts read.
//!
//! The values of casts are PostgreSQL 15.18's for `text::timestamptz`. A comment says where
//! PostgreSQL reads a text that we refuse.

use super::*;

/// Spellings that events, imports and casts read: `spelling = instant`.
const READ_BY_BOTH: &str = "
2023-10-31T12:00:00Z = 2023-10-31T12:00:00Z
2023-10-31t12:00:00z = 2023-10-31T12:00:00Z
2023-10-31T12:00:00 = 2023-10-31T12:00:00Z
2023-10-31 12:00:00 = 2023-10-31T12:00:00Z
2023-10-31T12:00:00+02:00 = 2023-10-31T10:00:00Z
2023-10-31T12:00:00+0200 = 2023-10-31T10:00:00Z
2023-10-31T12:00:00.000+0000 = 2023-10-31T12:00:00Z
2023-10-31T12:00:00+02 = 2023-10-31T10:00:00Z
2023-10-31T12:00:00+2 = 2023-10-31T10:00:00Z
2023-10-31T12:00:00+200 = 2023-10-31T10:00:00Z
2023-10-31T12:00:00 +2:30 = 2023-10-31T09:30:00Z
2023-10-31T12:00:00+02:30:15 = 2023-10-31T09:29:45Z
2023-10-31T12:00:00-00:00 = 2023-10-31T12:00:00Z
2023-10-31T12:00:00+15:59 = 2023-10-30T20:01:00Z
2023-10-31 12:00:00 -0400 = 2023-10-31T16:00:00Z
2023-10-31 12:00:00 +0000 = 2023-10-31T12:00:00Z
2023-10-31 12:00:00.0000000 +00:00 = 2023-10-31T12:00:00Z
2023-10-31 12:00:00 UTC = 2023-10-31T12:00:00Z
2023-10-31 12:00:00.25 UTC = 2023-10-31T12:00:00.25Z
2023-10-31 12:00:00UTC = 2023-10-31T12:00:00Z
2023-10-31T12:00:00 utc = 2023-10-31T12:00:00Z
2023-10-31T12:00:00 GMT = 2023-10-31T12:00:00Z
2023-10-31T12:00:00 Z = 2023-10-31T12:00:00Z
2023-10-31 11:59 = 2023-10-31T11:59:00Z
2023-10-31T12:00Z = 2023-10-31T12:00:00Z
2023-10-31T9:05 = 2023-10-31T09:05:00Z
2023-10-31 12:00 +0200 = 2023-10-31T10:00:00Z
2023-1-5 1:2:3 = 2023-01-05T01:02:03Z
2023-10-31 = 2023-10-31T00:00:00Z
2023-10-31Z = 2023-10-31T00:00:00Z
2023-10-31+02:00 = 2023-10-30T22:00:00Z
2023-10-31 -04:00 = 2023-10-31T04:00:00Z
2023-10-31 UTC = 2023-10-31T00:00:00Z
20231031 = 2023-10-31T00:00:00Z
20231031Z = 2023-10-31T00:00:00Z
20231031+02 = 2023-10-30T22:00:00Z
20231031T115900Z = 2023-10-31T11:59:00Z
20231031t115900z = 2023-10-31T11:59:00Z
20231031T115900 = 2023-10-31T11:59:00Z
20231031T115900.5Z = 2023-10-31T11:59:00.5Z
20231031T115900.123+0530 = 2023-10-31T06:29:00.123Z
20231031T115900+02:00 = 2023-10-31T09:59:00Z
20231031T1159-0400 = 2023-10-31T15:59:00Z
20231031T1159Z = 2023-10-31T11:59:00Z
20231031 115900 = 2023-10-31T11:59:00Z
20231031 11:59:00 = 2023-10-31T11:59:00Z
20231031T11:59:00Z = 2023-10-31T11:59:00Z
2023-10-31T115900Z = 2023-10-31T11:59:00Z
2023-10-31 1159 +02 = 2023-10-31T09:59:00Z
2023-10-31 1159GMT = 2023-10-31T11:59:00Z
2023/10/31 = 2023-10-31T00:00:00Z
2023/10/31 12:00:00 = 2023-10-31T12:00:00Z
2023/1/5 1:2 = 2023-01-05T01:02:00Z
2023-304 = 2023-10-31T00:00:00Z
2023-304T12:00:00Z = 2023-10-31T12:00:00Z
2024-366 = 2024-12-31T00:00:00Z
2023-10-31T24:00:00Z = 2023-11-01T00:00:00Z
20231031T240000 = 2023-11-01T00:00:00Z
2023-10-31T23:59:60Z = 2023-11-01T00:00:00Z
20231031T235960 = 2023-11-01T00:00:00Z
0001-01-01T00:00:00Z = 0001-01-01T00:00:00Z
9999-12-31T23:59:59.999999999Z = 9999-12-31T23:59:59.999999Z
1969-12-31T23:59:59.999999Z = 1969-12-31T23:59:59.999999Z
";

/// Spellings that events and imports read. PostgreSQL refuses them, and so does a cast.
const NOT_IN_CASTS: &str = "
2023-10-31T12:00:00,5Z = 2023-10-31T12:00:00.5Z
2023-10-31 12:00:00,123 = 2023-10-31T12:00:00.123Z
20231031T115900,25+0200 = 2023-10-31T09:59:00.25Z
2023-10-31T12 = 2023-10-31T12:00:00Z
2023-10-31T12Z = 2023-10-31T12:00:00Z
20231031T12+02 = 2023-10-31T10:00:00Z
20231031115900 = 2023-10-31T11:59:00Z
2023-W44-2 = 2023-10-31T00:00:00Z
2023W442T1159Z = 2023-10-31T11:59:00Z
2021-W53-7 = NONE
2020-W53-7 = 2021-01-03T00:00:00Z
2026-W01-1 = 2025-12-29T00:00:00Z
2023-10-31-04:00 = 2023-10-31T04:00:00Z
20231031-0400 = 2023-10-31T04:00:00Z
2023-10-31T12:00:00\u{2212}02:00 = 2023-10-31T14:00:00Z
2023-10-31T12:00:00+16:00 = 2023-10-30T20:00:00Z
2023-10-31T12:00:00+23:59 = 2023-10-30T12:01:00Z
2023-10-31T12:00:00+01:00[Europe/Berlin] = 2023-10-31T11:00:00Z
2023-10-31T11:00:00Z[Europe/Berlin][u-ca=iso8601] = 2023-10-31T11:00:00Z
2023-10-31 12:00:00 +0000 UTC = 2023-10-31T12:00:00Z
2023-10-31 12:00:00.5 +0200 CEST = 2023-10-31T10:00:00.5Z
0000-01-01T00:00:00Z = 0000-01-01T00:00:00Z
0000-01-01T00:00:00-23:59 = 0000-01-01T23:59:00Z
9999-12-31T23:59:59+23:59 = 9999-12-31T00:00:59Z
";

/// Texts that are refused everywhere.
const REFUSED: &str = "
yesterday
2023
2023-10
202310
231031
2023304
2023-000
2023-366
2023-W00-1
2023-W44
2023-W44-8
2023-W54-1
2023-10-31x12:00:00
2023-10-31T
2023-10-31T1
2023-10-31T115
2023-10-31T11590
2023-10-31T12:00:00.
2023-10-31T12:00:00.x
2023-10-31T12:00.5Z
2023-10-31T1159.5Z
2023-10-31T12.5
2023-10-31T24:00:00.000001
2023-10-31T2401
2023-10-31T11:60
2023-10-31T1160
2023-10-31T11:59:61
2023-10-31T115961
2023-10-31T12:00:00+24:00
2023-10-31T12:00:00+02:60
2023-10-31T12:00:00+0260
2023-10-31T12:00:00+020000
2023-10-31T12:00:00++02
2023-10-31T12:00:00UTC+2
2023-10-31T12:00:00 GMT+0200
2023-10-31 12:00:00 CET
2023-10-31 12:00:00 Europe/Berlin
2023-10-31T12:00:00[Europe/Berlin]
2023-10-31T12:00:00Z[Europe/Berlin
2023-10-31 1:00 PM
2023/10-31
2023.10.31
10/31/2023
31.10.2023
31 Oct 2023
Tue, 31 Oct 2023 12:00:00 GMT
2023-02-29
1900-02-29
20230229
2023-13-01
2023-00-01
2023-01-00
2023-01-32
+023-01-01T00:00:00Z
-2023-10-31
1698753540
1698753540.5
1698753540000
\u{ff12}023-10-31T00:00
\u{661}\u{662}\u{663}\u{664}-10-31
";

fn cases(table: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines: Vec<_> = table.lines().filter(|line| !line.is_empty()).collect();
    assert!(lines.len() > 20);
    lines.into_iter().map(|line| line.rsplit_once(" = ").unwrap_or((line, "NONE")))
}

/// Reads the plain spelling without the reader under test.
fn plain(text: &str) -> Option<Timestamp> {
    if text == "NONE" {
        return None;
    }
    let number = |from: usize, to: usize| text[from..to].parse::<i64>().unwrap_or_else(|_| panic!("{text} is plain"));
    let days = calendar::Civil { year: number(0, 4), month: number(5, 7), day: number(8, 10) }.to_days();
    let fraction = text[19..].trim_end_matches('Z').trim_start_matches('.');
    let micros: i64 = format!("{fraction:0<6}").parse().unwrap_or_else(|_| panic!("{text} is plain"));
    let seconds = days * 86_400 + number(11, 13) * 3_600 + number(14, 16) * 60 + number(17, 19);
    Some(Timestamp(seconds * 1_000_000 + micros))
}

#[test]
fn events_and_casts_read_iso_8601_rfc_3339_and_exporters_alike() {
    for (text, expected) in cases(READ_BY_BOTH) {
        assert_eq!(Timestamp::parse_iso(text), plain(expected), "{text} of an event");
        assert_eq!(Timestamp::parse(text), plain(expected), "{text} in a cast");
        assert_eq!(Timestamp::parse_iso(&format!(" {text}\t")), plain(expected), "{text} with blanks around it");
    }
}

#[test]
fn a_cast_does_not_read_what_postgresql_refuses() {
    for (text, expected) in cases(NOT_IN_CASTS) {
        assert_eq!(Timestamp::parse_iso(text), plain(expected), "{text} of an event");
        assert_eq!(Timestamp::parse(text), None, "{text} in a cast");
        assert_eq!((parse_local(text), parse_date(text)), (None, None), "{text} in a cast");
    }
}

/// PostgreSQL reads some of these: `2023-366`, `T2401` and `T115961` as times of the next day,
/// `T12:00.5` as twelve minutes, names of zones, and others. Here a cast of them is NULL.
#[test]
fn everything_else_is_refused() {
    for (text, _) in cases(REFUSED) {
        assert_eq!((Timestamp::parse_iso(text), Timestamp::parse(text)), (None, None), "{text}");
    }
    for text in ["9999-12-31T23:59:60Z", "9999-12-31T23:59:59-00:01", "0000-01-01T00:00:00+00:01"] {
        assert_eq!(Timestamp::parse_iso(text), None, "{text} is not in the years that can be written");
    }
}

#[test]
fn a_time_without_an_offset_is_local_to_the_zone() {
    let berlin = Zone::parse("Europe/Berlin").unwrap_or_else(|| panic!("the zone is known"));
    let cases = [
        ("2023-07-01 12:00", "2023-07-01T10:00:00Z"),
        ("2023-12-01", "2023-11-30T23:00:00Z"),
        ("20231201T1200", "2023-12-01T11:00:00Z"),
        ("2023-07-01 12:00Z", "2023-07-01T12:00:00Z"),
        ("2023-07-01T12:00:00+05", "2023-07-01T07:00:00Z"),
        // A repeated time is the later instant; a skipped one has the offset before the change.
        ("2023-10-29 02:30", "2023-10-29T01:30:00Z"),
        ("2023-03-26 02:30", "2023-03-26T01:30:00Z"),
    ];
    for (text, expected) in cases {
        assert_eq!(Timestamp::parse_iso_in(text, |local| berlin.to_instant(local)), plain(expected), "{text}");
    }
}

proptest::proptest! {
    /// For any pieces in any order: no panic, and an event reads all that a cast reads, as the same
    /// time.
    #[test]
    fn what_a_cast_reads_an_event_reads_too(
        pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..9)
    ) {
        let text = pieces.concat();
        let (event, cast) = (Timestamp::parse_iso(&text), Timestamp::parse(&text));
        proptest::prop_assert!(cast.is_none() || cast == event, "{text:?}: {event:?}, {cast:?}");
    }
}

const PIECES: &[&str] = &[
    "2023", "10", "31", "3", "304", "-", "-", "/", ":", ":", "T", "t", " ", "W44", "20231031", "115900", "1159", "12",
    "7", ".", ",", "5", "+", "+02", "-0400", "Z", "UTC", "[", "]", "CET", "\u{2212}", "é", "24", "60", "00",
];

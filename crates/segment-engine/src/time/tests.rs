//! Expected values are those of PostgreSQL 15, except where "Whose SQL" in the language's reference
//! says otherwise.

use super::calendar::Civil;
use super::*;

fn instant(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap_or_else(|| panic!("{text} is a time"))
}

fn interval(text: &str) -> Interval {
    Interval::parse(text).unwrap_or_else(|| panic!("{text} is an interval"))
}

#[test]
fn reads_times_and_prints_rfc_3339() {
    let cases = [
        ("2026-01-01", "2026-01-01T00:00:00.000000Z"),
        ("2023-10-31T00:00:00", "2023-10-31T00:00:00.000000Z"),
        ("2026-01-01T10:20:30.5Z", "2026-01-01T10:20:30.500000Z"),
        ("2026-01-01t10:20:30z", "2026-01-01T10:20:30.000000Z"),
        ("  2026-01-01  10:20 ", "2026-01-01T10:20:00.000000Z"),
        ("2026-1-5 1:2:3", "2026-01-05T01:02:03.000000Z"),
        ("2026-01-01T10:20:30.123456+02:00", "2026-01-01T08:20:30.123456Z"),
        ("2026-01-01 10:20:30+02", "2026-01-01T08:20:30.000000Z"),
        ("2026-01-01 10:20:30 -0330", "2026-01-01T13:50:30.000000Z"),
        ("2026-01-01 10:20:30+02:30:15", "2026-01-01T07:50:15.000000Z"),
        ("2026-01-01 10:20:30 UTC", "2026-01-01T10:20:30.000000Z"),
        ("2026-01-01 24:00:00", "2026-01-02T00:00:00.000000Z"),
        ("2026-01-01 23:59:60", "2026-01-02T00:00:00.000000Z"),
        ("2024-02-29", "2024-02-29T00:00:00.000000Z"),
        ("0001-01-01", "0001-01-01T00:00:00.000000Z"),
        ("9999-12-31 23:59:59.999999", "9999-12-31T23:59:59.999999Z"),
        // Postgres rounds here, but the language cuts off.
        ("2026-01-01T10:20:30.9999999Z", "2026-01-01T10:20:30.999999Z"),
        ("2026-01-01T10:20:30.123456789012345678901234567890Z", "2026-01-01T10:20:30.123456Z"),
    ];
    for (text, printed) in cases {
        assert_eq!(instant(text).to_string(), printed, "{text:?}");
        assert_eq!(instant(printed), instant(text));
    }
}

#[test]
fn other_texts_are_not_times() {
    let cases = [
        "",
        "garbage",
        "2026",
        "2026-01",
        "2026-02-29",
        "2026-13-01",
        "2026-00-01",
        "2026-01-32",
        "2026-01-00",
        "0000-01-01",
        "26-01-01",
        "2026-001-01",
        "2026-01-01x",
        "2026-01-01T",
        "2026-01-01T10",
        "2026-01-01 10:20:",
        "2026-01-01 24:00:01",
        "2026-01-01 25:00",
        "2026-01-01 23:60:00",
        "2026-01-01 23:59:61",
        "2026-01-01 10:20:30,5",
        "2026-01-01 10:20:30.x",
        "2026-01-01 10:20:30++02",
        "2026-01-01 10:20:30+24:00",
        "2026-01-01 10:20:30+02:60",
        "2026-01-01 10:20:30 Europe/Athens",
        "infinity",
        "now",
        "２026-01-01",
    ];
    for text in cases {
        assert_eq!(Timestamp::parse(text), None, "{text:?}");
    }
}

#[test]
fn local_times_and_dates_ignore_the_offset() {
    assert_eq!(parse_local("2026-01-01 10:00+05").map(local_text).unwrap(), "2026-01-01 10:00:00");
    assert_eq!(parse_date("2026-01-01T23:00:00-05:00").map(date_text).unwrap(), "2026-01-01");
    assert_eq!(parse_date("2026-01-01 24:00:00").map(date_text).unwrap(), "2026-01-01");
}

#[test]
fn prints_sql_text_as_postgres_does() {
    assert_eq!(instant("2026-01-01T00:00:00.120Z").sql_text(), "2026-01-01 00:00:00.12+00");
    assert_eq!(Timestamp(-62_135_596_800_000_001).sql_text(), "0001-12-31 23:59:59.999999+00 BC");
    assert_eq!(date_text(-719_163), "0001-12-31 BC");
    assert_eq!(Timestamp::MAX.to_string(), "294247-01-10T04:00:54.775807Z");
    assert_eq!(Timestamp::MIN.to_string(), "-290308-12-21T19:59:05.224192Z");
}

#[test]
fn reads_and_prints_intervals_as_postgres_does() {
    let cases = [
        ("7 days", "7 days"),
        ("1 month 2 days", "1 mon 2 days"),
        ("1 year", "1 year"),
        ("90 minutes", "01:30:00"),
        ("1 day 02:03:04", "1 day 02:03:04"),
        ("1:30:15.25", "01:30:15.25"),
        ("100:00:00", "100:00:00"),
        ("-00:00:01", "-00:00:01"),
        ("P1D", "1 day"),
        ("P1Y2M3W4DT5H6M7.5S", "1 year 2 mons 25 days 05:06:07.5"),
        ("PT1M", "00:01:00"),
        ("-1 month", "-1 mons"),
        ("1 year 2 mons -3 days 04:05:06.7", "1 year 2 mons -3 days +04:05:06.7"),
        ("1 day ago", "-1 days"),
        ("1-2", "1 year 2 mons"),
        ("10", "00:00:10"),
        ("1 day 5", "1 day 00:00:05"),
        ("1 2:03", "1 day 02:03:00"),
        ("-1 2:03:04.5", "-1 days +02:03:04.5"),
        ("1 -2:03", "1 day -02:03:00"),
        ("1.5 2:03", "1 day 14:03:00"),
        ("1-2 3 4:05:06", "1 year 2 mons 3 days 04:05:06"),
        ("-9223372036854775808 us", "-2562047788:00:54.775808"),
        ("1 day, 2 hours", "1 day 02:00:00"),
        ("@ 1 minute", "00:01:00"),
        ("7 DAYS", "7 days"),
        ("1day", "1 day"),
        ("2 weeks", "14 days"),
        ("2 centuries 1 decade", "210 years"),
        ("1.5 days", "1 day 12:00:00"),
        ("0.5 months", "15 days"),
        ("-1.5 months", "-1 mons -15 days"),
        ("1.5 years", "1 year 6 mons"),
        ("1.5 weeks", "10 days 12:00:00"),
        ("1.0000015 s", "00:00:01.000001"),
        ("1.0000016 s", "00:00:01.000002"),
        ("3 us 2 ms", "00:00:00.002003"),
        ("2147483647 days", "2147483647 days"),
        ("0 days", "00:00:00"),
    ];
    for (text, printed) in cases {
        assert_eq!(interval(text).to_string(), printed, "{text:?}");
        assert_eq!(interval(printed), interval(text), "{printed:?} is read back");
    }
}

#[test]
fn other_texts_are_not_intervals() {
    let cases = [
        "",
        "x",
        "days",
        "ago",
        "1 fortnight",
        "5 quarters",
        "1 day 2 days",
        "1 day 2 3:04",
        "2:03 1",
        "9223372036854775808 us",
        "1 h 1:00",
        "1:60",
        "1 2 days",
        "1month2days",
        "1 day-2 hours",
        "1e3 days",
        "2147483648 days",
        "99999999999999999999 s",
        "178956971 years",
        "P",
        "P1H",
        "PT1D",
        "1 day 1:2:3:4",
        ". days",
        "1 dáy",
    ];
    for text in cases {
        assert_eq!(Interval::parse(text), None, "{text:?}");
    }
}

#[test]
fn intervals_compare_by_months_of_30_days() {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let cases = [
        ("1 month", "30 days", Equal),
        ("1 year", "365 days", Less),
        ("1 day", "24 hours", Equal),
        ("1 month -1 day", "29 days", Equal),
        ("1 month 1 us", "30 days", Greater),
        ("-1 day", "0 days", Less),
    ];
    for (left, right, expected) in cases {
        let (left, right) = (interval(left), interval(right));
        assert_eq!(left.sql_cmp(right), expected, "{left} ? {right}");
        assert_eq!(left.normalized() == right.normalized(), expected == Equal, "{left} ? {right}");
    }
}

#[test]
fn adds_intervals_to_instants_in_postgres_order() {
    let cases = [
        ("2026-01-31", "1 month", "2026-02-28"),
        ("2026-01-31", "1 month 1 day", "2026-03-01"),
        ("2024-02-29", "1 year", "2025-02-28"),
        ("2024-02-29", "-4 years", "2020-02-29"),
        ("2025-03-31T12:00:00Z", "-1 month", "2025-02-28T12:00:00Z"),
        ("2025-03-30", "1 day", "2025-03-31"),
        ("2026-01-01", "-1 us", "2025-12-31T23:59:59.999999Z"),
        ("2026-01-31", "1 month -1 day 01:00", "2026-02-27T01:00:00Z"),
    ];
    for (start, length, end) in cases {
        assert_eq!(instant(start).checked_add(interval(length)), Some(instant(end)), "{start} + {length}");
    }
    assert_eq!(Timestamp::MAX.checked_add(interval("1 us")), None);
    assert_eq!(Timestamp::MIN.checked_add(interval("-1 month")), None);
}

#[test]
fn truncates_and_extracts() {
    let time = "2024-05-15T13:14:15.678901Z"; // a Wednesday
    let truncated = [
        (Unit::Microsecond, "2024-05-15T13:14:15.678901Z"),
        (Unit::Millisecond, "2024-05-15T13:14:15.678Z"),
        (Unit::Second, "2024-05-15T13:14:15Z"),
        (Unit::Minute, "2024-05-15T13:14:00Z"),
        (Unit::Hour, "2024-05-15T13:00:00Z"),
        (Unit::Day, "2024-05-15"),
        (Unit::Week, "2024-05-13"),
        (Unit::Month, "2024-05-01"),
        (Unit::Quarter, "2024-04-01"),
        (Unit::Year, "2024-01-01"),
    ];
    for (unit, expected) in truncated {
        let floor = unit.floor(instant(time).0).unwrap();
        assert_eq!(Timestamp(floor), instant(expected), "{unit:?}");
        let next = unit.next(floor).unwrap();
        assert_eq!(unit.floor(next), Some(next), "{unit:?}");
        assert_eq!(unit.floor(next - 1), Some(floor), "{unit:?}");
    }
    assert_eq!(Unit::Week.floor(i64::MIN), None);
    let extracted = [
        (time, Field::Epoch, "1715778855.678901"),
        (time, Field::Microsecond, "15678901"),
        (time, Field::Millisecond, "15678.901"),
        (time, Field::Second, "15.678901"),
        (time, Field::Minute, "14"),
        (time, Field::Hour, "13"),
        (time, Field::Day, "15"),
        (time, Field::DayOfWeek, "3"),
        (time, Field::IsoDayOfWeek, "3"),
        ("2024-05-19", Field::DayOfWeek, "0"),
        ("2024-05-19", Field::IsoDayOfWeek, "7"),
        (time, Field::DayOfYear, "136"),
        (time, Field::IsoWeek, "20"),
        ("2021-01-03", Field::IsoWeek, "53"),
        ("2021-01-03", Field::IsoYear, "2020"),
        ("2024-12-30", Field::IsoWeek, "1"),
        ("2024-12-30", Field::IsoYear, "2025"),
        (time, Field::Month, "5"),
        (time, Field::Quarter, "2"),
        (time, Field::Year, "2024"),
        ("1960-06-15T10:11:12.345678Z", Field::Second, "12.345678"),
    ];
    for (time, field, expected) in extracted {
        assert_eq!(field.of_time(instant(time).0).to_string(), expected, "{field:?} of {time}");
    }
}

#[test]
fn extracts_from_intervals() {
    let length = "1 year 2 mons -3 days 25:05:06.7";
    let cases = [
        (length, Field::Epoch, Some("36572706.7")),
        (length, Field::Year, Some("1")),
        (length, Field::Quarter, Some("1")),
        (length, Field::Month, Some("2")),
        (length, Field::Day, Some("-3")),
        (length, Field::Hour, Some("25")),
        (length, Field::Minute, Some("5")),
        (length, Field::Second, Some("6.7")),
        (length, Field::IsoWeek, None),
    ];
    for (text, field, expected) in cases {
        let number = field.of_interval(interval(text)).map(|number| number.to_string());
        assert_eq!(number.as_deref(), expected, "{field:?} of {text}");
    }
}

#[test]
fn zones_skip_and_repeat_local_times_as_in_postgres() {
    let to_local = [
        ("Europe/Athens", "2025-03-30T00:59:59Z", "2025-03-30 02:59:59"),
        ("Europe/Athens", "2025-03-30T01:00:00Z", "2025-03-30 04:00:00"),
        ("America/New_York", "2025-11-02T06:00:00Z", "2025-11-02 01:00:00"),
        ("Australia/Lord_Howe", "2025-10-04T15:30:00Z", "2025-10-05 02:30:00"),
        ("Europe/Athens", "2450-07-01T00:00:00Z", "2450-07-01 03:00:00"),
    ];
    for (zone, time, expected) in to_local {
        assert_eq!(local_text(Zone::parse(zone).unwrap().to_local(instant(time).0)), expected, "{time} in {zone}");
    }
    let to_instant = [
        // A skipped time has the offset before the change; a repeated one is the later instant.
        ("Europe/Athens", "2025-03-30 03:30", "2025-03-30T01:30:00Z"),
        ("Europe/Athens", "2025-10-26 03:30", "2025-10-26T01:30:00Z"),
        ("America/New_York", "2025-03-09 02:30", "2025-03-09T07:30:00Z"),
        ("America/New_York", "2025-11-02 01:30", "2025-11-02T06:30:00Z"),
        ("Australia/Lord_Howe", "2025-04-06 01:45", "2025-04-05T15:15:00Z"),
        ("Australia/Lord_Howe", "2025-10-05 02:15", "2025-10-04T15:45:00Z"),
        ("Pacific/Apia", "2011-12-30 12:00", "2011-12-30T22:00:00Z"),
    ];
    for (zone, local, expected) in to_instant {
        let found = Zone::parse(zone).unwrap().to_instant(parse_local(local).unwrap());
        assert_eq!(Timestamp(found), instant(expected), "{local} of {zone}");
    }
}

#[test]
fn zones_go_on_after_the_years_that_the_library_knows() {
    let zone = Zone::parse("America/New_York").unwrap();
    let cycle = calendar::CYCLE_DAYS * calendar::DAY;
    let summer = instant("2226-07-01T12:00:00Z").0;
    for cycles in [1, 20, 700] {
        let later = summer + cycles * cycle;
        assert_eq!(zone.offset_at(later), zone.offset_at(summer));
        assert_eq!(zone.to_instant(zone.to_local(later)), later);
        let changes = zone.transitions(later, later + 365 * calendar::DAY);
        let here = zone.transitions(summer, summer + 365 * calendar::DAY);
        let moved: Vec<_> =
            here.iter().map(|change| Transition { at: change.at + cycles * cycle, ..*change }).collect();
        assert_eq!(changes, moved);
        assert_eq!(changes.len(), 2);
    }
    assert_eq!(zone.to_local(i64::MIN), i64::MIN);
    assert_eq!(zone.transitions(i64::MAX - 1, i64::MAX), []);
}

#[test]
fn zones_are_found_by_name_in_any_case() {
    assert_eq!(Zone::parse("europe/athens").unwrap().name(), "Europe/Athens");
    assert_eq!(Zone::parse("europe/athens"), Zone::parse("Europe/Athens"));
    for name in ["Mars/Olympus", "", "EET+2", "Etc/Unknown"] {
        assert_eq!(Zone::parse(name), None, "{name:?}");
    }
}

#[test]
fn every_day_of_eight_centuries_is_converted_back() {
    let mut civil = Civil { year: 1600, month: 1, day: 1 };
    for days in civil.to_days()..(Civil { year: 2400, month: 1, day: 1 }).to_days() {
        assert_eq!((Civil::from_days(days), civil.to_days()), (civil, days));
        civil.day += 1;
        if civil.day > calendar::month_length(civil.year, civil.month) {
            civil = Civil { month: civil.month + 1, day: 1, ..civil };
        }
        if civil.month > 12 {
            civil = Civil { year: civil.year + 1, month: 1, ..civil };
        }
    }
}

//! A preview queries the warehouse, memberships come from the engine: both give the same result for
//! every value. The expected strings are PostgreSQL 15's, or NULL where it raises an error.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use adapters::duckdb::DuckDbWarehouse;
use ports::warehouse::{ArchiveBatch, ArchiveRow, UserRow, Warehouse, archived};
use ports_testkit::contract;
use segment_engine::eval::{EventScope, evaluate};
use segment_engine::event::Event;
use segment_engine::ids::{PartitionId, UserId};
use segment_engine::language::compile;
use segment_engine::sql::{member_query, members_query};
use segment_engine::time::Timestamp;
use segment_engine::value::{Type, Value};
use serde_json::{Value as Json, json};

/// An expression over an event with this `x` in its payload, and the expected value as SQL text.
type Case = (&'static str, Json, Option<&'static str>);

fn now() -> Timestamp {
    Timestamp::parse("2026-11-28T19:00:00Z").unwrap()
}

fn event(number: usize, created_at: &str, x: &Json) -> Event {
    let created_at = Timestamp::parse_iso(created_at).unwrap();
    let least = contract::warehouse::event(number as i64, 0, number as u64);
    Event { created_at, processed_at: now(), payload: json!({ "x": x }).into(), ..least }
}

async fn warehouse(events: &[Event], folder: &tempfile::TempDir) -> DuckDbWarehouse {
    let warehouse = DuckDbWarehouse::open(&folder.path().join("warehouse.duckdb")).unwrap();
    let mut rows = Vec::new();
    for event in events {
        let created_at = Timestamp(0);
        rows.push(ArchiveRow::User(UserRow {
            id: event.user_id,
            client_ref_id: None,
            email: None,
            name: None,
            created_at,
        }));
        rows.push(ArchiveRow::Event { event: Box::new(archived(event.clone())), dedupe_forever: false });
    }
    let to_offset = events.len() as u64;
    let rows = (0..).zip(rows).collect();
    warehouse.archive(ArchiveBatch { partition: PartitionId(0), from_offset: 0, to_offset, rows }).await.unwrap();
    warehouse
}

/// Evaluates each case in the engine and in the warehouse, with one user for each case.
async fn check(created_at: &str, cases: &[Case]) {
    let folder = tempfile::tempdir().unwrap();
    let events: Vec<Event> = cases.iter().enumerate().map(|(place, (_, x, _))| event(place, created_at, x)).collect();
    let warehouse = warehouse(&events, &folder).await;
    for (event, (expression, x, expected)) in events.iter().zip(cases) {
        let test = match expected {
            Some(text) => format!("= '{}'", text.replace('\'', "''")),
            None => "IS NULL".to_owned(),
        };
        let plan = compile(&format!("last(({expression})::text) {test}")).unwrap();
        let argument = plan.aggregates[0].argument.as_ref().unwrap();
        let value = evaluate(argument, &mut EventScope { event, now: now() }).cast(Type::Text);
        assert_eq!(value, Value::from(*expected), "the engine: {expression} of {x}");
        let query = member_query(&plan, &|_| None, now(), event.user_id).unwrap();
        let members = warehouse.members(&query).await.unwrap();
        assert_eq!(members, [event.user_id], "the warehouse: {expression} of {x} is not {expected:?}\n{query}");
    }
}

#[tokio::test]
async fn strings_cast_to_intervals() {
    let cases = [
        ("24:00:00", Some("24:00:00")),
        ("7 days", Some("7 days")),
        ("1 year 2 months -3 days", Some("1 year 2 mons -3 days")),
        ("-1 mons +2 days 01:00", Some("-1 mons +2 days 01:00:00")),
        ("-3 days 01:00", Some("-3 days +01:00:00")),
        ("1.5 months", Some("1 mon 15 days")),
        ("1.7 weeks", Some("11 days 21:36:00")),
        ("1.05 years", Some("1 year 1 mon")),
        ("1.5 hours ago", Some("-01:30:00")),
        ("90 min", Some("01:30:00")),
        ("1-2 3 4:05:06.7", Some("1 year 2 mons 3 days 04:05:06.7")),
        ("1 2:03", Some("1 day 02:03:00")),
        ("@ 1 Day", Some("1 day")),
        ("30", Some("00:00:30")),
        ("P1Y2M3DT4H5M6.5S", Some("1 year 2 mons 3 days 04:05:06.5")),
        ("pt90m", Some("01:30:00")),
        ("P1W", Some("7 days")),
        ("0.0000015 s", Some("00:00:00.000001")),
        ("2147483647 days", Some("2147483647 days")),
        ("2562047788 hours", Some("2562047788:00:00")),
        ("2147483648 days", None),
        ("178956970 years 8 months", None),
        ("1 day 1 days", None),
        ("1 mon 1-2", None),
        ("1 fortnight", None),
        ("1day2hours", None),
        ("1:60", None),
        ("1-12", None),
        ("P", None),
        ("P 1D", None),
        ("1 day\u{a0}2 hours", None),
        ("2023-07-17", None),
        ("soon", None),
        ("", None),
    ];
    let cases = cases.map(|(text, expected)| ("(payload->>'x')::interval", json!(text), expected));
    check("2026-01-01T00:00:00Z", &cases).await;
    let parts: [Case; 6] = [
        ("extract(day FROM (payload->>'x')::interval)", json!("400 days 25:00"), Some("400")),
        ("extract(hour FROM (payload->>'x')::interval)", json!("400 days 25:00"), Some("25")),
        ("extract(month FROM (payload->>'x')::interval)", json!("14 months"), Some("2")),
        ("extract(second FROM (payload->>'x')::interval)", json!("-1:02:03.5"), Some("-3.5")),
        ("extract(epoch FROM (payload->>'x')::interval)", json!("1 year 1 month 1 day"), Some("34236000")),
        ("extract(epoch FROM (payload->>'x')::interval)", json!("999999999 days"), Some("86399999913600")),
    ];
    check("2026-01-01T00:00:00Z", &parts).await;
}

#[tokio::test]
async fn strings_cast_to_times_and_numbers() {
    let times = [
        ("date", "2023-07-17T24:00:00Z", Some("2023-07-17")),
        ("timestamp", "2023-07-17T24:00:00Z", Some("2023-07-18 00:00:00")),
        ("timestamptz", "2023-12-31T24:00:00-01", Some("2024-01-01 01:00:00+00")),
        ("date", "2023-07-17T24:00:01Z", None),
        ("date", "2023-07-17 12:00+99", None),
        ("date", "0001-01-01", Some("0001-01-01")),
        ("date", "0000-01-01", None),
        ("timestamptz", "0001-01-01T00:00:00+14", Some("0001-12-31 10:00:00+00 BC")),
        ("timestamptz", "9999-12-31T23:59:60Z", Some("10000-01-01 00:00:00+00")),
        ("timestamp", "2026-01-01 00:00:00.500000", Some("2026-01-01 00:00:00.5")),
        ("date", "2023-02-30", None),
    ];
    let numbers = [
        ("1e308", None),
        ("1e+308", None),
        ("-1e29", None),
        ("99999999999999999999999999999.9999999995", None),
        ("99999999999999999999999999999.9999999994", Some("99999999999999999999999999999.999999999")),
        ("6e-40", Some("0")),
        ("5e-10", Some("0.000000001")),
        ("-0.0000000005", Some("-0.000000001")),
        ("1234567890123456789012345678901234567890e-20", Some("12345678901234567890.123456789")),
        ("0e99", Some("0")),
        ("0e9999999999", None),
        ("\t5\u{b}", Some("5")),
        ("v5v", None),
        ("1_000", None),
        ("- 5", None),
    ];
    let cast = |to: &str| match to {
        "date" => "(payload->>'x')::date",
        "timestamp" => "(payload->>'x')::timestamp",
        _ => "(payload->>'x')::timestamptz",
    };
    let times = times.map(|(to, text, expected)| (cast(to), json!(text), expected));
    let numbers = numbers.map(|(text, expected)| ("(payload->>'x')::numeric", json!(text), expected));
    let cases: Vec<Case> = times.into_iter().chain(numbers).collect();
    check("2026-01-01T00:00:00Z", &cases).await;
}

#[tokio::test]
async fn times_before_the_year_1_and_beyond_the_range_of_time() {
    check(
        "0000-06-15T12:34:56.7Z",
        &[
            ("created_at", json!(null), Some("0001-06-15 12:34:56.7+00 BC")),
            ("created_at::timestamp", json!(null), Some("0001-06-15 12:34:56.7 BC")),
            ("created_at::date", json!(null), Some("0001-06-15 BC")),
            ("extract(year FROM created_at)", json!(null), Some("-1")),
            ("extract(isoyear FROM created_at)", json!(null), Some("-1")),
            ("extract(year FROM created_at - INTERVAL '43 years')", json!(null), Some("-44")),
            ("extract(year FROM created_at + INTERVAL '1 year')", json!(null), Some("1")),
            ("date_trunc('year', created_at)", json!(null), Some("0001-01-01 00:00:00+00 BC")),
            ("created_at - INTERVAL '4713 years'", json!(null), None),
            ("created_at - INTERVAL '4712 years'", json!(null), Some("4713-06-15 12:34:56.7+00 BC")),
        ],
    )
    .await;
    check(
        "2026-01-01T00:00:00.5Z",
        &[
            ("created_at", json!(null), Some("2026-01-01 00:00:00.5+00")),
            ("created_at - INTERVAL '999999999 days'", json!(null), None),
            ("created_at > now() - INTERVAL '999999999 days'", json!(null), None),
            ("created_at > now() + INTERVAL '300000 years'", json!(null), None),
            // A date beyond the range of timestamps compares with dates only.
            ("created_at < DATE '9999-12-31' + 1000000000", json!(null), None),
            ("created_at::date < DATE '9999-12-31' + 1000000000", json!(null), Some("true")),
            ("DATE '9999-12-31' + 1000000000", json!(null), Some("2747907-01-03")),
            ("(DATE '9999-12-31' + 1000000000)::timestamptz", json!(null), None),
            ("created_at::date + 9223372036854775807", json!(null), None),
            ("created_at::date - 3000000", json!(null), None),
            ("created_at + (payload->>'x')::interval", json!("-8000 years"), None),
            ("created_at - (payload->>'x')::interval", json!("6739 years"), None),
        ],
    )
    .await;
}

#[tokio::test]
async fn lists_objects_and_shares_of_users() {
    let long = json!([9_007_199_254_740_993_u64, 1e300]);
    check(
        "2026-01-01T00:00:00Z",
        &[
            ("payload->'x' ? 'a'", json!(["a"]), Some("true")),
            ("payload->'x' ? 'a/~b'", json!({"a/~b": null}), Some("true")),
            ("payload->'x' ? '0'", json!(["a"]), Some("false")),
            ("payload->'x' ? 'a'", json!(null), Some("false")),
            ("payload->'x'->'y' ? 'a'", json!({}), None),
            ("payload->'x' ?& array['a', 'it''s']", json!(["it's", "a"]), Some("true")),
            ("payload->'x' @> '[9007199254740993]'", long.clone(), Some("true")),
            ("payload->'x' @> '[9007199254740992]'", long.clone(), Some("false")),
            ("payload->'x' @> '9007199254740992.0'", long.clone(), Some("false")),
            ("payload->'x' @> '[1e300]'", long.clone(), Some("true")),
            ("payload->'x' @> '[\"9007199254740993\"]'", long, Some("false")),
            ("payload->'x' @> '[1.0, -0.0]'", json!([0, 1]), Some("true")),
            ("payload->'x' @> '[[{\"a\": [1]}]]'", json!([[{"a": [2, 1]}]]), Some("true")),
            ("payload->'x' @> '{\"0\": 1}'", json!([1]), Some("false")),
            ("payload->'x' @> '{\"a\": {\"0\": 1}}'", json!({"a": [1]}), Some("false")),
            ("payload->'x'->-1->>'sku'", json!([{"sku": "a"}, {"sku": "b"}]), Some("b")),
            ("payload->'x'->>0", json!([null]), None),
            ("payload->'x'->>0", json!("alone"), Some("alone")),
            ("payload->'x'->0->0->>0", json!([["deep"]]), Some("deep")),
            ("jsonb_array_length(payload->'x')", json!([1, [2, 3]]), Some("2")),
            ("jsonb_array_length(payload->'x')", json!("ab"), None),
        ],
    )
    .await;
    let folder = tempfile::tempdir().unwrap();
    let events: Vec<Event> = (0..200).map(|number| event(number, "2026-01-01T00:00:00Z", &json!(null))).collect();
    let warehouse = warehouse(&events, &folder).await;
    let query = members_query(&compile("bucket('it''s') >= 62.5").unwrap(), &|_| None, now()).unwrap();
    let limit = Value::Decimal(segment_engine::decimal::Decimal::parse("62.5").unwrap());
    let share = events.iter().map(|event| event.user_id);
    let share: Vec<UserId> =
        share.filter(|user| segment_engine::eval::bucket("it's", *user).sql_cmp(&limit).unwrap().is_ge()).collect();
    assert!((40..110).contains(&share.len()));
    assert_eq!(warehouse.members(&query).await.unwrap(), share);
}

/// Covers every letter that has a case.
#[tokio::test]
async fn letters_of_every_alphabet() {
    let cased = |letter: &char| letter.to_lowercase().ne([*letter]) || letter.to_uppercase().ne([*letter]);
    let letters: Vec<char> = ('\u{1}'..=char::MAX).filter(cased).collect();
    let folder = tempfile::tempdir().unwrap();
    let strings = letters.chunks(1_000).map(|chunk| json!(chunk.iter().collect::<String>()));
    let events: Vec<Event> = strings.enumerate().map(|(number, x)| event(number, "2026-01-01T00:00:00Z", &x)).collect();
    let warehouse = warehouse(&events, &folder).await;
    for function in ["lower", "upper"] {
        for event in &events {
            let plan = compile(&format!("last({function}(payload->>'x')) IS NULL")).unwrap();
            let argument = plan.aggregates[0].argument.as_ref().unwrap();
            let Value::Text(text) = evaluate(argument, &mut EventScope { event, now: now() }) else {
                panic!("not a string")
            };
            let plan = compile(&format!("last({function}(payload->>'x')) = '{text}'")).unwrap();
            let query = member_query(&plan, &|_| None, now(), event.user_id).unwrap();
            assert_eq!(warehouse.members(&query).await.unwrap(), [event.user_id], "{function} is not {text}");
        }
    }
    assert!(events.len() > 2);
}

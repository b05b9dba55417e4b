//! Reading and writing the records of the event topic.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::collections::BTreeMap;

use ports::records::columns::Columns;
use ports::records::decode::{Input, decode_event, decode_input};
use ports::records::event::{EventRecord, is_displaced};
use ports::records::json::{DEPTH_MAX, Json, Kind, Reader};
use ports::records::object::Object;
use ports::records::{ManualList, UserRecord, instant};
use proptest::prelude::*;
use segment_engine::decimal::Decimal;
use segment_engine::eval::{jsonb_ordered, read_path};
use segment_engine::event::Position;
use segment_engine::ids::{ListVersion, PartitionId, SegmentId, UserId};
use segment_engine::plan::{JsonPath, JsonStep};
use segment_engine::schema::EventColumn;
use segment_engine::time::Timestamp;
use serde_json::value::RawValue;
use serde_json::{Value, json};

const AT: Position = Position { partition: PartitionId(3), offset: 7 };
const RECEIVED: Timestamp = Timestamp(1_700_000_000_000_000);

#[test]
fn the_reader_accepts_what_is_json() {
    for text in [
        "null",
        "true",
        " false ",
        "0",
        "-0",
        "-1.5e+10",
        "1E9",
        "1e400",
        "\"\"",
        "\"é\"",
        "[]",
        "[ ]",
        "{}",
        "{ }",
        "[1,[2,{\"a\":[]}]]",
        "{\"a\":1,\"a\":2}",
        r#""\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00""#,
        "\"0123456789 long enough for chunks\"",
    ] {
        let mut reader = Reader::new(text);
        let value = reader.value().unwrap_or_else(|error| panic!("{text}: {error}"));
        reader.end().unwrap();
        assert_eq!(value.raw(), text.trim());
    }
}

#[test]
fn the_reader_refuses_what_is_not() {
    let deep = "[".repeat(DEPTH_MAX as usize + 1) + &"]".repeat(DEPTH_MAX as usize + 1);
    for text in [
        "",
        " ",
        "nul",
        "truth",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "+1",
        "NaN",
        "'a'",
        "\"a",
        "\"\u{1}\"",
        "\"12345678\n\"",
        r#""\x""#,
        r#""\u12g4""#,
        r#""\ud800""#,
        r#""a\u0000""#,
        r#""\ud800\u0041""#,
        r#""\udc00""#,
        "[1,]",
        "[1 2]",
        "[",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{1:1}",
        "1 2",
        "{} x",
        &deep,
    ] {
        let mut reader = Reader::new(text);
        let read = reader.value().and_then(|_| reader.end());
        assert!(read.is_err(), "{text}");
    }
}

/// Every number reads as it was sent, from the tree and from the text that the warehouse stores.
#[test]
fn numbers_stay_as_they_were_sent() {
    let ones = "1".repeat(400);
    let kept = ["0", "-7", "1.5", "0.1", "0.0", "1.0", "100000.0", "9007199254740993", "18446744073709551615"];
    let as_strings = [
        "-0",
        "-0.0",
        "1.50",
        "19.90",
        "1E5",
        "1e5",
        "1e308",
        "1e+308",
        "1E+308",
        "-1e+300",
        "1e+16",
        "1e16",
        "1e-7",
        "1.5e-10",
        "5e-324",
        "0.0000001",
        "1e400",
        "10000000000000000.0",
        "12345678901234567890123",
        "9007199254740993.0",
        &ones,
    ];
    for (numbers, is_number) in [(&kept[..], true), (&as_strings[..], false)] {
        for raw in numbers {
            let text = format!(r#"{{"x":{raw},"in":{{"y":{raw}}},"list":[{raw}]}}"#);
            let tree = Reader::new(&text).tree().unwrap();
            let stored: Value = serde_json::from_str(&jsonb_ordered(&tree)).unwrap();
            assert_eq!(stored, tree, "{raw}");
            for value in [&tree["x"], &tree["in"]["y"], &tree["list"][0], &stored["x"]] {
                assert_eq!(value.is_number(), is_number, "{raw}");
                let path = JsonPath { keys: vec![JsonStep::Index(0)], as_text: true };
                assert_eq!(read_path(value, &path), segment_engine::value::Value::from(*raw), "{raw}");
            }
        }
    }
}

/// Of another's making: ours nests less.
#[test]
fn an_event_record_that_nests_deeper_than_an_event_is_read_or_refused() {
    let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    for (levels, read) in [(10, true), (DEPTH_MAX as usize + 5, true), (DEPTH_MAX as usize + 30, false)] {
        let record = format!(r#"{{"user_id":1,"client_ref_id":"c","payload":{{"deep":{}}}}}"#, nested(levels));
        assert_eq!(decode_event(record.as_bytes(), AT, RECEIVED).is_ok(), read, "{levels}");
    }
}

proptest! {
    #[test]
    fn the_reader_agrees_with_serde_json(text in r#"[\[\]{}:,"\\untrue0-9.eE+\- a\u{e9}]{0,12}"#) {
        let mut reader = Reader::new(&text);
        let ours = reader.value().and_then(|value| reader.end().map(|()| value));
        let theirs: Result<&RawValue, _> = serde_json::from_str(&text);
        // A raw value of serde_json may hold half a surrogate pair; everything else is the same.
        let theirs = theirs.ok().filter(|_| !text.contains("\\u"));
        if !text.contains("\\u") {
            prop_assert_eq!(ours.is_ok(), theirs.is_some(), "{}", text);
        }
    }

    #[test]
    fn trees_are_those_of_serde_json(strings in prop::collection::vec("[^\u{0}]*", 0..6), number in any::<i64>()) {
        let value = json!({"strings": strings, "number": number, "nested": {"null": null, "yes": true}});
        prop_assert_eq!(Reader::new(&value.to_string()).tree().unwrap(), value);
    }
}

fn json(text: &str) -> Json<'_> {
    Reader::new(text).value().unwrap()
}

fn object<'a>(fields: &[(&'a str, &'a str)]) -> Object<'a> {
    let mut object = Object::default();
    fields.iter().for_each(|(name, value)| object.push(*name, json(value)));
    object
}

fn columns<'a>(values: &[(EventColumn, &'a str)]) -> Columns<'a> {
    values.iter().map(|(column, value)| (*column, json(value))).collect()
}

#[test]
fn an_event_record_comes_back_as_an_event() {
    let record = EventRecord {
        columns: columns(&[
            (EventColumn::ClientRefId, r#""c\"1""#),
            (EventColumn::IdType, r#""cookie""#),
            (EventColumn::Region, r#""""#),
            (EventColumn::EventId, r#""e1""#),
        ]),
        created_at: Some(instant::format(Timestamp(5))),
        payload: json(r#"{ "activity_type":"buy","order_total":"19.90","url":null,"coupon":"own","price":19.90}"#),
        displaced: object(&[("type", r#""track""#), ("coupon", r#""displaced""#)]),
        other: object(&[("coupon", "1"), ("campaign", r#"{"id":7}"#)]),
        ..EventRecord::default()
    };
    let bytes = record.encode(UserId(42), &instant::format(RECEIVED), true);
    serde_json::from_slice::<Value>(&bytes).unwrap();
    let delivery = decode_event(&bytes, AT, RECEIVED).unwrap();
    assert!(delivery.dedupe_forever);
    let event = delivery.event;
    assert_eq!((event.user_id, &*event.client_ref_id), (UserId(42), "c\"1"));
    assert_eq!((event.id_type.as_deref(), event.region.as_deref(), event.country), (Some("cookie"), Some(""), None));
    assert_eq!((event.activity_type.as_deref(), event.url, event.event_id.as_deref()), (Some("buy"), None, Some("e1")));
    assert_eq!((event.created_at, event.processed_at, event.position), (Timestamp(5), RECEIVED, AT));
    assert_eq!(event.order_total, Decimal::parse("19.9"));
    let payload = json!({
        "activity_type": "buy", "order_total": "19.90", "url": null, "coupon": "own", "price": "19.90", "type": "track",
        "campaign": {"id": 7}
    });
    assert_eq!(*event.payload, payload);
}

#[test]
fn an_empty_payload_takes_displaced_fields() {
    for payload in ["{}", "{ \n }", "null"] {
        let record = EventRecord {
            columns: columns(&[(EventColumn::ClientRefId, "\"a\"")]),
            payload: json(payload),
            displaced: object(&[("type", "1")]),
            ..EventRecord::default()
        };
        let bytes = record.encode(UserId(1), "", false);
        let delivery = decode_event(&bytes, AT, RECEIVED).unwrap();
        assert_eq!(*delivery.event.payload, json!({"type": 1}));
        assert_eq!((delivery.event.created_at, delivery.dedupe_forever), (RECEIVED, false));
    }
}

#[test]
fn names_that_only_records_have_are_displaced() {
    let of_records = ["type", "user_id", "client_ref_id", "dedupe_forever", "once", "received_at", "processed_at"];
    let sent = EventColumn::ALL.into_iter().filter_map(EventColumn::sent_name);
    for name in sent.chain(["payload", "campaign", "payload_url", "Type", ""]) {
        assert!(!is_displaced(name), "{name}");
    }
    for name in of_records {
        assert!(is_displaced(name), "{name}");
    }
}

#[test]
fn user_records_come_back() {
    let record = RawValue::from_string(r#"{"user_id":1,"price":1.10}"#.to_owned()).unwrap();
    let list = ManualList { version: ListVersion(3), segments: vec![SegmentId(1), SegmentId(2)] };
    let records = [
        UserRecord::User {
            user_id: UserId(1),
            client_ref_id: None,
            email: None,
            name: Some("A".into()),
            created_at: RECEIVED,
        },
        UserRecord::Traits { user_id: UserId(1), traits: BTreeMap::new(), created_at: RECEIVED },
        UserRecord::Manual { user_id: UserId(1), list: list.clone() },
        UserRecord::Merge { user_id: UserId(1), survivor: UserId(2), manual: None },
        UserRecord::Merge { user_id: UserId(1), survivor: UserId(2), manual: Some(list.clone()) },
        UserRecord::Transfer {
            user_id: UserId(2),
            absorbed: UserId(1),
            below: 7,
            state: Some("AA==".into()),
            manual: Some(list),
        },
        UserRecord::Forward { user_id: UserId(2), partition: PartitionId(1), offset: 2, appended_at: RECEIVED, record },
        UserRecord::Delete { user_id: UserId(1) },
        UserRecord::Restored { user_id: UserId(1), segments: Some(vec![SegmentId(2), SegmentId(3)]), sequence: 40 },
        UserRecord::Restored { user_id: UserId(1), segments: None, sequence: 40 },
    ];
    for record in records {
        let bytes = serde_json::to_vec(&record).unwrap();
        match decode_input(&bytes, AT, RECEIVED).unwrap() {
            Input::User(read) => assert_eq!(serde_json::to_vec(&read).unwrap(), bytes),
            other => panic!("{record:?} was read as {other:?}"),
        }
        assert!(decode_event(&bytes, AT, RECEIVED).is_err());
    }
}

#[test]
fn damaged_records_are_refused_with_a_reason() {
    let cases: [(&[u8], &str); 8] = [
        (b"\xff", "UTF-8"),
        (b"{", "JSON"),
        (b"[]", "no object"),
        (b"{}", "user_id"),
        (br#"{"user_id":1}"#, "client_ref_id"),
        (br#"{"user_id":1,"client_ref_id":"a","payload":[]}"#, "payload"),
        (br#"{"user_id":1,"client_ref_id":"a","payload":{"order_total":"x"}}"#, "order_total"),
        (br#"{"type":"unheard_of"}"#, "unheard_of"),
    ];
    for (bytes, reason) in cases {
        let error = decode_input(bytes, AT, RECEIVED).unwrap_err();
        assert!(error.message.contains(reason), "{error}");
    }
    assert_eq!(Reader::new("{}").kind().unwrap(), Kind::Object);
}

#[test]
fn a_record_has_numbers_names_and_order_as_they_were_sent() {
    let record = EventRecord {
        columns: columns(&[
            (EventColumn::ClientRefId, r#""\u00fc""#),
            (EventColumn::IdType, r#""cookie""#),
            (EventColumn::Country, r#""DE""#),
            (EventColumn::EventId, r#""e""#),
        ]),
        created_at: Some("2026-01-01T00:00:00.000000Z".to_owned()),
        payload: json(r#"{ "z" : 1.10 ,"a":[ 1E2 ],"z":-0 }"#),
        other: object(&[("z", "19.90"), ("a", "12345678901234567890123"), ("q\"", r#"{ "b":1,"a":2 }"#)]),
        ..EventRecord::default()
    };
    let written = |record: &EventRecord<'_>, dedupe_forever| {
        String::from_utf8(record.encode(UserId(7), "2026-01-01T00:00:01.000000Z", dedupe_forever)).unwrap()
    };
    let start = r#"{"user_id":7,"client_ref_id":"\u00fc","id_type":"cookie","region":null,"device_type":null,"country":"DE","created_at":"2026-01-01T00:00:00.000000Z""#;
    let end =
        r#""received_at":"2026-01-01T00:00:01.000000Z","z":19.90,"a":12345678901234567890123,"q\"":{ "b":1,"a":2 }}"#;
    let payload = r#"{ "z" : 1.10 ,"a":[ 1E2 ],"z":-0 }"#;
    assert_eq!(written(&record, false), format!(r#"{start},"payload":{payload},"event_id":"e",{end}"#));
    let flag = r#""dedupe_forever":true"#;
    assert_eq!(written(&record, true), format!(r#"{start},"payload":{payload},"event_id":"e",{flag},{end}"#));
    let displaced = EventRecord { displaced: object(&[("type", "1.50"), ("once", "true")]), ..record.clone() };
    let payload = r#"{"type":1.50,"once":true,"z":1.10,"a":[ 1E2 ],"z":-0}"#;
    assert_eq!(written(&displaced, false), format!(r#"{start},"payload":{payload},"event_id":"e",{end}"#));
    let empty = EventRecord { payload: Json::default(), ..record };
    assert_eq!(written(&empty, false), format!(r#"{start},"payload":{{}},"event_id":"e",{end}"#));
}

#[test]
fn the_flag_of_earlier_builds_is_read() {
    for (field, expected) in [
        (r#","dedupe_forever":true"#, true),
        (r#","once":true"#, true),
        (r#","once":false"#, false),
        (r#","dedupe_forever":1"#, false),
        ("", false),
    ] {
        let record = format!(r#"{{"user_id":1,"client_ref_id":"c","payload":{{"once":true}}{field}}}"#);
        let delivery = decode_event(record.as_bytes(), AT, RECEIVED).unwrap();
        assert_eq!(delivery.dedupe_forever, expected, "{field}");
        assert_eq!(*delivery.event.payload, json!({"once": true}));
    }
}

//! The payload of an archived event: what the warehouse stores is the tree that the engine reads.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use ports::records::decode::{Input, decode_event, decode_to_archive};
use proptest::prelude::*;
use segment_engine::eval::jsonb_ordered;
use segment_engine::event::Position;
use segment_engine::ids::PartitionId;
use segment_engine::time::Timestamp;
use serde_json::Value;

const AT: Position = Position { partition: PartitionId(3), offset: 7 };
const RECEIVED: Timestamp = Timestamp(1_700_000_000_000_000);

/// Returns the payload that the warehouse gets of a record, and what it would get of the tree.
fn payloads(record: &str) -> Option<(String, String)> {
    let Ok(Input::Event(archived)) = decode_to_archive(record.as_bytes(), AT, RECEIVED) else {
        assert!(decode_event(record.as_bytes(), AT, RECEIVED).is_err(), "both readers refuse the same: {record}");
        return None;
    };
    let read = decode_event(record.as_bytes(), AT, RECEIVED).unwrap();
    assert_eq!(read.dedupe_forever, archived.dedupe_forever);
    let of_tree = jsonb_ordered(&read.event.payload);
    let columns = (read.event.map_payload(drop), archived.event.clone().map_payload(drop));
    assert_eq!(columns.0, columns.1, "{record}");
    Some((archived.event.payload.into(), of_tree))
}

fn record(payload: &str, beside: &str) -> String {
    format!(r#"{{"user_id":1,"client_ref_id":"c"{beside},"payload":{payload}}}"#)
}

#[test]
fn payloads_are_stored_like_a_jsonb_with_scalars_as_sent() {
    let cases = [
        ("{}", "{}"),
        (" { } ", "{}"),
        // By the length of the key in bytes, then by its bytes.
        (r#"{"zz":1,"b":2,"é":3,"a":4,"":5}"#, r#"{"": 5, "a": 4, "b": 2, "zz": 1, "é": 3}"#),
        // The last of equal keys, also if one is spelled with an escape.
        (r#"{"a":1,"b":2,"\u0061":{"a":1,"a":2}}"#, r#"{"a": {"a": 2}, "b": 2}"#),
        (r#"{"a":[ ],"b":[[],{ },[1,2]]}"#, r#"{"a": [], "b": [[], {}, [1, 2]]}"#),
        (r#"{"a" : true ,"b":null,"c": false}"#, r#"{"a": true, "b": null, "c": false}"#),
        // Escapes that are needless go; those that are needed stay.
        (r#"{"a\"b":"\/\u00e9\n\"\\","c":"\ud83d\ude00"}"#, "{\"c\": \"😀\", \"a\\\"b\": \"/é\\n\\\"\\\\\"}"),
        ("{\"\u{7f}\":\"\u{2028}\"}", "{\"\u{7f}\": \"\u{2028}\"}"),
        // Numbers that a tree would change are strings.
        (r#"{"n":[0,-7,1.5,19.90,1e5,-0,-0.0]}"#, r#"{"n": [0, -7, 1.5, "19.90", "1e5", "-0", "-0.0"]}"#),
        (
            r#"{"n":[18446744073709551615,18446744073709551616,999999999999999999]}"#,
            r#"{"n": [18446744073709551615, "18446744073709551616", 999999999999999999]}"#,
        ),
        (r#"{"order_total":"19.90","url":null}"#, r#"{"url": null, "order_total": "19.90"}"#),
    ];
    for (payload, expected) in cases {
        let (stored, of_tree) = payloads(&record(payload, "")).unwrap();
        assert_eq!(stored, expected, "{payload}");
        assert_eq!(of_tree, expected, "{payload}");
    }
}

#[test]
fn fields_beside_the_payload_are_stored_in_it() {
    let cases = [
        (r#","coupon":"x""#, "{}", r#"{"coupon": "x"}"#),
        // The payload's own property wins, wherever it stands.
        (r#","coupon":"x","z":1"#, r#"{"coupon":"own"}"#, r#"{"z": 1, "coupon": "own"}"#),
        // Of two beside it, the first.
        (r#","coupon":[1],"coupon":2"#, "{}", r#"{"coupon": [1]}"#),
        (r#","received_at":"t","dedupe_forever":true"#, "{}", "{}"),
    ];
    for (beside, payload, expected) in cases {
        let (stored, of_tree) = payloads(&record(payload, beside)).unwrap();
        assert_eq!((&*stored, &*of_tree), (expected, expected), "{beside} {payload}");
    }
    let without = payloads(r#"{"user_id":1,"client_ref_id":"c","b":{"d":1,"c":2}}"#).unwrap();
    assert_eq!(without.0, r#"{"b": {"c": 2, "d": 1}}"#);
}

#[test]
fn deep_payloads_are_stored_or_refused_by_the_rule_of_the_reader() {
    for (levels, read) in [(60, true), (69, true), (90, false)] {
        let deep = format!("{}1{}", r#"{"b":0,"a":["#.repeat(levels / 2), "]}".repeat(levels / 2));
        let stored = payloads(&record(&format!(r#"{{"deep":{deep}}}"#), ""));
        assert_eq!(stored.is_some(), read, "{levels}");
        if let Some((stored, of_tree)) = stored {
            assert_eq!(stored, of_tree);
        }
    }
}

fn json() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        any::<u64>().prop_map(|n| format!("{n}0")),
        any::<f64>().prop_filter("JSON has no infinity", |n| n.is_finite()).prop_map(|n| n.to_string()),
        "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,3})?",
    ];
    let scalar = prop_oneof![Just("null".to_owned()), any::<bool>().prop_map(|b| b.to_string()), number, string()];
    scalar.prop_recursive(5, 40, 6, |inner| {
        let property = (string(), inner.clone()).prop_map(|(key, value)| format!("{key} :{value}"));
        prop_oneof![
            prop::collection::vec(inner, 0..6).prop_map(|items| format!("[{}]", items.join(" , "))),
            prop::collection::vec(property, 0..6).prop_map(|properties| format!("{{{}}}", properties.join(","))),
        ]
    })
}

/// Returns strings of few characters, so that keys often meet.
fn string() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(&["a", "b", "é", "\\u0061", "\\n", "\\\"", "\\/", "\\ud83d\\ude00", "\u{7f}"][..]);
    prop::collection::vec(piece, 0..3).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

proptest! {
    #[test]
    fn what_is_stored_is_the_tree(payload in prop::collection::vec((string(), json()), 0..6), beside in json()) {
        let properties: Vec<String> = payload.iter().map(|(key, value)| format!("{key}:{value}")).collect();
        let record = record(&format!("{{{}}}", properties.join(",")), &format!(r#","a":{beside}"#));
        if let Some((stored, of_tree)) = payloads(&record) {
            prop_assert_eq!(&stored, &of_tree);
            let again: Value = serde_json::from_str(&stored).unwrap();
            prop_assert_eq!(&again, &*decode_event(record.as_bytes(), AT, RECEIVED).unwrap().event.payload);
        }
    }
}

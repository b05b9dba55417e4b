//! Our JSON reader beside `serde_json`: both find the same fields, and how long each takes.
//!
//! `cargo test --workspace --test reader_speed -- --ignored --nocapture` measures both in one run;
//! `docs/decisions/0014-own-json-reader.md` has the result.
#![expect(clippy::unwrap_used, clippy::print_stdout)]

use std::borrow::Cow;
use std::hint::black_box;
use std::time::{Duration, Instant};

use ports::records::json::{JsonError, Reader};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The fields of an event and those of its payload, each value as it was sent.
type Fields<'a> = Vec<(Cow<'a, str>, &'a str)>;

fn with_our_reader(text: &str) -> (Fields<'_>, Fields<'_>) {
    let (mut top, mut payload) = (Vec::new(), Vec::new());
    let mut reader = Reader::new(text);
    let read: Result<(), JsonError> = reader.object(|key, reader| {
        let name = key.text().unwrap_or_default();
        let value = if name == "payload" {
            reader.value_with::<JsonError>(|reader| {
                reader.object(|key, reader| {
                    payload.push((key.text().unwrap_or_default(), reader.value()?.raw()));
                    Ok(())
                })
            })?
        } else {
            reader.value()?
        };
        top.push((name, value.raw()));
        Ok(())
    });
    read.unwrap();
    reader.end().unwrap();
    (top, payload)
}

/// An object's fields as `serde_json` gives them without rounding a number.
struct Raw<'a>(Fields<'a>);

impl<'de> Deserialize<'de> for Raw<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Raw<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    fields.push((name, value.get()));
                }
                Ok(Raw(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A name that borrows where it has no escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

fn with_serde_json(text: &str) -> (Fields<'_>, Fields<'_>) {
    let Raw(top) = serde_json::from_str(text).unwrap();
    let payload = top.iter().find(|(name, _)| name == "payload").unwrap().1;
    let Raw(payload) = serde_json::from_str(payload).unwrap();
    (top, payload)
}

fn events() -> Vec<String> {
    let event = |n: usize| {
        format!(
            r#"{{"id":"c1d1caef-b216-4fca-bd2d-{n:012}","id_type":"cookie","region":"California","device_type":"mobile","country":"US","created_at":"2023-10-31T00:00:{:02}","event_id":"a-{n}","campaign":{{"source":"newsletter","costs":[1.10,{n}]}},"payload":{{"activity_type":"page_viewed","url":"https://shop.example/products/{n}?from=\"search\"","order_total":"{n}.90","order_id":"","element_id":"buy-now","tags":["a","b",{{"deep":true}}],"price":{n}.10}}}}"#,
            n % 60
        )
    };
    (0..1_000).map(event).collect()
}

#[test]
fn our_reader_and_serde_json_find_the_same_fields() {
    for event in &events() {
        assert_eq!(with_our_reader(event), with_serde_json(event));
    }
}

#[test]
#[ignore = "a measurement, to be read by people"]
fn how_long_each_takes() {
    fn time(read: impl for<'a> Fn(&'a str) -> (Fields<'a>, Fields<'a>), events: &[String]) -> Duration {
        let started = Instant::now();
        for event in events {
            black_box(read(black_box(event)));
        }
        started.elapsed()
    }
    let events = events();
    let bytes: usize = events.iter().map(String::len).sum();
    // By turns, the fastest of each: what else runs on the machine slows down both.
    let rounds: Vec<_> = (0..100).map(|_| (time(with_our_reader, &events), time(with_serde_json, &events))).collect();
    let ours = rounds.iter().map(|(ours, _)| *ours).min().unwrap();
    let theirs = rounds.iter().map(|(_, theirs)| *theirs).min().unwrap();
    let per_event = |time: Duration| time.as_nanos() / events.len() as u128;
    println!(
        "{} bytes per event; our reader {} ns, serde_json {} ns per event: {:.2} times as long",
        bytes / events.len(),
        per_event(ours),
        per_event(theirs),
        theirs.as_secs_f64() / ours.as_secs_f64()
    );
}

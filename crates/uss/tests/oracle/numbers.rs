//! Numbers in the spellings in which clients send them, and conditions on their text: it is what was
//! sent.

use ::duckdb::Connection;
use ports::records::json::Reader;
use segment_engine::eval::{jsonb_ordered, read_path};
use segment_engine::plan::{JsonPath, JsonStep};
use segment_engine::sql;
use segment_engine::value::Value;
use serde_json::{Value as Json, json};

use crate::clauses::Clauses;
use crate::naive::text_of_json;
use crate::random::Random;

const SENT: [&str; 28] = [
    "0",
    "-7",
    "1.5",
    "1.50",
    "1.0",
    "-0",
    "-0.0",
    "0.0",
    "1E5",
    "1e5",
    "100000.0",
    "1e308",
    "1e+308",
    "-1e+300",
    "1e+16",
    "10000000000000000.0",
    "1e-7",
    "-1.5e-10",
    "0.0000001",
    "0.00001",
    "1e-5",
    "5e-324",
    "1e400",
    "9007199254740993",
    "9007199254740993.0",
    "18446744073709551615",
    "0.30000000000000004",
    "12345678901234567890123",
];

/// Returns the number as the engine and the warehouse get it.
fn read(sent: &str) -> Json {
    Reader::new(sent).tree().expect("it is JSON")
}

/// Values of `reading` in payloads and traits.
pub(crate) fn reading(random: &mut Random) -> Json {
    let number = read(&random.text(&SENT));
    match random.below(4) {
        0 => json!([number, 1]),
        1 => json!({ "y": number }),
        _ => number,
    }
}

impl Clauses<'_> {
    /// Returns a condition on the text of a number of `root`, which is `payload` or `traits`.
    pub(crate) fn reading_condition(&mut self, root: &str) -> String {
        let (op, sent) = (self.comparison(), self.random.text(&SENT));
        match self.random.below(6) {
            0..3 => format!("({root}->>'reading' = '{sent}')"),
            3 => format!("({root}->'reading'->>{} {op} '{sent}')", self.random.text(&["0", "'y'"])),
            4 => format!("({root}->>'reading' {op} '[{sent}')"),
            _ => format!("(length({root}->>'reading') {op} {})", self.random.between(1, 20)),
        }
    }
}

#[test]
fn the_text_of_a_number_is_what_was_sent() {
    let duckdb = Connection::open_in_memory().unwrap();
    duckdb.execute_batch(sql::MACROS).unwrap();
    let of_400_digits = "1".repeat(400);
    for sent in SENT.into_iter().chain([&*of_400_digits]) {
        let number = read(sent);
        // A number that a list could not show as it was sent is a string there.
        let item = if number.is_number() { sent.to_owned() } else { format!("\"{sent}\"") };
        let payload = json!({ "x": number, "in": { "y": number }, "list": [number, 1] });
        let cases: [(&[&str], &str); 4] = [
            (&["x"], sent),
            (&["in", "y"], sent),
            (&["in"], &format!("{{\"y\": {item}}}")),
            (&["list"], &format!("[{item}, 1]")),
        ];
        for (keys, expected) in cases {
            let steps: Vec<JsonStep> = keys.iter().map(|key| (*key).into()).collect();
            let found = keys.iter().fold(&payload, |json, key| &json[*key]);
            let path = JsonPath { keys: steps, as_text: true };
            assert_eq!(read_path(&payload, &path), Value::from(expected), "{sent}: the engine, at {keys:?}");
            assert_eq!(text_of_json(found), expected, "{sent}: the naive interpreter, at {keys:?}");
            let query = "SELECT user_segment_analytics.uss_json_text(?::JSON, ?)";
            let pointer = format!("/{}", keys.join("/"));
            let by_duckdb: String =
                duckdb.query_row(query, [jsonb_ordered(&payload), pointer], |row| row.get(0)).unwrap();
            assert_eq!(by_duckdb, expected, "{sent}: DuckDB, at {keys:?}");
        }
    }
}

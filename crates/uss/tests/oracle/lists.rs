//! Random lists and objects, conditions on them, and shares of users.

use serde_json::{Value as Json, json};

use crate::clauses::Clauses;
use crate::random::Random;

/// Values of `tags` in payloads and traits.
pub(crate) fn tags(random: &mut Random) -> Json {
    let known = [
        json!(["a"]),
        json!(["a", "b", "a"]),
        json!(["b", "it's"]),
        json!([]),
        json!({}),
        json!("a"),
        json!(5),
        json!(true),
        json!(null),
        json!([1, 2.5, "1", null, false]),
        json!([-3, 1.0, 100.0]),
        json!({ "a": 1, "b": ["x", 2] }),
        json!({ "a": null, "0": "zero" }),
        json!({ "b": { "c": ["a", { "a": 1 }] } }),
        json!([["a"], { "a": 1, "b": 2 }, [[1], 2]]),
        json!([{ "sku": "a", "n": 1 }, { "sku": "b", "n": 2.0 }]),
    ];
    random.pick(&known).clone()
}

const TEXTS: [&str; 6] = ["a", "b", "x", "1", "it''s", "0"];
const CONSTANTS: [&str; 24] = [
    "[\"a\"]",
    "[\"b\", \"a\"]",
    "\"a\"",
    "\"1\"",
    "[]",
    "{}",
    "5",
    "[1]",
    "1.00",
    "[2.5, null]",
    "null",
    "false",
    "[1e2]",
    "{\"a\": 1}",
    "{\"a\": null}",
    "{\"b\": [2]}",
    "{\"b\": \"x\"}",
    "{\"b\": {\"c\": [{}]}}",
    "[[\"a\"]]",
    "[[]]",
    "[{\"a\": 1.0}, [[]]]",
    "[{\"sku\": \"a\", \"n\": 1}]",
    "[{\"sku\": \"a\", \"n\": 2}]",
    "[{\"n\": 2}, {\"sku\": \"a\"}, \"it''s\"]",
];

impl Clauses<'_> {
    /// Returns a condition on the tags of `root`, which is `payload` or `traits`.
    pub(crate) fn list_condition(&mut self, root: &str) -> String {
        let list = match self.random.below(8) {
            0 => format!("{root}->'tags'->{}", self.random.text(&["0", "1", " -1", "2"])),
            1 => format!("{root}->'tags'->'{}'", self.random.text(&["a", "b", "0"])),
            _ => format!("{root}->'tags'"),
        };
        let (text, constant) = (self.random.text(&TEXTS), self.random.text(&CONSTANTS));
        match self.random.below(14) {
            0..3 => format!("({list} ? '{text}')"),
            3..5 => {
                let operator = self.random.text(&["?|", "?&"]);
                format!("({list} {operator} array['{text}', '{}'])", self.random.text(&TEXTS))
            }
            5..9 => format!("({list} @> '{constant}'{})", self.random.text(&["", "::jsonb"])),
            9 => format!("(jsonb_array_length({list}) {} {})", self.comparison(), self.random.between(0, 3)),
            10 => format!("(jsonb_array_length({list}) IS NULL)"),
            11 => format!("({list}->>{} = 'a')", self.random.text(&["0", "'sku'", " -1", "'a'"])),
            12 => format!("({list}->{} IS NULL)", self.random.text(&["0", "'a'", " -2"])),
            _ => match self.random.below(4) {
                0 => format!("({root} ? '{}')", self.random.text(&["tags", "plan", "coupon"])),
                1 => format!("({root} ?{} array['tags', 'coupon', 'plan'])", self.random.text(&["|", "&"])),
                2 => format!("({root} @> '{constant}')"),
                _ => format!("({root} @> '{{\"tags\": {constant}}}')"),
            },
        }
    }

    /// Returns a condition that some share of all users meets.
    pub(crate) fn bucket_condition(&mut self) -> String {
        let bucket = format!("bucket('{}')", self.random.text(&["checkout", "it''s"]));
        let share = self.random.text(&["50", "25", "99.99", "33.33"]);
        format!("({bucket} {} {share})", self.comparison())
    }
}

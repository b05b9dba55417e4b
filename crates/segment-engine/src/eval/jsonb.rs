//! The text of JSON, as PostgreSQL prints jsonb.

use serde_json::{Number, Value as Json};

/// Returns the text of a jsonb: blanks after commas and colons; keys by length, then by bytes;
/// numbers without an exponent.
pub fn jsonb_text(json: &Json) -> String {
    let mut writer = Writer { text: String::new(), plain_numbers: true };
    writer.value(json);
    writer.text
}

/// Returns the text to store so that SQL prints it like a jsonb. Keys are in the order of a jsonb,
/// because SQL cannot sort them. Numbers are as they were read, because SQL prints a single number
/// like that.
pub fn jsonb_ordered(json: &Json) -> String {
    let mut writer = Writer { text: String::new(), plain_numbers: false };
    writer.value(json);
    writer.text
}

struct Writer {
    text: String,
    plain_numbers: bool,
}

impl Writer {
    fn value(&mut self, json: &Json) {
        match json {
            Json::Array(items) => {
                self.text.push('[');
                for (place, item) in items.iter().enumerate() {
                    self.text.push_str(if place > 0 { ", " } else { "" });
                    self.value(item);
                }
                self.text.push(']');
            }
            Json::Object(fields) => {
                let mut fields: Vec<(&String, &Json)> = fields.iter().collect();
                fields.sort_by_key(|(key, _)| (key.len(), key.as_bytes()));
                self.text.push('{');
                for (place, (key, value)) in fields.into_iter().enumerate() {
                    self.text.push_str(if place > 0 { ", " } else { "" });
                    self.text.push_str(&Json::from(key.as_str()).to_string());
                    self.text.push_str(": ");
                    self.value(value);
                }
                self.text.push('}');
            }
            Json::Number(number) if self.plain_numbers => self.text.push_str(&plain(number)),
            other => self.text.push_str(&other.to_string()),
        }
    }
}

/// Returns the text of a number without an exponent, and of zero without a sign.
fn plain(number: &Number) -> String {
    let text = number.to_string();
    let (sign, magnitude) = text.strip_prefix('-').map_or(("", text.as_str()), |magnitude| ("-", magnitude));
    let Some((mantissa, exponent)) = magnitude.split_once('e') else {
        return if magnitude == "0.0" { magnitude.to_owned() } else { text };
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    // The place of the point in the digits.
    let point = whole.len() as i64 + exponent.parse::<i64>().unwrap_or(0);
    match usize::try_from(point) {
        Ok(point) if point >= digits.len() => format!("{sign}{digits}{}", "0".repeat(point - digits.len())),
        Ok(point) if point > 0 => format!("{sign}{}.{}", &digits[..point], &digits[point..]),
        _ => format!("{sign}0.{}{digits}", "0".repeat(usize::try_from(-point).unwrap_or(0))),
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    /// Expected texts are PostgreSQL 15's for `SELECT '…'::jsonb`.
    #[test]
    fn texts_are_those_of_jsonb() {
        let cases = [
            (r#"["a","b"]"#, r#"["a", "b"]"#),
            (r#"{"zz":1,"b":2,"é":3,"a":4}"#, r#"{"a": 4, "b": 2, "zz": 1, "é": 3}"#),
            (r#"{"a":1,"a":{"long":[],"k":{}}}"#, r#"{"a": {"k": {}, "long": []}}"#),
            (r#"["a,b:c\"d\\", null, true]"#, r#"["a,b:c\"d\\", null, true]"#),
            ("[\"\\u001f\\u00e9\\n\\/\"]", "[\"\\u001fé\\n/\"]"),
            (
                "[1, 1.5, 1e30, -1.5e20, 1e-9, -2.5e-7, 12345678901234567890, -0.0, 0]",
                "[1, 1.5, 1000000000000000000000000000000, -150000000000000000000, 0.000000001, -0.00000025, 12345678901234567890, 0.0, 0]",
            ),
        ];
        for (json, expected) in cases {
            assert_eq!(jsonb_text(&serde_json::from_str(json).unwrap()), expected, "{json}");
        }
    }

    #[test]
    fn the_stored_text_is_the_same_json() {
        let json: Json = serde_json::from_str(r#"{"zz":[1e30,{"bb":1,"c":2}],"b":"x"}"#).unwrap();
        assert_eq!(jsonb_ordered(&json), r#"{"b": "x", "zz": [1e+30, {"c": 2, "bb": 1}]}"#);
        assert_eq!(serde_json::from_str::<Json>(&jsonb_ordered(&json)).unwrap(), json);
    }
}

//! JSON in expressions: paths to values, and tests of them.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde_json::Value as Json;

/// A path into the payload or the traits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JsonPath {
    /// Steps from the outside in. There is at least one, and the first is a key, because payload
    /// and traits are objects.
    pub keys: Vec<JsonStep>,
    /// Whether the last step is `->>` (text) rather than `->` (JSON).
    pub as_text: bool,
}

/// A step of a path.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum JsonStep {
    /// A key of an object.
    Key(String),
    /// An index of a list, from 0. Negative ones count from the end, where -1 is the last.
    Index(i32),
}

/// A test of a JSON value by `?`, `?|`, `?&` or `@>`. NULL for NULL, unless stated otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum JsonTest {
    /// Whether it has any of these strings: as a key of an object, as an element of a list, or as
    /// the value itself.
    HasAny(Vec<String>),
    /// Whether it has all of these strings.
    HasAll(Vec<String>),
    /// Whether it contains the constant, by the rules of jsonb.
    Contains(JsonConstant),
    /// Whether an object that has it under a key contains an object that has the constant under the
    /// same key. Never NULL, since a missing value contains nothing. Unlike for `Contains`, a list
    /// does not contain a single value.
    HoldsAsMember(JsonConstant),
}

/// A JSON constant, in one form for all constants that contain, and are contained in, the same
/// values.
#[derive(Clone, PartialEq, Eq)]
pub struct JsonConstant(Arc<Json>);

impl JsonPath {
    /// Returns the key that the path begins with.
    ///
    /// # Panics
    /// If the compiler cannot have made the path.
    pub fn root_key(&self) -> &str {
        match self.keys.first() {
            Some(JsonStep::Key(key)) => key,
            _ => panic!("a path begins with a key"),
        }
    }
}

impl JsonConstant {
    /// Brings a constant to its form: elements of lists are sorted and unique, and whole numbers
    /// have no fraction.
    pub fn new(json: Json) -> JsonConstant {
        JsonConstant(Arc::new(normal(json)))
    }

    /// Returns the constant as JSON.
    pub fn json(&self) -> &Json {
        &self.0
    }
}

fn normal(json: Json) -> Json {
    match json {
        Json::Number(number) => whole(&number).unwrap_or(Json::Number(number)),
        Json::Array(items) => {
            let mut items: Vec<Json> = items.into_iter().map(normal).collect();
            items.sort_by_cached_key(Json::to_string);
            items.dedup();
            Json::Array(items)
        }
        Json::Object(members) => members.into_iter().map(|(key, value)| (key, normal(value))).collect(),
        other => other,
    }
}

/// Returns a number like `1.0` as a whole number. At most 53 bits, because a float cannot tell
/// longer ones apart.
fn whole(number: &serde_json::Number) -> Option<Json> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    let float = number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0 && float.abs() <= EXACT_MAX)?;
    Some(Json::from(float as i64))
}

impl Hash for JsonConstant {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_string().hash(state);
    }
}

/// The JSON text: checkpoints of format 3 name accumulators by it.
impl fmt::Debug for JsonConstant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A key is printed as a string: checkpoints of format 3 name accumulators by paths in this form.
impl fmt::Debug for JsonStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JsonStep::Key(key) => write!(f, "{key:?}"),
            JsonStep::Index(index) => write!(f, "{index}"),
        }
    }
}

impl From<&str> for JsonStep {
    fn from(key: &str) -> JsonStep {
        JsonStep::Key(key.to_owned())
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn the_debug_texts_do_not_change() {
        let path = JsonPath { keys: vec!["cart".into(), "it\"s".into()], as_text: true };
        assert_eq!(format!("{path:?}"), r#"JsonPath { keys: ["cart", "it\"s"], as_text: true }"#);
        let path = JsonPath { keys: vec!["items".into(), JsonStep::Index(-1)], as_text: false };
        assert_eq!(format!("{path:?}"), r#"JsonPath { keys: ["items", -1], as_text: false }"#);
        let test = JsonTest::Contains(JsonConstant::new(serde_json::json!(["a"])));
        assert_eq!(format!("{test:?}"), r#"Contains(["a"])"#);
    }

    #[test]
    fn constants_that_contain_the_same_values_are_equal() {
        let constant = |text: &str| JsonConstant::new(serde_json::from_str(text).unwrap());
        for (left, right) in [
            (r#"["b", "a", "a"]"#, r#"["a","b"]"#),
            ("[1.0, -0.0]", "[0, 1]"),
            ("1e3", "1000"),
            (r#"{"b": [2, 1], "a": null}"#, r#"{"a":null,"b":[1,2]}"#),
        ] {
            assert_eq!(constant(left), constant(right), "{left} {right}");
        }
        for (left, right) in [("1", r#""1""#), ("[1]", "1"), ("{}", "[]"), ("1.5", "1"), ("null", "[]")] {
            assert_ne!(constant(left), constant(right), "{left} {right}");
        }
    }
}

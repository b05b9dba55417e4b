//! Reading JSON: values at paths, and tests of them.

use serde_json::{Number, Value as Json};

use crate::plan::{JsonPath, JsonStep, JsonTest};
use crate::value::Value;

/// Returns the value at a path. A last step `->>` gives text: the string itself, the jsonb text of
/// a list or an object, the JSON text of other values, and NULL for JSON's null. A last step `->`
/// gives JSON. NULL if there is no value.
pub fn read_path(root: &Json, path: &JsonPath) -> Value {
    read_steps(root, &path.keys, path.as_text)
}

/// Like [`read_path`], for the last steps of a path.
pub fn read_steps(root: &Json, steps: &[JsonStep], as_text: bool) -> Value {
    match find(root, steps) {
        None => Value::Null,
        Some(json) if !as_text => Value::Json(json.to_string().into()),
        Some(Json::Null) => Value::Null,
        Some(Json::String(text)) => Value::from(text.as_str()),
        Some(json @ (Json::Array(_) | Json::Object(_))) => Value::from(super::jsonb_text(json)),
        Some(json) => Value::Text(json.to_string().into()),
    }
}

/// Returns the JSON at the end of the steps.
pub(crate) fn find<'a>(root: &'a Json, steps: &[JsonStep]) -> Option<&'a Json> {
    steps.iter().try_fold(root, step)
}

/// A key applies only to an object, and an index only to a list. A single value counts as a list of
/// one, as in Postgres.
fn step<'a>(json: &'a Json, step: &JsonStep) -> Option<&'a Json> {
    match (step, json) {
        (JsonStep::Key(key), Json::Object(members)) => members.get(key),
        (JsonStep::Key(_), _) | (JsonStep::Index(_), Json::Object(_)) => None,
        (JsonStep::Index(index), Json::Array(items)) => items.get(place(*index, items.len())?),
        (JsonStep::Index(index), alone) => place(*index, 1).filter(|place| *place == 0).map(|_| alone),
    }
}

fn place(index: i32, length: usize) -> Option<usize> {
    let index = i64::from(index);
    usize::try_from(if index < 0 { length as i64 + index } else { index }).ok()
}

/// Returns the result of a test of the JSON at a path; `None` stands for no JSON there.
pub(super) fn tested(json: Option<&Json>, test: &JsonTest) -> Value {
    match (test, json) {
        (JsonTest::HoldsAsMember(constant), json) => {
            Value::Bool(json.is_some_and(|json| is_within(constant.json(), json)))
        }
        (_, None) => Value::Null,
        (JsonTest::HasAny(texts), Some(json)) => Value::Bool(texts.iter().any(|text| has(json, text))),
        (JsonTest::HasAll(texts), Some(json)) => Value::Bool(texts.iter().all(|text| has(json, text))),
        (JsonTest::Contains(constant), Some(json)) => Value::Bool(contains(json, constant.json())),
    }
}

/// jsonb's `?`.
fn has(json: &Json, text: &str) -> bool {
    match json {
        Json::Object(members) => members.contains_key(text),
        Json::Array(items) => items.iter().any(|item| item.as_str() == Some(text)),
        alone => alone.as_str() == Some(text),
    }
}

/// jsonb's `@>`: like [`is_within`], but a list also contains each of its single values.
fn contains(json: &Json, constant: &Json) -> bool {
    match (json, constant) {
        (Json::Array(items), alone) if !matches!(alone, Json::Array(_) | Json::Object(_)) => {
            items.iter().any(|item| is_within(alone, item))
        }
        _ => is_within(constant, json),
    }
}

/// Whether the constant is in the value: every member in the member of the same key, every element
/// in any element, other values if they are equal.
fn is_within(constant: &Json, json: &Json) -> bool {
    match (constant, json) {
        (Json::Object(wanted), Json::Object(members)) => {
            wanted.iter().all(|(key, wanted)| members.get(key).is_some_and(|member| is_within(wanted, member)))
        }
        (Json::Array(wanted), Json::Array(items)) => {
            wanted.iter().all(|wanted| items.iter().any(|item| is_within(wanted, item)))
        }
        (Json::Number(left), Json::Number(right)) => equal_numbers(left, right),
        (Json::Object(_) | Json::Array(_), _) => false,
        (left, right) => left == right,
    }
}

/// Compares by value: `1` equals `1.0`.
fn equal_numbers(left: &Number, right: &Number) -> bool {
    match (left.as_i128(), right.as_i128()) {
        (Some(left), Some(right)) => left == right,
        (None, None) => left.as_f64() == right.as_f64(),
        (Some(whole), None) => right.as_f64().is_some_and(|float| is_whole(float, whole)),
        (None, Some(whole)) => left.as_f64().is_some_and(|float| is_whole(float, whole)),
    }
}

/// Compares exactly. A float beyond 128 bits is converted to their end, which no other number
/// equals.
fn is_whole(float: f64, whole: i128) -> bool {
    float.fract() == 0.0 && float as i128 == whole
}

#[cfg(test)]
mod tests;

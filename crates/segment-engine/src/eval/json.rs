//! Reading JSON: the value at a path, and what is asked of it.

use serde_json::{Number, Value as Json};

use crate::plan::{JsonPath, JsonStep, JsonTest};
use crate::value::Value;

/// The value at a path. A last step `->>` gives text: a string's own, a jsonb's of a list or an object, JSON text of anything
/// else, and NULL for JSON's null; `->` gives JSON. NULL where there is nothing.
pub fn read_path(root: &Json, path: &JsonPath) -> Value {
    read_steps(root, &path.keys, path.as_text)
}

/// As [`read_path`], by the steps that are left of a path.
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

/// The JSON at the end of the steps.
pub(crate) fn find<'a>(root: &'a Json, steps: &[JsonStep]) -> Option<&'a Json> {
    steps.iter().try_fold(root, step)
}

/// A text is the key of an object only, and a number the place in a list only. A value alone counts as a list of one, as
/// for Postgres.
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

/// The outcome of a test of the JSON at a path, `None` if there is nothing.
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

/// The `?` of jsonb.
fn has(json: &Json, text: &str) -> bool {
    match json {
        Json::Object(members) => members.contains_key(text),
        Json::Array(items) => items.iter().any(|item| item.as_str() == Some(text)),
        alone => alone.as_str() == Some(text),
    }
}

/// The `@>` of jsonb: that of [`is_within`], and a list contains each of its values alone.
fn contains(json: &Json, constant: &Json) -> bool {
    match (json, constant) {
        (Json::Array(items), alone) if !matches!(alone, Json::Array(_) | Json::Object(_)) => {
            items.iter().any(|item| is_within(alone, item))
        }
        _ => is_within(constant, json),
    }
}

/// Whether the constant is in the value: member for member of an object, each element in any of a list, else equal.
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

/// By value: `1` is `1.0`.
fn equal_numbers(left: &Number, right: &Number) -> bool {
    match (left.as_i128(), right.as_i128()) {
        (Some(left), Some(right)) => left == right,
        (None, None) => left.as_f64() == right.as_f64(),
        (Some(whole), None) => right.as_f64().is_some_and(|float| is_whole(float, whole)),
        (None, Some(whole)) => left.as_f64().is_some_and(|float| is_whole(float, whole)),
    }
}

/// Only a whole number has an exact counterpart, and one too great for 128 bits is held at their end, which is none.
fn is_whole(float: f64, whole: i128) -> bool {
    float.fract() == 0.0 && float as i128 == whole
}

#[cfg(test)]
mod tests;

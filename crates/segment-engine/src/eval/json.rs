//! Reading JSON by a path of `->` and `->>`.

use serde_json::Value as Json;

use crate::plan::JsonPath;
use crate::value::Value;

/// The value at a path. A last step `->>` gives text: a string's own, JSON text of anything else, and NULL for JSON's
/// null; `->` gives JSON. NULL where there is nothing, and for a step into what is no object or array.
pub fn read_path(root: &Json, path: &JsonPath) -> Value {
    read_steps(root, &path.keys, path.as_text)
}

/// As [`read_path`], by the steps that are left of a path.
pub fn read_steps(root: &Json, keys: &[String], as_text: bool) -> Value {
    match find(root, keys) {
        None => Value::Null,
        Some(json) if !as_text => Value::Json(json.to_string().into()),
        Some(Json::Null) => Value::Null,
        Some(Json::String(text)) => Value::from(text.as_str()),
        Some(json) => Value::Text(json.to_string().into()),
    }
}

/// The JSON at the end of the steps.
pub(super) fn find<'a>(root: &'a Json, keys: &[String]) -> Option<&'a Json> {
    keys.iter().try_fold(root, |json, key| step(json, key))
}

fn step<'a>(json: &'a Json, key: &str) -> Option<&'a Json> {
    match json {
        Json::Object(members) => members.get(key),
        Json::Array(items) => {
            let index: i64 = key.parse().ok()?;
            // A negative index counts from the end, as in Postgres.
            let index = if index < 0 { index.checked_add_unsigned(items.len() as u64)? } else { index };
            items.get(usize::try_from(index).ok()?)
        }
        _ => None,
    }
}

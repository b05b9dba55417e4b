//! Reading JSON by a path of `->` and `->>`.

use serde_json::Value as Json;

use crate::plan::JsonPath;
use crate::value::Value;

/// The value at a path. A last step `->>` gives text: a string's own, a jsonb's text of a list or an
/// object, JSON text of anything else, and NULL for JSON's null; `->` gives JSON. NULL where there is nothing, and for a step into what is no object.
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
        Some(json @ (Json::Array(_) | Json::Object(_))) => Value::from(super::jsonb_text(json)),
        Some(json) => Value::Text(json.to_string().into()),
    }
}

/// The JSON at the end of the steps.
pub(super) fn find<'a>(root: &'a Json, keys: &[String]) -> Option<&'a Json> {
    keys.iter().try_fold(root, |json, key| step(json, key))
}

/// The keys of a path are texts, and a text is the key of an object only: into an array it leads nowhere, as in Postgres.
fn step<'a>(json: &'a Json, key: &str) -> Option<&'a Json> {
    json.as_object()?.get(key)
}

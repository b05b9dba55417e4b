//! A JSON value kept as it was sent: what only passes through comes out as it went in.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::decode::RECORD_DEPTH_MAX;
use super::json::{JsonError, Reader};

/// Valid JSON, with every digit of its numbers. Two values are equal if they are spelled alike.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JsonText(Box<RawValue>);

impl JsonText {
    /// The JSON.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        self.as_str() == "null"
    }
}

impl PartialEq for JsonText {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for JsonText {}

impl From<Value> for JsonText {
    fn from(value: Value) -> Self {
        Self(to_raw_value(&value).expect("the keys of a value are strings"))
    }
}

/// Returns the values as the engine and the warehouse take them, by the rules for an event's payload: see
/// [`Json::to_value`](super::json::Json::to_value).
///
/// # Errors
/// A value nests too deep for a record, or has characters that cannot be stored.
pub fn trees(values: &BTreeMap<String, JsonText>) -> Result<Map<String, Value>, JsonError> {
    let tree = |text: &JsonText| Reader::with_depth(text.as_str(), RECORD_DEPTH_MAX).tree();
    values.iter().map(|(key, text)| tree(text).map(|value| (key.clone(), value))).collect()
}

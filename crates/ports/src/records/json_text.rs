//! A JSON value kept as its text, as it was sent: what only passes through us comes out as it went in.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::decode::RECORD_DEPTH_MAX;
use super::json::{JsonError, Reader};

/// Valid JSON, every digit of its numbers included. Two are equal if their texts are.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JsonText(Box<RawValue>);

impl JsonText {
    /// The text.
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
        Self(to_raw_value(&value).expect("a value has text keys only"))
    }
}

/// The values as the engine and the warehouse take them, by the rules for an event's payload: see
/// [`Json::to_value`](super::json::Json::to_value).
///
/// # Errors
/// One is no JSON that a record can hold.
pub fn trees(values: &BTreeMap<String, JsonText>) -> Result<Map<String, Value>, JsonError> {
    let tree = |text: &JsonText| Reader::with_depth(text.as_str(), RECORD_DEPTH_MAX).tree();
    values.iter().map(|(key, text)| tree(text).map(|value| (key.clone(), value))).collect()
}

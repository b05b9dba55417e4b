//! From the data of a dead letter to the event to send, edited or not. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ports::records::json::{Json, JsonError, Kind, Reader};
use ports::records::object::Object;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::DeadLetterError;
use crate::refusal::Unparsed;

/// How a rejected event is changed before it is sent again.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// It is sent unchanged: its user has been created meanwhile.
    None,
    /// By a JSON merge patch (RFC 7396).
    MergePatch(Value),
    /// Another event is sent in its place.
    Replace(Value),
}

impl Edit {
    /// Returns the event to send. `data` is that of the record at `offset`.
    pub(super) fn apply(&self, offset: u64, data: &str) -> Result<Vec<u8>, DeadLetterError> {
        let unparsed: Option<Unparsed> = serde_json::from_str(data).ok();
        let event = match (self, unparsed) {
            (Edit::Replace(event), _) => named_as_sent(event).to_string(),
            (_, Some(unparsed)) if unparsed.length.is_some() => return Err(DeadLetterError::Cut(offset)),
            (Edit::None, Some(unparsed)) => {
                let bytes = STANDARD.decode(unparsed.raw);
                return bytes.map_err(|error| DeadLetterError::Damaged(offset, error.to_string()));
            }
            (Edit::MergePatch(_), Some(_)) => return Err(DeadLetterError::NotPatchable(offset)),
            (Edit::None, None) => as_sent(data),
            (Edit::MergePatch(patch), None) => merge_patch(&as_sent(data), &named_as_sent(patch)).get().to_owned(),
        };
        Ok(event.into_bytes())
    }
}

/// Whether the event was sent with `dedupe_forever`: then an import that runs again may send it again at any time.
pub(super) fn dedupes_forever(data: &str) -> bool {
    let object = read(data).unwrap_or_default();
    object.fields().iter().any(|(name, value)| is_flag(name) && value.raw() == "true")
}

/// Earlier builds wrote `once`.
fn is_flag(name: &str) -> bool {
    matches!(name, "dedupe_forever" | "once")
}

/// The event as its client would send it: `client_ref_id` is called `id` again, and our own fields are gone. A client's own
/// fields of their names stand in the payload already.
fn as_sent(data: &str) -> String {
    let Ok(object) = read(data) else { return data.to_owned() };
    let mut sent = Object::default();
    for (name, value) in object.fields() {
        match &**name {
            name if is_flag(name) => {}
            "user_id" if value.kind() == Kind::Null => {}
            "client_ref_id" => sent.push("id", *value),
            _ => sent.push(name.clone(), *value),
        }
    }
    serde_json::to_string(&sent).expect("strings and checked JSON can be written")
}

/// A change in a client's names. It may be given in those of the record, in which `id` is called `client_ref_id`; beside an
/// `id` that is a field of the client's own, as in any event.
fn named_as_sent(change: &Value) -> Value {
    let mut change = change.clone();
    if let Value::Object(fields) = &mut change
        && !fields.contains_key("id")
        && let Some(id) = fields.remove("client_ref_id")
    {
        fields.insert("id".to_owned(), id);
        fields.retain(|name, _| !is_flag(name));
    }
    change
}

/// RFC 7396, with `target` as JSON: what is not patched stays as it was sent.
fn merge_patch(target: &str, patch: &Value) -> Box<RawValue> {
    let Value::Object(patch) = patch else { return written(patch) };
    // What is not an object is replaced by the patch applied to an empty one.
    let target = read(target).unwrap_or_default();
    let fields = target.fields();
    let mut merged = Object::default();
    for (at, (name, value)) in fields.iter().enumerate() {
        let Some(change) = patch.get(&**name) else {
            merged.push(name.clone(), value.raw_value().to_owned());
            continue;
        };
        // Of two fields with one name the last counts: that one is changed, and the others go.
        let is_last = !fields[at + 1..].iter().any(|(later, _)| later == name);
        if is_last && !change.is_null() {
            merged.push(name.clone(), merge_patch(value.raw(), change));
        }
    }
    for (name, change) in patch {
        if !change.is_null() && !fields.iter().any(|(known, _)| known == name) {
            merged.push(name.as_str(), merge_patch("{}", change));
        }
    }
    written(&merged)
}

fn written(value: &impl serde::Serialize) -> Box<RawValue> {
    to_raw_value(value).expect("strings and checked JSON can be written")
}

fn read(object: &str) -> Result<Object<'_, Json<'_>>, JsonError> {
    Object::read(&mut Reader::new(object))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The examples of RFC 7396, appendix A, whose target is an object or made one.
    #[test]
    fn merge_patches_do_what_the_standard_says() {
        let cases = [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
            (r#"{"a":"foo"}"#, "null", "null"),
            (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
            (r#"{"price":1.10}"#, "{}", r#"{"price":1.10}"#),
            (r#"{"z":1.10,"a":[1E2]}"#, r#"{"z":{"y":1}}"#, r#"{"z":{"y":1},"a":[1E2]}"#),
            (r#"{"a":1,"b":{"c":1},"b":{"c":2,"d":3}}"#, r#"{"b":{"c":4},"a":null}"#, r#"{"b":{"c":4,"d":3}}"#),
        ];
        for (target, patch, expected) in cases {
            assert_eq!(merge_patch(target, &serde_json::from_str(patch).unwrap()).get(), expected, "{target} {patch}");
        }
        assert_eq!(merge_patch("{}", &json!({"a\"": 1})).get(), r#"{"a\"":1}"#);
    }

    #[test]
    fn the_flag_is_read_by_both_of_its_names_and_not_sent() {
        for (data, flag) in [
            (r#"{"user_id":null,"client_ref_id":"a","dedupe_forever":true}"#, true),
            (r#"{"user_id":null,"client_ref_id":"a","once":true}"#, true),
            (r#"{"user_id":null,"client_ref_id":"a","once":1}"#, false),
            (r#"{"user_id":null,"client_ref_id":"a"}"#, false),
        ] {
            assert_eq!((dedupes_forever(data), &*as_sent(data)), (flag, r#"{"id":"a"}"#), "{data}");
        }
        for data in [r#"{"raw":"e30=","once":true}"#, r#"{"raw":"e30=","dedupe_forever":true}"#] {
            assert!(dedupes_forever(data));
            assert_eq!(Edit::None.apply(0, data).unwrap(), b"{}");
        }
    }
}

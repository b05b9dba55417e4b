//! Rejected events: look at them, mend them, send them again.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ports::log::{Log, LogError, Topic};
use ports::records::json::{Json, JsonError, Kind, Reader};
use ports::records::{ErrorRecord, ErrorType};
use serde::Deserialize;
use serde_json::Value;

use crate::admission::Received;
use crate::outcome::Outcome;
use crate::pipeline::{Ingestion, Options};

/// How much of the error topic is read at once.
const READ_BYTES: usize = 1 << 20;

/// A record of the error topic.
#[derive(Clone, Debug)]
pub struct ErrorEntry {
    /// Where it stands; the name to replay it by.
    pub offset: u64,
    /// The client's id of the user, or empty.
    pub key: String,
    /// The record.
    pub error: ErrorRecord,
}

/// Why a rejected event cannot be sent again.
#[derive(Debug, thiserror::Error)]
pub enum MendError {
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// No such record.
    #[error("the error topic has no record {0}; `uss errors list` shows those that it has")]
    NotFound(u64),
    /// The record is none of ours.
    #[error("record {0} of the error topic cannot be read: {1}")]
    Damaged(u64, String),
    /// It is no rejected event.
    #[error("record {0} is not a rejected event but a failed computation; it is repeated by the worker itself")]
    NotAnEvent(u64),
    /// Only the start of a text that was too long is kept.
    #[error("record {0} holds only the start of a text that was too long; send it again from where it came from")]
    Cut(u64),
    /// There is no object to patch.
    #[error("record {0} is not kept as JSON, so it cannot be patched; give the whole event instead")]
    NotPatchable(u64),
}

/// How a rejected event is changed before it is sent again.
#[derive(Clone, Debug, PartialEq)]
pub enum Mending {
    /// Not at all: its user has been created meanwhile.
    AsIs,
    /// By a JSON merge patch (RFC 7396).
    Patch(Value),
    /// By another event.
    Instead(Value),
}

/// What came of a replay.
#[derive(Clone, Debug)]
pub enum Replay {
    /// The event was sent.
    Sent(Outcome),
    /// An earlier replay was accepted: nothing was sent.
    Before,
}

/// Records of the error topic from an offset on, at most `limit`.
///
/// # Errors
/// The log could not be read, or a record is damaged.
pub async fn list(log: &dyn Log, from: u64, limit: usize) -> Result<Vec<ErrorEntry>, MendError> {
    let mut entries = Vec::new();
    let mut next = from.max(log.bounds(Topic::Errors, 0).await?.0);
    // For one record the smallest read will do.
    let read_bytes = if limit == 1 { 1 } else { READ_BYTES };
    while entries.len() < limit {
        let batch = log.read(Topic::Errors, 0, next, read_bytes).await?;
        if batch.records.is_empty() {
            break;
        }
        next = batch.next_offset;
        for record in batch.records.into_iter().take(limit - entries.len()) {
            let error = serde_json::from_slice(&record.value)
                .map_err(|error| MendError::Damaged(record.offset, error.to_string()))?;
            entries.push(ErrorEntry { offset: record.offset, key: record.key, error });
        }
    }
    Ok(entries)
}

/// One record of the error topic.
///
/// # Errors
/// There is none at this offset, or as [`list`].
pub async fn show(log: &dyn Log, offset: u64) -> Result<ErrorEntry, MendError> {
    let entry = list(log, offset, 1).await?.pop();
    entry.filter(|entry| entry.offset == offset).ok_or(MendError::NotFound(offset))
}

impl Ingestion {
    /// Sends a rejected event through the same pipeline again, until it is accepted: then never more. One without an event
    /// id gets one made of its place on the error topic, by which it can be found again.
    ///
    /// # Errors
    /// There is nothing that can be sent; the outcome is [`Outcome::Rejected`] if it was sent and refused again.
    pub async fn replay(&self, offset: u64, mending: &Mending, options: Options) -> Result<Replay, MendError> {
        let entry = show(self.log(), offset).await?;
        self.replay_entry(&entry, mending, options).await
    }

    /// As [`Ingestion::replay`], of a record that has been read.
    pub(crate) async fn replay_entry(
        &self,
        entry: &ErrorEntry,
        mending: &Mending,
        options: Options,
    ) -> Result<Replay, MendError> {
        let event = mended(entry, mending)?;
        let options = Options { once: options.once || is_once(entry.error.data.get()), ..options };
        let event_id = format!("\"error_topic:{}\"", entry.offset);
        let event = Received { event_id: Some(&event_id), ..event[..].into() };
        let outcome = self.process_once(&producer(entry.offset), event, options).await;
        Ok(outcome.map_or(Replay::Before, Replay::Sent))
    }

    /// Whether a replay of the record was accepted.
    pub(crate) async fn is_replayed(&self, offset: u64) -> Result<bool, LogError> {
        Ok(self.log().producer_sequence(&producer(offset)).await? > 0)
    }
}

/// The name under which the log remembers that a record was replayed.
fn producer(offset: u64) -> String {
    format!("replay:{offset}")
}

/// The bytes to send.
fn mended(entry: &ErrorEntry, mending: &Mending) -> Result<Vec<u8>, MendError> {
    if entry.error.error_type != ErrorType::IngestEvent {
        return Err(MendError::NotAnEvent(entry.offset));
    }
    let data = entry.error.data.get();
    let event = match (mending, raw_text(data)) {
        (Mending::Instead(event), _) => named_as_sent(event).to_string(),
        (_, Some(raw)) if raw.length.is_some() => return Err(MendError::Cut(entry.offset)),
        (Mending::AsIs, Some(raw)) => {
            return STANDARD.decode(raw.raw).map_err(|error| MendError::Damaged(entry.offset, error.to_string()));
        }
        (Mending::Patch(_), Some(_)) => return Err(MendError::NotPatchable(entry.offset)),
        (Mending::AsIs, None) => as_sent(data),
        (Mending::Patch(patch), None) => merge_patch(&as_sent(data), &named_as_sent(patch)),
    };
    Ok(event.into_bytes())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    raw: String,
    length: Option<u64>,
    #[serde(rename = "once")]
    _once: Option<bool>,
    #[serde(rename = "sha256")]
    _sha256: Option<String>,
}

fn raw_text(data: &str) -> Option<Raw> {
    serde_json::from_str(data).ok()
}

/// Whether the event was sent with `once`: then an import run again may send it again at any time.
fn is_once(data: &str) -> bool {
    let mut once = false;
    let read = each_field(data, |name, _, value| once |= name == "once" && value.raw() == "true");
    read.is_ok() && once
}

/// The event as its client would send it: `client_ref_id` is called `id` again, and of our names nothing is left. A client's
/// own fields of these names stand in the payload already.
fn as_sent(data: &str) -> String {
    let mut out = String::with_capacity(data.len());
    let read = each_field(data, |name, key, value| {
        if name == "once" || name == "user_id" && value.kind() == Kind::Null {
            return;
        }
        push_field(&mut out, if name == "client_ref_id" { "\"id\"" } else { key }, value.raw());
    });
    if read.is_ok() { closed(out) } else { data.to_owned() }
}

/// A change in the words of a client. It may be given in those of the record, in which `id` is called `client_ref_id`; beside
/// an `id` that is a field of the client's own, as in any event.
fn named_as_sent(change: &Value) -> Value {
    let mut change = change.clone();
    if let Value::Object(fields) = &mut change
        && !fields.contains_key("id")
        && let Some(id) = fields.remove("client_ref_id")
    {
        fields.insert("id".to_owned(), id);
        fields.remove("once");
    }
    change
}

/// RFC 7396 on the text of an object, so that what is not patched stays as it was sent.
fn merge_patch(target: &str, patch: &Value) -> String {
    let Value::Object(patch) = patch else { return patch.to_string() };
    let mut fields = Vec::new();
    // What is no object is replaced as a whole, by the patch applied to an empty one.
    let _no_object = each_field(target, |name, key, value| fields.push((name, key, value)));
    let mut out = String::with_capacity(target.len());
    for (at, (name, key, value)) in fields.iter().enumerate() {
        let Some(change) = patch.get(&**name) else {
            push_field(&mut out, key, value.raw());
            continue;
        };
        // Of two fields with one name the last counts, so that is the one to change, and the only one to keep.
        let is_last = !fields[at + 1..].iter().any(|(later, ..)| later == name);
        if is_last && !change.is_null() {
            push_field(&mut out, key, &merge_patch(value.raw(), change));
        }
    }
    for (name, change) in patch {
        if !change.is_null() && !fields.iter().any(|(known, ..)| known == name) {
            push_field(&mut out, &Value::from(name.as_str()).to_string(), &merge_patch("{}", change));
        }
    }
    closed(out)
}

fn each_field<'a>(object: &'a str, mut field: impl FnMut(Cow<'a, str>, &'a str, Json<'a>)) -> Result<(), JsonError> {
    Reader::new(object).object(|key, reader| {
        let value = reader.value()?;
        field(key.text().unwrap_or_default(), key.raw(), value);
        Ok(())
    })
}

fn push_field(out: &mut String, key: &str, value: &str) {
    out.push_str(match out.as_str() {
        "" => "{",
        "{" => "",
        _ => ",",
    });
    out.push_str(key);
    out.push(':');
    out.push_str(value);
}

fn closed(object: String) -> String {
    if object.is_empty() { "{}".to_owned() } else { object + "}" }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
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
            (r#"{"a":1,"b":{"c":1},"b":{"c":2,"d":3}}"#, r#"{"b":{"c":4},"a":null}"#, r#"{"b":{"c":4,"d":3}}"#),
        ];
        for (target, patch, expected) in cases {
            assert_eq!(merge_patch(target, &serde_json::from_str(patch).unwrap()), expected, "{target} {patch}");
        }
        assert_eq!(merge_patch("{}", &json!({"a\"": 1})), r#"{"a\"":1}"#);
    }
}

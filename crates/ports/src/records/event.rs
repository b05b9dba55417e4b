//! An accepted event as it stands in the event topic.

use std::borrow::Cow;

use segment_engine::event::UserId;

use super::characters::replace_unstorable;

/// Names of top-level fields that mean something in our records, and nothing in a client's event. A client's field of one
/// of these names is kept in the payload instead; else it could pass for another kind of record, or for another user's.
pub const DISPLACED: [&str; 6] = ["type", "user_id", "client_ref_id", "once", "received_at", "processed_at"];

/// Names of top-level fields that are columns of the payload. An event may have them beside its `id`.
pub const OF_PAYLOAD: [&str; 5] = ["activity_type", "url", "order_total", "order_id", "element_id"];

/// An accepted event, in pieces of JSON text that stand in it as they were sent: nothing is parsed twice or rounded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventRecord<'a> {
    /// The event's `id` field: a JSON text.
    pub client_ref_id: &'a str,
    /// A JSON text or null, as the next three.
    pub id_type: Option<&'a str>,
    /// As sent.
    pub region: Option<&'a str>,
    /// As sent.
    pub device_type: Option<&'a str>,
    /// As sent.
    pub country: Option<&'a str>,
    /// RFC 3339, UTC, microseconds (bare); absent if the client gave none: then the event was created when the log received it.
    pub created_at: Option<String>,
    /// A JSON object, as sent.
    pub payload: &'a str,
    /// Client's fields of [`DISPLACED`] and [`OF_PAYLOAD`] names, key and value: added to the payload where it has no such
    /// property.
    pub displaced: Vec<(&'a str, &'a str)>,
    /// The client's id of this delivery: a JSON text.
    pub event_id: Option<&'a str>,
    /// Unknown top-level fields, as sent: key (a JSON text) and value.
    pub other: Vec<(&'a str, &'a str)>,
    /// Whether a piece has [characters that cannot be stored](super::characters): the record has U+FFFD in their places.
    pub unstorable: bool,
}

impl EventRecord<'_> {
    /// The record's value: one JSON object without line breaks of our own.
    ///
    /// `received_at` (RFC 3339, bare) is for people; the engine goes by the log's own time. `once` says that `event_id` is
    /// derived from the content (by `uss import`), and so counts once without a time limit.
    pub fn encode(&self, user_id: UserId, received_at: &str, once: bool) -> Vec<u8> {
        let other: usize =
            self.other.iter().chain(&self.displaced).map(|(key, value)| key.len() + value.len() + 2).sum();
        let mut out = Vec::with_capacity(320 + self.payload.len() + self.client_ref_id.len() + other);
        out.extend_from_slice(b"{\"user_id\":");
        out.extend_from_slice(user_id.to_string().as_bytes());
        field(&mut out, "client_ref_id", self.client_ref_id);
        field(&mut out, "id_type", self.id_type.unwrap_or("null"));
        field(&mut out, "region", self.region.unwrap_or("null"));
        field(&mut out, "device_type", self.device_type.unwrap_or("null"));
        field(&mut out, "country", self.country.unwrap_or("null"));
        if let Some(created_at) = &self.created_at {
            text_field(&mut out, "created_at", created_at);
        }
        field(&mut out, "payload", &payload_with(self.payload, &self.displaced));
        if let Some(event_id) = self.event_id {
            field(&mut out, "event_id", event_id);
        }
        if once {
            field(&mut out, "once", "true");
        }
        text_field(&mut out, "received_at", received_at);
        for (key, value) in &self.other {
            out.push(b',');
            out.extend_from_slice(key.as_bytes());
            out.push(b':');
            out.extend_from_slice(value.as_bytes());
        }
        out.push(b'}');
        if self.unstorable {
            replace_unstorable(&mut out);
        }
        out
    }
}

/// A payload with the displaced fields in it. Of two properties with one name the last counts, so its own come after them.
pub fn payload_with<'a>(payload: &'a str, displaced: &[(&str, &str)]) -> Cow<'a, str> {
    if displaced.is_empty() {
        return payload.into();
    }
    let mut out = "{".to_owned();
    for (key, value) in displaced {
        out.extend([*key, ":", *value, ","]);
    }
    let own = payload.trim_start_matches('{').trim_start_matches([' ', '\n', '\r', '\t']);
    if own.starts_with('}') {
        out.pop();
    }
    (out + own).into()
}

fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    out.extend_from_slice(value.as_bytes());
}

/// A field whose text needs no escapes.
fn text_field(out: &mut Vec<u8>, name: &str, text: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":\"");
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

//! An accepted event as it stands in the event topic.

use segment_engine::ids::UserId;
use serde::Serialize;

use super::characters::replace_unstorable;
use super::json::{Json, JsonError, Kind, Reader};
use super::object::{Object, ObjectWriter};

/// Top-level names that mean something in our records and nothing in a client's event. A client's field of one of these
/// names moves into the payload; otherwise the event could pass for another kind of record, or for another user's. `once` is
/// what earlier builds called `dedupe_forever`.
pub const DISPLACED: [&str; 7] =
    ["type", "user_id", "client_ref_id", "dedupe_forever", "once", "received_at", "processed_at"];

/// Names of top-level fields that are columns of the payload. An event may have them beside its `id`.
pub const OF_PAYLOAD: [&str; 5] = ["activity_type", "url", "order_total", "order_id", "element_id"];

/// An accepted event. Its values are written as they were sent: no number is rounded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventRecord<'a> {
    /// The event's `id`, a string.
    pub client_ref_id: Json<'a>,
    /// A string or null, like the next three.
    pub id_type: Option<Json<'a>>,
    /// As sent.
    pub region: Option<Json<'a>>,
    /// As sent.
    pub device_type: Option<Json<'a>>,
    /// As sent.
    pub country: Option<Json<'a>>,
    /// RFC 3339, UTC, microseconds. `None` if the client gave none: then the event was created when the log received it.
    pub created_at: Option<String>,
    /// An object, or null if the event has none.
    pub payload: Json<'a>,
    /// The client's fields of [`DISPLACED`] and [`OF_PAYLOAD`] names. They are written into the payload, where a property of
    /// the payload's own wins.
    pub displaced: Object<'a>,
    /// The client's id of this delivery, a string.
    pub event_id: Option<Json<'a>>,
    /// Unknown top-level fields, as sent.
    pub other: Object<'a>,
    /// Whether a value has [characters that cannot be stored](super::characters): the record has U+FFFD in their places.
    pub unstorable: bool,
}

impl EventRecord<'_> {
    /// The record's value: one JSON object.
    ///
    /// `received_at` is RFC 3339. `dedupe_forever` says that `event_id` is derived from the content (by `uss import`), and so
    /// dedupes without a time limit.
    pub fn encode(&self, user_id: UserId, received_at: &str, dedupe_forever: bool) -> Vec<u8> {
        let mut object = ObjectWriter::with_capacity(512 + self.payload.raw().len());
        object.value("user_id", &user_id);
        object.json("client_ref_id", self.client_ref_id);
        object.json("id_type", self.id_type.unwrap_or_default());
        object.json("region", self.region.unwrap_or_default());
        object.json("device_type", self.device_type.unwrap_or_default());
        object.json("country", self.country.unwrap_or_default());
        if let Some(created_at) = &self.created_at {
            object.value("created_at", created_at);
        }
        match Payload::new(self.payload, &self.displaced) {
            Payload::AsSent(payload) => object.json("payload", payload),
            other => object.value("payload", &other),
        }
        if let Some(event_id) = self.event_id {
            object.json("event_id", event_id);
        }
        if dedupe_forever {
            object.value("dedupe_forever", &true);
        }
        // For people; the engine goes by the log's own time.
        object.value("received_at", received_at);
        for (name, value) in self.other.fields() {
            object.json(name, *value);
        }
        let mut out = object.end();
        if self.unstorable {
            replace_unstorable(&mut out);
        }
        out
    }
}

/// A payload as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Payload<'a> {
    /// As it was sent.
    AsSent(Json<'a>),
    /// With displaced fields before its own: of two of one name the last counts.
    WithDisplaced(Object<'a>),
    /// The event has none.
    Empty {},
}

impl<'a> Payload<'a> {
    /// The payload that was sent, an object or null, with the displaced fields in it.
    pub fn new(sent: Json<'a>, displaced: &Object<'a>) -> Self {
        match (sent.kind(), displaced.is_empty()) {
            (Kind::Object, true) => Self::AsSent(sent),
            (_, true) => Self::Empty {},
            (Kind::Object, false) => {
                let mut fields = displaced.clone();
                fields.append(own_fields(sent).expect("the reader has checked this object"));
                Self::WithDisplaced(fields)
            }
            (_, false) => Self::WithDisplaced(displaced.clone()),
        }
    }
}

fn own_fields(payload: Json<'_>) -> Result<Object<'_>, JsonError> {
    Object::read(&mut Reader::lenient(payload.raw()))
}

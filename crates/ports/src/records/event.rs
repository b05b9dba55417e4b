//! An accepted event as it stands in the event topic.

use segment_engine::ids::UserId;
use segment_engine::schema::{EventColumn, Place};
use serde::Serialize;

use super::characters::replace_unstorable;
use super::columns::Columns;
use super::json::{Json, JsonError, Kind, Reader};
use super::object::{Object, ObjectWriter};

/// Whether a top-level name means something in our records and nothing in a client's event. A client's field of such a name
/// moves into the payload; otherwise the event could pass for another kind of record, or for another user's. `once` is what
/// earlier builds called `dedupe_forever`.
pub fn is_displaced(name: &str) -> bool {
    matches!(name, "type" | "dedupe_forever" | "once" | "received_at")
        || EventColumn::named(name).is_some() && EventColumn::sent_as(name).is_none()
}

/// An accepted event. Its values are written as they were sent: no number is rounded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventRecord<'a> {
    /// The columns beside the payload, as sent: strings or null. Those of another [`Place`] are not written, and `created_at`
    /// has a field of its own.
    pub columns: Columns<'a>,
    /// RFC 3339, UTC, microseconds. `None` if the client gave none: then the event was created when the log received it.
    pub created_at: Option<String>,
    /// An object, or null if the event has none.
    pub payload: Json<'a>,
    /// The client's [displaced](is_displaced) fields, and columns of the payload that the client sent beside it. They are
    /// written into the payload, where a property of the payload's own wins.
    pub displaced: Object<'a>,
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
        object.value(EventColumn::UserId.name(), &user_id);
        for column in EventColumn::ALL {
            // These two are written only if there is a value.
            let is_optional = matches!(column, EventColumn::CreatedAt | EventColumn::EventId);
            if column.place() == Place::Event && !is_optional {
                object.json(column.name(), self.columns[column].unwrap_or_default());
            }
        }
        if let Some(created_at) = &self.created_at {
            object.value(EventColumn::CreatedAt.name(), created_at);
        }
        match Payload::new(self.payload, &self.displaced) {
            Payload::AsSent(payload) => object.json("payload", payload),
            other => object.value("payload", &other),
        }
        if let Some(event_id) = self.columns[EventColumn::EventId] {
            object.json(EventColumn::EventId.name(), event_id);
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

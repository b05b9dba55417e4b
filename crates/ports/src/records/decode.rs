//! Reads a record of the event topic into what the worker and the archiver apply.

use std::collections::BTreeMap;
use std::sync::Arc;

use segment_engine::decimal::Decimal;
use segment_engine::event::{Event, Position};
use segment_engine::ids::{PartitionId, UserId};
use segment_engine::schema::{EventColumn, Place};
use segment_engine::time::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::columns::Columns;
use super::fields::{self, FieldError};
use super::json::{DEPTH_MAX, Json, JsonError, Kind, Reader};
use super::json_text::JsonText;
use super::jsonb;
use super::{SegmentRecord, UserRecord};

use crate::ErrorCode;

/// How deep a record may nest: deeper than an event, since some records carry one.
pub(super) const RECORD_DEPTH_MAX: u32 = DEPTH_MAX + 16;

/// A record of the event topic. Its event has the payload in this form.
#[derive(Clone, Debug)]
pub enum Input<Payload = Arc<Value>> {
    /// A user did something.
    Event(Delivery<Payload>),
    /// Every other input about a user.
    User(UserRecord),
    /// A segment was defined, took effect or was removed.
    Segment(SegmentRecord),
}

/// An event as delivered.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery<Payload = Arc<Value>> {
    /// The event.
    pub event: Event<Payload>,
    /// Whether its event id dedupes without a time limit.
    pub dedupe_forever: bool,
}

/// Why a record cannot be applied: it is damaged, or something else than our services wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadRecord {
    /// For programs.
    pub code: ErrorCode,
    /// What is wrong.
    pub message: String,
}

impl BadRecord {
    fn new(message: impl Into<String>) -> Self {
        Self { code: ErrorCode::BadRecord, message: message.into() }
    }
}

impl From<JsonError> for BadRecord {
    fn from(error: JsonError) -> Self {
        Self::new(format!("the record is not JSON: {error}"))
    }
}

impl From<FieldError> for BadRecord {
    fn from(error: FieldError) -> Self {
        Self { code: error.code, message: error.message }
    }
}

/// Reads a record of the event topic. `position` and `appended_at` are those of the record, or those that a forward carries.
///
/// # Errors
/// The record is not one of ours; it can never be applied.
pub fn decode_input(value: &[u8], position: Position, appended_at: Timestamp) -> Result<Input, BadRecord> {
    decode(value, position, appended_at, |payload| Arc::new(tree(payload)))
}

/// As [`decode_input`], with the payload as the warehouse stores it. It makes no tree of it.
///
/// # Errors
/// The record is not one of ours.
pub fn decode_to_archive(
    value: &[u8],
    position: Position,
    appended_at: Timestamp,
) -> Result<Input<Box<str>>, BadRecord> {
    decode(value, position, appended_at, |payload| jsonb::object(payload).into())
}

fn decode<'a, Payload>(
    value: &'a [u8],
    position: Position,
    appended_at: Timestamp,
    payload: impl FnOnce(Vec<Property<'a>>) -> Payload,
) -> Result<Input<Payload>, BadRecord> {
    let text = text_of(value)?;
    let mut fields = Fields::default();
    if let Some(kind) = fields.read(text)? {
        if kind.starts_with("segment_") {
            return segment_record(text, &kind).map(Input::Segment);
        }
        return user_record(text, &kind).map(Input::User);
    }
    fields.delivery(position, appended_at, payload).map(Input::Event)
}

/// As [`decode_input`], for events only.
///
/// # Errors
/// The record is not an event of ours.
pub fn decode_event(value: &[u8], position: Position, appended_at: Timestamp) -> Result<Delivery, BadRecord> {
    match decode_input(value, position, appended_at)? {
        Input::Event(delivery) => Ok(delivery),
        Input::User(_) | Input::Segment(_) => Err(BadRecord::new("the record is not an event")),
    }
}

fn text_of(value: &[u8]) -> Result<&str, BadRecord> {
    std::str::from_utf8(value).map_err(|error| BadRecord::new(format!("the record is not UTF-8: {error}")))
}

fn segment_record(text: &str, kind: &str) -> Result<SegmentRecord, BadRecord> {
    serde_json::from_str(text).map_err(|error| BadRecord::new(format!("the record is not a `{kind}`: {error}")))
}

/// serde cannot read a raw value through a tagged enum, so the variants that have one are read separately.
fn user_record(text: &str, kind: &str) -> Result<UserRecord, BadRecord> {
    #[derive(Deserialize)]
    struct Forward {
        user_id: UserId,
        partition: PartitionId,
        offset: u64,
        appended_at: Timestamp,
        record: Box<RawValue>,
    }
    #[derive(Deserialize)]
    struct Traits {
        user_id: UserId,
        traits: BTreeMap<String, JsonText>,
        created_at: Timestamp,
    }
    let bad = |error: serde_json::Error| BadRecord::new(format!("the record is not a `{kind}`: {error}"));
    match kind {
        "forward" => {
            let Forward { user_id, partition, offset, appended_at, record } =
                serde_json::from_str(text).map_err(bad)?;
            Ok(UserRecord::Forward { user_id, partition, offset, appended_at, record })
        }
        "traits" => {
            let Traits { user_id, traits, created_at } = serde_json::from_str(text).map_err(bad)?;
            Ok(UserRecord::Traits { user_id, traits, created_at })
        }
        _ => serde_json::from_str(text).map_err(bad),
    }
}

/// A key of an object and its value.
type Property<'a> = (Json<'a>, Json<'a>);

/// Returns the object of these properties; of two with one key the last counts.
fn tree(properties: Vec<Property<'_>>) -> Value {
    let property = |(key, value): Property<'_>| (key.text().unwrap_or_default().into_owned(), value.to_value());
    Value::Object(properties.into_iter().map(property).collect())
}

/// The fields of an event record, found in one pass.
#[derive(Default)]
struct Fields<'a> {
    columns: Columns<'a>,
    dedupe_forever: bool,
    payload: Vec<Property<'a>>,
    other: Vec<Property<'a>>,
}

impl<'a> Fields<'a> {
    /// Returns the record's type if it has one: then it is not an event, and its fields do not matter.
    fn read(&mut self, text: &'a str) -> Result<Option<String>, BadRecord> {
        let mut reader = Reader::with_depth(text, RECORD_DEPTH_MAX);
        let mut kind = None;
        reader.object(|key, reader| {
            let name = key.text().unwrap_or_default();
            if name == "payload" {
                return self.read_payload(reader);
            }
            let value = reader.value()?;
            match EventColumn::named(&name).map(|column| (column, column.place())) {
                Some((column, Place::Event | Place::Record)) => self.columns[column] = Some(value),
                Some((_, Place::Payload | Place::Log)) => self.other.push((key, value)),
                None => match &*name {
                    "type" => kind = Some(value.text().unwrap_or_default().into_owned()),
                    // Earlier builds wrote `once`.
                    "dedupe_forever" | "once" => self.dedupe_forever |= value.raw() == "true",
                    "received_at" => {}
                    _ => self.other.push((key, value)),
                },
            }
            Ok::<_, BadRecord>(())
        })?;
        reader.end()?;
        Ok(kind)
    }

    fn read_payload(&mut self, reader: &mut Reader<'a>) -> Result<(), BadRecord> {
        if reader.kind()? != Kind::Object {
            return Err(BadRecord::new("`payload` is not an object"));
        }
        reader.object(|key, reader| {
            let value = reader.value()?;
            if let Some(column) = EventColumn::in_payload(&key.text().unwrap_or_default()) {
                self.columns[column] = Some(value);
            }
            self.payload.push((key, value));
            Ok::<_, BadRecord>(())
        })
    }

    fn delivery<Payload>(
        mut self,
        position: Position,
        appended_at: Timestamp,
        payload: impl FnOnce(Vec<Property<'a>>) -> Payload,
    ) -> Result<Delivery<Payload>, BadRecord> {
        let user_id = self.columns[EventColumn::UserId].and_then(|value| value.raw().parse().ok());
        let user_id = user_id.ok_or_else(|| BadRecord::new("`user_id` is not a whole number"))?;
        // Of two with one key the last counts: a payload's own property wins over a top-level field,
        // and the first of two top-level fields over the second.
        let mut properties = std::mem::take(&mut self.other);
        properties.reverse();
        properties.append(&mut self.payload);
        let event = Event {
            user_id: UserId(user_id),
            client_ref_id: self
                .text(EventColumn::ClientRefId)?
                .ok_or_else(|| BadRecord::new("`client_ref_id` is missing"))?,
            id_type: self.text(EventColumn::IdType)?,
            region: self.text(EventColumn::Region)?,
            device_type: self.text(EventColumn::DeviceType)?,
            country: self.text(EventColumn::Country)?,
            activity_type: self.text(EventColumn::ActivityType)?,
            url: self.text(EventColumn::Url)?,
            order_total: self.decimal(EventColumn::OrderTotal)?,
            order_id: self.text(EventColumn::OrderId)?,
            element_id: self.text(EventColumn::ElementId)?,
            created_at: self.columns[EventColumn::CreatedAt]
                .map_or(Ok(None), fields::created_at)?
                .unwrap_or(appended_at),
            processed_at: appended_at,
            event_id: self.text(EventColumn::EventId)?,
            payload: payload(properties),
            position,
        };
        Ok(Delivery { event, dedupe_forever: self.dedupe_forever })
    }

    fn text(&self, column: EventColumn) -> Result<Option<Box<str>>, FieldError> {
        let Some(value) = self.columns[column] else { return Ok(None) };
        Ok(fields::string(column.name(), value)?.map(|text| text.text().unwrap_or_default().into()))
    }

    fn decimal(&self, column: EventColumn) -> Result<Option<Decimal>, FieldError> {
        self.columns[column].map_or(Ok(None), |value| fields::decimal(column, value))
    }
}

//! Reads a record of the event topic into what the worker and the archiver apply.

use std::collections::BTreeMap;
use std::sync::Arc;

use segment_engine::event::{Event, Position};
use segment_engine::ids::{PartitionId, UserId};
use segment_engine::time::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::fields::{self, FieldError};
use super::json::{DEPTH_MAX, Json, JsonError, Kind, Reader};
use super::json_text::JsonText;
use super::{SegmentRecord, UserRecord};

use crate::ErrorCode;

/// How deep a record may nest: deeper than an event, since some records carry one.
pub(super) const RECORD_DEPTH_MAX: u32 = DEPTH_MAX + 16;

/// A record of the event topic.
#[derive(Clone, Debug)]
pub enum Input {
    /// A user did something.
    Event(Delivery),
    /// Every other input about a user.
    User(UserRecord),
    /// A segment was defined, took effect or was removed.
    Segment(SegmentRecord),
}

/// An event as delivered.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The event.
    pub event: Event,
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
    let text = text_of(value)?;
    let mut fields = Fields::default();
    if let Some(kind) = fields.read(text)? {
        if kind.starts_with("segment_") {
            return segment_record(text, &kind).map(Input::Segment);
        }
        return user_record(text, &kind).map(Input::User);
    }
    fields.delivery(position, appended_at).map(Input::Event)
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

/// The fields of an event record, found in one pass.
#[derive(Default)]
struct Fields<'a> {
    user_id: Option<i64>,
    dedupe_forever: bool,
    client_ref_id: Option<Json<'a>>,
    id_type: Option<Json<'a>>,
    region: Option<Json<'a>>,
    device_type: Option<Json<'a>>,
    country: Option<Json<'a>>,
    created_at: Option<Json<'a>>,
    event_id: Option<Json<'a>>,
    payload: Map<String, Value>,
    of_payload: PayloadFields<'a>,
    other: Vec<(Json<'a>, Json<'a>)>,
}

/// The properties of the payload that are columns.
#[derive(Default)]
struct PayloadFields<'a> {
    activity_type: Option<Json<'a>>,
    url: Option<Json<'a>>,
    order_total: Option<Json<'a>>,
    order_id: Option<Json<'a>>,
    element_id: Option<Json<'a>>,
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
            match &*name {
                "type" => kind = Some(value.text().unwrap_or_default().into_owned()),
                "user_id" => self.user_id = value.raw().parse().ok(),
                "client_ref_id" => self.client_ref_id = Some(value),
                "id_type" => self.id_type = Some(value),
                "region" => self.region = Some(value),
                "device_type" => self.device_type = Some(value),
                "country" => self.country = Some(value),
                "created_at" => self.created_at = Some(value),
                "event_id" => self.event_id = Some(value),
                // Earlier builds wrote `once`.
                "dedupe_forever" | "once" => self.dedupe_forever |= value.raw() == "true",
                "received_at" => {}
                _ => self.other.push((key, value)),
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
            let name = key.text().unwrap_or_default();
            let column = match &*name {
                "activity_type" => Some(&mut self.of_payload.activity_type),
                "url" => Some(&mut self.of_payload.url),
                "order_total" => Some(&mut self.of_payload.order_total),
                "order_id" => Some(&mut self.of_payload.order_id),
                "element_id" => Some(&mut self.of_payload.element_id),
                _ => None,
            };
            if let Some(column) = column {
                *column = Some(value);
            }
            self.payload.insert(name.into_owned(), value.to_value());
            Ok::<_, BadRecord>(())
        })
    }

    fn delivery(mut self, position: Position, appended_at: Timestamp) -> Result<Delivery, BadRecord> {
        let user_id = self.user_id.ok_or_else(|| BadRecord::new("`user_id` is not a whole number"))?;
        let client_ref_id = column("client_ref_id", self.client_ref_id)?;
        // A payload's own property wins over a top-level field of its name.
        for (key, value) in std::mem::take(&mut self.other) {
            self.payload.entry(owned(key)).or_insert_with(|| value.to_value());
        }
        let of_payload = self.of_payload;
        let event = Event {
            user_id: UserId(user_id),
            event_id: column("event_id", self.event_id)?,
            client_ref_id: client_ref_id.ok_or_else(|| BadRecord::new("`client_ref_id` is missing"))?,
            id_type: column("id_type", self.id_type)?,
            region: column("region", self.region)?,
            device_type: column("device_type", self.device_type)?,
            country: column("country", self.country)?,
            activity_type: column("activity_type", of_payload.activity_type)?,
            url: column("url", of_payload.url)?,
            order_total: of_payload.order_total.map_or(Ok(None), fields::order_total)?,
            order_id: column("order_id", of_payload.order_id)?,
            element_id: column("element_id", of_payload.element_id)?,
            created_at: self.created_at.map_or(Ok(None), fields::created_at)?.unwrap_or(appended_at),
            processed_at: appended_at,
            payload: Arc::new(Value::Object(self.payload)),
            position,
        };
        Ok(Delivery { event, dedupe_forever: self.dedupe_forever })
    }
}

fn column(name: &str, value: Option<Json<'_>>) -> Result<Option<Box<str>>, FieldError> {
    let Some(value) = value else { return Ok(None) };
    Ok(fields::string(name, value)?.map(boxed))
}

fn boxed(text: Json<'_>) -> Box<str> {
    text.text().unwrap_or_default().into()
}

fn owned(text: Json<'_>) -> String {
    text.text().unwrap_or_default().into_owned()
}

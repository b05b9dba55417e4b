//! Whether an event can be accepted, decided from its bytes alone: no clock, no users, no log.

use std::borrow::Cow;

use ports::records::event::{DISPLACED, EventRecord};
use ports::records::fields::{self, FieldError};
use ports::records::instant;
use ports::records::json::{Json, JsonError, Kind, Reader};
use uss_http::{Kind as ProblemKind, Problem};

use crate::limits::Limits;

/// An event as received.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Its text, or what was kept of it.
    pub bytes: &'a [u8],
    /// If the text was too long to keep: what it was as a whole.
    pub cut: Option<Cut>,
    /// A JSON text: the event's id if it has none of its own.
    pub event_id: Option<&'a str>,
}

/// Of a text of which only the start was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Its length, in bytes.
    pub length: u64,
    /// The SHA-256 of the whole text.
    pub sha256: [u8; 32],
}

impl<'a> From<&'a [u8]> for Received<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self { bytes, cut: None, event_id: None }
    }
}

/// An event that is fit to be accepted once its user is known. Borrows from the text received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventDraft<'a> {
    /// The client's id of the user.
    pub id: Cow<'a, str>,
    /// What kind of id it is.
    pub id_type: Option<Cow<'a, str>>,
    /// What goes into the log.
    pub record: EventRecord<'a>,
}

/// Why an event is refused for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Stable, machine-readable.
    pub code: &'static str,
    /// Says what to do.
    pub message: String,
}

impl Rejection {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The answer to a request with this one event.
    pub fn problem(self) -> Problem {
        let kind = match self.code {
            "USER_NOT_FOUND" => ProblemKind::NotFound,
            "EVENT_TOO_LARGE" => ProblemKind::TooLarge,
            _ => ProblemKind::Invalid,
        };
        Problem::new(kind, self.code, self.message)
    }
}

impl From<FieldError> for Rejection {
    fn from(error: FieldError) -> Self {
        Self { code: error.code, message: error.message }
    }
}

impl From<JsonError> for Rejection {
    fn from(error: JsonError) -> Self {
        Self::new("INVALID_JSON", format!("the event is not valid JSON: {error}"))
    }
}

/// Decides. The rules are semantics of the fields: a text may be missing or null, `order_total` may be a number or text,
/// unknown fields are kept as sent.
///
/// # Errors
/// Why the event is refused; sending it again unchanged will always be refused.
pub fn admit<'a>(received: Received<'a>, limits: &Limits) -> Result<EventDraft<'a>, Rejection> {
    let length = received.cut.map_or(received.bytes.len() as u64, |cut| cut.length);
    if length > limits.event_bytes_max as u64 {
        let message = format!("the event has {length} bytes; send at most {} per event", limits.event_bytes_max);
        return Err(Rejection::new("EVENT_TOO_LARGE", message));
    }
    let text = std::str::from_utf8(received.bytes)
        .map_err(|error| Rejection::new("INVALID_JSON", format!("the event is not UTF-8: {error}")))?;
    let mut reader = Reader::new(text);
    if reader.kind()? != Kind::Object {
        reader.value()?;
        reader.end()?;
        return Err(Rejection::new("NOT_AN_OBJECT", "an event must be one JSON object"));
    }
    let mut draft = Draft::default();
    reader.object(|key, reader| draft.field(key, reader))?;
    reader.end()?;
    draft.finish(received.event_id, limits)
}

/// What has been read so far. Of two fields with one name the last counts, as everywhere in JSON.
#[derive(Default)]
struct Draft<'a> {
    id: Option<Json<'a>>,
    id_type: Option<Json<'a>>,
    created_at: Option<Json<'a>>,
    event_id: Option<Json<'a>>,
    payload: Option<&'a str>,
    order_total: Option<Json<'a>>,
    record: EventRecord<'a>,
}

impl<'a> Draft<'a> {
    fn field(&mut self, key: Json<'a>, reader: &mut Reader<'a>) -> Result<(), Rejection> {
        let name = key.text().unwrap_or_default();
        if name == "payload" {
            return self.payload(reader);
        }
        let value = reader.value()?;
        match &*name {
            "id" => self.id = Some(value),
            "id_type" => self.id_type = fields::text("id_type", value)?,
            "region" => self.record.region = raw_text("region", value)?,
            "device_type" => self.record.device_type = raw_text("device_type", value)?,
            "country" => self.record.country = raw_text("country", value)?,
            "created_at" => self.created_at = Some(value),
            "event_id" => self.event_id = fields::text("event_id", value)?,
            // What a rejected event carries on the error topic.
            "user_id" if value.kind() == Kind::Null => {}
            name if DISPLACED.contains(&name) => self.record.displaced.push((key.raw(), value.raw())),
            _ => self.record.other.push((key.raw(), value.raw())),
        }
        Ok(())
    }

    fn payload(&mut self, reader: &mut Reader<'a>) -> Result<(), Rejection> {
        self.order_total = None;
        match reader.kind()? {
            Kind::Object => {}
            Kind::Null => {
                self.payload = None;
                reader.value()?;
                return Ok(());
            }
            other => return Err(FieldError::wrong_type("payload", "an object", other).into()),
        }
        let (piece, order_total) = payload_fields(reader)?;
        (self.payload, self.order_total) = (Some(piece), order_total);
        Ok(())
    }

    fn finish(self, event_id: Option<&'a str>, limits: &Limits) -> Result<EventDraft<'a>, Rejection> {
        let Some(id) = self.id.filter(|id| id.kind() != Kind::Null) else {
            return Err(Rejection::new("MISSING_ID", "an event needs `id`, the client's id of its user, as a text"));
        };
        let text = id.text().ok_or_else(|| FieldError::wrong_type("id", "a text", id.kind()))?;
        let id_type = self.id_type.and_then(|id_type| id_type.text());
        let longest = text.len().max(id_type.as_ref().map_or(0, |id_type| id_type.len()));
        if text.is_empty() || longest > limits.id_bytes_max {
            let message = format!("`id` must have 1 to {0} bytes, and `id_type` at most {0}", limits.id_bytes_max);
            return Err(Rejection::new("INVALID_ID", message));
        }
        self.order_total.map_or(Ok(None), fields::order_total)?;
        let created_at = self.created_at.map_or(Ok(None), fields::created_at)?;
        let record = EventRecord {
            client_ref_id: id.raw(),
            id_type: self.id_type.map(|id_type| id_type.raw()),
            created_at: created_at.map(instant::format),
            payload: self.payload.unwrap_or("{}"),
            // An empty id would make duplicates of all events that have one.
            event_id: self.event_id.map(|event_id| event_id.raw()).filter(|raw| *raw != "\"\"").or(event_id),
            ..self.record
        };
        Ok(EventDraft { id: text, id_type, record })
    }
}

/// The payload's own piece of the text, and its `order_total`; its other columns are checked on the way.
fn payload_fields<'a>(reader: &mut Reader<'a>) -> Result<(&'a str, Option<Json<'a>>), Rejection> {
    let mut order_total = None;
    let piece = reader.piece(|reader| {
        reader.object(|key, reader| {
            let value = reader.value()?;
            match &*key.text().unwrap_or_default() {
                "activity_type" => drop(fields::text("payload.activity_type", value)?),
                "url" => drop(fields::text("payload.url", value)?),
                "order_id" => drop(fields::text("payload.order_id", value)?),
                "element_id" => drop(fields::text("payload.element_id", value)?),
                "order_total" => order_total = Some(value),
                _ => {}
            }
            Ok::<_, Rejection>(())
        })
    })?;
    Ok((piece, order_total))
}

fn raw_text<'a>(field: &str, value: Json<'a>) -> Result<Option<&'a str>, FieldError> {
    Ok(fields::text(field, value)?.map(|text| text.raw()))
}

#[cfg(test)]
mod tests;

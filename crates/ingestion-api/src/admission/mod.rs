//! Whether an event can be accepted, decided from its bytes alone: no clock, no users, no log.

use std::borrow::Cow;

use ports::ErrorCode;
use ports::records::columns::Columns;
use ports::records::event::{EventRecord, is_displaced};
use ports::records::fields::{self, FieldError};
use ports::records::instant;
use ports::records::json::{Json, JsonError, Kind, Reader};
use ports::records::object::Object;
use segment_engine::schema::{ColumnType, EventColumn, Place};
use segment_engine::time::Timestamp;
use uss_http::{Kind as ProblemKind, Problem};

use crate::limits::Limits;
use crate::misplaced::meant;
use crate::mistaken;

/// An event as received.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// The event as sent, or the start of it if it was too long to keep.
    pub bytes: &'a [u8],
    /// If only the start was kept: what the whole was.
    pub cut: Option<Cut>,
    /// The event's id if it has none of its own; a string.
    pub event_id: Option<Json<'a>>,
    /// Why this is not an event, if that is known already.
    pub fault: Option<&'a Rejection>,
}

/// What is known of an event of which only the start was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The length of the whole, in bytes.
    pub length: u64,
    /// The SHA-256 of the whole.
    pub sha256: [u8; 32],
}

impl<'a> From<&'a [u8]> for Received<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self { bytes, cut: None, event_id: None, fault: None }
    }
}

/// An event that is accepted as soon as its user is known. Borrows from the bytes received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventDraft<'a> {
    /// The client's id of the user.
    pub id: Cow<'a, str>,
    /// What kind of id it is.
    pub id_type: Option<Cow<'a, str>>,
    /// When it happened, if the client says.
    pub created_at: Option<Timestamp>,
    /// Top-level fields that have no effect where they stand, each with the field of ours that it seems to be.
    pub misplaced: Vec<(Cow<'a, str>, &'static str)>,
    /// What goes into the log.
    pub record: EventRecord<'a>,
}

/// Why an event is refused for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// For programs.
    pub code: ErrorCode,
    /// Says what to do.
    pub message: String,
}

impl Rejection {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The answer to a request with this one event.
    pub fn problem(self) -> Problem {
        let kind = match self.code {
            ErrorCode::UserNotFound => ProblemKind::NotFound,
            ErrorCode::EventTooLarge => ProblemKind::TooLarge,
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
        Self::new(ErrorCode::InvalidJson, format!("the event is not valid JSON: {error}"))
    }
}

/// Decides by the semantics of the fields: a string may be missing or null, `order_total` may be a number or a string,
/// unknown fields are kept as sent. Characters that cannot be stored are replaced, but not in ids: two ids must not become
/// one.
///
/// # Errors
/// Why the event is refused. It will be refused again if it is sent unchanged.
pub fn admit<'a>(received: Received<'a>, limits: &Limits) -> Result<EventDraft<'a>, Rejection> {
    if let Some(fault) = received.fault {
        return Err(fault.clone());
    }
    let length = received.cut.map_or(received.bytes.len() as u64, |cut| cut.length);
    if length > limits.event_bytes_max as u64 {
        return Err(too_large(&received, length, limits));
    }
    let text = std::str::from_utf8(received.bytes)
        .map_err(|error| Rejection::new(ErrorCode::InvalidJson, format!("the event is not UTF-8: {error}")))?;
    let mut reader = Reader::lenient(text);
    let kind = reader.kind()?;
    if kind != Kind::Object {
        reader.value()?;
        reader.end()?;
        return Err(match kind {
            Kind::Array => mistaken::array_for_an_event(),
            _ => Rejection::new(ErrorCode::NotAnObject, "an event must be one JSON object"),
        });
    }
    let mut draft = Draft::default();
    reader.object(|key, reader| draft.field(key, reader))?;
    reader.end()?;
    draft.record.unstorable = reader.has_unstorable();
    if draft.is_without_id()
        && let Some(wrapped) = mistaken::envelope(text)
    {
        return Err(wrapped);
    }
    draft.finish(received.event_id, limits)
}

/// What is too large for one event may have been meant as many.
fn too_large(received: &Received<'_>, length: u64, limits: &Limits) -> Rejection {
    let text = received.bytes.trim_ascii_start();
    if text.starts_with(b"[") {
        return mistaken::array_for_an_event();
    }
    let whole = std::str::from_utf8(text).ok().filter(|_| received.cut.is_none());
    whole.and_then(mistaken::envelope).unwrap_or_else(|| {
        let message = format!("the event has {length} bytes; send at most {} per event", limits.event_bytes_max);
        Rejection::new(ErrorCode::EventTooLarge, message)
    })
}

/// What has been read so far. Of two fields with one name the last counts, as everywhere in JSON.
#[derive(Default)]
struct Draft<'a> {
    /// Also has columns of the payload that the client sent beside it, until `take_beside` moves them.
    record: EventRecord<'a>,
    payload_columns: Columns<'a>,
    misplaced: Vec<(Cow<'a, str>, &'static str)>,
}

impl<'a> Draft<'a> {
    fn field(&mut self, key: Json<'a>, reader: &mut Reader<'a>) -> Result<(), Rejection> {
        let name = key.text().unwrap_or_default();
        if name == "payload" {
            return self.payload(reader);
        }
        let value = reader.value()?;
        match EventColumn::sent_as(&name) {
            Some(column) => self.column(column, value)?,
            // What a rejected event carries on the error topic.
            None if name == EventColumn::UserId.name() && value.kind() == Kind::Null => {}
            None => self.other(name, value),
        }
        Ok(())
    }

    /// A column beside the payload. `finish` checks the id, the columns of the payload and the instant.
    fn column(&mut self, column: EventColumn, value: Json<'a>) -> Result<(), FieldError> {
        let is_checked_now = column.place() == Place::Event
            && column.column_type() == ColumnType::Text
            && column != EventColumn::ClientRefId;
        self.record.columns[column] = if is_checked_now { fields::string(column.field(), value)? } else { Some(value) };
        Ok(())
    }

    /// A field that has no effect at the top level.
    fn other(&mut self, name: Cow<'a, str>, value: Json<'a>) {
        if let Some(meant) = meant(&name) {
            self.misplaced.push((name.clone(), meant));
        }
        let is_displaced = is_displaced(&name);
        if is_displaced { &mut self.record.displaced } else { &mut self.record.other }.push(name, value);
    }

    fn is_without_id(&self) -> bool {
        self.record.columns[EventColumn::ClientRefId].is_none_or(|id| id.kind() == Kind::Null)
    }

    fn payload(&mut self, reader: &mut Reader<'a>) -> Result<(), Rejection> {
        let columns = &mut self.payload_columns;
        *columns = Columns::default();
        self.record.payload = match reader.kind()? {
            Kind::Object => payload_fields(reader, columns)?,
            Kind::Null => reader.value()?,
            other => return Err(FieldError::wrong_type("payload", "an object", other).into()),
        };
        Ok(())
    }

    /// Moves columns from beside the payload into it where it has none of that name, and checks them as the payload's own.
    fn take_beside(&mut self) -> Result<(), FieldError> {
        let mut taken = Object::default();
        for column in EventColumn::ALL.into_iter().filter(|column| column.place() == Place::Payload) {
            let Some(value) = self.record.columns[column] else { continue };
            if self.payload_columns[column].is_some() {
                self.record.other.push(column.name(), value);
                self.misplaced.push((column.name().into(), column.field()));
                continue;
            }
            if column.column_type() == ColumnType::Text {
                fields::string(column.name(), value)?;
            }
            self.payload_columns[column] = Some(value);
            taken.push(column.name(), value);
        }
        // Before the others, as if those had stood in the payload: so they do when the event is replayed.
        self.record.displaced.prepend(taken);
        Ok(())
    }

    fn finish(mut self, event_id: Option<Json<'a>>, limits: &Limits) -> Result<EventDraft<'a>, Rejection> {
        let columns = &self.record.columns;
        let Some(id) = columns[EventColumn::ClientRefId].filter(|id| id.kind() != Kind::Null) else {
            return Err(self.missing_id());
        };
        let text = id.text().ok_or_else(|| FieldError::wrong_type("id", "a string", id.kind()))?;
        let id_type = columns[EventColumn::IdType].and_then(|id_type| id_type.text());
        let longest = text.len().max(id_type.as_ref().map_or(0, |id_type| id_type.len()));
        if text.is_empty() || longest > limits.id_bytes_max {
            let message = format!("`id` must have 1 to {0} bytes, and `id_type` at most {0}", limits.id_bytes_max);
            return Err(Rejection::new(ErrorCode::InvalidId, message));
        }
        for column in EventColumn::ALL.into_iter().filter(|column| column.is_id()) {
            if columns[column].is_some_and(|value| value.is_unstorable()) {
                let (name, advice) = (column.field(), "send the id without it: replaced, it could be another's");
                let message = format!("`{name}` has NUL or half of a surrogate pair, which cannot be stored; {advice}");
                return Err(Rejection::new(ErrorCode::InvalidId, message));
            }
        }
        self.take_beside()?;
        self.check_decimals()?;
        let created_at = self.record.columns[EventColumn::CreatedAt].map_or(Ok(None), fields::created_at)?;
        let mut record = self.record;
        record.created_at = created_at.map(instant::format);
        // An empty id would make duplicates of all events that have one.
        let own = record.columns[EventColumn::EventId].filter(|own| own.raw() != "\"\"");
        record.columns[EventColumn::EventId] = own.or(event_id);
        Ok(EventDraft { id: text, id_type, created_at, misplaced: self.misplaced, record })
    }

    /// Strings are checked where they are read. Of two numbers with one name only the last counts, so it is checked here.
    fn check_decimals(&self) -> Result<(), FieldError> {
        for column in EventColumn::ALL.into_iter().filter(|column| column.column_type() == ColumnType::Decimal) {
            let columns = if column.place() == Place::Payload { &self.payload_columns } else { &self.record.columns };
            columns[column].map_or(Ok(None), |value| fields::decimal(column, value))?;
        }
        Ok(())
    }

    fn missing_id(&self) -> Rejection {
        let other = self.misplaced.iter().find(|(_, meant)| *meant == "id");
        let hint = other.map(|(name, _)| format!("; if that is `{name}`, call it `id`")).unwrap_or_default();
        let message = format!("an event needs `id`, the client's id of its user, as a string{hint}");
        Rejection::new(ErrorCode::MissingId, message)
    }
}

/// Reads a payload and its columns. Strings are checked on the way.
fn payload_fields<'a>(reader: &mut Reader<'a>, columns: &mut Columns<'a>) -> Result<Json<'a>, Rejection> {
    reader.value_with(|reader| {
        reader.object(|key, reader| {
            let value = reader.value()?;
            let name = key.text().unwrap_or_default();
            let Some(column) = EventColumn::in_payload(&name) else { return Ok(()) };
            columns[column] = Some(value);
            if column.column_type() == ColumnType::Text {
                fields::string(column.field(), value)?;
            }
            Ok::<_, Rejection>(())
        })
    })
}

#[cfg(test)]
mod tests;

//! Events made of rows.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ports::records::instant;
use ports::records::json::{JsonError, Reader};
use segment_engine::time::Timestamp;

use super::mapping::Field;
use super::rejected::code;
use super::source::{json_text, whole_numbers};
use super::times::Times;

/// Room for most events as JSON.
const EVENT_BYTES: usize = 512;

/// Why a row cannot become an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

/// The event of a row. It borrows from the row what it need not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImportedEvent<'a> {
    /// The time before any shift.
    pub(crate) created_at: Timestamp,
    /// The other fields besides `payload`, as JSON.
    top: BTreeMap<&'static str, Cow<'a, str>>,
    /// The payload's properties, as JSON.
    payload: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    /// Whether `123.0` stands for 123.
    whole_floats: bool,
}

impl<'a> ImportedEvent<'a> {
    pub(crate) fn new(whole_floats: bool) -> Self {
        Self { created_at: Timestamp(0), top: BTreeMap::new(), payload: BTreeMap::new(), whole_floats }
    }

    /// Sets a field to a value in JSON.
    pub(crate) fn put(&mut self, field: Field<'a>, value: Cow<'a, str>) {
        match field {
            Field::Top(name) => drop(self.top.insert(name, value)),
            Field::Payload(name) => drop(self.payload.insert(name, value)),
        }
    }

    /// Adds the properties of a `payload` column, which holds an object.
    ///
    /// # Errors
    /// The value is not an object.
    pub(crate) fn add_payload(&mut self, value: &'a str) -> Result<(), Problem> {
        match serde_json::from_str::<String>(value) {
            // A CSV cell holds the object in a string.
            Ok(text) => self.add_properties(&text, |part| Cow::Owned(part.to_owned())),
            Err(_) => self.add_properties(value, Cow::Borrowed),
        }
    }

    fn add_properties<'t>(&mut self, text: &'t str, keep: impl Fn(&'t str) -> Cow<'a, str>) -> Result<(), Problem> {
        if text == "null" {
            return Ok(());
        }
        let read = Reader::lenient(text).object(|key, reader| {
            let value = keep(reader.value()?.raw());
            let name = match key.text().unwrap_or_default() {
                Cow::Borrowed(name) => keep(name),
                Cow::Owned(name) => Cow::Owned(name),
            };
            self.payload.entry(name).or_insert(value);
            Ok::<_, JsonError>(())
        });
        read.map_err(|error| Problem {
            code: code::INVALID_FIELD,
            message: format!("`payload` is not a JSON object: {error}"),
        })
    }

    /// Checks the fields that every event of a history needs.
    ///
    /// # Errors
    /// Returns what is missing or cannot be read.
    pub(crate) fn complete(mut self, times: &Times) -> Result<Self, Problem> {
        for name in ["id", "id_type"] {
            // Ids of users are often numbers in files, but the API takes strings.
            if let Some(value) = self.top.get_mut(name)
                && value.starts_with(|first: char| first.is_ascii_digit() || first == '-')
            {
                let number = if self.whole_floats { whole_numbers(value) } else { Cow::Borrowed(&**value) };
                *value = Cow::Owned(json_text(&number));
            }
        }
        if self.top.get("id").is_none_or(|id| id == "null" || id == "\"\"") {
            let message = "no user id; name its column with --map id=COLUMN".to_owned();
            return Err(Problem { code: code::MISSING_ID, message });
        }
        let text = self.top.remove("created_at").unwrap_or_default();
        let text = serde_json::from_str::<String>(&text).map_or(text, Cow::Owned);
        self.created_at = times.parse(&text).ok_or_else(|| {
            let message = match &times.format {
                Some(format) => format!("`{text}` is not a time in the --time-format '{format}'"),
                None => format!(
                    "`{text}` is not a time; created_at takes 2023-10-31T12:00:00Z, 2023-10-31 12:00:00 (UTC, or --time-zone), \
                     2023-10-31, 20231031, Unix seconds, milliseconds or microseconds, or the format of --time-format"
                ),
            };
            Problem { code: code::INVALID_CREATED_AT, message }
        })?;
        Ok(self)
    }

    /// Returns the string from which the event's id is derived: all fields in a fixed order, with
    /// values as the file writes them. If a build changed this string, ids would change, and rows
    /// of earlier imports would count again.
    pub(crate) fn canonical(&self) -> String {
        self.text(self.created_at, None, |value| Cow::Borrowed(value))
    }

    /// Returns the event as the API takes it. An event id in the file has precedence over
    /// `event_id`.
    pub(crate) fn to_json(&self, event_id: &str, shift_micros: i64) -> String {
        let event_id = (!self.top.contains_key("event_id")).then(|| json_text(event_id));
        let created_at = Timestamp(self.created_at.0 + shift_micros);
        match self.whole_floats {
            true => self.text(created_at, event_id, whole_numbers),
            false => self.text(created_at, event_id, |value| Cow::Borrowed(value)),
        }
    }

    fn text(&self, created_at: Timestamp, event_id: Option<String>, sent: impl Fn(&str) -> Cow<'_, str>) -> String {
        let mut out = String::with_capacity(EVENT_BYTES);
        out.extend(["{\"created_at\":\"", &instant::format(created_at), "\""]);
        let event_id = event_id.as_deref().map(|id| ("event_id", id));
        for (name, value) in self.top.iter().map(|(name, value)| (*name, &**value)).chain(event_id) {
            out.extend([",\"", name, "\":", &*sent(value)]);
        }
        out.push_str(",\"payload\":{");
        for (at, (name, value)) in self.payload.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            out.extend([comma, &*json_text(name), ":", &*sent(value)]);
        }
        out.push_str("}}");
        out
    }
}

//! From a row's columns to an event's fields.

use std::collections::BTreeMap;
use std::str::FromStr;

use ports::records::instant;
use ports::records::json::Reader;
use segment_engine::time::Timestamp;
use serde_json::Value;

use super::source::{Row, json_text};
use super::{ImportArgs, times};

/// Fields of an event besides `payload`.
const TOP_FIELDS: [&str; 7] = ["id", "id_type", "region", "device_type", "country", "created_at", "event_id"];
/// Fields of the payload that may be said without `payload.`.
const PAYLOAD_FIELDS: [&str; 5] = ["activity_type", "url", "order_total", "order_id", "element_id"];

/// Where a value goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// A field of the event.
    Top(&'static str),
    /// A property of the payload.
    Payload(String),
}

impl Field {
    fn known(text: &str) -> Option<Self> {
        if let Some(field) = TOP_FIELDS.iter().find(|field| **field == text) {
            return Some(Field::Top(field));
        }
        let property =
            text.strip_prefix("payload.").or_else(|| PAYLOAD_FIELDS.into_iter().find(|field| *field == text))?;
        (!property.is_empty()).then(|| Field::Payload(property.to_owned()))
    }
}

impl FromStr for Field {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Field::known(text).ok_or_else(|| {
            let (top, payload) = (TOP_FIELDS.join(", "), PAYLOAD_FIELDS.join(", "));
            format!("`{text}` is no field of an event; use {top}, {payload}, or payload.NAME")
        })
    }
}

/// `--map FIELD=COLUMN`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renaming {
    field: Field,
    column: String,
}

/// `--set FIELD=VALUE`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constant {
    field: Field,
    value: String,
}

impl FromStr for Renaming {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (field, column) = text.split_once('=').ok_or("write FIELD=COLUMN, e.g. id=customer")?;
        Ok(Self { field: field.parse()?, column: column.to_owned() })
    }
}

impl FromStr for Constant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (field, value) = text.split_once('=').ok_or("write FIELD=VALUE, e.g. id_type=cookie")?;
        Ok(Self { field: field.parse()?, value: value.to_owned() })
    }
}

/// How the rows of a file become events.
pub struct Mapping {
    renamings: Vec<Renaming>,
    constants: Vec<Constant>,
    only_mapped: bool,
}

/// An event made of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedEvent {
    /// When it happened, before any shift.
    pub created_at: Timestamp,
    /// The other fields, as JSON.
    top: BTreeMap<&'static str, String>,
    /// The payload's properties, as JSON.
    payload: BTreeMap<String, String>,
}

impl Mapping {
    /// The mapping of a file.
    ///
    /// # Errors
    /// A column that the file has not, or no column for a field that every event needs.
    pub fn new(args: &ImportArgs, columns: Option<&[String]>) -> Result<Self, String> {
        let mapping = Self { renamings: args.map.clone(), constants: args.set.clone(), only_mapped: args.only_mapped };
        let Some(columns) = columns else { return Ok(mapping) };
        let has = columns.join(", ");
        for Renaming { column, .. } in &mapping.renamings {
            if !columns.contains(column) {
                return Err(format!("it has no column `{column}`, which --map names; it has {has}"));
            }
        }
        for needed in ["id", "created_at"] {
            let field = Field::Top(needed);
            let is_set = mapping.constants.iter().any(|constant| constant.field == field);
            if !is_set && !columns.iter().any(|column| mapping.fields_of(column).contains(&field)) {
                return Err(format!(
                    "none of its columns is the event's {needed}; add --map {needed}=COLUMN; it has {has}"
                ));
            }
        }
        Ok(mapping)
    }

    /// Where a column goes: where `--map` says; else where its name says, if no other column was mapped there.
    fn fields_of(&self, column: &str) -> Vec<Field> {
        let renamed = self.renamings.iter().filter(|renaming| renaming.column == column);
        let mut fields: Vec<Field> = renamed.map(|renaming| renaming.field.clone()).collect();
        if fields.is_empty() && !self.only_mapped {
            let own = Field::known(column).unwrap_or_else(|| Field::Payload(column.to_owned()));
            if !self.renamings.iter().any(|renaming| renaming.field == own) {
                fields.push(own);
            }
        }
        fields
    }

    /// Makes an event of a row.
    ///
    /// # Errors
    /// Says what the row lacks.
    pub fn event(&self, row: &Row) -> Result<ImportedEvent, String> {
        let mut event = ImportedEvent { created_at: Timestamp(0), top: BTreeMap::new(), payload: BTreeMap::new() };
        for (column, value) in &row.fields {
            if column == "payload" && !self.only_mapped && !self.renamings.iter().any(|map| map.column == *column) {
                event.add_payload(value)?;
                continue;
            }
            for field in self.fields_of(column) {
                event.put(field, value.clone());
            }
        }
        for Constant { field, value } in &self.constants {
            event.put(field.clone(), json_text(value));
        }
        event.complete()
    }
}

impl ImportedEvent {
    fn put(&mut self, field: Field, value: String) {
        match field {
            Field::Top(name) => drop(self.top.insert(name, value)),
            Field::Payload(name) => drop(self.payload.insert(name, value)),
        }
    }

    /// A column of the event's own shape.
    fn add_payload(&mut self, value: &str) -> Result<(), String> {
        // A CSV cell holds the object as text.
        let text = match serde_json::from_str::<Value>(value) {
            Ok(Value::String(text)) => text,
            _ => value.to_owned(),
        };
        if text == "null" {
            return Ok(());
        }
        Reader::new(&text)
            .object(|key, reader| {
                let value = reader.value()?.raw().to_owned();
                self.payload.entry(key.text().unwrap_or_default().into_owned()).or_insert(value);
                Ok(())
            })
            .map_err(|error: ports::records::json::JsonError| format!("`payload` is no JSON object: {error}"))
    }

    /// Checks what every event of a history needs.
    fn complete(mut self) -> Result<Self, String> {
        for name in ["id", "id_type"] {
            // Numbers are the usual ids of users in files; the API wants them as text.
            if let Some(value) = self.top.get_mut(name)
                && value.starts_with(|first: char| first.is_ascii_digit() || first == '-')
            {
                *value = json_text(value);
            }
        }
        if self.top.get("id").is_none_or(|id| id == "null") {
            return Err("no id of a user; say with --map id=COLUMN where it stands".to_owned());
        }
        let text = self.top.remove("created_at").unwrap_or_default();
        let text = serde_json::from_str::<String>(&text).unwrap_or(text);
        self.created_at = times::parse(&text).ok_or_else(|| {
            format!(
                "`{text}` is no time; created_at takes 2023-10-31T12:00:00Z, 2023-10-31 12:00:00 (UTC), 2023-10-31, 20231031, or Unix seconds, milliseconds or microseconds"
            )
        })?;
        Ok(self)
    }

    /// What the event's id is derived from: everything that the file says of it, in one order.
    pub fn canonical(&self) -> String {
        self.text(self.created_at, None)
    }

    /// The event as the API takes it. An event id of the file's own goes before `event_id`.
    pub fn to_json(&self, event_id: &str, shift_micros: i64) -> String {
        let event_id = (!self.top.contains_key("event_id")).then(|| json_text(event_id));
        self.text(Timestamp(self.created_at.0 + shift_micros), event_id)
    }

    fn text(&self, created_at: Timestamp, event_id: Option<String>) -> String {
        let mut out = format!("{{\"created_at\":\"{}\"", instant::format(created_at));
        let event_id = event_id.as_ref().map(|id| ("event_id", id));
        for (name, value) in self.top.iter().map(|(name, value)| (*name, value)).chain(event_id) {
            out.push_str(&format!(",\"{name}\":{value}"));
        }
        out.push_str(",\"payload\":{");
        for (at, (name, value)) in self.payload.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            out.push_str(&format!("{comma}{}:{value}", json_text(name)));
        }
        out.push_str("}}");
        out
    }
}

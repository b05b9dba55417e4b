//! Maps the columns of rows to the fields of events.

use std::borrow::Cow;
use std::str::FromStr;

use segment_engine::schema::{ColumnType, EventColumn, Place};

use super::ImportArgs;
use super::event::{ImportedEvent, Problem};
use super::nested;
use super::source::{Row, Source, json_text};
use super::times::Times;
use super::values::decimal_comma;

/// The field of an event that a column fills.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Field<'a> {
    /// A field besides `payload`.
    Top(&'static str),
    /// A property of the payload.
    Payload(Cow<'a, str>),
}

impl<'a> Field<'a> {
    fn known(text: &'a str) -> Option<Self> {
        if let Some(column) = EventColumn::sent_as(text) {
            let name = column.sent_name()?;
            return Some(match column.place() {
                Place::Payload => Field::Payload(Cow::Borrowed(name)),
                _ => Field::Top(name),
            });
        }
        let property = text.strip_prefix("payload.")?;
        (!property.is_empty()).then_some(Field::Payload(Cow::Borrowed(property)))
    }

    fn borrowed(&self) -> Field<'_> {
        match self {
            Field::Top(name) => Field::Top(name),
            Field::Payload(name) => Field::Payload(Cow::Borrowed(name)),
        }
    }

    fn into_owned(self) -> Field<'static> {
        match self {
            Field::Top(name) => Field::Top(name),
            Field::Payload(name) => Field::Payload(Cow::Owned(name.into_owned())),
        }
    }
}

impl FromStr for Field<'static> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Field::known(text).map(Field::into_owned).ok_or_else(|| {
            let (top, payload) = (sent_names(Place::Event), sent_names(Place::Payload));
            format!("`{text}` is not a field of an event; use {top}, {payload}, or payload.NAME")
        })
    }
}

/// Returns the names of the fields of a place, for a message.
fn sent_names(place: Place) -> String {
    let columns = EventColumn::ALL.into_iter().filter(|column| column.place() == place);
    columns.filter_map(EventColumn::sent_name).collect::<Vec<_>>().join(", ")
}

/// `--map FIELD=COLUMN`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Renaming {
    field: Field<'static>,
    /// The column's name, or a path into an object: names with points between them.
    pub(crate) column: String,
}

/// `--set FIELD=VALUE`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Constant {
    field: Field<'static>,
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
pub(crate) struct Mapping {
    renamings: Vec<Renaming>,
    constants: Vec<Constant>,
    only_mapped: bool,
    times: Times,
    decimal_comma: bool,
    /// The columns, empty if the format does not list them.
    columns: Vec<String>,
    nested: bool,
    whole_floats: bool,
}

impl Mapping {
    /// Makes the mapping of a file.
    ///
    /// # Errors
    /// The file lacks a mapped column, or a column for a field that every event needs.
    pub(crate) fn new(args: &ImportArgs, source: &Source) -> Result<Self, String> {
        let mapping = Self {
            renamings: args.map.clone(),
            constants: args.set.clone(),
            only_mapped: args.only_mapped,
            times: Times { zone: args.time_zone.clone(), format: args.time_format.clone() },
            decimal_comma: args.decimal_comma,
            columns: source.columns.clone().unwrap_or_default(),
            nested: source.nested,
            whole_floats: source.whole_floats,
        };
        if let Some(columns) = &source.columns {
            mapping.check_columns(columns)?;
        }
        Ok(mapping)
    }

    fn check_columns(&self, columns: &[String]) -> Result<(), String> {
        for Renaming { column, .. } in &self.renamings {
            // Only the rows show which values are inside of a column.
            let may_be_inside =
                self.nested && nested::outer_names(column).any(|outer| columns.iter().any(|has| has == outer));
            if !columns.contains(column) && !may_be_inside {
                return Err(missing_column(column, columns, "it has no column"));
            }
        }
        let field = |needed| Field::Top(needed);
        let lacks = self.needed().find(|needed| {
            !columns.iter().any(|column| self.fields_of(column).any(|filled| filled == field(needed)))
                && !self.renamings.iter().any(|renaming| renaming.field == field(needed))
        });
        match lacks {
            Some(needed) => Err(lacks_field(needed, columns)),
            None => Ok(()),
        }
    }

    /// Returns the fields that every event needs and no constant sets.
    pub(crate) fn needed(&self) -> impl Iterator<Item = &'static str> {
        let is_set = |needed| self.constants.iter().any(|constant| constant.field == Field::Top(needed));
        ["id", "created_at"].into_iter().filter(move |needed| !is_set(needed))
    }

    /// Returns the columns that `--map` names.
    pub(crate) fn mapped_columns(&self) -> impl Iterator<Item = &str> {
        self.renamings.iter().map(|renaming| renaming.column.as_str())
    }

    /// Returns whether the format lists the file's columns.
    pub(crate) fn knows_columns(&self) -> bool {
        !self.columns.is_empty()
    }

    /// Returns whether the file lists this column, even if no row has a value for it.
    pub(crate) fn is_column(&self, column: &str) -> bool {
        self.columns.iter().any(|has| has == column)
    }

    /// Returns whether a row has a value for a column, or for a path into one.
    pub(crate) fn has(&self, row: &Row, column: &str) -> bool {
        self.value(row, column).is_some()
    }

    /// Returns whether a row has a value for a field of the event.
    pub(crate) fn gives(&self, row: &Row, needed: &'static str) -> bool {
        let field = Field::Top(needed);
        row.fields.iter().any(|(column, _)| self.fields_of(column).any(|filled| filled == field))
            || self.renamings.iter().any(|renaming| renaming.field == field && self.has(row, &renaming.column))
    }

    fn value<'a>(&self, row: &'a Row, column: &str) -> Option<Cow<'a, str>> {
        match row.fields.iter().find(|(name, _)| name == column) {
            Some((_, value)) => Some(Cow::Borrowed(value)),
            None if self.nested => nested::value(&row.fields, column).map(Cow::Owned),
            None => None,
        }
    }

    /// Returns the fields that a column fills: those that `--map` says, else the field of its own
    /// name unless another column is mapped to it.
    fn fields_of<'a>(&'a self, column: &'a str) -> impl Iterator<Item = Field<'a>> {
        let is_renamed = self.renamings.iter().any(|renaming| renaming.column == column);
        let own = (!is_renamed && !self.only_mapped)
            .then(|| Field::known(column).unwrap_or(Field::Payload(Cow::Borrowed(column))))
            .filter(|own| self.renamings.iter().all(|renaming| renaming.field != *own));
        let renamed = self.renamings.iter().filter(move |renaming| renaming.column == column);
        renamed.map(|renaming| renaming.field.borrowed()).chain(own)
    }

    /// Makes an event of a row.
    ///
    /// # Errors
    /// Returns what the row lacks.
    pub(crate) fn event<'a>(&'a self, row: &'a Row) -> Result<ImportedEvent<'a>, Problem> {
        let mut event = ImportedEvent::new(self.whole_floats);
        for (column, value) in &row.fields {
            if column == "payload" && !self.only_mapped && !self.renamings.iter().any(|map| map.column == *column) {
                event.add_payload(value)?;
                continue;
            }
            for field in self.fields_of(column) {
                self.put(&mut event, field, Cow::Borrowed(value));
            }
        }
        if self.nested {
            let inside = |renaming: &&Renaming| row.fields.iter().all(|(name, _)| *name != renaming.column);
            for Renaming { field, column } in self.renamings.iter().filter(inside) {
                if let Some(value) = nested::value(&row.fields, column) {
                    self.put(&mut event, field.borrowed(), Cow::Owned(value));
                }
            }
        }
        for Constant { field, value } in &self.constants {
            event.put(field.borrowed(), Cow::Owned(json_text(value)));
        }
        event.complete(&self.times)
    }

    fn put<'a>(&self, event: &mut ImportedEvent<'a>, field: Field<'a>, value: Cow<'a, str>) {
        let value = match &field {
            Field::Payload(name) if self.decimal_comma => with_point(name, &value).map_or(value, Cow::Owned),
            _ => value,
        };
        event.put(field, value);
    }
}

/// Returns a number with a decimal comma as a JSON string with a decimal point. Properties that are
/// never numbers stay as they are.
fn with_point(name: &str, value: &str) -> Option<String> {
    let column_type = EventColumn::in_payload(name).map(EventColumn::column_type);
    let is_number = column_type == Some(ColumnType::Decimal);
    if column_type.is_some() && !is_number {
        return None;
    }
    let text: String = serde_json::from_str(value).ok()?;
    decimal_comma(text.trim(), is_number).map(|number| json_text(&number))
}

/// Returns the message for a mapped column that is missing.
pub(crate) fn missing_column(column: &str, names: &[String], what: &str) -> String {
    let near = names
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&name.to_lowercase(), &column.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= column.len() / 3)
        .min();
    let near = near.map_or_else(String::new, |(_, name)| format!(" (did you mean `{name}`?)"));
    format!("{what} `{column}`, which --map names{near}; it has {}", listed(names))
}

/// Returns the message for a field that every event needs and no column fills.
pub(crate) fn lacks_field(needed: &str, names: &[String]) -> String {
    let mut reason =
        format!("none of its columns is the event's {needed}; add --map {needed}=COLUMN; it has {}", listed(names));
    if let [only] = names
        && let Some(delimiter) = [";", "\t", "|", ","].into_iter().find(|delimiter| only.contains(*delimiter))
    {
        reason.push_str(&format!(
            "; does another character separate its cells? Try --delimiter '{}'",
            delimiter.escape_default()
        ));
    }
    reason
}

/// Returns column names for a message: the first ones, if there are very many.
fn listed(names: &[String]) -> String {
    const NAMES_MAX: usize = 50;
    let first = names.iter().take(NAMES_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > NAMES_MAX { format!("{first} and {} more", names.len() - NAMES_MAX) } else { first }
}

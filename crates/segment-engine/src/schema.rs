//! The one schema of events: everything that names, reads, writes or stores a column goes by it.
//!
//! A new column is a line of `event_columns!` below, a field of [`Event`](crate::event::Event), and
//! a migration of the warehouse. Then rustc reports what else is missing: the getter
//! ([`Event::value`](crate::event::Event::value)), where the readers of records and of the warehouse
//! get the field's value, and the names that other services use for it.

use crate::value::Type;

/// Where an event has a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Beside the payload, in what a client sends and in the record.
    Event,
    /// In the payload. A client may also send it beside the payload; it is then moved there.
    Payload,
    /// Beside the payload, in the record only: ingestion finds it out.
    Record,
    /// Neither in what a client sends nor in the record: it is the instant at which the log
    /// received the record.
    Log,
}

/// What the values of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ColumnType {
    UserId,
    Text,
    Decimal,
    Timestamp,
}

/// Puts a prefix before the name of a column that is in the payload.
macro_rules! prefixed {
    ($prefix:literal, Payload, $name:literal) => {
        concat!($prefix, $name)
    };
    ($prefix:literal, $place:ident, $name:literal) => {
        $name
    };
}

macro_rules! event_columns {
    ($($column:ident = $name:literal: $type:ident in $place:ident,)*) => {
        /// A column of an event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "`Event` documents each")]
        pub enum EventColumn {
            $($column,)*
        }

        impl EventColumn {
            /// Every column, in the order of the table `events`.
            pub const ALL: [EventColumn; [$($name),*].len()] = [$(EventColumn::$column,)*];

            /// Returns the name of the column in records and in clauses.
            #[inline]
            pub const fn name(self) -> &'static str {
                match self {
                    $(EventColumn::$column => $name,)*
                }
            }

            /// Returns the name of the column in the table `events`. Clauses may use it too.
            #[inline]
            pub const fn table_name(self) -> &'static str {
                match self {
                    $(EventColumn::$column => prefixed!("payload_", $place, $name),)*
                }
            }

            #[inline]
            const fn path(self) -> &'static str {
                match self {
                    $(EventColumn::$column => prefixed!("payload.", $place, $name),)*
                }
            }

            /// Returns where an event has the column.
            #[inline]
            pub const fn place(self) -> Place {
                match self {
                    $(EventColumn::$column => Place::$place,)*
                }
            }

            /// Returns what its values are.
            #[inline]
            pub const fn column_type(self) -> ColumnType {
                match self {
                    $(EventColumn::$column => ColumnType::$type,)*
                }
            }

            /// Returns the column with this [name](Self::name). Called for each field of each event,
            /// so it is a match, not a search.
            #[inline]
            pub fn named(name: &str) -> Option<EventColumn> {
                match name {
                    $($name => Some(EventColumn::$column),)*
                    _ => None,
                }
            }
        }
    };
}

event_columns! {
    UserId = "user_id": UserId in Record,
    ClientRefId = "client_ref_id": Text in Event,
    IdType = "id_type": Text in Event,
    Region = "region": Text in Event,
    DeviceType = "device_type": Text in Event,
    Country = "country": Text in Event,
    ActivityType = "activity_type": Text in Payload,
    Url = "url": Text in Payload,
    OrderTotal = "order_total": Decimal in Payload,
    OrderId = "order_id": Text in Payload,
    ElementId = "element_id": Text in Payload,
    CreatedAt = "created_at": Timestamp in Event,
    ProcessedAt = "processed_at": Timestamp in Log,
    EventId = "event_id": Text in Event,
}

impl EventColumn {
    /// Returns the index of the column in [`ALL`](Self::ALL).
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Returns what messages to clients call the column: `payload.url`.
    #[inline]
    pub const fn field(self) -> &'static str {
        match self {
            EventColumn::ClientRefId => "id",
            other => other.path(),
        }
    }

    /// Whether an event may lack a value, which is then NULL. A column that is added later must be
    /// nullable, because earlier events lack it.
    pub const fn is_nullable(self) -> bool {
        !matches!(
            self,
            EventColumn::UserId | EventColumn::ClientRefId | EventColumn::CreatedAt | EventColumn::ProcessedAt
        )
    }

    /// Returns the type of the column in clauses.
    pub const fn value_type(self) -> Type {
        match self.column_type() {
            ColumnType::UserId => Type::Int,
            ColumnType::Text => Type::Text,
            ColumnType::Decimal => Type::Decimal,
            ColumnType::Timestamp => Type::Timestamp,
        }
    }

    /// Returns the name of the column's field in events that clients send; `None` if they do not
    /// send it.
    #[inline]
    pub const fn sent_name(self) -> Option<&'static str> {
        match (self, self.place()) {
            (EventColumn::ClientRefId, _) => Some("id"),
            (_, Place::Event | Place::Payload) => Some(self.name()),
            (_, Place::Record | Place::Log) => None,
        }
    }

    /// Returns the column that clients send under this name: beside the payload or in it.
    #[inline]
    pub fn sent_as(name: &str) -> Option<EventColumn> {
        if name == "id" {
            return Some(EventColumn::ClientRefId);
        }
        EventColumn::named(name).filter(|column| {
            matches!(column.place(), Place::Event | Place::Payload) && *column != EventColumn::ClientRefId
        })
    }

    /// Returns the column that is the payload's property of this name.
    #[inline]
    pub fn in_payload(name: &str) -> Option<EventColumn> {
        EventColumn::named(name).filter(|column| column.place() == Place::Payload)
    }

    /// Whether clients send the column as an id of a user, the type of such an id, or an id of an
    /// event. Such a value is never altered: two ids must not become one.
    #[inline]
    pub const fn is_id(self) -> bool {
        matches!(self, EventColumn::ClientRefId | EventColumn::IdType | EventColumn::EventId)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_column_is_found_by_its_names() {
        for (index, column) in EventColumn::ALL.into_iter().enumerate() {
            assert_eq!(column.index(), index);
            assert_eq!(EventColumn::named(column.name()), Some(column));
            let sent = column.sent_name();
            assert_eq!(sent.and_then(EventColumn::sent_as), sent.map(|_| column), "{column:?}");
            let in_payload = column.place() == Place::Payload;
            assert_eq!(EventColumn::in_payload(column.name()), in_payload.then_some(column));
        }
        let names: BTreeSet<&str> = EventColumn::ALL.iter().map(|column| column.table_name()).collect();
        assert_eq!(names.len(), EventColumn::ALL.len(), "no two share a column of the table");
    }

    #[test]
    fn names_say_where_a_column_stands() {
        let names = |column: EventColumn| (column.name(), column.table_name(), column.field(), column.sent_name());
        let expected = [
            (EventColumn::UserId, ("user_id", "user_id", "user_id", None)),
            (EventColumn::ClientRefId, ("client_ref_id", "client_ref_id", "id", Some("id"))),
            (EventColumn::Region, ("region", "region", "region", Some("region"))),
            (EventColumn::Url, ("url", "payload_url", "payload.url", Some("url"))),
            (EventColumn::ProcessedAt, ("processed_at", "processed_at", "processed_at", None)),
        ];
        for (column, expected) in expected {
            assert_eq!(names(column), expected);
        }
        for name in ["client_ref_id", "user_id", "processed_at", "payload_url", "payload", "", "URL"] {
            assert_eq!(EventColumn::sent_as(name), None, "{name}");
        }
    }
}

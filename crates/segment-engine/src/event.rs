//! An event: one thing that a user did, as the engine sees it.

use std::sync::Arc;

use crate::decimal::Decimal;
use crate::ids::{PartitionId, UserId};
use crate::schema::EventColumn;
use crate::time::Timestamp;

/// The position of a record in the log. It decides between events of `first` and `last` that are
/// equal otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The partition of the event topic to which the record was first appended.
    pub partition: PartitionId,
    /// The record's offset in that partition.
    pub offset: u64,
}

/// One thing that a user did. A missing field is `None` (SQL's NULL); `""` is the empty string.
///
/// The engine reads the payload as a tree. Code that only passes an event on may
/// keep it in another form.
#[derive(Clone, Debug, PartialEq)]
pub struct Event<Payload = Arc<serde_json::Value>> {
    /// The user it belongs to.
    pub user_id: UserId,
    /// The client's id of this delivery, if it gave one. It makes the delivery idempotent.
    pub event_id: Option<Box<str>>,
    /// The event's `id` field: the client's id of the user.
    pub client_ref_id: Box<str>,
    /// The type of `client_ref_id`, such as cookie or email.
    pub id_type: Option<Box<str>>,
    /// `region` as sent.
    pub region: Option<Box<str>>,
    /// `device_type` as sent.
    pub device_type: Option<Box<str>>,
    /// `country` as sent.
    pub country: Option<Box<str>>,
    /// `payload.activity_type`.
    pub activity_type: Option<Box<str>>,
    /// `payload.url`.
    pub url: Option<Box<str>>,
    /// `payload.order_total`; absent or `""` is `None`.
    pub order_total: Option<Decimal>,
    /// `payload.order_id`.
    pub order_id: Option<Box<str>>,
    /// `payload.element_id`.
    pub element_id: Option<Box<str>>,
    /// When it happened, according to the client.
    pub created_at: Timestamp,
    /// When the log received it.
    pub processed_at: Timestamp,
    /// The whole payload as sent, with unknown top-level fields added. `payload->>'…'` reads it. A
    /// JSON object.
    pub payload: Payload,
    /// The position of the event's record in the log.
    pub position: Position,
}

/// The value of a column; `None` is NULL.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ColumnValue<'a> {
    UserId(UserId),
    Text(Option<&'a str>),
    Decimal(Option<Decimal>),
    Timestamp(Timestamp),
}

impl<Payload> Event<Payload> {
    /// Returns the value of a column.
    #[inline]
    pub fn value(&self, column: EventColumn) -> ColumnValue<'_> {
        match column {
            EventColumn::UserId => ColumnValue::UserId(self.user_id),
            EventColumn::ClientRefId => ColumnValue::Text(Some(&self.client_ref_id)),
            EventColumn::IdType => ColumnValue::Text(self.id_type.as_deref()),
            EventColumn::Region => ColumnValue::Text(self.region.as_deref()),
            EventColumn::DeviceType => ColumnValue::Text(self.device_type.as_deref()),
            EventColumn::Country => ColumnValue::Text(self.country.as_deref()),
            EventColumn::ActivityType => ColumnValue::Text(self.activity_type.as_deref()),
            EventColumn::Url => ColumnValue::Text(self.url.as_deref()),
            EventColumn::OrderTotal => ColumnValue::Decimal(self.order_total),
            EventColumn::OrderId => ColumnValue::Text(self.order_id.as_deref()),
            EventColumn::ElementId => ColumnValue::Text(self.element_id.as_deref()),
            EventColumn::CreatedAt => ColumnValue::Timestamp(self.created_at),
            EventColumn::ProcessedAt => ColumnValue::Timestamp(self.processed_at),
            EventColumn::EventId => ColumnValue::Text(self.event_id.as_deref()),
        }
    }
    /// Returns the event with another form of its payload.
    pub fn map_payload<Other>(self, form: impl FnOnce(Payload) -> Other) -> Event<Other> {
        Event {
            user_id: self.user_id,
            event_id: self.event_id,
            client_ref_id: self.client_ref_id,
            id_type: self.id_type,
            region: self.region,
            device_type: self.device_type,
            country: self.country,
            activity_type: self.activity_type,
            url: self.url,
            order_total: self.order_total,
            order_id: self.order_id,
            element_id: self.element_id,
            created_at: self.created_at,
            processed_at: self.processed_at,
            payload: form(self.payload),
            position: self.position,
        }
    }
}

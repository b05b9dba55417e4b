//! An event: one thing a user did, as the engine sees it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::decimal::Decimal;
use crate::time::Timestamp;

/// The internal id of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(pub i64);

impl std::fmt::Display for UserId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a record stands in the log. Its order breaks the last ties of `first` and `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The partition of the event topic the record was first appended to.
    pub partition: u32,
    /// Its offset there.
    pub offset: u64,
}

/// One thing a user did. A missing text field is `None` (SQL's NULL); `""` is the empty string.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The user it belongs to.
    pub user_id: UserId,
    /// The client's id of this delivery, if it gave one: makes the delivery idempotent.
    pub event_id: Option<Box<str>>,
    /// The event's `id` field: the client's id of the user.
    pub client_ref_id: Box<str>,
    /// What kind of id `client_ref_id` is (cookie, email…).
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
    /// When it happened, by the client's word.
    pub created_at: Timestamp,
    /// When the log received it.
    pub processed_at: Timestamp,
    /// The whole payload as sent, with unknown top-level fields added: what `payload->>'…'` reads. A JSON object.
    pub payload: Arc<serde_json::Value>,
    /// Where its record stands in the log.
    pub position: Position,
}

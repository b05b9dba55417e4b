//! The outbox: records for the engine, written in one transaction with the change, and appended to
//! the log afterwards.

use std::collections::BTreeMap;

use async_trait::async_trait;
use segment_engine::ids::{PartitionId, SegmentId, UserId};
use segment_engine::machine::ManualList;

use super::{ConfigStoreError, Segment, SegmentKind, User};
use crate::log::{NewRecord, Topic, partition_of};
use crate::records::json_text::JsonText;
use crate::records::{ConfigRecord, UserRecord};

/// A record to be appended to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEntry {
    /// [`Topic::Events`] or [`Topic::Config`].
    pub topic: Topic,
    /// The id of the user or segment.
    pub key: i64,
    /// JSON: a [`UserRecord`] or a [`ConfigRecord`].
    pub value: String,
}

/// An entry as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// Ascends in the order of the commits; never reused.
    pub id: u64,
    /// The record to append.
    pub entry: OutboxEntry,
}

/// The outbox of the config store.
#[async_trait]
pub trait Outbox: Send + Sync + 'static {
    /// Returns the rows after an id, in order.
    async fn outbox(&self, after: u64, limit: usize) -> Result<Vec<OutboxRow>, ConfigStoreError>;

    /// Returns the id of the last row ever written; 0 if there was none. [`Outbox::outbox_sent`]
    /// does not change it, so that a relay can distinguish a replaced store from one that has
    /// nothing to send.
    async fn outbox_end(&self) -> Result<u64, ConfigStoreError>;

    /// Marks the rows up to and including this one as appended; the store may delete them.
    async fn outbox_sent(&self, up_to: u64) -> Result<(), ConfigStoreError>;
}

impl OutboxEntry {
    fn about_user(user: UserId, record: &UserRecord) -> Self {
        let value = serde_json::to_string(record).expect("a record has string keys only");
        Self { topic: Topic::Events, key: user.0, value }
    }

    fn about_segment(id: SegmentId, record: &ConfigRecord) -> Self {
        let value = serde_json::to_string(record).expect("a record has string keys only");
        Self { topic: Topic::Config, key: id.0, value }
    }

    /// Makes the record of a user's current state.
    pub fn user_record(user: &User) -> UserRecord {
        UserRecord::User {
            user_id: user.id,
            client_ref_id: user.client_ref_id.clone(),
            email: user.email.clone(),
            name: user.name.clone(),
            created_at: user.created_at,
        }
    }

    /// Says that a user was created or changed.
    pub fn user(user: &User) -> Self {
        Self::about_user(user.id, &Self::user_record(user))
    }

    /// Says that traits were set.
    pub fn traits(
        user_id: UserId,
        traits: BTreeMap<String, JsonText>,
        created_at: segment_engine::time::Timestamp,
    ) -> Self {
        Self::about_user(user_id, &UserRecord::Traits { user_id, traits, created_at })
    }

    /// Says that a user's manual segments were set to exactly these.
    pub fn manual(user_id: UserId, list: ManualList) -> Self {
        Self::about_user(user_id, &UserRecord::Manual { user_id, list })
    }

    /// Says that a user was merged into another. `manual`: the survivor's manual segments, if the
    /// merge changed them.
    pub fn merge(absorbed: UserId, survivor: UserId, manual: Option<ManualList>) -> Self {
        Self::about_user(absorbed, &UserRecord::Merge { user_id: absorbed, survivor, manual })
    }

    /// Says, after the log lost its end, in which segments the user is by the notifications so far, which are numbered
    /// up to `sequence` at most.
    pub fn restored(user: &User, sequence: u64) -> Self {
        let segments = Some(user.segments.iter().map(|membership| membership.segment_id).collect());
        Self::about_user(user.id, &UserRecord::Restored { user_id: user.id, segments, sequence })
    }

    /// Says, after the log lost its end, that the user's notifications are numbered up to `sequence` at most.
    pub fn numbered(user_id: UserId, sequence: u64) -> Self {
        Self::about_user(user_id, &UserRecord::Restored { user_id, segments: None, sequence })
    }

    /// Says that a user was deleted.
    pub fn delete(user_id: UserId) -> Self {
        Self::about_user(user_id, &UserRecord::Delete { user_id })
    }

    /// Says that a segment was created or changed its meaning.
    pub fn segment(segment: &Segment) -> Self {
        let record = ConfigRecord::Segment {
            id: segment.id,
            tag: segment.tag.clone(),
            version: segment.version,
            where_statement: segment.where_statement.clone(),
            manual: segment.kind == SegmentKind::Manual,
        };
        Self::about_segment(segment.id, &record)
    }

    /// Says that a segment was deleted.
    pub fn segment_deleted(id: SegmentId) -> Self {
        Self::about_segment(id, &ConfigRecord::SegmentDeleted { id })
    }

    /// Returns the entry as a record for a log with this many partitions.
    pub fn record(self, partitions: u32) -> NewRecord {
        let partition =
            if self.topic == Topic::Events { partition_of(UserId(self.key), partitions) } else { PartitionId::ONLY };
        NewRecord { topic: self.topic, partition, key: self.key.to_string(), value: self.value.into_bytes() }
    }
}

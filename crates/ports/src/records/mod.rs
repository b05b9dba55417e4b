//! The wire formats of the topics: one JSON object per record.
//!
//! [`Topic::Events`](crate::log::Topic::Events) carries every input about a user. An event has no `type`, so that consumers of the
//! event topic need to know nothing else; the other inputs name theirs.

pub mod characters;
pub mod columns;
pub mod decode;
pub mod event;
pub mod fields;
pub mod instant;
pub mod json;
pub mod json_text;
mod jsonb;
pub mod object;

use std::collections::BTreeMap;

use json_text::JsonText;
use segment_engine::ids::{PartitionId, SegmentId, SegmentVersion, UserId};
pub use segment_engine::machine::{Cause, ManualList};
use segment_engine::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Every input about a user except for events, by its `type`. Read with [`decode::decode_input`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum UserRecord {
    /// A user was created or changed.
    User {
        /// The internal id.
        user_id: UserId,
        /// As in the config store.
        client_ref_id: Option<String>,
        /// As in the config store.
        email: Option<String>,
        /// As in the config store.
        name: Option<String>,
        /// As in the config store.
        created_at: Timestamp,
    },
    /// Traits of a user were set. For each key the newest `created_at` wins.
    Traits {
        /// The internal id.
        user_id: UserId,
        /// The traits that are set, as they were sent; `null` removes one.
        traits: BTreeMap<String, JsonText>,
        /// Since when they are true: what the client said, or the time of the call.
        created_at: Timestamp,
    },
    /// The user's memberships of manual segments were set to exactly these.
    Manual {
        /// The internal id.
        user_id: UserId,
        /// Ids of manual segments, and the version of the list.
        #[serde(flatten)]
        list: ManualList,
    },
    /// The user is merged into `survivor`. In the partition of `user_id`.
    Merge {
        /// The absorbed user.
        user_id: UserId,
        /// The user that it is from now on.
        survivor: UserId,
        /// The survivor's manual memberships, if the merge changed them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        manual: Option<ManualList>,
    },
    /// The state of an absorbed user, sent to the survivor's partition.
    Transfer {
        /// The survivor.
        user_id: UserId,
        /// The absorbed user.
        absorbed: UserId,
        /// Records below this offset of the absorbed user's partition are in the state; later ones are forwarded.
        below: u64,
        /// The absorbed user's block in base64; `None` if the partition knew nothing of the user.
        state: Option<String>,
        /// As in the merge.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        manual: Option<ManualList>,
    },
    /// A record that reached an absorbed user's partition after the merge. It keeps its original position and receipt.
    Forward {
        /// The survivor.
        user_id: UserId,
        /// The partition that it reached first.
        partition: PartitionId,
        /// The record's offset there.
        offset: u64,
        /// The record's `appended_at` there.
        appended_at: Timestamp,
        /// The record.
        record: Box<RawValue>,
    },
    /// The user is deleted everywhere.
    Delete {
        /// The internal id.
        user_id: UserId,
    },
    /// After a log lost its end: the memberships that were emitted before. The engine emits what differs.
    Restored {
        /// The internal id.
        user_id: UserId,
        /// The segments of the user's memberships in the config store; absent if only `sequence` matters.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        segments: Option<Vec<SegmentId>>,
        /// At least the highest `sequence` of the user's notifications, lost ones included.
        sequence: u64,
    },
}

impl UserRecord {
    /// The user in whose partition the record stands.
    pub fn user_id(&self) -> UserId {
        match self {
            UserRecord::User { user_id, .. }
            | UserRecord::Traits { user_id, .. }
            | UserRecord::Manual { user_id, .. }
            | UserRecord::Restored { user_id, .. }
            | UserRecord::Merge { user_id, .. }
            | UserRecord::Transfer { user_id, .. }
            | UserRecord::Forward { user_id, .. }
            | UserRecord::Delete { user_id } => *user_id,
        }
    }
}

/// Records about segments that stand in every partition of the event topic, so that everything that changes a membership is
/// in one order: definitions, copied from the config topic, and the end of a backfill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SegmentRecord {
    /// A new version of a segment. Records before this one are its history.
    SegmentDefined {
        /// The segment's id.
        id: SegmentId,
        /// The segment's tag.
        tag: String,
        /// The version of the definition.
        version: SegmentVersion,
        /// The where clause.
        where_statement: String,
        /// Whether its members are set by hand.
        manual: bool,
    },
    /// The history of this version has been read: it takes effect here.
    SegmentReady {
        /// The segment's id.
        id: SegmentId,
        /// The version of the definition.
        version: SegmentVersion,
    },
    /// The segment is deleted.
    SegmentRemoved {
        /// The segment's id.
        id: SegmentId,
    },
    /// The log had lost its end: there may be history that only the warehouse has, for new segments to be read.
    SegmentHistory {},
}

/// A record of the config topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ConfigRecord {
    /// A segment was created or changed.
    Segment {
        /// The segment's id.
        id: SegmentId,
        /// The segment's tag.
        tag: String,
        /// Grows by one with each change of the meaning.
        version: SegmentVersion,
        /// The where clause; empty selects every known user. Ignored for manual segments.
        where_statement: String,
        /// Whether its members are set by hand.
        manual: bool,
    },
    /// A segment was deleted.
    SegmentDeleted {
        /// The segment's id.
        id: SegmentId,
    },
}

/// All transitions of one user with one `effective_at` and cause: a record of the notification topic.
///
/// One that is read owns what it has; one that is written need not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification<Text = String, Segments = Vec<SegmentId>> {
    /// `user_id:sequence`.
    pub id: Text,
    /// The user.
    pub user_id: UserId,
    /// The client id first seen for the user, if any is known.
    pub client_ref_id: Option<Text>,
    /// Counts from 1 without a gap, per user.
    pub sequence: u64,
    /// Ids of the segments entered, ascending.
    pub in_segments: Segments,
    /// Ids of the segments left, ascending.
    pub out_segments: Segments,
    /// Why.
    pub cause: Cause,
    /// The first microsecond at which it holds: RFC 3339, UTC.
    pub effective_at: Text,
    /// When it was emitted: RFC 3339, UTC.
    pub at: Text,
    /// All memberships afterwards, if the setting asks for them.
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub segments: Option<Segments>,
}

/// A record of the error topic.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorRecord {
    /// The kind of error.
    pub error_type: ErrorType,
    /// An [`ErrorCode`](crate::ErrorCode). A string, since a log may hold the codes of other builds.
    pub code: String,
    /// Says what to do.
    pub message: String,
    /// When it happened: RFC 3339, UTC.
    pub at: String,
    /// For a dead letter the event as it came, with `user_id` null, or `{"raw": "<base64>"}`.
    pub data: Box<RawValue>,
}

/// The two kinds of records on the error topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorType {
    /// An event was rejected by ingestion.
    #[serde(rename = "ingest_event_error")]
    IngestEvent,
    /// A record could not be applied by the worker.
    #[serde(rename = "segment_computation_error")]
    SegmentComputation,
}

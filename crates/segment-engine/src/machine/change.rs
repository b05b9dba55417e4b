//! What a machine emits: changes of memberships, and failures.

use serde::{Deserialize, Serialize};

use crate::ids::{SegmentId, UserId};
use crate::time::Timestamp;

/// Why memberships changed. If there are several causes in one instant, the change has the first of
/// this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The user was merged into another one, or absorbed another one.
    Merge,
    /// An event arrived.
    Event,
    /// A trait changed.
    Trait,
    /// The members of a manual segment were set.
    Manual,
    /// The user was created or changed.
    User,
    /// Nothing but time passed.
    Time,
    /// A new segment took effect.
    Backfill,
    /// A changed segment took effect.
    Edit,
    /// A segment or user was deleted.
    Delete,
    /// Recovery or an audit found a difference.
    Repair,
}

/// All transitions of one user at one instant, with one cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    #[expect(missing_docs, reason = "the name says it")]
    pub user: UserId,
    /// The client id first seen for the user.
    pub client_ref_id: Option<Box<str>>,
    /// From 1, without a gap, per user.
    pub sequence: u64,
    /// The first instant at which the memberships hold.
    pub effective_at: Timestamp,
    #[expect(missing_docs, reason = "the name says it")]
    pub cause: Cause,
    /// Ids of the segments entered, ascending.
    pub entered: Vec<SegmentId>,
    /// Ids of the segments left, ascending.
    pub left: Vec<SegmentId>,
    /// Ids of all segments of the user after the change, ascending, if
    /// [`Settings::emit_all_segments`](super::Settings::emit_all_segments).
    pub segments: Option<Vec<SegmentId>>,
}

/// What could not be applied. The caller reports it on the error topic, and everything else goes
/// on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    #[expect(missing_docs, reason = "the name says it")]
    pub user: UserId,
    /// Ids of the segments that may be wrong for this user.
    pub segments: Vec<SegmentId>,
    /// What happened, and what to do.
    pub reason: String,
}

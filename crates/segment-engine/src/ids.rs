//! Ids of users, segments and partitions. They are types, so that the compiler notices when two are
//! swapped. They print, and are stored, as the bare number.

use std::fmt::{Display, Formatter, Result};

use serde::{Deserialize, Serialize};

/// The internal id of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(pub i64);

/// The config store's id of a segment. Starts at 1 and is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SegmentId(pub i64);

/// A partition of a topic of the log. They are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartitionId(pub u32);

impl PartitionId {
    /// The partition of a topic that has only one.
    pub const ONLY: PartitionId = PartitionId(0);

    /// Returns the partitions of a topic that has `count`, ascending.
    pub fn all(count: u32) -> impl ExactSizeIterator<Item = PartitionId> + Clone {
        (0..count).map(PartitionId)
    }
}

macro_rules! displays_the_number {
    ($($id:ty),*) => {$(
        impl Display for $id {
            fn fmt(&self, f: &mut Formatter<'_>) -> Result {
                self.0.fmt(f)
            }
        }
    )*};
}

displays_the_number!(UserId, SegmentId, PartitionId);

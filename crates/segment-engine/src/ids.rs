//! Ids of users, segments and partitions, and versions. They are types, so that the compiler notices
//! when two are swapped. They print, and are stored, as the bare number.

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

/// The version of a segment's definition. Grows by one with each change of meaning; 0 is before the
/// first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SegmentVersion(pub u64);

impl SegmentVersion {
    /// The version of a new segment.
    pub const FIRST: SegmentVersion = SegmentVersion(1);

    /// Returns the version after this one.
    #[must_use]
    pub fn next(self) -> SegmentVersion {
        SegmentVersion(self.0 + 1)
    }
}

/// The version of a user's list of manual segments. Grows by one each time the list is set; 0 if it
/// never was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ListVersion(pub u64);

macro_rules! displays_the_number {
    ($($id:ty),*) => {$(
        impl Display for $id {
            fn fmt(&self, f: &mut Formatter<'_>) -> Result {
                self.0.fmt(f)
            }
        }
    )*};
}

displays_the_number!(UserId, SegmentId, PartitionId, SegmentVersion, ListVersion);

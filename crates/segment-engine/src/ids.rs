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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn ids_print_and_are_stored_as_bare_numbers() {
        assert_eq!(format!("{}, {:>3}, {}", UserId(-5), PartitionId(7), SegmentVersion(2)), "-5,   7, 2");
        let typed = (UserId(-5), SegmentId(300), PartitionId(7), SegmentVersion(2), ListVersion(0));
        let bare = (-5_i64, 300_i64, 7_u32, 2_u64, 0_u64);
        assert_eq!(postcard::to_stdvec(&typed).unwrap(), postcard::to_stdvec(&bare).unwrap());
        assert_eq!(serde_json::to_string(&typed).unwrap(), "[-5,300,7,2,0]");
        let by_segment = BTreeMap::from([(SegmentId(300), PartitionId(7))]);
        assert_eq!(serde_json::to_string(&by_segment).unwrap(), r#"{"300":7}"#);
        assert_eq!(serde_json::from_str::<BTreeMap<SegmentId, PartitionId>>(r#"{"300":7}"#).unwrap(), by_segment);
    }

    #[test]
    fn a_topic_has_the_partitions_from_0() {
        assert_eq!(PartitionId::all(3).collect::<Vec<_>>(), [0, 1, 2].map(PartitionId));
        assert_eq!(PartitionId::all(1).collect::<Vec<_>>(), [PartitionId::ONLY]);
    }
}

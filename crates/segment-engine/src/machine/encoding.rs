//! The stored layouts of what is kept of a user besides accumulators. `crate::encoding` has the
//! others, and the rules.

use rustc_hash::FxHashMap;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::recent::{Receipt, RecentIds};
use super::remembered::Remembered;
use super::user::{ManualList, Source, UserProfile};
use crate::encoding::written_as;
use crate::ids::{ListVersion, SegmentId, UserId};
use crate::time::Timestamp;

#[derive(Serialize, Deserialize)]
#[serde(remote = "UserProfile")]
pub(super) struct ProfileLayout {
    email: Option<String>,
    name: Option<String>,
    created_at: Option<Timestamp>,
}

/// In records of the log the fields of the list have names: the type itself derives that layout.
#[derive(Serialize, Deserialize)]
#[serde(remote = "ManualList")]
pub(super) struct ManualListLayout {
    version: ListVersion,
    segments: Vec<SegmentId>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Source")]
struct SourceLayout {
    user: UserId,
    below: u64,
}

/// `R` is a map of ids and their receipts.
#[derive(Serialize, Deserialize)]
struct RecentIdsLayout<R> {
    received: R,
    /// The ids that expire, oldest first. They follow from the receipts.
    expiring: Vec<(Timestamp, u128)>,
}

struct Received<'a>(&'a Remembered);

impl Serialize for Received<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        self.0.iter().try_for_each(|(hash, receipt)| map.serialize_entry(&hash, &receipt))?;
        map.end()
    }
}

impl Serialize for RecentIds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let expire = self.0.iter().filter(|(_, receipt)| !receipt.dedupe_forever);
        let mut expiring: Vec<(Timestamp, u128)> = expire.map(|(hash, receipt)| (receipt.at, hash)).collect();
        expiring.sort_unstable();
        RecentIdsLayout { received: Received(&self.0), expiring }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RecentIds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(RecentIds(RecentIdsLayout::<FxHashMap<_, _>>::deserialize(deserializer)?.received.into()))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Receipt")]
struct ReceiptLayout {
    at: Timestamp,
    dedupe_forever: bool,
}

written_as!(Receipt: ReceiptLayout, Source: SourceLayout);

//! The stored layouts of what is kept of a user besides accumulators. `crate::encoding` has the
//! others, and the rules.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::recent::{Receipt, RecentIds};
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

#[derive(Serialize, Deserialize)]
#[serde(remote = "RecentIds")]
struct RecentIdsLayout {
    received: FxHashMap<u128, Receipt>,
    expiring: VecDeque<(Timestamp, u128)>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Receipt")]
struct ReceiptLayout {
    at: Timestamp,
    dedupe_forever: bool,
}

written_as!(RecentIds: RecentIdsLayout, Receipt: ReceiptLayout, Source: SourceLayout);

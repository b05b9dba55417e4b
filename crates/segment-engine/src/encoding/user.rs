//! What is kept of a user besides leaf states.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::written_as;
use crate::event::UserId;
use crate::machine::{ManualList, Profile, Receipt, RecentIds, Source};
use crate::time::Timestamp;

#[derive(Serialize, Deserialize)]
#[serde(remote = "Profile")]
pub(crate) struct ProfileLayout {
    email: Option<String>,
    name: Option<String>,
    created_at: Option<Timestamp>,
}

/// In records of the log the list has names, so there it derives its own.
#[derive(Serialize, Deserialize)]
#[serde(remote = "ManualList")]
pub(crate) struct ManualListLayout {
    version: u64,
    segments: Vec<i64>,
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

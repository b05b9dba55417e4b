//! Leaf states.

use ethnum::I256;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::written_as;
use crate::event::Position;
use crate::leaf::funnel::{Complete, Entry, Scan};
use crate::leaf::{Contribution, Count, Distinct, Extreme, Funnel, Order, Pending, Rank, Ring, State, Sum};
use crate::time::Timestamp;
use crate::value::Value;

#[derive(Serialize, Deserialize)]
#[serde(remote = "State")]
enum StateLayout {
    Ring(Ring),
    Count(Count),
    Sum(Sum),
    Extreme(Extreme),
    Distinct(Distinct),
    Funnel(Box<Funnel>),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Ring")]
struct RingLayout {
    newest: Vec<i64>,
    capacity: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Count")]
struct CountLayout {
    cap: u64,
    for_ever: u64,
    ends: Vec<Timestamp>,
    pending: Pending,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Sum")]
struct SumLayout {
    total: I256,
    count: u64,
    ending: Vec<(Timestamp, i128)>,
    pending: Pending,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Extreme")]
struct ExtremeLayout {
    #[serde(with = "RankLayout")]
    rank: Rank,
    stairs: Vec<Contribution>,
    pending: Pending,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Rank")]
enum RankLayout {
    Greatest,
    Least,
    Latest,
    Earliest,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Distinct")]
struct DistinctLayout {
    cap: u64,
    ends: FxHashMap<Value, Timestamp>,
    pending: Pending,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Funnel")]
struct FunnelLayout {
    steps: u8,
    within: i64,
    entries: Vec<Entry>,
    pending: Pending,
    complete: Option<Complete>,
    #[serde(skip)]
    scan: Option<Scan>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Entry")]
struct EntryLayout {
    created_at: Timestamp,
    until: Timestamp,
    steps: u16,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Complete")]
struct CompleteLayout {
    until: Timestamp,
    events: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Pending")]
struct PendingLayout(Vec<Contribution>);

#[derive(Serialize, Deserialize)]
#[serde(remote = "Contribution")]
struct ContributionLayout {
    from: Timestamp,
    until: Timestamp,
    value: Value,
    #[serde(with = "OrderLayout")]
    order: Order,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Order")]
struct OrderLayout {
    created_at: Timestamp,
    processed_at: Timestamp,
    #[serde(with = "PositionLayout")]
    position: Position,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Position")]
struct PositionLayout {
    partition: u32,
    offset: u64,
}

written_as! {
    State: StateLayout,
    Ring: RingLayout,
    Count: CountLayout,
    Sum: SumLayout,
    Extreme: ExtremeLayout,
    Distinct: DistinctLayout,
    Funnel: FunnelLayout,
    Entry: EntryLayout,
    Complete: CompleteLayout,
    Pending: PendingLayout,
    Contribution: ContributionLayout,
}

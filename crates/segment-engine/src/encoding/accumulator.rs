//! The stored layouts of accumulators.

use ethnum::I256;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::collections::VecDeque;

use super::written_as;
use crate::accumulator::funnel::{Complete, Entries, Entry, Scan};
use crate::accumulator::{
    Accumulator, Contribution, Count, Distinct, Ends, Extreme, Funnel, NewestK, Order, Pending, Queue, Rank, Sum,
};
use crate::event::Position;
use crate::ids::PartitionId;
use crate::time::Timestamp;
use crate::value::Value;

#[derive(Serialize, Deserialize)]
#[serde(remote = "Accumulator")]
enum AccumulatorLayout {
    NewestK(NewestK),
    Count(Box<Count>),
    Sum(Box<Sum>),
    Extreme(Box<Extreme>),
    Distinct(Box<Distinct>),
    Funnel(Box<Funnel>),
}

#[derive(Serialize, Deserialize)]
struct NewestKLayout<'a> {
    newest: Cow<'a, [i64]>,
    capacity: u32,
}

impl Serialize for NewestK {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        NewestKLayout { newest: self.newest().into(), capacity: self.capacity() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for NewestK {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let NewestKLayout { newest, capacity } = NewestKLayout::deserialize(deserializer)?;
        Ok(NewestK::of(newest.into_owned(), capacity))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Count")]
struct CountLayout {
    cap: u64,
    for_ever: u64,
    ends: VecDeque<Timestamp>,
    pending: Pending,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Sum")]
struct SumLayout {
    total: I256,
    count: u64,
    /// `(Timestamp, i128)` each, latest first.
    #[serde(serialize_with = "write_amounts", deserialize_with = "read_amounts")]
    ending: Queue<i128>,
    pending: Pending,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Extreme")]
struct ExtremeLayout {
    #[serde(with = "RankLayout")]
    rank: Rank,
    stairs: VecDeque<Contribution>,
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
    /// A map from `Value` to `Timestamp`.
    #[serde(serialize_with = "write_ends", deserialize_with = "read_ends")]
    ends: Ends,
    pending: Pending,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Funnel")]
struct FunnelLayout {
    steps: u8,
    within: i64,
    /// `Entry` each, in order.
    #[serde(serialize_with = "write_entries", deserialize_with = "read_entries")]
    entries: Entries,
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
struct PendingLayout(
    /// `Contribution` each, soonest last.
    #[serde(serialize_with = "write_contributions", deserialize_with = "read_contributions")]
    Queue<Contribution>,
);

fn write_amounts<S: Serializer>(queue: &Queue<i128>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(queue.latest_first())
}

fn read_amounts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Queue<i128>, D::Error> {
    Ok(Vec::<(Timestamp, i128)>::deserialize(deserializer)?.into_iter().collect())
}

fn write_ends<S: Serializer>(ends: &Ends, serializer: S) -> Result<S::Ok, S::Error> {
    ends.by_value().serialize(serializer)
}

fn read_ends<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Ends, D::Error> {
    Ok(FxHashMap::deserialize(deserializer)?.into())
}

fn write_entries<S: Serializer>(entries: &Entries, serializer: S) -> Result<S::Ok, S::Error> {
    // postcard writes the length first.
    serializer.collect_seq(entries.iter().collect::<Vec<_>>())
}

fn read_entries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Entries, D::Error> {
    Ok(Vec::deserialize(deserializer)?.into())
}

fn write_contributions<S: Serializer>(queue: &Queue<Contribution>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(queue.latest_first().into_iter().map(|(_, contribution)| contribution))
}

fn read_contributions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Queue<Contribution>, D::Error> {
    let contributions = Vec::<Contribution>::deserialize(deserializer)?;
    Ok(contributions.into_iter().map(|contribution| (contribution.from, contribution)).collect())
}

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
    partition: PartitionId,
    offset: u64,
}

written_as! {
    Accumulator: AccumulatorLayout,
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

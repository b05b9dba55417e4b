//! Reads partitions of the notification topic as one history, in the order of their append times.

pub(crate) mod positions;

use ports::log::{Batch, Log, LogError, Record, Topic};
use segment_engine::ids::PartitionId;
use segment_engine::time::Timestamp;

use self::positions::Positions;

/// Bytes read from each partition in one round.
const ROUND_BYTES: usize = 256 * 1024;
/// Rounds in one call. After them the call returns what it found, and where to go on.
const ROUNDS_MAX: usize = 64;

/// A page of the history.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HistoryPage {
    /// JSON, oldest first.
    pub notifications: Vec<String>,
    /// Where the next page begins.
    pub positions: Positions,
    /// Whether the end was reached, for now.
    pub complete: bool,
}

/// Reads from `positions` until it has `limit` notifications that are `wanted`, or has reached the
/// end.
pub(crate) async fn read(
    log: &dyn Log,
    mut positions: Positions,
    limit: usize,
    wanted: impl Fn(&Record) -> bool,
) -> Result<HistoryPage, LogError> {
    let mut notifications = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let round = Round::read(log, &positions).await?;
        for (partition, record) in round.in_order() {
            positions.0.insert(partition, record.offset + 1);
            if wanted(record) {
                notifications.push(String::from_utf8_lossy(&record.value).into_owned());
            }
            if notifications.len() == limit {
                return Ok(HistoryPage { notifications, positions, complete: false });
            }
        }
        if round.horizon.is_none() {
            return Ok(HistoryPage { notifications, positions, complete: true });
        }
    }
    Ok(HistoryPage { notifications, positions, complete: false })
}

/// A piece of each partition.
struct Round {
    batches: Vec<(PartitionId, Batch)>,
    /// Up to this time every partition was read; later records wait for the next round. `None`: all
    /// were read to the end.
    horizon: Option<Timestamp>,
}

impl Round {
    async fn read(log: &dyn Log, positions: &Positions) -> Result<Self, LogError> {
        let mut round = Self { batches: Vec::with_capacity(positions.0.len()), horizon: None };
        for (&partition, &position) in &positions.0 {
            let (first, end) = log.bounds(Topic::Notifications, partition).await?;
            let batch = log.read(Topic::Notifications, partition, position.max(first), ROUND_BYTES).await?;
            if let Some(last) = batch.records.last().filter(|_| batch.next_offset < end) {
                round.horizon = Some(round.horizon.map_or(last.appended_at, |horizon| horizon.min(last.appended_at)));
            }
            round.batches.push((partition, batch));
        }
        Ok(round)
    }

    fn in_order(&self) -> Vec<(PartitionId, &Record)> {
        let all =
            self.batches.iter().flat_map(|(partition, batch)| batch.records.iter().map(|record| (*partition, record)));
        let known = all.filter(|(_, record)| self.horizon.is_none_or(|horizon| record.appended_at <= horizon));
        let mut known: Vec<(PartitionId, &Record)> = known.collect();
        known.sort_by_key(|(partition, record)| (record.appended_at, *partition, record.offset));
        known
    }
}

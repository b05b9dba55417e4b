//! The end and the newest instant of each partition, shared by readers and the writer.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fjall::Guard;
use ports::clock::Clock;
use ports::log::{HighestIds, LogError, Progress, Topic};
use segment_engine::ids::PartitionId;
use segment_engine::time::Timestamp;
use tokio::sync::watch;

use super::block::{Block, block_key};
use super::entry::{Entry, Trimmed, progress};
use super::group::{Place, Prepared};
use super::highest_ids;
use super::newest::Newest;
use super::store::{Opened, Space, StoreError};

const TOPICS: [Topic; 4] = [Topic::Events, Topic::Errors, Topic::Notifications, Topic::Config];

/// The end of the log, shared by readers and the writer.
pub(super) struct Tail {
    state: Mutex<State>,
    ends: HashMap<Place, watch::Sender<u64>>,
    newest: Newest,
}

/// Behind one lock, so that readers can rely on "nothing at or before T will still come".
struct State {
    /// The first retained offset of each partition.
    firsts: HashMap<Place, u64>,
    /// The synced end of each partition.
    ends: HashMap<Place, u64>,
    /// Skipped ranges of offsets: see [`Entry::Gaps`].
    gaps: HashMap<Place, Vec<(u64, u64)>>,
    /// No append gets this instant or an earlier one.
    floor: Timestamp,
    /// The highest ids of all synced records.
    highest: HighestIds,
    /// The first instant of the group that is being written. Its records are not visible yet, but
    /// will be.
    writing: Option<Timestamp>,
}

/// What [`recover`] found in the database.
pub(super) struct Recovered {
    firsts: HashMap<Place, u64>,
    ends: HashMap<Place, u64>,
    gaps: HashMap<Place, Vec<(u64, u64)>>,
    floor: Timestamp,
    highest: HighestIds,
}

/// The readable part of a partition, and what is certain about the rest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Readable {
    /// The first retained offset.
    pub first: u64,
    /// The offset after the last synced record.
    pub end: u64,
    /// No record at or after `end` will have an `appended_at` at or before this.
    pub complete_until: Timestamp,
}

/// Reads bounds, gaps and floor from the database.
pub(super) fn recover(opened: &Opened, partitions: u32) -> Result<Recovered, LogError> {
    let (mut firsts, mut ends, mut gaps) = (HashMap::new(), HashMap::new(), HashMap::new());
    let mut floor = Timestamp(0);
    for topic in TOPICS {
        for partition in PartitionId::all(topic.partitions(partitions)) {
            let trimmed: Option<Trimmed> = Entry::Trimmed(topic, partition).get(opened)?;
            let first = trimmed.map_or(0, |trimmed| trimmed.first);
            floor = floor.max(Timestamp(trimmed.map_or(0, |trimmed| trimmed.floor_micros)));
            let last = last_block(opened, topic, partition)?;
            floor = floor.max(last.map_or(floor, |(_, appended_at)| appended_at));
            firsts.insert((topic, partition), first);
            let skipped: Vec<(u64, u64)> = Entry::Gaps(topic, partition).get(opened)?.unwrap_or_default();
            let skipped_to = skipped.last().map_or(0, |gap| gap.1);
            ends.insert((topic, partition), first.max(last.map_or(0, |(end, _)| end)).max(skipped_to));
            if !skipped.is_empty() {
                gaps.insert((topic, partition), skipped);
            }
        }
    }
    for partition in PartitionId::all(partitions) {
        let committed: Option<Progress> = progress(opened, partition)?;
        floor = floor.max(committed.map_or(floor, |committed| committed.time));
    }
    let highest = highest_ids::stored(opened)?;
    Ok(Recovered { firsts, ends, gaps, floor, highest })
}

/// Returns the end of a partition's last block and the instant of its last record.
fn last_block(opened: &Opened, topic: Topic, partition: PartitionId) -> Result<Option<(u64, Timestamp)>, LogError> {
    let range = block_key(partition, 0)..=block_key(partition, u64::MAX);
    let last: Option<Guard> = opened.space(Space::Topic(topic)).range(range).next_back();
    let Some(last) = last else { return Ok(None) };
    let (key, value) = last.into_inner().map_err(StoreError::from)?;
    let block = Block::parse(&key, &value).map_err(|what| corrupt(topic, partition, &key, what))?;
    Ok(Some((block.end(), block.last_appended_at)))
}

/// Returns the error for a block that cannot be read.
pub(super) fn corrupt(topic: Topic, partition: PartitionId, key: &[u8], what: &str) -> LogError {
    let offset = super::block::first_offset(key).unwrap_or_default();
    LogError::Corrupt(format!("topic {topic:?}, partition {partition}, the block at offset {offset}: {what}"))
}

impl Tail {
    /// Creates the tail of a recovered log.
    pub(super) fn new(recovered: Recovered) -> Self {
        let ends = recovered.ends.iter().map(|(place, end)| (*place, watch::Sender::new(*end))).collect();
        let newest = Newest::of(recovered.ends.keys().copied());
        let Recovered { firsts, ends: recovered_ends, gaps, floor, highest } = recovered;
        let state = State { firsts, ends: recovered_ends, gaps, floor, highest, writing: None };
        Self { state: Mutex::new(state), ends, newest }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the synced ends of all partitions, from which the writer continues.
    pub(super) fn ends(&self) -> HashMap<Place, u64> {
        self.state().ends.clone()
    }

    /// Returns the highest ids of all synced records.
    pub(super) fn highest(&self) -> HighestIds {
        self.state().highest
    }

    /// Reserves the next `calls` instants for a group and returns the first. Each call gets its
    /// own, later than any before.
    pub(super) fn begin(&self, clock: &dyn Clock, calls: usize) -> Timestamp {
        let now = clock.now();
        let mut state = self.state();
        let first = now.max(Timestamp(state.floor.0.saturating_add(1)));
        state.floor = Timestamp(first.0.saturating_add(calls as i64 - 1));
        state.writing = Some(first);
        first
    }

    /// Makes the records of the last begun group readable, after its sync.
    pub(super) fn publish(&self, Prepared { changes, ends, highest }: &Prepared, passed: Timestamp) {
        // Before the ends, so that what can be read is there.
        self.newest.keep(changes);
        let mut state = self.state();
        state.writing = None;
        state.floor = state.floor.max(passed);
        state.highest = *highest;
        for (place, end) in ends {
            state.ends.insert(*place, *end);
            self.ends[place].send_replace(*end);
        }
    }

    /// Ends the last begun group, which was not written. Its instants stay used.
    pub(super) fn give_up(&self) {
        self.state().writing = None;
    }

    /// Sets the first retained offset, after a trim.
    pub(super) fn set_first(&self, place: Place, first: u64) {
        self.newest.trim(place, first);
        self.state().firsts.insert(place, first);
    }

    /// Returns the ranges of offsets that a partition skipped.
    pub(super) fn gaps(&self, place: Place) -> Vec<(u64, u64)> {
        self.state().gaps.get(&place).cloned().unwrap_or_default()
    }

    /// Sets the gaps and the end of a partition, after a skip to `end`.
    pub(super) fn set_gaps(&self, place: Place, gaps: Vec<(u64, u64)>, end: u64) {
        let mut state = self.state();
        state.gaps.insert(place, gaps);
        state.ends.insert(place, end);
        self.ends[&place].send_replace(end);
    }

    /// Returns the newest blocks.
    pub(super) fn newest(&self) -> &Newest {
        &self.newest
    }

    /// Returns the current floor.
    pub(super) fn floor(&self) -> Timestamp {
        self.state().floor
    }

    /// Takes over the contents of a reopened database.
    pub(super) fn reset(&self, recovered: Recovered) {
        self.newest.clear();
        let mut state = self.state();
        state.firsts = recovered.firsts;
        state.ends = recovered.ends;
        state.gaps = recovered.gaps;
        state.highest = recovered.highest;
        state.floor = state.floor.max(recovered.floor);
    }

    /// Returns what can be read of a partition now. The log keeps to the returned `complete_until`:
    /// see [`State::floor`].
    pub(super) fn readable(&self, place: Place, clock: &dyn Clock) -> Readable {
        let now = clock.now();
        let mut state = self.state();
        let complete_until = match state.writing {
            Some(first) => Timestamp(first.0 - 1),
            None => state.floor.max(now),
        };
        state.floor = state.floor.max(complete_until);
        Readable { first: state.firsts[&place], end: state.ends[&place], complete_until }
    }

    /// Returns the first retained offset and the end of a partition.
    pub(super) fn bounds(&self, place: Place) -> (u64, u64) {
        let state = self.state();
        (state.firsts[&place], state.ends[&place])
    }

    /// Returns when the partition's end is beyond `offset`.
    pub(super) async fn wait_beyond(&self, place: Place, offset: u64) {
        let mut end = self.ends[&place].subscribe();
        // The sender lives in `self`, so the wait ends only with a record.
        let _closed = end.wait_for(|end| *end > offset).await;
    }
}

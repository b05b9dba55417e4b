//! Combines several calls into one write: assigns offsets and instants, and collects the changes of
//! the database.
//!
//! The only I/O here is reading the progress and producers that a call depends on.

use std::collections::{BTreeMap, HashMap};

use ports::log::{Appended, Commit, HighestIds, LogError, NewRecord, Progress, Topic};
use segment_engine::ids::PartitionId;
use segment_engine::time::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::block::BlockBuilder;
use super::entry::{self, Entry};
use super::store::{Change, Opened, Space};

/// A partition of a topic.
pub(super) type Place = (Topic, PartitionId);

/// A queued call.
pub(super) struct Call {
    /// The operation to carry out.
    pub request: Request,
    /// Receives the reply once the group is synced.
    pub reply: oneshot::Sender<Result<Reply, LogError>>,
    /// The call's share of the queue's bytes, released when the reply is sent.
    pub _share: OwnedSemaphorePermit,
}

/// The operation of a call.
pub(super) enum Request {
    /// `Log::append`
    Append(Vec<NewRecord>),
    /// `Log::append_once`
    AppendOnce { producer: String, sequence: u64, records: Vec<NewRecord> },
    /// `Log::commit`
    Commit(Commit),
    /// `Log::trim`
    Trim { topic: Topic, partition: PartitionId, before: u64 },
    /// `Log::skip_to`
    Skip { topic: Topic, partition: PartitionId, to: u64 },
}

/// The result of a call.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// The offsets and instants of the records.
    Appended(Vec<Appended>),
    /// Whether `append_once` appended anything.
    Once(bool),
    /// The operation has no result.
    Done,
}

impl Request {
    /// Returns the bytes of the call's records: its weight in the queue and in a group.
    pub(super) fn bytes(&self) -> usize {
        let records = match self {
            Request::Append(records) | Request::AppendOnce { records, .. } => records,
            Request::Commit(commit) => &commit.records,
            Request::Trim { .. } | Request::Skip { .. } => return 0,
        };
        records.iter().map(|record| record.key.len() + record.value.len()).sum()
    }
}

/// The calls added so far to one write.
pub(super) struct Group<'a> {
    opened: &'a Opened,
    /// The end of each partition before the group.
    ends: &'a HashMap<Place, u64>,
    blocks: BTreeMap<Place, BlockBuilder>,
    changes: Vec<Change>,
    /// Entries as changed by the group, for its later calls.
    progress: BTreeMap<PartitionId, Progress>,
    producers: BTreeMap<String, u64>,
    /// Before and after the group.
    highest: (HighestIds, HighestIds),
}

/// The changes to write, and the tail after them.
pub(super) struct Prepared {
    /// Written atomically.
    pub changes: Vec<Change>,
    /// The new ends of the partitions to which the group appends.
    pub ends: Vec<(Place, u64)>,
    /// The highest ids, including those of the group.
    pub highest: HighestIds,
}

impl<'a> Group<'a> {
    /// Starts an empty group on top of what is stored.
    pub(super) fn new(opened: &'a Opened, ends: &'a HashMap<Place, u64>, highest: HighestIds) -> Self {
        let (blocks, progress, producers) = Default::default();
        Self { opened, ends, blocks, changes: Vec::new(), progress, producers, highest: (highest, highest) }
    }

    /// Adds a call, whose records get the instant `at`. Returns the reply to send when the group is
    /// synced. A call that fails leaves no trace in the group.
    pub(super) fn add(&mut self, request: Request, at: Timestamp) -> Result<Reply, LogError> {
        match request {
            Request::Append(records) => Ok(Reply::Appended(self.append(records, at))),
            Request::AppendOnce { producer, sequence, records } => {
                if sequence <= self.producer_sequence(&producer)? {
                    return Ok(Reply::Once(false));
                }
                self.producers.insert(producer, sequence);
                self.append(records, at);
                Ok(Reply::Once(true))
            }
            Request::Commit(Commit { partition, progress, records }) => {
                self.append(records, at);
                let notifications_offset = self.end((Topic::Notifications, partition));
                self.progress.insert(partition, Progress { notifications_offset, ..progress });
                Ok(Reply::Done)
            }
            Request::Trim { .. } | Request::Skip { .. } => unreachable!("the writer handles these between groups"),
        }
    }

    fn producer_sequence(&self, producer: &str) -> Result<u64, LogError> {
        match self.producers.get(producer) {
            Some(sequence) => Ok(*sequence),
            None => Ok(Entry::Producer(producer.to_owned()).get(self.opened)?.unwrap_or_default()),
        }
    }

    fn end(&self, place: Place) -> u64 {
        let stored = || self.ends.get(&place).copied().unwrap_or_default();
        self.blocks.get(&place).map_or_else(stored, BlockBuilder::end)
    }

    fn append(&mut self, records: Vec<NewRecord>, at: Timestamp) -> Vec<Appended> {
        let append = |record: NewRecord| Appended { offset: self.push(&record, at), appended_at: at };
        records.into_iter().map(append).collect()
    }

    fn push(&mut self, record: &NewRecord, at: Timestamp) -> u64 {
        let place = (record.topic, record.partition);
        self.highest.1.note(record.topic, &record.key);
        let stored_end = || self.ends.get(&place).copied().unwrap_or_default();
        let block = self.blocks.entry(place).or_insert_with(|| BlockBuilder::new(record.partition, stored_end()));
        if block.is_full() {
            let next = BlockBuilder::new(record.partition, block.end());
            self.changes.push(block_change(record.topic, std::mem::replace(block, next)));
        }
        let offset = block.end();
        block.push(at, &record.key, &record.value);
        offset
    }

    /// Closes the group and returns its changes.
    pub(super) fn finish(mut self) -> Prepared {
        let ends = self.blocks.iter().map(|(place, block)| (*place, block.end())).collect();
        let mut changes = self.changes;
        changes.extend(self.blocks.into_iter().map(|((topic, _), block)| block_change(topic, block)));
        for (partition, progress) in std::mem::take(&mut self.progress) {
            changes.push(entry_change(&Entry::Progress(partition), &progress));
        }
        for (producer, sequence) in std::mem::take(&mut self.producers) {
            changes.push(entry_change(&Entry::Producer(producer), &sequence));
        }
        let (stored, highest) = self.highest;
        if highest != stored {
            changes.push(entry_change(&Entry::HighestIds, &highest));
        }
        Prepared { changes, ends, highest }
    }
}

/// Returns the change that writes an entry.
pub(super) fn entry_change<T: serde::Serialize>(entry: &Entry, value: &T) -> Change {
    let key = entry.key();
    let value = Some(entry::encode(&key, value).into());
    Change { space: Space::Meta, key: key.into(), value }
}

fn block_change(topic: Topic, block: BlockBuilder) -> Change {
    let (key, value) = block.finish();
    Change { space: Space::Topic(topic), key: key.into(), value: Some(value.into()) }
}

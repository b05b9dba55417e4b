//! The log in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use segment_engine::ids::PartitionId;
use segment_engine::time::Timestamp;
use tokio::sync::Notify;

use ports::clock::Clock;
use ports::log::{Appended, Batch, Commit, HighestIds, Log, LogError, NewRecord, Progress, Record, Topic};

/// A log in memory. One lock makes every call atomic.
pub struct MemoryLog {
    data: Arc<Data>,
    clock: Arc<dyn Clock>,
}

/// What a restarted process finds.
struct Data {
    partitions: u32,
    state: Mutex<State>,
    appended: Notify,
}

#[derive(Default)]
struct State {
    partitions: HashMap<(Topic, PartitionId), Partition>,
    producers: HashMap<String, u64>,
    committed: HashMap<PartitionId, Progress>,
    highest: HighestIds,
    /// The last `appended_at` or returned `complete_until`. Every append gets a later instant.
    floor: Option<Timestamp>,
}

#[derive(Default)]
struct Partition {
    /// The first retained offset.
    first: u64,
    /// The offset that the next record gets.
    end: u64,
    records: Vec<Record>,
}

impl Partition {
    fn end(&self) -> u64 {
        self.end
    }
}

impl State {
    fn append(&mut self, now: Timestamp, records: Vec<NewRecord>) -> Vec<Appended> {
        let appended_at = match self.floor {
            Some(floor) => now.max(Timestamp(floor.0 + 1)),
            None => now,
        };
        if !records.is_empty() {
            self.floor = Some(appended_at);
        }
        let append = |record: NewRecord| {
            self.highest.note(record.topic, &record.key);
            let partition = self.partitions.entry((record.topic, record.partition)).or_default();
            let offset = partition.end;
            partition.end += 1;
            partition.records.push(Record { offset, appended_at, key: record.key, value: record.value });
            Appended { offset, appended_at }
        };
        records.into_iter().map(append).collect()
    }
}

impl MemoryLog {
    /// An empty log.
    pub fn new(partitions: u32, clock: Arc<dyn Clock>) -> Self {
        let data = Data { partitions, state: Mutex::default(), appended: Notify::new() };
        Self { data: Arc::new(data), clock }
    }

    /// Returns another handle on the same records, as a restarted process would get.
    pub fn reopen(&self, partitions: u32, clock: Arc<dyn Clock>) -> Result<Self, LogError> {
        if partitions != self.data.partitions {
            return Err(LogError::Partitions { found: self.data.partitions, asked: partitions });
        }
        Ok(Self { data: self.data.clone(), clock })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.data.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses records for partitions that the log does not have.
    fn check(&self, records: &[NewRecord]) -> Result<(), LogError> {
        records.iter().try_for_each(|record| record.topic.check(record.partition, self.data.partitions))
    }
}

#[async_trait]
impl Log for MemoryLog {
    fn partitions(&self) -> u32 {
        self.data.partitions
    }

    async fn ping(&self) -> Result<(), LogError> {
        Ok(())
    }

    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Appended>, LogError> {
        self.check(&records)?;
        let appended = self.state().append(self.clock.now(), records);
        self.data.appended.notify_waiters();
        Ok(appended)
    }

    async fn append_once(&self, producer: &str, sequence: u64, records: Vec<NewRecord>) -> Result<bool, LogError> {
        self.check(&records)?;
        let mut state = self.state();
        let last = state.producers.entry(producer.to_owned()).or_default();
        if sequence <= *last {
            return Ok(false);
        }
        *last = sequence;
        state.append(self.clock.now(), records);
        drop(state);
        self.data.appended.notify_waiters();
        Ok(true)
    }

    async fn producer_sequence(&self, producer: &str) -> Result<u64, LogError> {
        Ok(self.state().producers.get(producer).copied().unwrap_or_default())
    }

    async fn read(&self, topic: Topic, partition: PartitionId, from: u64, bytes_max: usize) -> Result<Batch, LogError> {
        topic.check(partition, self.data.partitions)?;
        let mut state = self.state();
        let stored = state.partitions.entry((topic, partition)).or_default();
        let start = stored.records.partition_point(|record| record.offset < from);
        let mut records: Vec<Record> = Vec::new();
        let mut bytes = 0;
        for record in &stored.records[start..] {
            if bytes >= bytes_max && records.last().is_some_and(|last| last.appended_at < record.appended_at) {
                let complete_until = records.last().map_or(Timestamp::MIN, |last| last.appended_at);
                return Ok(Batch { next_offset: record.offset, records, complete_until });
            }
            bytes += record.key.len() + record.value.len();
            records.push(record.clone());
        }
        let next_offset = from.max(stored.end());
        let now = self.clock.now();
        let complete_until = state.floor.map_or(now, |floor| floor.max(now));
        state.floor = Some(complete_until);
        Ok(Batch { records, next_offset, complete_until })
    }

    async fn wait_for(&self, topic: Topic, partition: PartitionId, offset: u64) {
        loop {
            let appended = self.data.appended.notified();
            // `notify_waiters` wakes every `Notified` created before it, so the check must come
            // second.
            if self.state().partitions.get(&(topic, partition)).is_some_and(|stored| stored.end() > offset) {
                return;
            }
            appended.await;
        }
    }

    async fn bounds(&self, topic: Topic, partition: PartitionId) -> Result<(u64, u64), LogError> {
        topic.check(partition, self.data.partitions)?;
        let state = self.state();
        Ok(state.partitions.get(&(topic, partition)).map_or((0, 0), |stored| (stored.first, stored.end())))
    }

    async fn commit(&self, commit: Commit) -> Result<(), LogError> {
        Topic::Events.check(commit.partition, self.data.partitions)?;
        self.check(&commit.records)?;
        let mut state = self.state();
        state.append(self.clock.now(), commit.records);
        let notifications = state.partitions.get(&(Topic::Notifications, commit.partition));
        let notifications_offset = notifications.map_or(0, Partition::end);
        state.committed.insert(commit.partition, Progress { notifications_offset, ..commit.progress });
        // After a restart the clock may be behind, but committed time has passed.
        state.floor = state.floor.max(Some(commit.progress.time));
        drop(state);
        self.data.appended.notify_waiters();
        Ok(())
    }

    async fn committed(&self, partition: PartitionId) -> Result<Option<Progress>, LogError> {
        Ok(self.state().committed.get(&partition).copied())
    }

    async fn highest_ids(&self) -> Result<HighestIds, LogError> {
        Ok(self.state().highest)
    }

    async fn trim(&self, topic: Topic, partition: PartitionId, before: u64) -> Result<(), LogError> {
        topic.check(partition, self.data.partitions)?;
        let mut state = self.state();
        let stored = state.partitions.entry((topic, partition)).or_default();
        stored.first = before.clamp(stored.first, stored.end);
        let trimmed = stored.records.partition_point(|record| record.offset < stored.first);
        stored.records.drain(..trimmed);
        Ok(())
    }

    async fn skip_to(&self, topic: Topic, partition: PartitionId, offset: u64) -> Result<(), LogError> {
        topic.check(partition, self.data.partitions)?;
        let mut state = self.state();
        let stored = state.partitions.entry((topic, partition)).or_default();
        stored.end = stored.end.max(offset);
        Ok(())
    }
}

//! [`EmbeddedLog`]: the log port on the embedded database.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use async_trait::async_trait;
use ports::clock::Clock;
use ports::log::{Appended, Batch, Commit, HighestIds, Log, LogError, NewRecord, Progress, Record, Topic};
use segment_engine::ids::PartitionId;
use segment_engine::time::Timestamp;
use tokio::sync::{Semaphore, oneshot};

use super::checkpoints::EmbeddedCheckpoints;
use super::entry::{self, Entry, FORMAT_VERSION, Layout};
use super::group::{Call, Place, Reply, Request, entry_change};
use super::highest_ids;
use super::read::{Ends, Wanted, read_blocks, read_newest, skip_gap};
use super::reclaim::Reclaim;
use super::store::{Opened, Store, StoreError};
use super::tail::{Tail, recover};
use super::writer::Writer;

/// The KiB of records that may wait for the writer. Beyond it, calls fail with `Unavailable`;
/// commits wait instead. A single larger call needs an empty queue.
pub const QUEUED_KIB_MAX: u32 = 64 << 10;
/// The least weight of a call in the queue.
const CALL_KIB_MIN: u32 = 4;
/// The number of calls that may wait for the writer.
pub const QUEUED_CALLS_MAX: usize = (QUEUED_KIB_MAX / CALL_KIB_MIN) as usize;

/// A log in a local folder.
pub struct EmbeddedLog {
    store: Arc<Store>,
    /// Beside it. A wipe erases what was removed from both.
    checkpoints: EmbeddedCheckpoints,
    tail: Arc<Tail>,
    clock: Arc<dyn Clock>,
    partitions: u32,
    reclaim: Arc<Reclaim>,
    queued_kib: Arc<Semaphore>,
    /// `None` only during drop: the writer ends when the queue closes.
    queue: Option<SyncSender<Call>>,
    writer: Option<JoinHandle<()>>,
}

impl EmbeddedLog {
    /// Opens the log of a database, or creates it with this number of partitions.
    pub fn open(
        store: Arc<Store>,
        checkpoints: EmbeddedCheckpoints,
        partitions: u32,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, LogError> {
        check_layout(&store, partitions)?;
        highest_ids::ensure(&store, partitions)?;
        let recovered = store.with(|opened| recover(opened, partitions))?;
        let tail = Arc::new(Tail::new(recovered));
        let (queue, calls) = sync_channel(QUEUED_CALLS_MAX);
        let writer = Writer {
            store: store.clone(),
            tail: tail.clone(),
            clock: clock.clone(),
            partitions,
            queue: calls,
            broken: None,
        };
        let thread = std::thread::Builder::new().name("log-writer".to_owned());
        let writer = thread.spawn(move || writer.run()).map_err(StoreError::from)?;
        let queued_kib = Arc::new(Semaphore::new(QUEUED_KIB_MAX as usize));
        let (reclaim, queue, writer) = (Arc::default(), Some(queue), Some(writer));
        Ok(Self { store, checkpoints, tail, clock, partitions, reclaim, queued_kib, queue, writer })
    }

    /// Queues a call and waits for its reply.
    async fn call(&self, request: Request) -> Result<Reply, LogError> {
        let kib = u32::try_from(request.bytes() >> 10).unwrap_or(u32::MAX).clamp(CALL_KIB_MIN, QUEUED_KIB_MAX);
        let full = || LogError::Unavailable("the log's write queue is full".to_owned());
        let queued = self.queued_kib.clone();
        let _share = if let Request::Commit(_) = request {
            // A worker has no client to push back on, and each partition has at most one commit
            // waiting.
            queued.acquire_many_owned(kib).await.map_err(|_| stopped())?
        } else {
            queued.try_acquire_many_owned(kib).map_err(|_| full())?
        };
        let (reply, response) = oneshot::channel();
        let queue = self.queue.as_ref().expect("only taken by drop");
        queue.try_send(Call { request, reply, _share }).map_err(|error| match error {
            TrySendError::Full(_) => full(),
            TrySendError::Disconnected(_) => stopped(),
        })?;
        response.await.map_err(|_| stopped())?
    }

    async fn read_batch(&self, place: Place, from: u64, bytes_max: usize, ends: Ends) -> Result<Batch, LogError> {
        place.0.check(place.1, self.partitions)?;
        loop {
            let readable = self.tail.readable(place, &*self.clock);
            let gaps = self.tail.gaps(place);
            let from = skip_gap(&gaps, from.max(readable.first));
            if from >= readable.end {
                return Ok(Batch { records: Vec::new(), next_offset: from, complete_until: readable.complete_until });
            }
            let wanted = Wanted { place, from, readable, gaps, bytes_max, ends };
            if let Some(batch) = read_newest(self.tail.newest(), &wanted) {
                // A reader with much to read lets others run.
                tokio::task::consume_budget().await;
                return Ok(batch);
            }
            match blocking(&self.store, move |opened| read_blocks(opened, &wanted)).await {
                // The record existed when the read began, and has been trimmed since.
                Err(LogError::Corrupt(_)) if self.tail.bounds(place).0 > from => {}
                read => return read,
            }
        }
    }

    fn check(&self, records: &[NewRecord]) -> Result<(), LogError> {
        records.iter().try_for_each(|record| record.topic.check(record.partition, self.partitions))
    }
}

fn stopped() -> LogError {
    LogError::Unavailable("the writer has stopped: restart the service".to_owned())
}

/// Stores the layout of a new log. Refuses a log with another layout.
fn check_layout(store: &Store, partitions: u32) -> Result<(), LogError> {
    let expected = Layout { version: FORMAT_VERSION, partitions };
    match store.with(|opened| Entry::Layout.get::<Layout>(opened))? {
        None => Ok(store.write(vec![entry_change(&Entry::Layout, &expected)])?),
        Some(found) if found.version != FORMAT_VERSION => Err(LogError::Unavailable(format!(
            "the log has format {}, but this version reads format {FORMAT_VERSION}: use the version that wrote it",
            found.version
        ))),
        Some(found) if found.partitions != partitions => {
            Err(LogError::Partitions { found: found.partitions, asked: partitions })
        }
        Some(_) => Ok(()),
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            let _panicked = writer.join();
        }
    }
}

#[async_trait]
impl Log for EmbeddedLog {
    fn partitions(&self) -> u32 {
        self.partitions
    }

    async fn ping(&self) -> Result<(), LogError> {
        if !self.store.has_failed() {
            return Ok(());
        }
        // Rewrites the first offset of the config topic, which does not change it.
        self.trim(Topic::Config, PartitionId::ONLY, 0).await
    }

    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Appended>, LogError> {
        self.check(&records)?;
        match self.call(Request::Append(records)).await? {
            Reply::Appended(appended) => Ok(appended),
            _ => unreachable!("an append returns offsets"),
        }
    }

    async fn append_once(&self, producer: &str, sequence: u64, records: Vec<NewRecord>) -> Result<bool, LogError> {
        self.check(&records)?;
        match self.call(Request::AppendOnce { producer: producer.to_owned(), sequence, records }).await? {
            Reply::Once(appended) => Ok(appended),
            _ => unreachable!("an append_once returns whether it appended"),
        }
    }

    async fn producer_sequence(&self, producer: &str) -> Result<u64, LogError> {
        let entry = Entry::Producer(producer.to_owned());
        Ok(blocking(&self.store, move |opened| entry.get(opened)).await?.unwrap_or_default())
    }

    async fn read(&self, topic: Topic, partition: PartitionId, from: u64, bytes_max: usize) -> Result<Batch, LogError> {
        self.read_batch((topic, partition), from, bytes_max, Ends::WithAnInstant).await
    }

    async fn read_piece(
        &self,
        topic: Topic,
        partition: PartitionId,
        from: u64,
        bytes_max: usize,
    ) -> Result<Vec<Record>, LogError> {
        Ok(self.read_batch((topic, partition), from, bytes_max, Ends::Anywhere).await?.records)
    }

    async fn wait_for(&self, topic: Topic, partition: PartitionId, offset: u64) {
        if topic.check(partition, self.partitions).is_err() {
            return std::future::pending().await;
        }
        self.tail.wait_beyond((topic, partition), offset).await;
    }

    async fn bounds(&self, topic: Topic, partition: PartitionId) -> Result<(u64, u64), LogError> {
        topic.check(partition, self.partitions)?;
        Ok(self.tail.bounds((topic, partition)))
    }

    async fn commit(&self, commit: Commit) -> Result<(), LogError> {
        Topic::Events.check(commit.partition, self.partitions)?;
        self.check(&commit.records)?;
        self.call(Request::Commit(commit)).await.map(drop)
    }

    async fn committed(&self, partition: PartitionId) -> Result<Option<Progress>, LogError> {
        blocking(&self.store, move |opened| entry::progress(opened, partition)).await
    }

    async fn highest_ids(&self) -> Result<HighestIds, LogError> {
        Ok(self.tail.highest())
    }

    async fn skip_to(&self, topic: Topic, partition: PartitionId, offset: u64) -> Result<(), LogError> {
        topic.check(partition, self.partitions)?;
        self.call(Request::Skip { topic, partition, to: offset }).await.map(drop)
    }

    async fn trim(&self, topic: Topic, partition: PartitionId, before: u64) -> Result<(), LogError> {
        topic.check(partition, self.partitions)?;
        let (before_it, _) = self.tail.bounds((topic, partition));
        self.call(Request::Trim { topic, partition, before }).await?;
        let (first, end) = self.tail.bounds((topic, partition));
        if first == before_it {
            return Ok(());
        }
        let bounds =
            PartitionId::all(topic.partitions(self.partitions)).map(|partition| self.tail.bounds((topic, partition)));
        let left = bounds.map(|(first, end)| end - first).sum();
        let reclaim = self.reclaim.clone();
        let removed = blocking(&self.store, move |opened| {
            reclaim.remove_blocks(opened, (topic, partition), first, end)?;
            Ok(reclaim.free_space(opened, topic, first - before_it, left)?)
        });
        // The records are trimmed even if this fails: the next trim removes what is left.
        if let Err(error) = removed.await {
            tracing::warn!(?topic, partition = partition.0, %error, "could not free the space of trimmed records yet");
        }
        Ok(())
    }

    async fn wipe(&self, now: Timestamp, interval_micros: i64) -> Result<bool, LogError> {
        let (store, checkpoints, partitions) = (self.store.clone(), self.checkpoints.clone(), self.partitions);
        let wiped = tokio::task::spawn_blocking(move || {
            let last: Option<i64> = store.with(|opened| Entry::Wiped.get(opened))?;
            let is_due = last.is_some_and(|last| now.0.saturating_sub(last) >= interval_micros);
            if is_due {
                checkpoints.wipe(partitions).map_err(|error| LogError::Unavailable(error.to_string()))?;
                store.wipe()?;
            }
            if is_due || last.is_none() {
                store.write(vec![entry_change(&Entry::Wiped, &now.0)])?;
            }
            Ok(is_due)
        });
        wiped.await.unwrap_or_else(|error| Err(LogError::Unavailable(error.to_string())))
    }
}

/// Runs a read of the database on a thread that may block.
async fn blocking<T: Send + 'static>(
    store: &Arc<Store>,
    read: impl FnOnce(&Opened) -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    let store = store.clone();
    let result = tokio::task::spawn_blocking(move || store.with(read)).await;
    result.unwrap_or_else(|error| Err(LogError::Unavailable(error.to_string())))
}

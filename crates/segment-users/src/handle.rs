//! Handles on the running service: queries, waits and stats.

use std::sync::Arc;
use std::time::Duration;

use ports::clock::Clock;
use ports::log::{Log, LogError, Progress, Topic, partition_of};
use segment_engine::ids::{PartitionId, SegmentId, SegmentVersion, UserId};
use segment_engine::machine::Explanation;
use segment_engine::time::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use crate::archiver::flush_until;
use crate::definitions;
use crate::stats::{LastStats, PartitionLag, PartitionStats, Stats};
use crate::worker::Query;

/// How long [`ServiceHandle::stats`] waits for the workers. One that does not answer counts with
/// its last stats.
const STATS_MAX: Duration = Duration::from_secs(1);
/// The progress of a version that is in force, if the config store lacks some of the memberships.
const UNSTORED: f64 = 0.999;

/// A handle on the tasks of one partition.
pub(crate) struct PartitionHandle {
    pub(crate) queries: mpsc::Sender<Query>,
    /// The position of the worker's last turn.
    pub(crate) progress: watch::Receiver<Progress>,
    /// Whether the worker runs. False from a failure until the partition is open again.
    pub(crate) running: watch::Receiver<bool>,
    /// The position of the last checkpoint.
    pub(crate) marker: watch::Receiver<Progress>,
    /// The offset up to which the warehouse has the partition's records.
    pub(crate) archived: watch::Receiver<u64>,
    /// The offset up to which somebody waits for the archiver: it does not linger below it.
    pub(crate) flush: watch::Sender<u64>,
    /// The offset up to which the config store has the partition's notifications.
    pub(crate) stored: watch::Receiver<u64>,
    pub(crate) opened_at: Timestamp,
    pub(crate) last_stats: LastStats,
}

impl PartitionHandle {
    async fn query<T>(&self, query: impl FnOnce(oneshot::Sender<T>) -> Query) -> Result<T, Unavailable> {
        let (sender, response) = oneshot::channel();
        self.queries.send(query(sender)).await.map_err(|_| Unavailable)?;
        response.await.map_err(|_| Unavailable)
    }

    /// Requests the stats. If the queue is full the worker is behind, and no response comes.
    fn request_stats(&self) -> oneshot::Receiver<PartitionStats> {
        let (sender, response) = oneshot::channel();
        let _ = self.queries.try_send(Query::Stats { response: sender });
        response
    }

    fn is_running(&self) -> bool {
        *self.running.borrow() && self.running.has_changed().is_ok()
    }

    fn lag(&self, end: u64, now: Timestamp) -> PartitionLag {
        let progress = *self.progress.borrow();
        let behind_it = (*self.archived.borrow(), *self.stored.borrow());
        PartitionLag::new(end, progress, *self.marker.borrow(), behind_it, self.opened_at, now)
    }
}

/// A handle on the running service. Cheap to clone.
#[derive(Clone)]
pub struct ServiceHandle {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) partitions: Arc<[PartitionHandle]>,
}

/// The service has stopped, or the partition is starting again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the segment service does not answer at the moment")]
pub struct Unavailable;

impl ServiceHandle {
    /// Returns the partitions whose worker has failed and is not open again, or has ended.
    pub fn down(&self) -> Vec<PartitionId> {
        self.by_id().filter(|(_, partition)| !partition.is_running()).map(|(id, _)| id).collect()
    }

    pub(crate) fn by_id(&self) -> impl Iterator<Item = (PartitionId, &PartitionHandle)> {
        (0..).map(PartitionId).zip(self.partitions.iter())
    }

    /// Explains why the user is in the segment with this tag, or not. Returns `None` if the engine
    /// does not know one of them.
    pub async fn explain(&self, user: UserId, tag: &str) -> Result<Option<Explanation>, Unavailable> {
        let partition = &self.partitions[partition_of(user, self.log.partitions()).0 as usize];
        partition.query(|response| Query::Explain { user, tag: tag.to_owned(), response }).await
    }

    /// Returns in how many partitions this version of a segment is in force, of how many, and how
    /// much of the work is done, from 0 to 1: all, when the config store has the memberships, too. `None`
    /// if a partition does not know the segment yet.
    pub async fn progress(
        &self,
        segment: SegmentId,
        version: SegmentVersion,
    ) -> Result<Option<(u32, u32, f64)>, Unavailable> {
        let (mut in_force, mut done) = (0, 0.0);
        for partition in self.partitions.iter() {
            let Some((ratio, told)) =
                partition.query(|response| Query::Progress { segment, version, response }).await?
            else {
                return Ok(None);
            };
            in_force += u32::from(ratio >= 1.0);
            done += if *partition.stored.borrow() < told { ratio.min(UNSTORED) } else { ratio };
        }
        let partitions = self.log.partitions();
        Ok(Some((in_force, partitions, done / f64::from(partitions))))
    }

    /// Returns when every partition has the definitions that the config topic has now.
    pub async fn wait_until_ordered(&self) -> Result<(), LogError> {
        definitions::relay(&self.log).await.map(drop)
    }

    /// Returns when every partition has read everything that is in the log now. Users may be behind.
    pub async fn wait_until_read(&self) -> Result<(), LogError> {
        // Definitions reach the partitions by way of the config topic, so that comes first.
        self.wait_until_ordered().await?;
        for (id, partition) in self.by_id() {
            let (_, end) = self.log.bounds(Topic::Events, id).await?;
            // A closed channel ends the wait: the service stops.
            let _ = partition.progress.clone().wait_for(|progress| progress.next_offset >= end).await;
        }
        Ok(())
    }

    /// Returns when everything that is in the log now has been applied, and the config store has
    /// the memberships that follow from it.
    pub async fn wait_until_applied(&self) -> Result<(), LogError> {
        // Definitions reach the partitions by way of the config topic, so that comes first.
        self.wait_until_ordered().await?;
        for (id, partition) in self.by_id() {
            let (_, end) = self.log.bounds(Topic::Events, id).await?;
            // A closed channel ends the wait: the service stops.
            let applied =
                partition.progress.clone().wait_for(|progress| progress.next_offset >= end).await.map(|at| *at);
            if let Ok(applied) = applied {
                // Nobody is behind these records.
                let settled = |progress: &Progress| progress.settled() >= applied.time;
                let settled = partition.progress.clone().wait_for(settled).await.map(|at| *at);
                let emitted = settled.unwrap_or(applied).notifications_offset;
                let _ = partition.stored.clone().wait_for(|stored| *stored >= emitted).await;
            }
        }
        Ok(())
    }

    /// Returns when the warehouse has everything that is in the log now.
    pub async fn wait_until_archived(&self) -> Result<(), LogError> {
        let mut waits = Vec::new();
        for (id, partition) in self.by_id() {
            let (_, end) = self.log.bounds(Topic::Events, id).await?;
            flush_until(&partition.flush, end);
            waits.push((partition.archived.clone(), end));
        }
        for (mut archived, end) in waits {
            // A closed channel ends the wait: the service stops.
            let _ = archived.wait_for(|archived| *archived >= end).await;
        }
        Ok(())
    }

    /// Returns the instant before which everything that was appended is in the warehouse; `now`, if that
    /// is all.
    ///
    /// # Errors
    /// The log does not answer.
    pub async fn archived_until(&self, now: Timestamp) -> Result<Timestamp, LogError> {
        let mut until = now;
        for (id, partition) in self.by_id() {
            let archived = *partition.archived.borrow();
            let missing = self.log.read(Topic::Events, id, archived, 1).await?;
            // What is being appended cannot be read yet.
            let complete = Timestamp(missing.complete_until.0 + 1);
            until = missing.records.first().map_or(complete, |first| first.appended_at).min(until);
        }
        Ok(until)
    }

    /// Returns the service's stats, from every worker and the log.
    ///
    /// # Errors
    /// The log does not answer.
    pub async fn stats(&self) -> Result<Stats, LogError> {
        let deadline = Instant::now() + STATS_MAX;
        let requested: Vec<_> = self.partitions.iter().map(PartitionHandle::request_stats).collect();
        let mut stats = Stats { clock: self.clock.status(), ..Stats::default() };
        for ((id, partition), response) in self.by_id().zip(requested) {
            if let Ok(Ok(newest)) = timeout_at(deadline, response).await {
                partition.last_stats.set(newest);
            }
            // The lag needs no worker: it must show that one is stuck.
            let (_, end) = self.log.bounds(Topic::Events, id).await?;
            stats.add(&partition.last_stats.get(), partition.lag(end, self.clock.now()));
        }
        Ok(stats)
    }
}

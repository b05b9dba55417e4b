//! The history of new segments: read from the warehouse in pieces while the partition goes on.

use std::collections::VecDeque;

use ports::log::{NewRecord, Topic};
use ports::records::SegmentRecord;
use segment_engine::ids::{PartitionId, SegmentId, SegmentVersion, UserId};
use segment_engine::machine::AccumulatorId;

use super::history::{PastEvent, Unread, read_some};
use super::slice::Slice;
use super::{Partition, WorkerError};

/// The job that is running, if any. It is not saved: after a restart the same history is read
/// again.
#[derive(Debug, Default)]
pub(crate) struct Backfill {
    job: Option<Job>,
    /// Versions whose `segment_ready` has been appended but not yet consumed.
    announced: Vec<(SegmentId, SegmentVersion)>,
}

#[derive(Debug)]
struct Job {
    /// What is being filled.
    accumulators: Vec<AccumulatorId>,
    /// The warehouse must have the partition up to this offset before its history is complete.
    archived: u64,
    unread: Vec<Unread>,
    /// Events that have been read, but not added yet.
    events: VecDeque<PastEvent>,
    /// How many sources there were, for the progress.
    sources_total: usize,
}

impl Backfill {
    /// Returns how much of the running job is done: from 0, and below 1 as long as it runs, even if
    /// there is no history to read.
    pub(crate) fn progress(&self) -> Option<f64> {
        let job = self.job.as_ref()?;
        Some(1.0 - job.unread.len().max(1) as f64 / job.sources_total.max(1) as f64)
    }
}

impl Partition {
    /// Does one step of work for the segments that wait for history: reads some, or adds some of
    /// what was read. Returns whether there is more to do at once; false also while the archiver is
    /// not yet as far as the history reaches. Cancel-safe: the next call goes on.
    pub async fn backfill_step(&mut self) -> Result<bool, WorkerError> {
        if self.backfill.job.is_none() {
            let Some(archived) = self.machine.fence() else {
                // A segment that reads only what other segments' backfills completed is ready too.
                self.announce().await?;
                return Ok(false);
            };
            self.backfill.job = Some(self.new_job(archived));
        }
        let Some(job) = &mut self.backfill.job else { return Ok(false) };
        if job.events.is_empty() && !job.unread.is_empty() {
            if self.ports.warehouse.archive_position(self.id).await? < job.archived {
                return Ok(false);
            }
            let warehouse = self.ports.warehouse.as_ref();
            job.events =
                read_some(&self.machine, warehouse, &self.settings, &job.accumulators, &mut job.unread).await?;
        }
        let mut slice = Slice::begin(self.settings.slice);
        for _ in 0..self.settings.backfill_events_per_step {
            let Some(event) = job.events.pop_front() else { break };
            event.add(&mut self.machine, &job.accumulators);
            // A stop ends the step here.
            slice.end_if_over().await;
        }
        if !job.events.is_empty() || !job.unread.is_empty() {
            return Ok(true);
        }
        for accumulator in std::mem::take(&mut job.accumulators) {
            self.machine.complete(accumulator);
        }
        self.backfill.job = None;
        self.announce().await?;
        Ok(true)
    }

    fn new_job(&self, archived: u64) -> Job {
        let of_user = |user| {
            let merged = self.machine.sources(user).iter().map(move |source| Unread::new(user, source.user));
            merged.chain([Unread::new(user, user)])
        };
        let unread: Vec<_> = self.machine.user_ids().flat_map(of_user).collect();
        let accumulators = self.machine.incomplete();
        Job { accumulators, archived, sources_total: unread.len(), unread, events: VecDeque::new() }
    }

    /// Adds users that the record at `offset` merged into `survivor` to the running job: it needs
    /// their history too. This partition's archiver passes that record only after it has the part
    /// of their history that is in other partitions.
    pub(crate) fn backfill_also(&mut self, survivor: UserId, merged: &[UserId], offset: u64) {
        let Some(job) = &mut self.backfill.job else { return };
        job.archived = job.archived.max(offset + 1);
        job.unread.extend(merged.iter().map(|source| Unread::new(survivor, *source)));
        job.sources_total += merged.len();
    }

    /// Returns how much of a version's work is done: 1 when it is in force here, 0 if this
    /// partition does not have it, `None` if the segment is unknown here.
    pub fn segment_progress(&self, segment: SegmentId, version: SegmentVersion) -> Option<f64> {
        self.machine.is_pending(segment)?;
        if self.machine.version_in_force(segment) == Some(version) {
            return Some(1.0);
        }
        let comes = self.machine.pending_version(segment) == Some(version);
        Some(if comes { self.newest_progress(segment) } else { 0.0 })
    }

    /// Returns how much of the work of the newest version known here is done: 1 when it is in
    /// force.
    pub fn newest_progress(&self, segment: SegmentId) -> f64 {
        match self.machine.is_pending(segment) {
            Some(false) => 1.0,
            Some(true) => self.backfill.progress().unwrap_or(0.0),
            None => 0.0,
        }
    }

    /// Appends `segment_ready` for the segments whose history is complete. They take effect at that
    /// record.
    async fn announce(&mut self) -> Result<(), WorkerError> {
        let ready = self.machine.ready();
        self.backfill.announced.retain(|announced| ready.contains(announced));
        let new: Vec<_> = ready.into_iter().filter(|version| !self.backfill.announced.contains(version)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let record = |(id, version): &(SegmentId, SegmentVersion)| NewRecord {
            topic: Topic::Events,
            partition: self.id,
            key: format!("segment:{id}"),
            value: serde_json::to_vec(&SegmentRecord::SegmentReady { id: *id, version: *version })
                .expect("segment records are plain data"),
        };
        self.ports.log.append(new.iter().map(record).collect()).await?;
        self.backfill.announced.extend(new);
        Ok(())
    }

    /// Fills every incomplete accumulator before it returns: needed when the log says that a
    /// version took effect here and a crash lost what had been read for it. A running job is
    /// finished, not started again: what it has read counts already.
    pub(crate) async fn backfill_now(&mut self) -> Result<(), WorkerError> {
        while !self.machine.incomplete().is_empty() {
            if !self.backfill_step().await? {
                tracing::info!(partition = self.id.0, "waiting for the archiver: a new segment needs the history");
                let archived = self.backfill.job.as_ref().map_or(0, |job| job.archived);
                self.wait_until_archived(self.id, archived).await?;
            }
        }
        Ok(())
    }

    /// Returns when a partition has been archived up to an offset.
    pub(crate) async fn wait_until_archived(&self, partition: PartitionId, offset: u64) -> Result<(), WorkerError> {
        while self.ports.warehouse.archive_position(partition).await? < offset {
            tokio::time::sleep(std::time::Duration::from_millis(self.settings.archive_linger_ms)).await;
        }
        Ok(())
    }
}

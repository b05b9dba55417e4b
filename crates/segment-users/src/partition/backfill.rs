//! The history of new segments: read from the warehouse in slices while the partition goes on.

use std::collections::HashMap;

use ports::log::{NewRecord, Topic};
use ports::records::SegmentRecord;
use ports::warehouse::HistoryOf;
use segment_engine::event::Event;
use segment_engine::ids::{PartitionId, SegmentId, SegmentVersion, UserId};
use segment_engine::machine::AccumulatorId;

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
    /// The history still to be read: a user, and the id its events were received with, which is the
    /// user's own or that of a merged user.
    sources: Vec<(UserId, UserId)>,
    /// How many sources there were, for the progress.
    sources_total: usize,
}

impl Backfill {
    /// Returns how much of the running job is done: from 0, and below 1 as long as it runs, even if
    /// there is no history to read.
    pub(crate) fn progress(&self) -> Option<f64> {
        let job = self.job.as_ref()?;
        Some(1.0 - job.sources.len().max(1) as f64 / job.sources_total.max(1) as f64)
    }
}

impl Partition {
    /// Does one slice of work for the segments that wait for history. Returns whether there is more
    /// to do at once; false also while the archiver is not yet as far as the history reaches.
    pub async fn backfill_step(&mut self) -> Result<bool, WorkerError> {
        if self.backfill.job.is_none() {
            let Some(archived) = self.machine.fence() else {
                // A segment that reads only what other segments' backfills completed is ready too.
                self.announce().await?;
                return Ok(false);
            };
            let of_user = |user| {
                let merged = self.machine.sources(user).iter().map(move |source| (user, source.user));
                merged.chain([(user, user)])
            };
            let sources: Vec<_> = self.machine.user_ids().flat_map(of_user).collect();
            let accumulators = self.machine.incomplete();
            self.backfill.job = Some(Job { accumulators, archived, sources_total: sources.len(), sources });
        }
        let Some(mut job) = self.backfill.job.take() else { return Ok(false) };
        let rest = job.sources.len().saturating_sub(self.settings.backfill_users_per_step);
        match self.read_slice(&job, rest).await {
            Ok(true) => job.sources.truncate(rest),
            // Nothing was added, so the slice is read again.
            outcome => {
                self.backfill.job = Some(job);
                return outcome;
            }
        }
        if !job.sources.is_empty() {
            self.backfill.job = Some(job);
            return Ok(true);
        }
        for accumulator in job.accumulators {
            self.machine.complete(accumulator);
        }
        self.announce().await?;
        Ok(true)
    }

    /// Reads the history of the sources from `rest` on. Returns false if not all is archived yet.
    async fn read_slice(&mut self, job: &Job, rest: usize) -> Result<bool, WorkerError> {
        if self.ports.warehouse.archive_position(self.id).await? < job.archived {
            return Ok(false);
        }
        self.read_history(&job.accumulators, &job.sources[rest..]).await?;
        Ok(true)
    }

    /// Adds users that the record at `offset` merged into `survivor` to the running job: it needs
    /// their history too. This partition's archiver passes that record only after it has the part
    /// of their history that is in other partitions.
    pub(crate) fn backfill_also(&mut self, survivor: UserId, merged: &[UserId], offset: u64) {
        let Some(job) = &mut self.backfill.job else { return };
        job.archived = job.archived.max(offset + 1);
        job.sources.extend(merged.iter().map(|source| (survivor, *source)));
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

    /// Reads history into accumulators. Each source is a user, and the id its events were received
    /// with.
    pub(crate) async fn read_history(
        &mut self,
        accumulators: &[AccumulatorId],
        sources: &[(UserId, UserId)],
    ) -> Result<(), WorkerError> {
        // A user that was merged away meanwhile took the sources along.
        let present = sources.iter().filter(|(user, _)| self.machine.knows(*user));
        let users: HashMap<UserId, UserId> = present.map(|(user, source)| (*source, *user)).collect();
        let below = |source, user| self.machine.history_below(accumulators, user, source);
        let parts: Vec<_> =
            users.iter().map(|(source, user)| HistoryOf { user: *source, below: below(*source, *user) }).collect();
        for event in self.ports.warehouse.history(&parts).await? {
            let source = event.user_id;
            let event = Event { user_id: users[&source], ..event };
            for accumulator in accumulators {
                self.machine.add_history(*accumulator, source, &event);
            }
        }
        Ok(())
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

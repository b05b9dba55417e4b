//! The history of new segments: read from the warehouse while the partition goes on.
//!
//! One scan reads the partition's events of all users. What users brought along who were merged is
//! read after it, user by user.

use std::collections::VecDeque;

use ports::log::{NewRecord, Topic};
use ports::records::SegmentRecord;
use ports::warehouse::{HistoryCursor, HistoryScan, WarehouseError};
use segment_engine::event::Event;
use segment_engine::ids::{PartitionId, SegmentId, SegmentVersion, UserId};
use segment_engine::machine::AccumulatorId;

use super::history::{PastEvent, Unread, read_some};
use super::slice::Slice;
use super::{Partition, WorkerError};

/// How far a segment is whose history is read, but which is not yet in force.
const READ: f64 = 0.99;

/// The job that is running, if any. It is not saved: after a restart the same history is read
/// again.
#[derive(Debug, Default)]
pub(crate) struct Backfill {
    job: Option<Job>,
    /// The offset that the archiver must reach before the next step can read, if it must.
    awaits: Option<u64>,
    /// Versions whose `segment_ready` has been appended but not yet consumed.
    announced: Vec<(SegmentId, SegmentVersion)>,
}

#[derive(Debug)]
struct Job {
    /// What is being filled.
    accumulators: Vec<AccumulatorId>,
    scan: Scan,
    /// The history of users that were merged into others.
    unread: Vec<Unread>,
    /// Events that have been read, but not added yet.
    events: VecDeque<PastEvent>,
    /// How many sources there were, for the progress.
    sources_total: usize,
}

/// The scan of a partition's history. If it fails, the next one goes on where it was.
#[derive(Debug)]
struct Scan {
    /// What comes before this offset has been read.
    from: u64,
    below: u64,
    /// `None` while nothing is read: before the first batch, after a failure, and at the end.
    cursor: Option<HistoryCursor>,
}

impl Scan {
    fn is_over(&self) -> bool {
        self.from >= self.below
    }

    /// Waits for the next events.
    async fn next(&mut self) -> Result<Vec<Event>, WarehouseError> {
        let Some(cursor) = &mut self.cursor else { return Ok(Vec::new()) };
        let next = cursor.next().await;
        if let Ok(Some(events)) = &next {
            self.from = events.last().map_or(self.from, |event| event.position.offset + 1);
        }
        if let Ok(None) = next {
            self.from = self.below;
        }
        if next.is_err() || self.is_over() {
            self.cursor = None;
        }
        Ok(next?.unwrap_or_default())
    }
}

impl Job {
    fn is_read(&self) -> bool {
        self.scan.is_over() && self.unread.is_empty()
    }

    /// Returns how much has been read, from 0 to 1.
    fn progress(&self) -> f64 {
        let left = self.scan.below.saturating_sub(self.scan.from) + self.unread.len() as u64;
        1.0 - left as f64 / (self.scan.below + self.sources_total as u64).max(1) as f64
    }
}

impl Backfill {
    /// Returns the offset that the archiver must reach before the next step can read, if it must.
    pub(crate) fn awaits(&self) -> Option<u64> {
        self.awaits
    }

    /// Whether the next step would wait for the warehouse.
    pub(crate) fn waits(&self) -> bool {
        let Some(Job { scan: Scan { cursor: Some(cursor), .. }, events, .. }) = &self.job else { return false };
        events.is_empty() && cursor.waits()
    }

    /// Waits until the next step need not wait for the warehouse; for ever, if it never does.
    /// Cancel-safe.
    pub(crate) async fn wait(&mut self) {
        match &mut self.job {
            Some(Job { scan: Scan { cursor: Some(cursor), .. }, events, .. }) if events.is_empty() => {
                cursor.wait().await;
            }
            _ => std::future::pending().await,
        }
    }
}

impl Partition {
    /// Does one step of work for the segments that wait for history: reads some, or adds some of
    /// what was read. Returns whether there is more to do at once; false also while the archiver is
    /// not yet as far as the history reaches. Cancel-safe: the next call goes on.
    pub async fn backfill_step(&mut self) -> Result<bool, WorkerError> {
        let warehouse = self.ports.warehouse.clone();
        if self.backfill.job.is_none() {
            let Some(fence) = self.machine.fence() else {
                // A segment that reads only what other segments' backfills completed is ready too.
                self.announce().await?;
                return Ok(false);
            };
            // Later, more segments may wait, and share the scan.
            if !self.is_archived(fence).await? {
                return Ok(false);
            }
            self.backfill.job = Some(self.new_job(fence));
        }
        let reads_merged = |job: &Job| job.events.is_empty() && job.scan.is_over() && !job.unread.is_empty();
        if self.backfill.job.as_ref().is_some_and(reads_merged) && !self.is_archived(self.merged_below).await? {
            return Ok(false);
        }
        let Some(job) = &mut self.backfill.job else { return Ok(false) };
        if job.events.is_empty() && !job.is_read() {
            if job.scan.is_over() {
                job.events =
                    read_some(&self.machine, &*warehouse, &self.settings, &job.accumulators, &mut job.unread).await?;
            } else if job.scan.cursor.is_some() {
                job.events = job.scan.next().await?.into_iter().map(PastEvent::of_user).collect();
            } else {
                job.scan.cursor = Some(warehouse.scan_history(HistoryScan {
                    partition: self.id,
                    from: job.scan.from,
                    below: job.scan.below,
                    needs: self.machine.history_needs(&job.accumulators),
                    bytes_max: self.settings.history_bytes_max,
                }));
                return Ok(true);
            }
        }
        let mut slice = Slice::begin(self.settings.slice);
        for _ in 0..self.settings.backfill_events_per_step {
            let Some(event) = job.events.pop_front() else { break };
            event.add(&mut self.machine, &job.accumulators);
            // A stop ends the step here.
            slice.end_if_over().await;
        }
        if !job.events.is_empty() || !job.is_read() {
            return Ok(true);
        }
        for accumulator in std::mem::take(&mut job.accumulators) {
            self.machine.complete(accumulator);
        }
        self.backfill.job = None;
        self.announce().await?;
        Ok(true)
    }

    /// Whether the warehouse has the partition up to this offset. If not, the archiver is told.
    async fn is_archived(&mut self, offset: u64) -> Result<bool, WarehouseError> {
        let is_archived = self.ports.warehouse.archive_position(self.id).await? >= offset;
        self.backfill.awaits = (!is_archived).then_some(offset);
        Ok(is_archived)
    }

    fn new_job(&self, fence: u64) -> Job {
        let unread: Vec<_> = self.machine.merged().map(|(user, source)| Unread::new(user, source)).collect();
        Job {
            accumulators: self.machine.incomplete(),
            scan: Scan { from: 0, below: fence, cursor: None },
            sources_total: unread.len(),
            unread,
            events: VecDeque::new(),
        }
    }

    /// Adds users that the record at `offset` merged into `survivor` to the running job: it needs
    /// their history too. This partition's archiver passes that record only after it has the part
    /// of their history that is in other partitions.
    pub(crate) fn backfill_also(&mut self, survivor: UserId, merged: &[UserId], offset: u64) {
        self.merged_below = offset + 1;
        let Some(job) = &mut self.backfill.job else { return };
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
        let lacking = self.machine.lacking(segment);
        let reads_it = |job: &&Job| lacking.iter().all(|id| job.accumulators.contains(id));
        match self.machine.is_pending(segment) {
            None => 0.0,
            Some(false) => 1.0,
            Some(true) if lacking.is_empty() => READ,
            Some(true) => self.backfill.job.as_ref().filter(reads_it).map_or(0.0, |job| READ * job.progress()),
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
                self.wait_until_archived(self.id, self.backfill.awaits.unwrap_or_default()).await?;
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

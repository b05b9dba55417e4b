//! The history of new segments: read from the warehouse while the partition goes on.
//!
//! A [`Scan`] reads the partition's events of all users. What users brought along who were merged is
//! read after it, user by user.

mod scan;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ports::log::{NewRecord, Topic};
use ports::records::SegmentRecord;
use segment_engine::ids::{PartitionId, SegmentId, SegmentVersion, UserId};
use segment_engine::machine::{AccumulatorId, Machine, SnapshotError};
use segment_engine::time::Timestamp;
use serde::{Deserialize, Serialize};

use self::scan::{Scan, ScanBlock};
use super::history::{MergedEvent, Unread, read_some};
use super::slice::Slice;
use super::{Partition, WorkerError};

/// How far a segment is when the scan has read its history, and when what merged users brought along
/// is read too, but the segment is not yet in force.
const SCANNED: f64 = 0.95;
const READ: f64 = 0.99;
/// The same, when all users have been evaluated and changes are still to be emitted.
const UNTOLD: f64 = 0.999;
/// For how many times as long as a checkpoint held up a backfill it goes on before the next.
const UNDISTURBED: u32 = 5;
/// How many events are added between two looks at the time.
const EVENTS_PER_LOOK: usize = 16;

/// What is read. A checkpoint may have it, with what users have of what is being filled.
#[derive(Debug, Default)]
pub(crate) struct Backfill {
    scan: Scan,
    /// When the scan began to read; long ago, if a checkpoint had it.
    began_at: Option<Timestamp>,
    /// Until when no checkpoint may hold it up, because one did before.
    undisturbed_until: Option<Instant>,
    /// What the scan has filled. It still lacks what merged users brought along.
    scanned: Vec<AccumulatorId>,
    merged: Option<Merged>,
    /// The offset that the archiver must reach before all can be read, if it is known.
    awaits: Option<u64>,
    /// Whether something was completed since the last announcement.
    is_unannounced: bool,
    /// Versions whose `segment_ready` has been appended but not yet consumed.
    announced: Vec<(SegmentId, SegmentVersion)>,
}

/// Reads the history of users that were merged into others.
#[derive(Debug)]
struct Merged {
    /// What is being filled.
    accumulators: Vec<AccumulatorId>,
    unread: Vec<Unread>,
    /// Events that have been read, but not added yet.
    events: VecDeque<MergedEvent>,
    /// How many users there were, for the progress.
    total: usize,
}

impl Merged {
    /// Whether all was read and added.
    fn is_read(&self) -> bool {
        self.events.is_empty() && self.unread.is_empty()
    }
}

/// A backfill in a checkpoint, with the names of accumulators.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BackfillBlock {
    scan: ScanBlock,
    scanned: Vec<u64>,
    merged: Option<MergedBlock>,
}

#[derive(Debug, Serialize, Deserialize)]
struct MergedBlock {
    accumulators: Vec<u64>,
    unread: Vec<Unread>,
    total: usize,
}

impl Backfill {
    /// Returns the offset at which the scan goes on; `None` if nothing is being read.
    pub(crate) fn goes_on_at(&self) -> Option<u64> {
        let is_idle = self.scan.is_idle() && self.scanned.is_empty() && self.merged.is_none();
        (!is_idle).then(|| self.scan.at())
    }

    /// Returns the accumulators of which a checkpoint has what users have: none, unless the scan began
    /// before.
    pub(crate) fn to_save(&self, machine: &Machine, before: Timestamp) -> Vec<AccumulatorId> {
        if self.began_at.is_none_or(|began_at| began_at > before) {
            return Vec::new();
        }
        let merged = self.merged_to_save().into_iter().flat_map(|merged| merged.accumulators.iter().copied());
        let all = self.scan.accumulators().chain(self.scanned.iter().copied()).chain(merged);
        all.filter(|id| machine.fence(&[*id]).is_some()).collect()
    }

    /// What merged users brought along, unless events of it were read and not added, or users are about
    /// to get what was added.
    fn merged_to_save(&self) -> Option<&Merged> {
        self.merged.as_ref().filter(|merged| merged.events.is_empty() && !merged.is_read())
    }

    pub(crate) fn save(&self, machine: &Machine) -> BackfillBlock {
        let names = |ids: &[AccumulatorId]| ids.iter().filter_map(|id| machine.accumulator_name(*id)).collect();
        let merged = self.merged_to_save().map(|merged| MergedBlock {
            accumulators: names(&merged.accumulators),
            unread: merged.unread.clone(),
            total: merged.total,
        });
        BackfillBlock { scan: self.scan.save(machine), scanned: names(&self.scanned), merged }
    }

    pub(crate) fn load(block: BackfillBlock, machine: &Machine) -> Result<Self, SnapshotError> {
        let ids = |names: Vec<u64>| names.into_iter().filter_map(|name| machine.restored_accumulator(name)).collect();
        let merged = block.merged.map(|MergedBlock { accumulators, unread, total }| Merged {
            accumulators: ids(accumulators),
            unread,
            events: VecDeque::new(),
            total,
        });
        let (scan, scanned) = (Scan::load(block.scan, machine)?, ids(block.scanned));
        Ok(Self { scan, began_at: Some(Timestamp::MIN), scanned, merged, ..Self::default() })
    }

    /// Notes that a checkpoint held it up so long.
    pub(crate) fn was_held_up(&mut self, length: Duration) {
        self.undisturbed_until = Some(Instant::now() + length * UNDISTURBED);
    }

    /// Returns until when no checkpoint may hold it up.
    pub(crate) fn undisturbed_until(&self, now: Timestamp) -> Timestamp {
        let left = self.undisturbed_until.map(|until| until.saturating_duration_since(Instant::now()));
        let micros = left.map_or(0, |left| i64::try_from(left.as_micros()).unwrap_or(i64::MAX));
        Timestamp(now.0.saturating_add(micros))
    }

    /// Whether a checkpoint would lose what was read: events are about to be added, or users to get
    /// theirs. That ends when [`fill`](Partition::fill) has done its work.
    pub(crate) fn is_in_between(&self) -> bool {
        self.merged.is_some() && self.merged_to_save().is_none()
    }

    /// Returns the offset that the archiver must reach before all can be read, if it is known.
    pub(crate) fn awaits(&self) -> Option<u64> {
        self.awaits
    }

    /// Whether to read more would wait for the warehouse.
    pub(crate) fn waits(&self) -> bool {
        self.is_scanning() && self.scan.waits() && !self.is_unannounced
    }

    /// Whether there is something to [`fill`](Partition::fill) in.
    pub(crate) fn has_work(&self) -> bool {
        let has_events = self.merged.as_ref().is_some_and(|merged| !merged.events.is_empty());
        self.scan.has_events() || has_events || self.is_completing()
    }

    /// Whether more of what merged users brought along can be read: the last read had no events.
    fn reads_merged(&self) -> bool {
        self.awaits.is_none() && self.merged.as_ref().is_some_and(|merged| !merged.unread.is_empty())
    }

    /// Whether accumulators are being completed. Their segments take effect together.
    fn is_completing(&self) -> bool {
        self.merged.as_ref().is_some_and(Merged::is_read)
    }

    /// Waits until the next step need not wait for the warehouse; for ever, if it never does.
    /// Cancel-safe.
    pub(crate) async fn wait(&mut self) {
        match self.is_scanning() {
            true => self.scan.wait().await,
            false => std::future::pending().await,
        }
    }

    /// Whether the next step is one of the scan: merged users' history is not read, or waits for the
    /// archiver.
    fn is_scanning(&self) -> bool {
        self.merged.is_none() || self.awaits.is_some()
    }

    fn has(&self, accumulator: AccumulatorId) -> bool {
        let merged = self.merged.iter().flat_map(|merged| &merged.accumulators);
        self.scan.has(accumulator) || merged.chain(&self.scanned).any(|other| *other == accumulator)
    }
}

impl Partition {
    /// Does one step of work for the segments that wait for history: reads some, and adds some of
    /// what was read. Returns whether there is more to do at once; false also while the archiver is
    /// not yet as far as the history reaches, and while a checkpoint is being written that has what was
    /// added before. Cancel-safe: the next call goes on.
    pub async fn backfill_step(&mut self) -> Result<bool, WorkerError> {
        let archived = self.ports.warehouse.archive_position(self.id).await?;
        let more = self.read_more(archived).await?;
        self.fill();
        Ok(more)
    }

    /// Reads history, if there is none to [`fill`](Self::fill) in, and announces what is complete. The
    /// archiver is at least as far as `archived`. Returns whether there is more to do at once; false also
    /// while [`fill`](Self::fill) waits for a checkpoint. Cancel-safe.
    pub(crate) async fn read_more(&mut self, archived: u64) -> Result<bool, WorkerError> {
        self.backfill.awaits = None;
        if self.machine.is_saving_apart() {
            return Ok(false);
        }
        // Also what needs only the accumulators that others completed.
        if !self.backfill.is_completing() && self.announce().await? {
            return Ok(true);
        }
        self.let_join();
        let filled = self.backfill.scan.take_filled(&self.machine);
        self.backfill.scanned.extend(filled);
        self.read_merged(archived).await?;
        if self.backfill.has_work() || self.backfill.reads_merged() {
            return Ok(true);
        }
        if self.backfill.scan.is_idle() || (self.backfill.merged.is_some() && self.backfill.scan.waits()) {
            // If both wait, the archiver may be quicker than the warehouse.
            return Ok(false);
        }
        let warehouse = self.ports.warehouse.clone();
        let scan = &mut self.backfill.scan;
        let bytes_max = self.settings.history_bytes_max;
        let before = scan.at();
        let awaits = scan.next(&self.machine, &*warehouse, (self.id, archived), bytes_max).await?;
        if scan.at() != before {
            self.changed_at = self.changed_at.min(self.ports.clock.now());
        }
        self.backfill.awaits = self.backfill.awaits.max(awaits);
        Ok(awaits.is_none() || self.backfill.scan.is_running())
    }

    /// Adds some of the history that was read, or completes accumulators, for a slice of time; but not
    /// while a checkpoint is being written that has what was added before.
    pub(crate) fn fill(&mut self) {
        if self.machine.is_saving_apart() {
            return;
        }
        let slice = Slice::begin(self.settings.slice);
        let mut left = self.settings.backfill_events_per_step;
        while left > 0 && self.backfill.has_work() {
            let count = left.min(EVENTS_PER_LOOK);
            left -= count;
            match &mut self.backfill.merged {
                Some(merged) if merged.is_read() => {
                    if self.machine.complete_some(&merged.accumulators, count) {
                        self.backfill.merged = None;
                        self.backfill.is_unannounced = true;
                    }
                }
                Some(merged) if !merged.events.is_empty() => {
                    for event in merged.events.drain(..count.min(merged.events.len())) {
                        event.add(&mut self.machine, &merged.accumulators);
                    }
                }
                _ => self.backfill.scan.add(&mut self.machine, self.id, count),
            }
            if slice.is_over() {
                break;
            }
        }
    }

    /// Lets accumulators that lack history join the scan.
    fn let_join(&mut self) {
        let room = self.backfill.scan.room();
        if room == 0 {
            return;
        }
        let mut new = self.machine.incomplete();
        new.retain(|accumulator| !self.backfill.has(*accumulator));
        new.truncate(room);
        let Backfill { scan, scanned, merged, .. } = &self.backfill;
        if scan.is_idle() && scanned.is_empty() && merged.is_none() {
            self.backfill.began_at = Some(self.ports.clock.now());
        }
        new.into_iter().for_each(|accumulator| self.backfill.scan.join(accumulator));
    }

    /// Reads some of what merged users brought along, for what the scan has filled, if nothing that was
    /// read is left and the archiver is as far.
    async fn read_merged(&mut self, archived: u64) -> Result<(), WorkerError> {
        let reads = |merged: &Merged| merged.events.is_empty() && !merged.unread.is_empty();
        let begins = self.backfill.merged.is_none() && !self.backfill.scanned.is_empty();
        if !begins && !self.backfill.merged.as_ref().is_some_and(reads) {
            return Ok(());
        }
        if archived < self.merged_below {
            self.backfill.awaits = Some(self.merged_below);
            return Ok(());
        }
        if begins {
            let unread: Vec<_> = self.machine.merged().map(|(user, source)| Unread::new(user, source)).collect();
            let accumulators = std::mem::take(&mut self.backfill.scanned);
            let total = unread.len();
            self.backfill.merged = Some(Merged { accumulators, unread, events: VecDeque::new(), total });
        }
        let warehouse = self.ports.warehouse.clone();
        let merged = self.backfill.merged.as_mut().filter(|merged| !merged.unread.is_empty());
        if let Some(Merged { accumulators, unread, events, .. }) = merged {
            *events = read_some(&self.machine, &*warehouse, &self.settings, accumulators, unread).await?;
            self.changed_at = self.changed_at.min(self.ports.clock.now());
        }
        Ok(())
    }

    /// Notes that the record at `offset` merged users into `survivor`: a backfill needs their history
    /// too. This partition's archiver passes that record only after it has the part
    /// of their history that is in other partitions.
    pub(crate) fn backfill_also(&mut self, survivor: UserId, merged: &[UserId], offset: u64) {
        self.merged_below = offset + 1;
        // If that has not begun, it begins with all that were merged until then.
        let Some(running) = &mut self.backfill.merged else { return };
        running.unread.extend(merged.iter().map(|source| Unread::new(survivor, *source)));
        running.total += merged.len();
    }

    /// Returns how much of a version's work is done: 1 when it is in force here, 0 if this
    /// partition does not have it, `None` if the segment is unknown here.
    pub fn segment_progress(&self, segment: SegmentId, version: SegmentVersion) -> Option<f64> {
        self.machine.is_pending(segment)?;
        if self.machine.version_in_force(segment) == Some(version) {
            return Some(self.sweep_progress(segment));
        }
        let comes = self.machine.pending_version(segment) == Some(version);
        Some(if comes { self.newest_progress(segment) } else { 0.0 })
    }

    /// As [`Self::segment_progress`], with the end of the notifications when somebody first asked of the
    /// version while it was in force: all that it brought about come before.
    pub(crate) fn progress_and_told(&mut self, segment: SegmentId, version: SegmentVersion) -> Option<(f64, u64)> {
        let ratio = self.segment_progress(segment, version)?;
        if ratio < 1.0 {
            return Some((ratio, 0));
        }
        match self.told.get(&segment) {
            Some((of, told)) if *of == version => Some((ratio, *told)),
            // Some that wait may be its own.
            _ if !self.untold.is_empty() => Some((UNTOLD, 0)),
            _ => {
                let told = self.progress.notifications_offset;
                self.told.insert(segment, (version, told));
                Some((ratio, told))
            }
        }
    }

    /// Returns how much of the work of the newest version known here is done: 1 when it is in
    /// force.
    pub fn newest_progress(&self, segment: SegmentId) -> f64 {
        match self.machine.is_pending(segment) {
            None => 0.0,
            Some(false) => self.sweep_progress(segment),
            Some(true) => {
                let lacking = self.machine.lacking(segment);
                lacking.into_iter().map(|accumulator| self.progress_of(accumulator)).fold(READ, f64::min)
            }
        }
    }

    /// Returns the progress of a version that has taken effect.
    fn sweep_progress(&self, segment: SegmentId) -> f64 {
        self.machine.sweep_progress(segment).map_or(1.0, |swept| READ + (1.0 - READ) * swept.min(READ))
    }

    fn progress_of(&self, accumulator: AccumulatorId) -> f64 {
        let Backfill { scan, merged, .. } = &self.backfill;
        match (scan.progress(&self.machine, accumulator), merged) {
            (Some(read), _) => SCANNED * read,
            (None, Some(merged)) if merged.accumulators.contains(&accumulator) => {
                let left = merged.unread.len() as f64 / merged.total.max(1) as f64;
                READ - (READ - SCANNED) * left
            }
            (None, _) if self.backfill.has(accumulator) => SCANNED,
            (None, _) => 0.0,
        }
    }

    /// Appends `segment_ready` for the segments whose history is complete. They take effect at that
    /// record. Returns whether there are new ones.
    async fn announce(&mut self) -> Result<bool, WorkerError> {
        let ready = self.machine.ready();
        self.backfill.is_unannounced = false;
        self.backfill.announced.retain(|announced| ready.contains(announced));
        let new: Vec<_> = ready.into_iter().filter(|version| !self.backfill.announced.contains(version)).collect();
        if new.is_empty() {
            return Ok(false);
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
        Ok(true)
    }

    /// Completes what a segment lacks before it returns: needed when the log says that a version took
    /// effect here and a crash lost what had been read for it. What has been read since counts.
    pub(crate) async fn backfill_now(&mut self, segment: SegmentId) -> Result<(), WorkerError> {
        self.save_before_change().await?;
        while !self.machine.lacking(segment).is_empty() {
            if !self.backfill_step().await? {
                tracing::info!(partition = self.id.0, "waiting for the archiver: a new segment needs the history");
                self.wait_until_archived(self.id, self.backfill.awaits.unwrap_or_default()).await?;
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Returns when a partition has been archived up to an offset.
    pub(crate) async fn wait_until_archived(&self, partition: PartitionId, offset: u64) -> Result<(), WorkerError> {
        while self.ports.warehouse.archive_position(partition).await? < offset {
            tokio::time::sleep(Duration::from_millis(self.settings.archive_linger_ms)).await;
        }
        Ok(())
    }
}

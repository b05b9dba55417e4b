//! One partition: log in, transitions out, one turn at a time.

mod apply;
mod backfill;
mod checkpoint;
mod history;
mod notify;
mod recovery;
mod slice;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use ports::checkpoints::{CheckpointError, CheckpointStore};
use ports::clock::Clock;
use ports::log::{Commit, Log, LogError, NewRecord, Progress, Topic};
use ports::warehouse::{Warehouse, WarehouseError};
use segment_engine::ids::{PartitionId, SegmentId, SegmentVersion, UserId};
use segment_engine::machine::{Change, Machine, SnapshotError};
use segment_engine::time::Timestamp;

pub(crate) use self::recovery::check_latest;
pub use self::slice::Background;
use self::slice::Slice;
use crate::left_out::LeftOut;
use crate::plans::Plans;
use crate::settings::Settings;

/// How many notifications one commit has at most: some hundred kilobytes, since what others append
/// waits meanwhile.
const CHANGES_PER_COMMIT: usize = 1_024;
/// How many changes users who catch up leave for the next commit: few, since those of new events come
/// after them. The log writes the commits of several partitions together.
const CHANGES_OF_FOLLOWERS_MAX: usize = 256;
/// The same while turns have more than [`FEW_RECORDS`] records: each commit costs processor time, but
/// somebody waits for the events.
const CHANGES_BESIDE_EVENTS_MAX: usize = 64;
const FEW_RECORDS: f32 = 2.0;

/// The ports of a partition. Cheap to clone.
#[derive(Clone)]
pub struct Ports {
    /// Inputs and notifications.
    pub log: Arc<dyn Log>,
    /// Where a restart begins.
    pub checkpoints: Arc<dyn CheckpointStore>,
    /// History for new segments.
    pub warehouse: Arc<dyn Warehouse>,
    /// Stamps notifications, and paces checkpoints.
    pub clock: Arc<dyn Clock>,
    /// The plans of clauses, compiled once for all partitions.
    pub plans: Plans,
    /// What the partition leaves out, for its archiver.
    pub left_out: LeftOut,
    /// The cores for what events need not wait for.
    pub background: Background,
}

/// Why a worker stopped. It does not retry by itself: the service restarts it from its last commit.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A checkpoint could not be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// History could not be read.
    #[error(transparent)]
    Warehouse(#[from] WarehouseError),
    /// A bug in USS. The partition goes on from its last commit.
    #[error("the worker panicked: {0}")]
    Panicked(String),
    /// A newer build wrote its checkpoint, so it must stay as it is.
    #[error("partition {partition}: {source}")]
    Newer {
        /// The partition that cannot be opened.
        partition: PartitionId,
        /// Names the format, and those that this build reads.
        source: SnapshotError,
    },
    /// The log no longer has the records after the checkpoint.
    #[error(
        "partition {partition}: the log begins at offset {first}, and no checkpoint that can be read reaches it (the last one tried is at {checkpoint}): the state cannot be rebuilt; restore log and checkpoints from a backup"
    )]
    Trimmed {
        /// The partition that cannot be opened.
        partition: PartitionId,
        /// The first retained offset.
        first: u64,
        /// The offset of the checkpoint; 0 if there is none.
        checkpoint: u64,
    },
}

/// A partition's whole state. It has one owner.
pub struct Partition {
    pub(crate) id: PartitionId,
    pub(crate) ports: Ports,
    pub(crate) settings: Settings,
    pub(crate) machine: Machine,
    /// Users that were merged or deleted. Kept for ever: ids are never reused, and records for
    /// these users may still arrive.
    pub(crate) tombstones: HashMap<UserId, Tombstone>,
    pub(crate) progress: Progress,
    pub(crate) backfill: backfill::Backfill,
    /// Users may have been merged into this partition's by records before this offset. When the
    /// archiver has passed it, the warehouse has what they brought along.
    pub(crate) merged_below: u64,
    /// Records for other partitions and topics, for the next commit.
    pub(crate) outgoing: Vec<NewRecord>,
    /// Changes that are still to be emitted: there were more than one commit takes, or an earlier
    /// process was about to emit them when it ended.
    pub(crate) untold: VecDeque<Change>,
    /// Where the notifications of versions in force end, of those of which somebody asked since.
    told: HashMap<SegmentId, (SegmentVersion, u64)>,
    /// The offsets of what was left out since the last commit.
    pub(crate) left_out: Vec<u64>,
    /// How many records a turn has: a moving average.
    records_per_turn: f32,
    /// The position of the last checkpoint.
    pub(crate) marker: Progress,
    pub(crate) saving: checkpoint::Saving,
    /// When the last checkpoint began.
    pub(crate) saving_since: Instant,
    /// When something was first committed after the last that was begun; `MAX` if nothing was.
    pub(crate) changed_at: Timestamp,
}

/// How a user ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Tombstone {
    /// Merged into this user; records are forwarded.
    Merged(UserId),
    /// Deleted. Records are refused.
    Deleted,
}

/// What a turn did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Records consumed.
    pub records: usize,
    /// Notifications emitted.
    pub notifications: usize,
    /// Whether more is waiting: records, users who are behind, or changes to be emitted.
    pub more: bool,
    /// Whether users are behind.
    pub is_behind: bool,
}

impl Partition {
    /// Returns the partition's number.
    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// Returns the next instant at which something happens even if no record arrives.
    pub fn next_due(&self) -> Timestamp {
        self.machine.next_due()
    }

    /// Returns the position of the last turn.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Returns the partition's machine, for reading.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Takes one turn: applies a batch of records, advances time as far as the log allows, lets
    /// some of the users who are behind catch up, and commits the outcome in one append.
    pub async fn turn(&mut self) -> Result<Turn, WorkerError> {
        if self.untold.len() >= CHANGES_PER_COMMIT {
            // Else records would add changes more quickly than commits take them.
            let notifications = self.commit(self.progress.next_offset).await?;
            return Ok(Turn { records: 0, notifications, more: true, is_behind: false });
        }
        let batch = self
            .ports
            .log
            .read(Topic::Events, self.id, self.progress.next_offset, self.settings.batch_bytes_max)
            .await?;
        self.records_per_turn += (batch.records.len() as f32 - self.records_per_turn) / 8.0;
        let started = Instant::now();
        let mut slice = Slice::begin(self.settings.slice);
        for record in &batch.records {
            self.apply(record).await?;
            slice.end_if_over().await;
        }
        // No fewer than records, or a backlog of deadlines would grow with one of records.
        let followers_max = self.settings.followers_per_turn_max.max(batch.records.len());
        let is_level = self.machine.advance(batch.complete_until, followers_max);
        if !batch.records.is_empty() {
            metrics::histogram!("uss_event_processing_seconds")
                .record(started.elapsed().as_secs_f64() / batch.records.len() as f64);
        }
        let notifications = self.commit(batch.next_offset).await?;
        let more = !batch.records.is_empty() || !is_level || !self.untold.is_empty();
        Ok(Turn { records: batch.records.len(), notifications, more, is_behind: !is_level })
    }

    /// Whether there is something to do that events need not wait for, besides users who are behind.
    pub(crate) fn has_work(&self) -> bool {
        (self.backfill.has_work() && !self.machine.is_saving_apart()) || self.saving.has_work()
    }

    /// Does some of what events need not wait for, about a slice of each: lets users who are behind
    /// catch up, adds history, saves users. The next turn emits the changes.
    pub(crate) fn work(&mut self) {
        self.catch_up();
        self.fill();
        self.hand_over_users();
    }

    fn catch_up(&mut self) {
        let slice = Slice::begin(self.settings.slice);
        let events_come = self.records_per_turn > FEW_RECORDS;
        let changes_max = if events_come { CHANGES_BESIDE_EVENTS_MAX } else { CHANGES_OF_FOLLOWERS_MAX };
        while self.untold.len() + self.machine.changes() < changes_max
            && !self.machine.catch_up(self.settings.followers_per_turn_max)
            && !slice.is_over()
        {}
    }

    /// Stores the turn, with some of the changes. Time that passed without a change is not written:
    /// it will pass again.
    async fn commit(&mut self, next_offset: u64) -> Result<usize, WorkerError> {
        let at = self.ports.clock.now();
        self.untold.extend(self.machine.take_changes());
        let notifications = self.untold.len().min(CHANGES_PER_COMMIT);
        let changes: Vec<Change> = self.untold.drain(..notifications).collect();
        let first_untold = self.untold.iter().map(|change| change.effective_at).min();
        let settled = first_untold.map_or(Timestamp::MAX, |at| Timestamp(at.0 - 1)).min(self.machine.settled_until());
        let mut records = std::mem::take(&mut self.outgoing);
        for failure in self.machine.take_failures() {
            records.push(notify::failure_record(&failure, self.id, next_offset, at));
        }
        notify::observe(&changes, at);
        records.extend(notify::notification_records(&changes, self.id, at));
        let behind = |time: Timestamp| time.0.abs_diff(settled.min(time).0);
        if records.is_empty() && next_offset == self.progress.next_offset {
            self.progress.behind = behind(self.progress.time);
            return Ok(0);
        }
        let time = self.machine.now();
        let progress = Progress { next_offset, time, behind: behind(time), ..self.progress };
        self.ports.log.commit(Commit { partition: self.id, progress, records }).await?;
        self.changed_at = self.changed_at.min(at);
        self.ports.left_out.decided(self.id, next_offset, &std::mem::take(&mut self.left_out));
        self.progress =
            Progress { notifications_offset: progress.notifications_offset + notifications as u64, ..progress };
        Ok(notifications)
    }
}

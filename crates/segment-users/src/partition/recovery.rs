//! Opening a partition: from its last checkpoint and the log to exactly where it was committed.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use ports::checkpoints::{CheckpointError, Generation, Restored};
use ports::log::{Log, LogError, Progress, Topic};
use ports::records::{Cause, Notification};
use ports::warehouse::Departure;
use segment_engine::ids::{PartitionId, SegmentId, UserId};
use segment_engine::machine::{Change, Machine, SnapshotError};
use segment_engine::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::backfill::{Backfill, BackfillBlock};
use super::checkpoint::Saving;
use super::slice::Slice;
use super::{Partition, Ports, Tombstone, WorkerError};
use crate::plans::Plans;
use crate::settings::Settings;

const BATCH_BYTES_MAX: usize = 4 << 20;

/// The state of the partition as a whole, as stored in checkpoints.
#[derive(Serialize, Deserialize)]
struct PartitionState {
    machine: Vec<u8>,
    tombstones: HashMap<UserId, Tombstone>,
}

/// The state is followed by the backfill, if the checkpoint has one. Builds that do not know that read
/// only the state.
pub(crate) fn encode_state(
    machine: &Machine,
    tombstones: &HashMap<UserId, Tombstone>,
    backfill: Option<BackfillBlock>,
) -> Vec<u8> {
    let state = PartitionState { machine: machine.save_state(), tombstones: tombstones.clone() };
    let mut bytes = postcard::to_stdvec(&state).expect("partition state is plain data");
    if let Some(backfill) = backfill {
        bytes.extend(postcard::to_stdvec(&backfill).expect("a backfill is plain data"));
    }
    bytes
}

const START: Progress = Progress { next_offset: 0, time: Timestamp::MIN, behind: 0, notifications_offset: 0 };

impl Partition {
    /// Opens a partition: restores its checkpoint, applies the log up to the last commit without
    /// emitting anything, and compares the result with what was emitted. A difference, which
    /// is emitted, means that the engine decides differently now (`repair`) or that a user was
    /// deleted (`delete`).
    pub async fn open(id: PartitionId, ports: Ports, settings: Settings) -> Result<Self, WorkerError> {
        let mut partition = Self::restore(id, ports, settings).await?;
        tracing::debug!(partition = id.0, offset = partition.marker.next_offset, "restored the checkpoint");
        let committed = partition.ports.log.committed(id).await?;
        // If the log has lost its end, its last commit may be older than the checkpoint.
        let committed = committed.filter(|committed| committed.next_offset >= partition.marker.next_offset);
        let Some(committed) = committed else { return Ok(partition) };
        let emitted = partition.notifications_until(committed).await?;
        let recomputed = partition.fold_until(committed).await?;
        let records = committed.next_offset - partition.marker.next_offset;
        tracing::debug!(partition = id.0, records, "applied the records since the checkpoint");
        partition.progress = committed;
        if committed != partition.marker {
            partition.changed_at = partition.ports.clock.now();
        }
        let recomputed = partition.take_untold(committed.settled(), &emitted, recomputed).await?;
        partition.repair(emitted, recomputed).await?;
        Ok(partition)
    }

    async fn restore(id: PartitionId, ports: Ports, settings: Settings) -> Result<Self, WorkerError> {
        ports.checkpoints.forget_added(id).await?;
        let State { machine, tombstones, backfill, marker } = usable_state(id, &ports, settings).await?;
        if let Some(offset) = backfill.goes_on_at() {
            tracing::info!(partition = id.0, offset, "goes on reading the history of new segments");
        }
        ports.left_out.begin(id, marker.next_offset);
        Ok(Self {
            id,
            ports,
            settings,
            machine,
            tombstones,
            progress: marker,
            backfill,
            merged_below: marker.next_offset,
            outgoing: Vec::new(),
            untold: VecDeque::new(),
            told: HashMap::new(),
            records_per_turn: 0.0,
            left_out: Vec::new(),
            marker,
            saving: Saving::default(),
            saving_since: Instant::now(),
            changed_at: Timestamp::MAX,
        })
    }

    /// Reads the notifications between the checkpoint and the last commit, by user.
    async fn notifications_until(&self, committed: Progress) -> Result<BTreeMap<UserId, Vec<Emitted>>, WorkerError> {
        let mut emitted: BTreeMap<UserId, Vec<Emitted>> = BTreeMap::new();
        let mut from = self.marker.notifications_offset;
        while from < committed.notifications_offset {
            let batch = self.ports.log.read(Topic::Notifications, self.id, from, BATCH_BYTES_MAX).await?;
            if batch.records.is_empty() {
                break;
            }
            for record in batch.records.iter().filter(|record| record.offset < committed.notifications_offset) {
                match serde_json::from_slice::<Notification>(&record.value) {
                    Ok(notification) => {
                        emitted.entry(notification.user_id).or_default().push(Emitted::from(notification))
                    }
                    Err(error) => tracing::error!(offset = record.offset, %error, "a notification cannot be read"),
                }
            }
            from = batch.next_offset;
        }
        Ok(emitted)
    }

    /// Applies the records up to the last commit again. Their notifications were emitted before.
    async fn fold_until(&mut self, committed: Progress) -> Result<BTreeMap<UserId, Vec<Change>>, WorkerError> {
        let mut slice = Slice::begin(self.settings.slice);
        while self.progress.next_offset < committed.next_offset {
            let batch = self.ports.log.read(Topic::Events, self.id, self.progress.next_offset, BATCH_BYTES_MAX).await?;
            if batch.records.is_empty() {
                break;
            }
            for record in batch.records.iter().filter(|record| record.offset < committed.next_offset) {
                self.apply(record).await?;
                slice.end_if_over().await;
            }
            self.progress.next_offset = batch.next_offset.min(committed.next_offset);
            let left_out = std::mem::take(&mut self.left_out);
            self.ports.left_out.decided(self.id, self.progress.next_offset, &left_out);
        }
        self.machine.advance(committed.time, usize::MAX);
        self.outgoing.clear();
        self.machine.take_failures();
        let mut recomputed: BTreeMap<UserId, Vec<Change>> = BTreeMap::new();
        for change in self.machine.take_changes() {
            recomputed.entry(change.user).or_default().push(change);
        }
        Ok(recomputed)
    }

    /// Takes the changes of users who were behind: they come after what was emitted for the user, and
    /// after the instant up to which everything was. Returns the others.
    async fn take_untold(
        &mut self,
        settled: Timestamp,
        emitted: &BTreeMap<UserId, Vec<Emitted>>,
        recomputed: BTreeMap<UserId, Vec<Change>>,
    ) -> Result<BTreeMap<UserId, Vec<Emitted>>, WorkerError> {
        let (mut told, mut untold) = (BTreeMap::new(), Vec::new());
        for (user, mut changes) in recomputed {
            let emitted = emitted.get(&user).map_or(&[][..], Vec::as_slice);
            let mut recomputed: Vec<Emitted> = changes.iter().map(Emitted::from).collect();
            if recomputed.len() > emitted.len()
                && recomputed.starts_with(emitted)
                && changes[emitted.len()..].iter().all(|change| change.effective_at > settled)
            {
                untold.push((user, changes.split_off(emitted.len())));
                recomputed.truncate(emitted.len());
            }
            if !recomputed.is_empty() {
                told.insert(user, recomputed);
            }
        }
        let users: Vec<UserId> = untold.iter().map(|(user, _)| *user).collect();
        let departures = self.ports.warehouse.departures(&users).await?;
        let mut changes = Vec::new();
        for ((user, theirs), departure) in untold.into_iter().zip(departures) {
            if departure == Some(Departure::Deleted) {
                // They were recomputed without the history, which the archiver has removed.
                told.entry(user).or_default().extend(theirs.iter().map(Emitted::from));
            } else {
                changes.extend(theirs);
            }
        }
        // In the order in which they would have been emitted.
        changes.sort_by_key(|change| change.effective_at);
        self.untold = changes.into();
        Ok(told)
    }

    /// Emits the difference between what was emitted and what the same records give now.
    async fn repair(
        &mut self,
        emitted: BTreeMap<UserId, Vec<Emitted>>,
        recomputed: BTreeMap<UserId, Vec<Emitted>>,
    ) -> Result<(), WorkerError> {
        let nothing = Vec::new();
        let of = |user| (emitted.get(&user).unwrap_or(&nothing), recomputed.get(&user).unwrap_or(&nothing));
        let users: BTreeSet<UserId> = emitted.keys().chain(recomputed.keys()).copied().collect();
        let differ = users.into_iter().filter(|user| of(*user).0 != of(*user).1);
        let users: Vec<UserId> = differ.collect();
        let departures = self.ports.warehouse.departures(&users).await?;
        for (user, departure) in users.into_iter().zip(departures) {
            let (emitted, recomputed) = of(user);
            let mut known = self.machine.memberships(user);
            recomputed.iter().rev().for_each(|change| change.undo(&mut known));
            emitted.iter().for_each(|change| change.redo(&mut known));
            if known.is_empty() && !self.machine.knows(user) {
                // The user was merged into one that was deleted, and the history went with it.
                continue;
            }
            let cause = if departure == Some(Departure::Deleted) {
                // The record of the deletion is on its way; the archiver was faster and has removed
                // the history.
                Cause::Delete
            } else {
                tracing::error!(%user, partition = self.id.0, "recovery finds other memberships than were emitted: repairing");
                metrics::counter!("uss_audit_disagreements_total").increment(1);
                Cause::Repair
            };
            let sequence = emitted.iter().chain(recomputed).map(|change| change.sequence).max().unwrap_or(0);
            let last = emitted.last().map_or(sequence - recomputed.len() as u64, |change| change.sequence);
            self.machine.reconcile(user, &known, last, cause);
        }
        Ok(())
    }
}

/// A restored checkpoint.
struct State {
    machine: Machine,
    tombstones: HashMap<UserId, Tombstone>,
    backfill: Backfill,
    marker: Progress,
}

/// Returns the state to begin with: the latest checkpoint; if that cannot be used, the kept one;
/// with neither, nothing, if the log still has its beginning. A checkpoint is discarded only after
/// something else has proved usable.
async fn usable_state(id: PartitionId, ports: &Ports, settings: Settings) -> Result<State, WorkerError> {
    let log = Retained::of(id, ports.log.as_ref()).await?;
    match read_generation(id, ports, settings, Generation::Latest).await? {
        Ok(Some(state)) => {
            log.goes_on_from(state.marker)?;
            return Ok(state);
        }
        Ok(None) if log.goes_on_from(START).is_ok() => return Ok(State::new(settings)),
        Ok(None) => tracing::error!(partition = id.0, "there is no checkpoint, and the log has lost its beginning"),
        Err(reason) => tracing::error!(partition = id.0, reason, "the checkpoint cannot be used"),
    }
    match read_generation(id, ports, settings, Generation::Kept).await? {
        Ok(Some(state)) => {
            log.goes_on_from(state.marker)?;
            let offset = state.marker.next_offset;
            tracing::error!(partition = id.0, offset, "falling back to the kept checkpoint, and the log after it");
            ports.checkpoints.fall_back(id).await?;
            return Ok(state);
        }
        Ok(None) => {}
        Err(reason) => tracing::error!(partition = id.0, reason, "the kept checkpoint cannot be used either"),
    }
    log.goes_on_from(START)?;
    tracing::error!(partition = id.0, "rebuilding from the whole log");
    ports.checkpoints.discard(id).await?;
    Ok(State::new(settings))
}

/// The first offsets that are left of a partition's topics.
struct Retained {
    partition: PartitionId,
    events: u64,
    notifications: u64,
}

impl Retained {
    async fn of(partition: PartitionId, log: &dyn Log) -> Result<Self, LogError> {
        let (events, _) = log.bounds(Topic::Events, partition).await?;
        let (notifications, _) = log.bounds(Topic::Notifications, partition).await?;
        Ok(Self { partition, events, notifications })
    }

    /// Fails if records after a checkpoint were trimmed.
    fn goes_on_from(&self, marker: Progress) -> Result<(), WorkerError> {
        if self.events <= marker.next_offset && self.notifications <= marker.notifications_offset {
            return Ok(());
        }
        let Self { partition, events: first, .. } = *self;
        Err(WorkerError::Trimmed { partition, first, checkpoint: marker.next_offset })
    }
}

/// Returns the state of a generation; `None` if there is none; or the reason why it cannot be used.
///
/// # Errors
/// It cannot be read now, or a newer build wrote it.
async fn read_generation(
    id: PartitionId,
    ports: &Ports,
    settings: Settings,
    generation: Generation,
) -> Result<Result<Option<State>, String>, WorkerError> {
    let loaded = match ports.checkpoints.load(id, generation).await {
        Err(CheckpointError::Corrupt { reason, .. }) => return Ok(Err(reason)),
        loaded => loaded?,
    };
    match loaded.map(|loaded| State::read(loaded, settings, &ports.plans)).transpose() {
        Err(source @ SnapshotError::Newer(_)) => Err(WorkerError::Newer { partition: id, source }),
        read => Ok(read.map_err(|error| error.to_string())),
    }
}

/// Fails if the latest checkpoint cannot be used. Retention checks it before it keeps it as the
/// fallback.
pub(crate) async fn check_latest(id: PartitionId, ports: &Ports, settings: Settings) -> Result<(), CheckpointError> {
    let Some(latest) = ports.checkpoints.load(id, Generation::Latest).await? else { return Ok(()) };
    // On another thread than the workers' turns: it may be large.
    let plans = ports.plans.clone();
    let read = tokio::task::spawn_blocking(move || State::read(latest, settings, &plans).map(drop)).await;
    let read = read.map_err(|error| CheckpointError::Unavailable(error.to_string()))?;
    read.map_err(|error| CheckpointError::Corrupt { partition: id, reason: error.to_string() })
}

impl State {
    fn new(settings: Settings) -> Self {
        let (machine, backfill) = (Machine::new(settings.machine), Backfill::default());
        Self { machine, tombstones: HashMap::new(), backfill, marker: START }
    }

    fn read(restored: Restored, settings: Settings, plans: &Plans) -> Result<Self, SnapshotError> {
        let format = |error: postcard::Error| SnapshotError::Format(error.to_string());
        let (state, rest): (PartitionState, _) =
            postcard::take_from_bytes(&restored.partition_state).map_err(format)?;
        let offset = restored.marker.next_offset;
        let mut plan = |clause: &str| plans.plan(clause);
        let mut machine = Machine::load_state_with(&state.machine, offset, settings.machine, &mut plan)?;
        for (_, block) in &restored.users {
            machine.load_user(block)?;
        }
        let backfill = if rest.is_empty() {
            Backfill::default()
        } else {
            Backfill::load(postcard::from_bytes(rest).map_err(format)?, &machine)?
        };
        Ok(Self { machine, tombstones: state.tombstones, backfill, marker: restored.marker })
    }
}

/// The changes of one notification.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Emitted {
    sequence: u64,
    entered: Vec<SegmentId>,
    left: Vec<SegmentId>,
}

impl Emitted {
    fn redo(&self, members: &mut Vec<SegmentId>) {
        members.retain(|segment| !self.left.contains(segment));
        members.extend(&self.entered);
    }

    fn undo(&self, members: &mut Vec<SegmentId>) {
        members.retain(|segment| !self.entered.contains(segment));
        members.extend(&self.left);
    }
}

impl From<Notification> for Emitted {
    fn from(notification: Notification) -> Self {
        let Notification { sequence, in_segments: entered, out_segments: left, .. } = notification;
        Self { sequence, entered, left }
    }
}

impl From<&Change> for Emitted {
    fn from(change: &Change) -> Self {
        Self { sequence: change.sequence, entered: change.entered.clone(), left: change.left.clone() }
    }
}

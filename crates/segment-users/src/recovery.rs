//! Opening a partition: from its last checkpoint and the log to exactly where it was committed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ports::checkpoints::{CheckpointError, Restored};
use ports::log::{Progress, Topic};
use ports::records::{Cause, Notification};
use ports::warehouse::Departure;
use segment_engine::event::UserId;
use segment_engine::machine::{Change, Machine, SnapshotError};
use segment_engine::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::backfill::Backfill;
use crate::partition::{Gone, Partition, Ports, WorkerError};
use crate::settings::Settings;

const BATCH_BYTES_MAX: usize = 4 << 20;

/// A partition's state besides its users.
#[derive(Serialize, Deserialize)]
struct PartitionState {
    machine: Vec<u8>,
    gone: HashMap<UserId, Gone>,
}

pub(crate) fn encode_state(machine: &Machine, gone: &HashMap<UserId, Gone>) -> Vec<u8> {
    let state = PartitionState { machine: machine.save_state(), gone: gone.clone() };
    postcard::to_stdvec(&state).expect("partition state is plain data")
}

const START: Progress = Progress { next_offset: 0, time: Timestamp::MIN, config_offset: 0, notifications_offset: 0 };

impl Partition {
    /// Opens a partition: restores its checkpoint, folds the log silently up to the last commit, and compares what it would have told
    /// with what was told. A difference, which only a change of the engine can cause, is told as a repair.
    pub async fn open(id: u32, ports: Ports, settings: Settings) -> Result<Self, WorkerError> {
        let mut partition = Self::restore(id, ports, settings).await?;
        let Some(committed) = partition.ports.log.committed(id).await? else { return Ok(partition) };
        let (first, _) = partition.ports.log.bounds(Topic::Events, id).await?;
        if first > partition.marker.next_offset {
            let checkpoint = partition.marker.next_offset;
            return Err(WorkerError::Trimmed { partition: id, first, checkpoint });
        }
        let told = partition.notifications_until(committed).await?;
        let retold = partition.fold_until(committed).await?;
        partition.progress = committed;
        partition.repair(told, retold).await?;
        Ok(partition)
    }

    async fn restore(id: u32, ports: Ports, settings: Settings) -> Result<Self, WorkerError> {
        let restored = match ports.checkpoints.load(id).await {
            Err(CheckpointError::Corrupt { reason, .. }) => Err(reason),
            loaded => loaded?.map(|loaded| read_checkpoint(loaded, settings)).transpose().map_err(|it| it.to_string()),
        };
        let restored = match restored {
            Ok(restored) => restored,
            Err(reason) => {
                tracing::error!(partition = id, reason, "the checkpoint is of no use: rebuilding from the log");
                ports.checkpoints.discard(id).await?;
                None
            }
        };
        let (machine, gone, marker) =
            restored.unwrap_or_else(|| (Machine::new(settings.machine), HashMap::new(), START));
        let checkpointed_at = ports.clock.now();
        Ok(Self {
            id,
            ports,
            settings,
            machine,
            gone,
            progress: marker,
            backfill: Backfill::default(),
            outgoing: Vec::new(),
            marker,
            checkpointed_at,
        })
    }

    /// The notifications between the checkpoint and the last commit, by user.
    async fn notifications_until(&self, committed: Progress) -> Result<BTreeMap<UserId, Vec<Told>>, WorkerError> {
        let mut told: BTreeMap<UserId, Vec<Told>> = BTreeMap::new();
        let mut from = self.marker.notifications_offset;
        while from < committed.notifications_offset {
            let batch = self.ports.log.read(Topic::Notifications, self.id, from, BATCH_BYTES_MAX).await?;
            if batch.records.is_empty() {
                break;
            }
            for record in batch.records.iter().filter(|record| record.offset < committed.notifications_offset) {
                match serde_json::from_slice::<Notification>(&record.value) {
                    Ok(notification) => told.entry(notification.user_id).or_default().push(Told::from(notification)),
                    Err(error) => tracing::error!(offset = record.offset, %error, "a notification cannot be read"),
                }
            }
            from = batch.next_offset;
        }
        Ok(told)
    }

    /// Applies the records up to the last commit again. What comes of them was told before.
    async fn fold_until(&mut self, committed: Progress) -> Result<BTreeMap<UserId, Vec<Told>>, WorkerError> {
        while self.progress.next_offset < committed.next_offset {
            let batch = self.ports.log.read(Topic::Events, self.id, self.progress.next_offset, BATCH_BYTES_MAX).await?;
            if batch.records.is_empty() {
                break;
            }
            for record in batch.records.iter().filter(|record| record.offset < committed.next_offset) {
                self.apply(record).await?;
            }
            self.progress.next_offset = batch.next_offset.min(committed.next_offset);
        }
        self.machine.advance(committed.time, usize::MAX);
        self.outgoing.clear();
        self.machine.take_failures();
        let mut retold: BTreeMap<UserId, Vec<Told>> = BTreeMap::new();
        for change in self.machine.take_changes() {
            retold.entry(change.user).or_default().push(Told::from(change));
        }
        Ok(retold)
    }

    /// Tells the difference between what was told and what comes of the same records now.
    async fn repair(
        &mut self,
        told: BTreeMap<UserId, Vec<Told>>,
        retold: BTreeMap<UserId, Vec<Told>>,
    ) -> Result<(), WorkerError> {
        let nothing = Vec::new();
        let of = |user| (told.get(&user).unwrap_or(&nothing), retold.get(&user).unwrap_or(&nothing));
        let users: BTreeSet<UserId> = told.keys().chain(retold.keys()).copied().collect();
        let differ = users.into_iter().filter(|user| of(*user).0 != of(*user).1);
        let users: Vec<UserId> = differ.collect();
        let departures = self.ports.warehouse.departures(&users).await?;
        for (user, departure) in users.into_iter().zip(departures) {
            let (told, retold) = of(user);
            let cause = if departure == Some(Departure::Deleted) {
                // The record of its deletion is on its way here, but the archiver was faster: its history is gone.
                Cause::Delete
            } else {
                tracing::error!(%user, partition = self.id, "recovery finds other memberships than were told: repairing");
                metrics::counter!("uss_audit_disagreements_total").increment(1);
                Cause::Repair
            };
            let mut emitted = self.machine.memberships(user);
            for told in retold.iter().rev() {
                told.undo(&mut emitted);
            }
            for told in told {
                told.redo(&mut emitted);
            }
            let sequence = told.iter().chain(retold).map(|told| told.sequence).max().unwrap_or(0);
            let told_last = told.last().map(|told| told.sequence);
            self.machine.reconcile(user, &emitted, told_last.unwrap_or(sequence - retold.len() as u64), cause);
        }
        Ok(())
    }
}

/// A machine as a checkpoint has it, who is gone, and where they stand.
fn read_checkpoint(
    restored: Restored,
    settings: Settings,
) -> Result<(Machine, HashMap<UserId, Gone>, Progress), SnapshotError> {
    let state: PartitionState =
        postcard::from_bytes(&restored.partition_state).map_err(|error| SnapshotError::Format(error.to_string()))?;
    let mut machine = Machine::load_state(&state.machine, restored.marker.next_offset, settings.machine)?;
    for (_, block) in &restored.users {
        machine.load_user(block)?;
    }
    Ok((machine, state.gone, restored.marker))
}

/// A notification as far as it changes anything.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    sequence: u64,
    entered: Vec<i64>,
    left: Vec<i64>,
}

impl Told {
    fn redo(&self, members: &mut Vec<i64>) {
        members.retain(|segment| !self.left.contains(segment));
        members.extend(&self.entered);
    }

    fn undo(&self, members: &mut Vec<i64>) {
        members.retain(|segment| !self.entered.contains(segment));
        members.extend(&self.left);
    }
}

impl From<Notification> for Told {
    fn from(notification: Notification) -> Self {
        let Notification { sequence, in_segments: entered, out_segments: left, .. } = notification;
        Self { sequence, entered, left }
    }
}

impl From<Change> for Told {
    fn from(change: Change) -> Self {
        Self { sequence: change.sequence, entered: change.entered, left: change.left }
    }
}

//! Checkpoints of a partition, written while it goes on.

use std::time::Instant;

use ports::checkpoints::{Checkpoint, CheckpointError};
use ports::log::{Commit, Progress};
use segment_engine::time::Timestamp;
use tokio::task::{JoinError, JoinSet};

use super::{CHANGES_PER_COMMIT, Partition, WorkerError, recovery};

/// For how many intervals a checkpoint is put off while users are behind, or a segment waits for its
/// history or to take effect: it would wait for them, and hold users whom the segment is about to change.
const PUT_OFF_MAX: i64 = 5;
/// The same while a checkpoint would write all of many users. To write a user takes longer than to apply
/// an event, so a busy partition would spend most of its time on checkpoints. A restart applies up to
/// three times as many records again. After a segment has read its history, the next checkpoint is not
/// put off for this reason: until it is stored, a restart reads that history again.
const PUT_OFF_WHOLE: i64 = 2;
/// How many intervals a scan of the history has run before a checkpoint has what was read. Until then a
/// restart reads it again: that takes less than to write all users.
const LONG_SCAN: i64 = PUT_OFF_MAX + 1;
/// Fewer are written in some ten milliseconds.
const MANY_USERS: usize = 8_192;

/// The checkpoint that is being written, if one is. What the store does is a task of its own: a turn
/// does not wait for it, and nothing that is dropped abandons it half-way.
#[derive(Default)]
pub(crate) enum Saving {
    #[default]
    Nothing,
    /// The next users can be added.
    Users(Checkpoint),
    /// The store adds users.
    Adding(Checkpoint, StoreTask),
    /// The store completes it.
    Completing(Progress, StoreTask),
    /// The store has completed it.
    Done(Progress),
    Failed(WorkerError),
}

type StoreTask = JoinSet<Result<(), CheckpointError>>;

impl Saving {
    fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    /// Whether users can be added.
    pub(crate) fn has_work(&self) -> bool {
        matches!(self, Self::Users(_))
    }

    /// Waits until there is a step to do; for ever, if nothing is being written. Cancel-safe.
    pub(crate) async fn continues(&mut self) {
        match self {
            Self::Nothing => std::future::pending().await,
            Self::Users(_) | Self::Done(_) | Self::Failed(_) => {}
            Self::Adding(_, task) | Self::Completing(_, task) => {
                let ended = task.join_next().await;
                self.store_ended(ended);
            }
        }
    }

    /// Waits until the store does nothing for the checkpoint any longer. Only then may the partition be
    /// opened again.
    pub(crate) async fn end(&mut self) {
        if let Self::Adding(_, task) | Self::Completing(_, task) = self {
            let _ends = task.join_next().await;
        }
    }

    fn store_ended(&mut self, ended: Option<Result<Result<(), CheckpointError>, JoinError>>) {
        let done = match ended {
            Some(Ok(done)) => done.map_err(WorkerError::from),
            Some(Err(error)) => Err(WorkerError::Panicked(error.to_string())),
            None => unreachable!("there is one task"),
        };
        *self = match (std::mem::take(self), done) {
            (_, Err(error)) => Self::Failed(error),
            (Self::Adding(checkpoint, _), Ok(())) => Self::Users(checkpoint),
            (Self::Completing(marker, _), Ok(())) => Self::Done(marker),
            (other, Ok(())) => other,
        };
    }
}

impl Partition {
    /// Returns when the next checkpoint is due; never, if nothing has happened since the last, it is still
    /// being written, or what a backfill has read is on its way to the users.
    pub(crate) fn checkpoint_due(&self) -> Timestamp {
        if !self.saving.is_nothing() || self.backfill.is_in_between() {
            return Timestamp::MAX;
        }
        let is_level = self.untold.is_empty() && self.machine.settled_until() >= self.machine.now();
        let reads_history = !self.machine.incomplete().is_empty() || !self.machine.ready().is_empty();
        let put_off = if !is_level || reads_history {
            PUT_OFF_MAX
        } else if self.machine.most_changed()
            && !self.machine.has_read_history()
            && self.machine.user_count() > MANY_USERS
        {
            PUT_OFF_WHOLE
        } else {
            0
        };
        let after = self.settings.checkpoint_interval_micros.saturating_mul(1 + put_off);
        let due = Timestamp(self.changed_at.0.saturating_add(after));
        if reads_history { due.max(self.backfill.undisturbed_until(self.ports.clock.now())) } else { due }
    }

    /// Does a step of the checkpoint that is being written; or begins one, if something happened since
    /// the last, and that is long enough ago.
    pub async fn checkpoint_if_due(&mut self) -> Result<(), WorkerError> {
        self.hand_over_users();
        self.tend_checkpoint().await
    }

    /// Takes note of what the store did for the checkpoint that is being written; begins one, if none
    /// is, something happened since the last, and that is long enough ago.
    pub(crate) async fn tend_checkpoint(&mut self) -> Result<(), WorkerError> {
        self.note_stored()?;
        let is_due = self.ports.clock.now() >= self.checkpoint_due();
        if is_due { self.begin_checkpoint().await } else { Ok(()) }
    }

    /// Writes a checkpoint: the users that changed since the last one, or all, and their position.
    pub async fn checkpoint(&mut self) -> Result<(), WorkerError> {
        self.complete_checkpoint().await?;
        while self.backfill.is_in_between() {
            self.fill();
            tokio::task::yield_now().await;
        }
        self.begin_checkpoint().await?;
        self.complete_checkpoint().await
    }

    async fn complete_checkpoint(&mut self) -> Result<(), WorkerError> {
        while !self.saving.is_nothing() {
            self.saving.continues().await;
            self.note_stored()?;
            self.hand_over_users();
        }
        Ok(())
    }

    /// Begins a checkpoint of the present instant.
    async fn begin_checkpoint(&mut self) -> Result<(), WorkerError> {
        // A restart does not emit again what the checkpoint includes.
        loop {
            let is_level = self.machine.advance(self.machine.now(), CHANGES_PER_COMMIT);
            self.commit(self.progress.next_offset).await?;
            if is_level && self.untold.is_empty() {
                break;
            }
        }
        // The log must not hand out instants that the checkpoint has passed, so the time is
        // committed first.
        let progress = Progress { time: self.machine.now(), behind: 0, ..self.progress };
        self.ports.log.commit(Commit { partition: self.id, progress, records: Vec::new() }).await?;
        let marker = self.ports.log.committed(self.id).await?.unwrap_or(progress);
        let long = self.settings.checkpoint_interval_micros.saturating_mul(LONG_SCAN);
        let long_ago = Timestamp(self.ports.clock.now().0.saturating_sub(long));
        let apart = self.backfill.to_save(&self.machine, long_ago);
        let is_whole = self.machine.begin_saving(&apart);
        let backfill = (!apart.is_empty()).then(|| self.backfill.save(&self.machine));
        let partition_state = recovery::encode_state(&self.machine, &self.tombstones, backfill);
        let (partition, users) = (self.id, Vec::new());
        self.saving = Saving::Users(Checkpoint { partition, users, is_whole, partition_state, marker });
        self.saving_since = Instant::now();
        self.progress = marker;
        self.changed_at = Timestamp::MAX;
        Ok(())
    }

    fn note_stored(&mut self) -> Result<(), WorkerError> {
        if let Saving::Adding(_, task) | Saving::Completing(_, task) = &mut self.saving {
            let ended = task.try_join_next();
            if ended.is_some() {
                self.saving.store_ended(ended);
            }
        }
        match std::mem::take(&mut self.saving) {
            Saving::Done(marker) => {
                metrics::histogram!("uss_checkpoint_seconds").record(self.saving_since.elapsed().as_secs_f64());
                self.marker = marker;
            }
            Saving::Failed(error) => return Err(error),
            other => self.saving = other,
        }
        Ok(())
    }

    /// Hands over the next users of the checkpoint that is being written, if they can be added; at the
    /// end, the checkpoint.
    pub(crate) fn hand_over_users(&mut self) {
        self.saving = match std::mem::take(&mut self.saving) {
            Saving::Users(checkpoint) => {
                let (mut task, store) = (JoinSet::new(), self.ports.checkpoints.clone());
                let holds_up = self.machine.is_saving_apart();
                let users = self.machine.save_some(self.settings.checkpoint_users_per_step);
                if holds_up && !self.machine.is_saving_apart() {
                    self.backfill.was_held_up(self.saving_since.elapsed());
                }
                if users.is_empty() {
                    let marker = checkpoint.marker;
                    task.spawn(async move { store.write(checkpoint).await });
                    Saving::Completing(marker, task)
                } else {
                    let partition = self.id;
                    task.spawn(async move { store.add(partition, users).await });
                    Saving::Adding(checkpoint, task)
                }
            }
            other => other,
        };
    }

    /// Hands over all users of the checkpoint that is being written, because what follows changes
    /// what their blocks hold. Cancel-safe.
    pub(super) async fn save_before_change(&mut self) -> Result<(), WorkerError> {
        while let Saving::Users(_) | Saving::Adding(..) = self.saving {
            self.saving.continues().await;
            self.note_stored()?;
            self.hand_over_users();
        }
        Ok(())
    }
}

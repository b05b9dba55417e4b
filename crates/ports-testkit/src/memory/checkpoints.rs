//! Checkpoints in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use segment_engine::ids::{PartitionId, UserId};

use ports::checkpoints::{Blocks, Checkpoint, CheckpointError, CheckpointStore, Generation, Restored};
use ports::log::Progress;

/// Checkpoints in memory; clones share them.
#[derive(Clone, Default)]
pub struct MemoryCheckpoints {
    stored: Arc<Mutex<HashMap<(PartitionId, Generation), Stored>>>,
    added: Arc<Mutex<HashMap<PartitionId, Blocks>>>,
}

#[derive(Clone)]
struct Stored {
    partition_state: Vec<u8>,
    marker: Progress,
    users: BTreeMap<UserId, Vec<u8>>,
}

impl MemoryCheckpoints {
    fn stored(&self) -> MutexGuard<'_, HashMap<(PartitionId, Generation), Stored>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what was added to the next checkpoint, and forgets it.
    fn take_added(&self, partition: PartitionId) -> Blocks {
        let mut added = self.added.lock().unwrap_or_else(PoisonError::into_inner);
        added.remove(&partition).unwrap_or_default()
    }

    /// Copies one generation over the other. Returns its marker.
    fn copy(&self, partition: PartitionId, from: Generation, to: Generation) -> Option<Progress> {
        let mut stored = self.stored();
        let copy = stored.get(&(partition, from))?.clone();
        let marker = copy.marker;
        stored.insert((partition, to), copy);
        Some(marker)
    }
}

#[async_trait]
impl CheckpointStore for MemoryCheckpoints {
    async fn add(&self, partition: PartitionId, users: Blocks) -> Result<(), CheckpointError> {
        let mut added = self.added.lock().unwrap_or_else(PoisonError::into_inner);
        added.entry(partition).or_default().extend(users);
        Ok(())
    }

    async fn forget_added(&self, partition: PartitionId) -> Result<(), CheckpointError> {
        self.take_added(partition);
        Ok(())
    }

    async fn write(&self, checkpoint: Checkpoint) -> Result<(), CheckpointError> {
        let added = self.take_added(checkpoint.partition);
        let mut stored = self.stored();
        let latest = (checkpoint.partition, Generation::Latest);
        let before = stored.remove(&latest).filter(|_| !checkpoint.is_whole);
        let mut users = before.map(|stored| stored.users).unwrap_or_default();
        for (user, block) in added.into_iter().chain(checkpoint.users) {
            match block {
                Some(block) => users.insert(user, block),
                None => users.remove(&user),
            };
        }
        let Checkpoint { partition_state, marker, .. } = checkpoint;
        stored.insert(latest, Stored { partition_state, marker, users });
        Ok(())
    }

    async fn load(&self, partition: PartitionId, generation: Generation) -> Result<Option<Restored>, CheckpointError> {
        Ok(self.stored().get(&(partition, generation)).map(|stored| Restored {
            partition_state: stored.partition_state.clone(),
            marker: stored.marker,
            users: stored.users.iter().map(|(user, block)| (*user, block.clone())).collect(),
        }))
    }

    async fn marker(
        &self,
        partition: PartitionId,
        generation: Generation,
    ) -> Result<Option<Progress>, CheckpointError> {
        Ok(self.stored().get(&(partition, generation)).map(|stored| stored.marker))
    }

    async fn keep(&self, partition: PartitionId) -> Result<Option<Progress>, CheckpointError> {
        Ok(self.copy(partition, Generation::Latest, Generation::Kept))
    }

    async fn fall_back(&self, partition: PartitionId) -> Result<(), CheckpointError> {
        self.copy(partition, Generation::Kept, Generation::Latest);
        Ok(())
    }

    async fn discard(&self, partition: PartitionId) -> Result<(), CheckpointError> {
        self.take_added(partition);
        self.stored().retain(|(other, _), _| *other != partition);
        Ok(())
    }
}

//! Checkpoints in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use segment_engine::event::UserId;

use crate::checkpoints::{Checkpoint, CheckpointError, CheckpointStore, Restored};
use crate::log::Progress;

/// Checkpoints in memory; clones share them.
#[derive(Clone, Default)]
pub struct MemoryCheckpoints {
    partitions: Arc<Mutex<HashMap<u32, Stored>>>,
}

struct Stored {
    partition_state: Vec<u8>,
    marker: Progress,
    users: BTreeMap<UserId, Vec<u8>>,
}

impl MemoryCheckpoints {
    fn partitions(&self) -> MutexGuard<'_, HashMap<u32, Stored>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl CheckpointStore for MemoryCheckpoints {
    async fn write(&self, checkpoint: Checkpoint) -> Result<(), CheckpointError> {
        let mut partitions = self.partitions();
        let mut users = partitions.remove(&checkpoint.partition).map(|stored| stored.users).unwrap_or_default();
        for (user, block) in checkpoint.users {
            match block {
                Some(block) => users.insert(user, block),
                None => users.remove(&user),
            };
        }
        let stored = Stored { partition_state: checkpoint.partition_state, marker: checkpoint.marker, users };
        partitions.insert(checkpoint.partition, stored);
        Ok(())
    }

    async fn load(&self, partition: u32) -> Result<Option<Restored>, CheckpointError> {
        Ok(self.partitions().get(&partition).map(|stored| Restored {
            partition_state: stored.partition_state.clone(),
            marker: stored.marker,
            users: stored.users.iter().map(|(user, block)| (*user, block.clone())).collect(),
        }))
    }

    async fn discard(&self, partition: u32) -> Result<(), CheckpointError> {
        self.partitions().remove(&partition);
        Ok(())
    }
}

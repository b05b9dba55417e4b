//! Checkpoints: a worker's state per user, so that a restart replays little of the log.

use async_trait::async_trait;
use segment_engine::ids::{PartitionId, UserId};

use crate::log::Progress;

/// Users and their blocks; `None` removes a block.
pub type Blocks = Vec<(UserId, Option<Vec<u8>>)>;

/// One checkpoint: the blocks of the users that changed since the one before, or of all.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The partition of the event topic.
    pub partition: PartitionId,
    /// The blocks, but for those that were [added](CheckpointStore::add) before.
    pub users: Blocks,
    /// Whether it has every user. Then no block of the checkpoints before counts any longer.
    pub is_whole: bool,
    /// The state of the partition as a whole (segments in force, running backfills).
    pub partition_state: Vec<u8>,
    /// The progress that the blocks include. A checkpoint without its marker was never written.
    pub marker: Progress,
}

/// Which of a partition's checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Generation {
    /// The one that [`CheckpointStore::write`] updates.
    Latest,
    /// The one that was [kept](CheckpointStore::keep), to fall back to.
    Kept,
}

/// What [`CheckpointStore::load`] returns.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The state of the partition as a whole.
    pub partition_state: Vec<u8>,
    /// The progress that state and blocks include.
    pub marker: Progress,
    /// Every user's block, by user id.
    pub users: Vec<(UserId, Vec<u8>)>,
}

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// It cannot be read or written now.
    #[error("the checkpoint store is unavailable: {0}")]
    Unavailable(String),
    /// A block fails its checksum. The caller falls back to the kept checkpoint, or rebuilds from
    /// the whole log.
    #[error("the checkpoint of partition {partition} is damaged: {reason}")]
    Corrupt {
        /// The partition of the event topic.
        partition: PartitionId,
        /// Which block is damaged, and how.
        reason: String,
    },
}

/// The checkpoint port.
#[async_trait]
pub trait CheckpointStore: Send + Sync + 'static {
    /// Adds blocks to the partition's next checkpoint. Until that is [written](Self::write) they count
    /// for nothing. A checkpoint has a user once.
    async fn add(&self, partition: PartitionId, users: Blocks) -> Result<(), CheckpointError>;

    /// Forgets the blocks that were added to a checkpoint that was never written.
    async fn forget_added(&self, partition: PartitionId) -> Result<(), CheckpointError>;

    /// Writes a checkpoint atomically and durably, with the blocks that were added.
    async fn write(&self, checkpoint: Checkpoint) -> Result<(), CheckpointError>;

    /// Returns the state at the generation's marker; `None` if there is none. Verifies every
    /// block's checksum.
    async fn load(&self, partition: PartitionId, generation: Generation) -> Result<Option<Restored>, CheckpointError>;

    /// Returns the generation's marker; `None` if there is none. Reads no blocks.
    async fn marker(&self, partition: PartitionId, generation: Generation)
    -> Result<Option<Progress>, CheckpointError>;

    /// Keeps a copy of the latest checkpoint to fall back to, in place of the one kept before,
    /// atomically and durably. Returns its marker; `None` if there is no latest one. Verifies every
    /// block's checksum: if one fails, the checkpoint that was kept before stays.
    async fn keep(&self, partition: PartitionId) -> Result<Option<Progress>, CheckpointError>;

    /// Atomically replaces the latest checkpoint by the kept one, which stays kept. Does nothing if
    /// none is kept.
    async fn fall_back(&self, partition: PartitionId) -> Result<(), CheckpointError>;

    /// Deletes both checkpoints of a partition.
    async fn discard(&self, partition: PartitionId) -> Result<(), CheckpointError>;
}

//! Checkpoints: what a partition's worker knew of each user, so that a restart replays little.

use async_trait::async_trait;
use segment_engine::event::UserId;

use crate::log::Progress;

/// One incremental checkpoint: the blocks of the users that changed since the last, and where they stand.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The partition.
    pub partition: u32,
    /// Changed users; `None` removes the block.
    pub users: Vec<(UserId, Option<Vec<u8>>)>,
    /// The partition's own state besides its users (segments in force, running backfills).
    pub partition_state: Vec<u8>,
    /// What the blocks stand at. Written last: a checkpoint without its marker never happened.
    pub marker: Progress,
}

/// Which of a partition's checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Generation {
    /// The one that is written on.
    Latest,
    /// The one that was [kept](CheckpointStore::keep): what to fall back to.
    Kept,
}

/// What [`CheckpointStore::load`] answers.
#[derive(Clone, Debug)]
pub struct Restored {
    /// As of the last marker.
    pub partition_state: Vec<u8>,
    /// The last marker.
    pub marker: Progress,
    /// Every user's block, by user id.
    pub users: Vec<(UserId, Vec<u8>)>,
}

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// It could not be read or written now.
    #[error("the checkpoint store is unavailable: {0}")]
    Unavailable(String),
    /// A block fails its checksum. The caller falls back to the kept checkpoint, or rebuilds from the whole log.
    #[error("the checkpoint of partition {partition} is damaged: {reason}")]
    Corrupt {
        /// The partition.
        partition: u32,
        /// What failed.
        reason: String,
    },
}

/// The checkpoint port.
#[async_trait]
pub trait CheckpointStore: Send + Sync + 'static {
    /// Writes a checkpoint as a whole or not at all, durably.
    async fn write(&self, checkpoint: Checkpoint) -> Result<(), CheckpointError>;

    /// The state at the generation's marker; `None` if there is none. Every block's checksum is verified.
    async fn load(&self, partition: u32, generation: Generation) -> Result<Option<Restored>, CheckpointError>;

    /// Where a generation stands; `None` if there is none. Blocks are not read.
    async fn marker(&self, partition: u32, generation: Generation) -> Result<Option<Progress>, CheckpointError>;

    /// Keeps the latest checkpoint, as it stands, as the one to fall back to, in place of the one kept before: durably, and as a
    /// whole or not at all. Answers its marker; `None` if there is no latest one. Every block's checksum is verified: of a
    /// damaged one nothing is kept, and the one kept before stays.
    async fn keep(&self, partition: u32) -> Result<Option<Progress>, CheckpointError>;

    /// Puts the kept checkpoint in place of the latest, as a whole or not at all. It stays kept. Does nothing if there is none.
    async fn fall_back(&self, partition: u32) -> Result<(), CheckpointError>;

    /// Forgets everything of a partition, also what was kept.
    async fn discard(&self, partition: u32) -> Result<(), CheckpointError>;
}

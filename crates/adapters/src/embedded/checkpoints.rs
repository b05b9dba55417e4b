//! [`EmbeddedCheckpoints`]: the checkpoint port on the same database as the log.
//!
//! ```text
//! key    partition u32 BE | 0                         the marker: progress and the partition's own state
//!        partition u32 BE | 1 | user id i64 BE, sign flipped      a user's block
//! value  crc32 u32 LE over key and body | body
//! ```

use std::sync::Arc;

use async_trait::async_trait;
use fjall::{Guard, Readable};
use ports::checkpoints::{Checkpoint, CheckpointError, CheckpointStore, Restored};
use ports::log::Progress;
use segment_engine::event::UserId;

use super::block::checksum;
use super::entry;
use super::store::{Change, Opened, Space, Store, StoreError};

const MARKER: u8 = 0;
const USER: u8 = 1;

/// Checkpoints in a folder of this machine.
pub struct EmbeddedCheckpoints {
    store: Arc<Store>,
}

impl EmbeddedCheckpoints {
    /// The checkpoints of a database.
    pub fn new(store: Arc<Store>) -> Self {
        Self { store }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Opened) -> Result<T, CheckpointError> + Send + 'static,
    ) -> Result<T, CheckpointError> {
        let store = self.store.clone();
        let done = tokio::task::spawn_blocking(move || store.with(act)).await;
        done.unwrap_or_else(|error| Err(CheckpointError::Unavailable(error.to_string())))
    }
}

impl From<StoreError> for CheckpointError {
    fn from(error: StoreError) -> Self {
        CheckpointError::Unavailable(error.to_string())
    }
}

fn marker_key(partition: u32) -> Vec<u8> {
    let mut key = partition.to_be_bytes().to_vec();
    key.push(MARKER);
    key
}

fn user_key(partition: u32, user: UserId) -> Vec<u8> {
    let mut key = partition.to_be_bytes().to_vec();
    key.push(USER);
    key.extend_from_slice(&(user.0 ^ i64::MIN).to_be_bytes());
    key
}

fn user_of(key: &[u8]) -> Option<UserId> {
    let id: [u8; 8] = key.get(5..)?.try_into().ok()?;
    Some(UserId(i64::from_be_bytes(id) ^ i64::MIN))
}

fn user_change(partition: u32, user: UserId, block: Option<Vec<u8>>) -> Change {
    let key = user_key(partition, user);
    let value = block.map(|block| {
        let mut value = Vec::with_capacity(4 + block.len());
        value.extend_from_slice(&checksum(&key, &block).to_le_bytes());
        value.extend_from_slice(&block);
        value.into()
    });
    Change { space: Space::Checkpoints, key: key.into(), value }
}

#[async_trait]
impl CheckpointStore for EmbeddedCheckpoints {
    async fn write(&self, checkpoint: Checkpoint) -> Result<(), CheckpointError> {
        self.blocking(move |opened| {
            let Checkpoint { partition, users, partition_state, marker } = checkpoint;
            let users = users.into_iter().map(|(user, block)| user_change(partition, user, block));
            let mut changes: Vec<Change> = users.collect();
            let key = marker_key(partition);
            let value = Some(entry::encode(&key, &(marker, partition_state)).into());
            changes.push(Change { space: Space::Checkpoints, key: key.into(), value });
            Ok(opened.write(changes)?)
        })
        .await
    }

    async fn load(&self, partition: u32) -> Result<Option<Restored>, CheckpointError> {
        self.blocking(move |opened| load(opened, partition)).await
    }

    async fn discard(&self, partition: u32) -> Result<(), CheckpointError> {
        self.blocking(move |opened| {
            // In one write: blocks that outlived their marker would turn up beside the next one's.
            let keys = opened.space(Space::Checkpoints).prefix(partition.to_be_bytes()).map(Guard::key);
            let keys = keys.collect::<Result<Vec<_>, _>>().map_err(StoreError::from)?;
            let remove = |key: fjall::UserKey| Change { space: Space::Checkpoints, key, value: None };
            Ok(opened.write(keys.into_iter().map(remove).collect())?)
        })
        .await
    }
}

fn load(opened: &Opened, partition: u32) -> Result<Option<Restored>, CheckpointError> {
    let corrupt = |reason: String| CheckpointError::Corrupt { partition, reason };
    let snapshot = opened.snapshot();
    let space = opened.space(Space::Checkpoints);
    let key = marker_key(partition);
    let Some(marker) = snapshot.get(space, &key).map_err(StoreError::from)? else { return Ok(None) };
    let (marker, partition_state): (Progress, Vec<u8>) =
        entry::decode(&key, &marker).map_err(|what| corrupt(format!("the marker: {what}")))?;

    let mut users = Vec::new();
    let mut prefix = partition.to_be_bytes().to_vec();
    prefix.push(USER);
    for guard in snapshot.prefix(space, prefix) {
        let (key, value) = guard.into_inner().map_err(StoreError::from)?;
        let user = user_of(&key).ok_or_else(|| corrupt("a key that is none".to_owned()))?;
        let (stored, block) =
            value.split_first_chunk::<4>().ok_or_else(|| corrupt(format!("the block of user {user} is cut off")))?;
        if u32::from_le_bytes(*stored) != checksum(&key, block) {
            return Err(corrupt(format!("the block of user {user}: its checksum does not match")));
        }
        users.push((user, block.to_vec()));
    }
    Ok(Some(Restored { partition_state, marker, users }))
}

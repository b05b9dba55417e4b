//! [`EmbeddedCheckpoints`]: the checkpoint port on the log's database.
//!
//! ```text
//! key    partition u32 BE | 0                         the latest marker: progress and partition
//! state
//!        partition u32 BE | 1 | user id i64 BE, sign flipped      a user's block
//!        partition u32 BE | 2                         the kept marker: as latest, plus kind and
//! number of its blocks
//!        partition u32 BE | 3 or 4 | user id …        a user's block as kept
//! value  crc32 u32 LE over key and body | body
//! ```
//!
//! [`Store`](super::store::Store) adds one entry without a value beyond all partitions.
//!
//! Keeping copies the blocks, in pieces, to the kind of key that the kept marker does not name.
//! Writing the marker then switches to the copies. A crash on the way leaves the previous kept
//! checkpoint and some unreferenced blocks, which the next keep removes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use fjall::{Guard, Readable, Slice, Snapshot};
use ports::checkpoints::{Checkpoint, CheckpointError, CheckpointStore, Generation, Restored};
use ports::log::Progress;
use segment_engine::ids::{PartitionId, UserId};
use serde::{Deserialize, Serialize};

use super::block::checksum;
use super::entry;
use super::store::{Change, Opened, Space, Store, StoreError};

const MARKER: u8 = 0;
const USER: u8 = 1;
const KEPT_MARKER: u8 = 2;
/// Kept blocks use one of these two kinds of key.
const KEPT_USER: [u8; 2] = [3, 4];

/// The size of one write while keeping. The log's own writes wait for it.
const KEEP_BYTES_MAX: usize = 4 << 20;
/// The number of blocks that one write removes.
const CLEAR_BLOCKS_MAX: usize = 4096;

/// Checkpoints in a local folder.
pub struct EmbeddedCheckpoints {
    store: Arc<Store>,
    /// Held while the kept checkpoint changes, because that takes several writes.
    keeping: Arc<Mutex<()>>,
}

/// The body of the latest marker.
type Marker = (Progress, Vec<u8>);

/// The body of the kept marker.
#[derive(Serialize, Deserialize)]
struct KeptMarker {
    marker: Marker,
    /// The kind of key of its blocks, one of [`KEPT_USER`].
    blocks: u8,
    users: u64,
}

/// A generation, as described by its marker.
struct Found {
    marker: Marker,
    /// The kind of key of its blocks.
    blocks: u8,
    /// The expected number of blocks, if the marker has it.
    users: Option<u64>,
}

impl EmbeddedCheckpoints {
    /// Uses the checkpoints in `store`.
    pub fn new(store: Arc<Store>) -> Self {
        Self { store, keeping: Arc::default() }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Opened) -> Result<T, CheckpointError> + Send + 'static,
    ) -> Result<T, CheckpointError> {
        let store = self.store.clone();
        let done = tokio::task::spawn_blocking(move || store.with(act)).await;
        done.unwrap_or_else(|error| Err(CheckpointError::Unavailable(error.to_string())))
    }

    /// Like [`Self::blocking`], but one call at a time: for calls that change the kept checkpoint,
    /// or replace the latest as a whole.
    async fn alone<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Opened) -> Result<T, CheckpointError> + Send + 'static,
    ) -> Result<T, CheckpointError> {
        let keeping = self.keeping.clone();
        self.blocking(move |opened| {
            let _alone = keeping.lock().unwrap_or_else(PoisonError::into_inner);
            act(opened)
        })
        .await
    }
}

impl From<StoreError> for CheckpointError {
    fn from(error: StoreError) -> Self {
        CheckpointError::Unavailable(error.to_string())
    }
}

/// Returns the prefix of the keys of a kind. A marker's key is the prefix alone.
fn prefix(partition: PartitionId, kind: u8) -> Vec<u8> {
    let mut key = partition.0.to_be_bytes().to_vec();
    key.push(kind);
    key
}

fn user_key(partition: PartitionId, kind: u8, user: UserId) -> Vec<u8> {
    let mut key = prefix(partition, kind);
    key.extend_from_slice(&(user.0 ^ i64::MIN).to_be_bytes());
    key
}

fn user_of(key: &[u8]) -> Option<UserId> {
    let id: [u8; 8] = key.get(5..)?.try_into().ok()?;
    Some(UserId(i64::from_be_bytes(id) ^ i64::MIN))
}

fn user_change(partition: PartitionId, kind: u8, user: UserId, block: Option<&[u8]>) -> Change {
    let key = user_key(partition, kind, user);
    let value = block.map(|block| {
        let mut value = Vec::with_capacity(4 + block.len());
        value.extend_from_slice(&checksum(&key, block).to_le_bytes());
        value.extend_from_slice(block);
        value.into()
    });
    Change { space: Space::Checkpoints, key: key.into(), value }
}

fn marker_change<T: Serialize>(partition: PartitionId, kind: u8, marker: &T) -> Change {
    let key = prefix(partition, kind);
    let value = Some(entry::encode(&key, marker).into());
    Change { space: Space::Checkpoints, key: key.into(), value }
}

fn removal(key: Slice) -> Change {
    Change { space: Space::Checkpoints, key, value: None }
}

#[async_trait]
impl CheckpointStore for EmbeddedCheckpoints {
    async fn write(&self, checkpoint: Checkpoint) -> Result<(), CheckpointError> {
        self.blocking(move |opened| {
            let Checkpoint { partition, users, partition_state, marker } = checkpoint;
            let users = users.iter().map(|(user, block)| user_change(partition, USER, *user, block.as_deref()));
            let mut changes: Vec<Change> = users.collect();
            changes.push(marker_change(partition, MARKER, &(marker, partition_state)));
            Ok(opened.write(changes)?)
        })
        .await
    }

    async fn load(&self, partition: PartitionId, generation: Generation) -> Result<Option<Restored>, CheckpointError> {
        self.blocking(move |opened| {
            let view = View { partition, opened, snapshot: opened.snapshot() };
            let Some(found) = view.find(generation)? else { return Ok(None) };
            let mut users = Vec::new();
            view.each_user(&found, |user, block| {
                users.push((user, block.to_vec()));
                Ok(())
            })?;
            let (marker, partition_state) = found.marker;
            Ok(Some(Restored { partition_state, marker, users }))
        })
        .await
    }

    async fn marker(
        &self,
        partition: PartitionId,
        generation: Generation,
    ) -> Result<Option<Progress>, CheckpointError> {
        self.blocking(move |opened| {
            let view = View { partition, opened, snapshot: opened.snapshot() };
            Ok(view.find(generation)?.map(|found| found.marker.0))
        })
        .await
    }

    async fn keep(&self, partition: PartitionId) -> Result<Option<Progress>, CheckpointError> {
        self.alone(move |opened| keep(opened, partition)).await
    }

    async fn fall_back(&self, partition: PartitionId) -> Result<(), CheckpointError> {
        self.alone(move |opened| fall_back(opened, partition)).await
    }

    async fn discard(&self, partition: PartitionId) -> Result<(), CheckpointError> {
        self.alone(move |opened| {
            // In one write: blocks that outlived their marker would mix with those of the next
            // checkpoint.
            let keys = opened.space(Space::Checkpoints).prefix(partition.0.to_be_bytes()).map(Guard::key);
            let keys = keys.collect::<Result<Vec<_>, _>>().map_err(StoreError::from)?;
            Ok(opened.write(keys.into_iter().map(removal).collect())?)
        })
        .await
    }
}

/// Returns the progress of a partition's latest checkpoint and its last user. Reads no blocks.
pub(super) fn newest(
    opened: &Opened,
    partition: PartitionId,
) -> Result<(Option<Progress>, Option<UserId>), CheckpointError> {
    let view = View { partition, opened, snapshot: opened.snapshot() };
    let Some(found) = view.find(Generation::Latest)? else { return Ok((None, None)) };
    let mut users = view.snapshot.prefix(opened.space(Space::Checkpoints), prefix(partition, found.blocks));
    let last = users.next_back().map(Guard::key).transpose().map_err(|error| view.unread(error))?;
    Ok((Some(found.marker.0), last.as_deref().and_then(user_of)))
}

/// A partition's checkpoints in one snapshot.
struct View<'a> {
    partition: PartitionId,
    opened: &'a Opened,
    snapshot: Snapshot,
}

impl View<'_> {
    fn corrupt(&self, reason: String) -> CheckpointError {
        CheckpointError::Corrupt { partition: self.partition, reason }
    }

    /// Treats damage that fjall finds like damage that our checksums find.
    fn unread(&self, error: fjall::Error) -> CheckpointError {
        match StoreError::from(error) {
            StoreError::Corrupt(reason) => self.corrupt(reason),
            other => other.into(),
        }
    }

    fn find(&self, generation: Generation) -> Result<Option<Found>, CheckpointError> {
        Ok(match generation {
            Generation::Latest => {
                let marker = self.marker(MARKER, "the marker")?;
                marker.map(|marker| Found { marker, blocks: USER, users: None })
            }
            Generation::Kept => {
                let kept: Option<KeptMarker> = self.marker(KEPT_MARKER, "the kept marker")?;
                kept.map(|KeptMarker { marker, blocks, users }| Found { marker, blocks, users: Some(users) })
            }
        })
    }

    fn marker<T: serde::de::DeserializeOwned>(&self, kind: u8, name: &str) -> Result<Option<T>, CheckpointError> {
        let key = prefix(self.partition, kind);
        let stored =
            self.snapshot.get(self.opened.space(Space::Checkpoints), &key).map_err(|error| self.unread(error))?;
        stored
            .map(|value| entry::decode(&key, &value).map_err(|what| self.corrupt(format!("{name}: {what}"))))
            .transpose()
    }

    /// Calls `each` with every user of a generation and their block, ordered by user id.
    fn each_user(
        &self,
        found: &Found,
        mut each: impl FnMut(UserId, &[u8]) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        let mut users = 0;
        for guard in self.snapshot.prefix(self.opened.space(Space::Checkpoints), prefix(self.partition, found.blocks)) {
            let (key, value) = guard.into_inner().map_err(|error| self.unread(error))?;
            let user = user_of(&key).ok_or_else(|| self.corrupt("a key without a valid user id".to_owned()))?;
            let (stored, block) = value
                .split_first_chunk::<4>()
                .ok_or_else(|| self.corrupt(format!("the block of user {user} is cut off")))?;
            if u32::from_le_bytes(*stored) != checksum(&key, block) {
                return Err(self.corrupt(format!("the block of user {user}: its checksum does not match")));
            }
            each(user, block)?;
            users += 1;
        }
        match found.users {
            Some(expected) if expected != users => {
                Err(self.corrupt(format!("it has {users} blocks instead of {expected}")))
            }
            _ => Ok(()),
        }
    }

    /// Returns the keys of a kind.
    fn keys(&self, kind: u8) -> impl Iterator<Item = Result<Slice, CheckpointError>> {
        let guards = self.snapshot.prefix(self.opened.space(Space::Checkpoints), prefix(self.partition, kind));
        guards.map(|guard| guard.key().map_err(|error| self.unread(error)))
    }

    /// Removes all entries of a kind.
    fn clear(&self, kind: u8) -> Result<(), CheckpointError> {
        let mut removals = Vec::new();
        for key in self.keys(kind) {
            removals.push(removal(key?));
            if removals.len() == CLEAR_BLOCKS_MAX {
                self.opened.write(std::mem::take(&mut removals))?;
            }
        }
        Ok(self.opened.write(removals)?)
    }
}

fn keep(opened: &Opened, partition: PartitionId) -> Result<Option<Progress>, CheckpointError> {
    let view = View { partition, opened, snapshot: opened.snapshot() };
    let Some(latest) = view.find(Generation::Latest)? else { return Ok(None) };
    let previous = match view.find(Generation::Kept) {
        // A corrupt kept checkpoint is useless: replace it.
        Err(CheckpointError::Corrupt { .. }) => None,
        found => found?.map(|kept| kept.blocks),
    };
    let blocks = if previous == Some(KEPT_USER[0]) { KEPT_USER[1] } else { KEPT_USER[0] };
    view.clear(blocks)?;
    let (mut changes, mut bytes, mut users) = (Vec::new(), 0, 0);
    view.each_user(&latest, |user, block| {
        changes.push(user_change(partition, blocks, user, Some(block)));
        bytes += block.len();
        users += 1;
        if bytes >= KEEP_BYTES_MAX {
            bytes = 0;
            opened.write(std::mem::take(&mut changes))?;
        }
        Ok(())
    })?;
    let progress = latest.marker.0;
    changes.push(marker_change(partition, KEPT_MARKER, &KeptMarker { marker: latest.marker, blocks, users }));
    opened.write(changes)?;
    if let Some(previous) = previous {
        view.clear(previous)?;
    }
    Ok(Some(progress))
}

fn fall_back(opened: &Opened, partition: PartitionId) -> Result<(), CheckpointError> {
    let view = View { partition, opened, snapshot: opened.snapshot() };
    let Some(kept) = view.find(Generation::Kept)? else { return Ok(()) };
    // In one write, which may contain each key only once.
    let mut changes = BTreeMap::new();
    for key in view.keys(USER) {
        let key = key?;
        changes.insert(key.clone(), removal(key));
    }
    view.each_user(&kept, |user, block| {
        let change = user_change(partition, USER, user, Some(block));
        changes.insert(change.key.clone(), change);
        Ok(())
    })?;
    let mut changes: Vec<Change> = changes.into_values().collect();
    changes.push(marker_change(partition, MARKER, &kept.marker));
    Ok(opened.write(changes)?)
}

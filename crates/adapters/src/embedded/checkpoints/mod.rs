//! [`EmbeddedCheckpoints`]: the checkpoint port on files, beside the log's database.
//!
//! The blocks of one checkpoint are a [`run`]: one file. A marker in the database names the runs that
//! make up a checkpoint, so it changes atomically, and whatever it does not name counts for nothing.
//! When a run is not much smaller than the one before, both are merged: a log-structured merge tree
//! (O'Neil et al., 1996) that is only written, and read as a whole at a start. Blocks that go through
//! the database would hold up the log, whose writes wait for each other.
//!
//! Keeping a checkpoint keeps its files.

mod files;
mod format_5;
mod run;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use ports::checkpoints::{Blocks, Checkpoint, CheckpointError, CheckpointStore, Generation, Restored};
use ports::log::Progress;
use segment_engine::ids::{PartitionId, UserId};

use self::files::{Files, Marker, Writing};
use super::pending::sync;
use super::store::{Opened, Store, StoreError};
use crate::quiet::{Quiet, cores};

/// The folder of the files, in that of the log.
const FOLDER: &str = "checkpoints";

/// Checkpoints in a local folder. Clones share them.
#[derive(Clone)]
pub struct EmbeddedCheckpoints {
    store: Arc<Store>,
    folder: Arc<PathBuf>,
    partitions: Arc<Mutex<HashMap<PartitionId, Arc<OfPartition>>>>,
    /// For what takes long and holds no lock of the log.
    quiet: Arc<Quiet>,
}

#[derive(Default)]
struct OfPartition {
    /// Locked during a step.
    writing: Mutex<Writing>,
    /// Locked during a change of the markers, which has several steps.
    changing: Arc<tokio::sync::Mutex<()>>,
}

impl From<StoreError> for CheckpointError {
    fn from(error: StoreError) -> Self {
        CheckpointError::Unavailable(error.to_string())
    }
}

impl EmbeddedCheckpoints {
    /// Opens the checkpoints beside the database in a folder, and brings those of an earlier build up
    /// to date.
    pub(super) fn open(store: Arc<Store>, folder: &Path, partitions: u32) -> Result<Self, CheckpointError> {
        let parent = folder;
        let folder = parent.join(FOLDER);
        std::fs::create_dir_all(&folder).and_then(|()| sync(parent)).map_err(StoreError::from)?;
        let quiet = Arc::new(Quiet::new("checkpoints", cores()).map_err(StoreError::from)?);
        let checkpoints = Self { store, folder: Arc::new(folder), partitions: Arc::default(), quiet };
        for partition in PartitionId::all(partitions) {
            checkpoints.with(partition, format_5::bring_up_to_date)?;
        }
        Ok(checkpoints)
    }

    fn of(&self, partition: PartitionId) -> Arc<OfPartition> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner).entry(partition).or_default().clone()
    }

    /// Calls `act` with the files of a partition, alone.
    fn with<T>(
        &self,
        partition: PartitionId,
        act: impl FnOnce(&mut Files<'_>) -> Result<T, CheckpointError>,
    ) -> Result<T, CheckpointError> {
        let of = self.of(partition);
        let mut writing = of.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.store.with(|opened| {
            let done = act(&mut Files { folder: &self.folder, opened, partition, writing: &mut writing });
            if let Err(CheckpointError::Unavailable(_)) = done {
                opened.note_failure();
            }
            done
        })
    }

    /// Like [`Self::with`], on a thread that may block.
    async fn blocking<T: Send + 'static>(
        &self,
        partition: PartitionId,
        act: impl FnOnce(&mut Files<'_>) -> Result<T, CheckpointError> + Send + 'static,
    ) -> Result<T, CheckpointError> {
        let checkpoints = self.clone();
        let done = tokio::task::spawn_blocking(move || checkpoints.with(partition, act)).await;
        done.unwrap_or_else(|error| Err(CheckpointError::Unavailable(error.to_string())))
    }

    /// Like [`Self::blocking`], on a thread that leaves the processor to others. Not for what writes to
    /// the log's database, whose locks others wait for.
    async fn quietly<T: Send + 'static>(
        &self,
        partition: PartitionId,
        act: impl FnOnce(&mut Files<'_>) -> Result<T, CheckpointError> + Send + 'static,
    ) -> Result<T, CheckpointError> {
        let checkpoints = self.clone();
        let done = self.quiet.run(move || checkpoints.with(partition, act)).await;
        done.unwrap_or_else(|| Err(CheckpointError::Unavailable("a call was interrupted".to_owned())))
    }

    /// Erases what was removed or replaced from the files of the latest checkpoints. Blocks.
    pub(super) fn wipe(&self, partitions: u32) -> Result<(), CheckpointError> {
        PartitionId::all(partitions).try_for_each(|partition| {
            let of = self.of(partition);
            let _changing = of.changing.blocking_lock();
            self.with(partition, |files| {
                match files.merge_all() {
                    // Its worker finds that too; the other files can be erased.
                    Err(CheckpointError::Corrupt { reason, .. }) => {
                        tracing::error!(partition = partition.0, reason, "a damaged checkpoint cannot be erased");
                    }
                    merged => drop(merged?),
                }
                files.remove_unused();
                Ok(())
            })
        })
    }
}

#[async_trait]
impl CheckpointStore for EmbeddedCheckpoints {
    async fn add(&self, partition: PartitionId, users: Blocks) -> Result<(), CheckpointError> {
        self.quietly(partition, move |files| files.add(&users)).await
    }

    async fn forget_added(&self, partition: PartitionId) -> Result<(), CheckpointError> {
        self.blocking(partition, |files| {
            files.forget_added();
            Ok(())
        })
        .await
    }

    async fn write(&self, checkpoint: Checkpoint) -> Result<(), CheckpointError> {
        let Checkpoint { partition, users, is_whole, partition_state, marker } = checkpoint;
        let _changing = self.of(partition).changing.clone().lock_owned().await;
        let complete = move |files: &mut Files<'_>| {
            files.add(&users)?;
            files.complete(marker, partition_state, is_whole)
        };
        let marker = self.quietly(partition, complete).await?;
        self.blocking(partition, move |files| files.switch(&[(Generation::Latest, Some(marker))])).await
    }

    async fn load(&self, partition: PartitionId, generation: Generation) -> Result<Option<Restored>, CheckpointError> {
        self.blocking(partition, move |files| {
            let Some(marker) = files.marker(generation)? else { return Ok(None) };
            let mut users = Vec::new();
            files.each(&marker.runs, |user, block| {
                users.extend(block.map(|block| (user, block.to_vec())));
                Ok(())
            })?;
            users.sort_unstable_by_key(|(user, _)| *user);
            let Marker { progress, partition_state, .. } = marker;
            Ok(Some(Restored { partition_state, marker: progress, users }))
        })
        .await
    }

    async fn marker(
        &self,
        partition: PartitionId,
        generation: Generation,
    ) -> Result<Option<Progress>, CheckpointError> {
        self.blocking(partition, move |files| Ok(files.marker(generation)?.map(|marker| marker.progress))).await
    }

    async fn keep(&self, partition: PartitionId) -> Result<Option<Progress>, CheckpointError> {
        let _changing = self.of(partition).changing.clone().lock_owned().await;
        self.blocking(partition, |files| {
            let Some(latest) = files.merge_all()? else { return Ok(None) };
            files.each(&latest.runs, |_, _| Ok(()))?;
            let progress = latest.progress;
            files.switch(&[(Generation::Kept, Some(latest))])?;
            Ok(Some(progress))
        })
        .await
    }

    async fn fall_back(&self, partition: PartitionId) -> Result<(), CheckpointError> {
        let _changing = self.of(partition).changing.clone().lock_owned().await;
        self.blocking(partition, |files| {
            let Some(kept) = files.marker(Generation::Kept)? else { return Ok(()) };
            files.each(&kept.runs, |_, _| Ok(()))?;
            files.switch(&[(Generation::Latest, Some(kept))])
        })
        .await
    }

    async fn discard(&self, partition: PartitionId) -> Result<(), CheckpointError> {
        let _changing = self.of(partition).changing.clone().lock_owned().await;
        self.blocking(partition, |files| {
            files.forget_added();
            files.switch(&[(Generation::Latest, None), (Generation::Kept, None)])?;
            files.remove_unused();
            Ok(())
        })
        .await
    }
}

/// Returns the progress of a partition's latest checkpoint, and the highest id of its users. Reads no
/// blocks.
pub(super) fn newest(
    opened: &Opened,
    partition: PartitionId,
) -> Result<(Option<Progress>, Option<UserId>), CheckpointError> {
    let latest = files::marker(opened, partition, Generation::Latest)?;
    Ok((latest.as_ref().map(|marker| marker.progress), latest.and_then(|marker| marker.last_user)))
}

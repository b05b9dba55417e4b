//! The log in a fjall database, and checkpoints in files beside it, in a local folder: all that a
//! single machine needs, with nothing to install.
//!
//! The path of an append: [`log`] queues the call; the thread of [`writer`] makes one [`group`] of
//! the waiting calls; the group packs their records into blocks ([`block`]); [`store`] writes and
//! syncs the blocks atomically; [`tail`] makes them visible; then every caller gets its reply. [`read`]
//! takes what is [`newest`] from memory, and all else from the database.

mod backpressure;
mod block;
mod checkpoints;
mod damage;
mod entry;
mod group;
mod highest_ids;
mod journal;
mod log;
mod newest;
mod pending;
mod pointers;
mod read;
mod reclaim;
mod stamp;
mod store;
mod tail;
mod wipe;
mod writer;

use std::path::Path;
use std::sync::Arc;

pub use checkpoints::EmbeddedCheckpoints;
pub use damage::{Finding, LOSS_ACCEPTED, Losses};
pub use log::{EmbeddedLog, QUEUED_CALLS_MAX, QUEUED_KIB_MAX};
pub use pending::PendingRestore;
use ports::clock::Clock;
use ports::log::LogError;
use store::{Store, StoreError};

/// Opens the log and the checkpoints in a folder, and creates it if needed. Only one process can
/// have it open. Returns `LogError::Corrupt` if acknowledged writes are lost.
pub fn open(
    folder: &Path,
    partitions: u32,
    clock: Arc<dyn Clock>,
) -> Result<(EmbeddedLog, EmbeddedCheckpoints), LogError> {
    match open_with(folder, partitions, clock, Losses::Refuse) {
        Ok(Embedded { log, checkpoints, .. }) => Ok((log, checkpoints)),
        Err(OpenError::Lost(reason)) => Err(LogError::Corrupt(reason)),
        Err(OpenError::Log(error)) => Err(error),
    }
}

/// An opened folder.
pub struct Embedded {
    /// The log port.
    pub log: EmbeddedLog,
    /// The checkpoint port, on files beside the database.
    pub checkpoints: EmbeddedCheckpoints,
    /// What was repaired or given up during the open.
    pub findings: Vec<Finding>,
    /// Says whether lost records were given up, and the log must be restored from other stores.
    pub restore: PendingRestore,
}

/// Why a folder cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Acknowledged writes are lost. Nothing was changed; [`Losses::GiveUp`] continues without
    /// them.
    #[error("the log has lost something: {0}")]
    Lost(String),
    /// Any other failure. [`Losses::GiveUp`] does not help against damage of this kind.
    #[error(transparent)]
    Log(LogError),
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Lost(reason) => Self::Lost(reason),
            other => Self::Log(other.into()),
        }
    }
}

/// Like [`open`], with a choice about losses. Also returns the findings about damage.
pub fn open_with(folder: &Path, partitions: u32, clock: Arc<dyn Clock>, losses: Losses) -> Result<Embedded, OpenError> {
    let mut findings = Vec::new();
    let store = Arc::new(Store::open(folder, losses, &mut findings)?);
    let checkpoints = EmbeddedCheckpoints::open(store.clone(), folder, partitions);
    let checkpoints = checkpoints.map_err(|error| OpenError::Log(LogError::Unavailable(error.to_string())))?;
    let log = EmbeddedLog::open(store, checkpoints.clone(), partitions, clock).map_err(OpenError::Log)?;
    let restore = PendingRestore::of(folder);
    Ok(Embedded { log, checkpoints, findings, restore })
}

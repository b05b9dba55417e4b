//! Log and checkpoints in one fjall database in a folder: what a single machine needs, with nothing to install.
//!
//! An append takes this way: [`log`] queues the call, the thread of [`writer`] makes one [`group`] of the waiting calls,
//! the group packs their records into blocks ([`block`]), [`store`] writes and syncs them as a whole, [`tail`] makes
//! them visible, and all callers are answered.

mod block;
mod checkpoints;
mod damage;
mod entry;
mod group;
mod highest_ids;
mod journal;
mod log;
mod pointers;
mod reclaim;
mod scrub;
mod stamp;
mod store;
mod tail;
mod writer;

use std::path::Path;
use std::sync::Arc;

pub use checkpoints::EmbeddedCheckpoints;
pub use damage::{Finding, LOSS_ACCEPTED, Losses};
pub use log::{EmbeddedLog, QUEUED_CALLS_MAX, QUEUED_KIB_MAX};
use ports::clock::Clock;
use ports::log::LogError;
use store::{Store, StoreError};

/// Opens the log and the checkpoints in a folder, which is created if need be. Only one process can have it open. One that has
/// lost what was acknowledged is damaged.
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

/// What was opened.
pub struct Embedded {
    /// The log.
    pub log: EmbeddedLog,
    /// The checkpoints.
    pub checkpoints: EmbeddedCheckpoints,
    /// What was mended or given up on the way.
    pub findings: Vec<Finding>,
}

/// Why a folder cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log has lost what was acknowledged. Nothing was changed; [`Losses::GiveUp`] goes on without it.
    #[error("the log has lost something: {0}")]
    Lost(String),
    /// Anything else. Damage of this kind leaves nothing to go on with.
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

/// As [`open`], and says what became of damage.
pub fn open_with(folder: &Path, partitions: u32, clock: Arc<dyn Clock>, losses: Losses) -> Result<Embedded, OpenError> {
    let mut findings = Vec::new();
    let store = Arc::new(Store::open(folder, losses, &mut findings)?);
    let log = EmbeddedLog::open(store.clone(), partitions, clock).map_err(OpenError::Log)?;
    Ok(Embedded { log, checkpoints: EmbeddedCheckpoints::new(store), findings })
}

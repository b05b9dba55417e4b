//! Log and checkpoints in one fjall database in a folder: what a single machine needs, with nothing to install.
//!
//! An append takes this way: [`log`] queues the call, the thread of [`writer`] makes one [`group`] of the waiting calls,
//! the group packs their records into blocks ([`block`]), [`store`] writes and syncs them as a whole, [`tail`] makes
//! them visible, and all callers are answered.

mod block;
mod checkpoints;
mod entry;
mod group;
mod highest_ids;
mod log;
mod reclaim;
mod scrub;
mod store;
mod tail;
mod writer;

use std::path::Path;
use std::sync::Arc;

pub use checkpoints::EmbeddedCheckpoints;
pub use log::{EmbeddedLog, QUEUED_CALLS_MAX, QUEUED_KIB_MAX};
use ports::clock::Clock;
use ports::log::LogError;

/// Opens the log and the checkpoints in a folder, which is created if need be. Only one process can have it open.
pub fn open(
    folder: &Path,
    partitions: u32,
    clock: Arc<dyn Clock>,
) -> Result<(EmbeddedLog, EmbeddedCheckpoints), LogError> {
    let store = Arc::new(store::Store::open(folder)?);
    Ok((EmbeddedLog::open(store.clone(), partitions, clock)?, EmbeddedCheckpoints::new(store)))
}

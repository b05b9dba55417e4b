//! When a deleted user has left the disk, as `DELETE /api/v1/users/{id}` says it.

use ports::records::instant;
use segment_engine::time::Timestamp;
use serde::Serialize;

/// How long after its deletion a user has left a store's files, in microseconds; `None`: never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ErasureDelays {
    /// Users, identities, traits and memberships.
    pub config_store: Option<i64>,
    /// Events and what SQL knows of the user.
    pub warehouse: Option<i64>,
    /// Records, and the engine's checkpoints beside them.
    pub log: Option<i64>,
}

/// `{message, configStoreBy, warehouseBy, logBy}`
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ErasureView {
    message: &'static str,
    config_store_by: Option<String>,
    warehouse_by: Option<String>,
    log_by: Option<String>,
}

const MESSAGE: &str = "The user is deleted: it is in no answer any more as soon as engine and warehouse have applied the deletion, \
                       within moments. Its data leaves the files of the stores by the times given here; null means never, because of \
                       USS_ERASE_INTERVAL or USS_LOG_RETENTION. See docs/guides/deletion.md";

impl ErasureDelays {
    /// Of a user that is deleted now.
    pub(crate) fn from(self, now: Timestamp) -> ErasureView {
        let by = |delay: Option<i64>| delay.map(|delay| instant::format(Timestamp(now.0.saturating_add(delay))));
        ErasureView {
            message: MESSAGE,
            config_store_by: by(self.config_store),
            warehouse_by: by(self.warehouse),
            log_by: by(self.log),
        }
    }
}

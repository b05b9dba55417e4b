//! When a deleted user's data has left the disk, for the response of `DELETE /api/v1/users/{id}`.

use ports::records::instant;
use segment_engine::time::Timestamp;
use serde::Serialize;

/// How long after a deletion the user's data has left each store's files, in microseconds; `None`:
/// never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ErasureDelays {
    /// Users, identities, traits and memberships.
    pub config_store: Option<i64>,
    /// Events, and the user's rows.
    pub warehouse: Option<i64>,
    /// Records and checkpoints.
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

const MESSAGE: &str = "The user is deleted. No response shows the user once engine and warehouse have applied the deletion, within \
                       moments. The data leaves the files of the stores by the times given here; null means never, because of \
                       USS_ERASE_INTERVAL or USS_LOG_RETENTION. See docs/guides/deletion.md";

impl ErasureDelays {
    /// Returns the times for a user that is deleted now.
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

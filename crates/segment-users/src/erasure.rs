//! Erasure: what deleted users left in the files of warehouse and log is wiped out of them.
//!
//! Both stores read no deleted user any more as soon as its deletion has reached them, but the bytes stay until something else is
//! written there. Wiping them writes much of what else is in the file, so it is done rarely, for all users deleted since.

use std::convert::Infallible;
use std::sync::Arc;

use ports::clock::Clock;
use ports::log::Log;
use ports::warehouse::Warehouse;

use crate::partition::Ports;
use crate::retention::look_interval;
use crate::settings::Settings;

/// Wipes the files, when it is time for that.
pub struct Erasure {
    log: Arc<dyn Log>,
    warehouse: Arc<dyn Warehouse>,
    clock: Arc<dyn Clock>,
    interval_micros: i64,
}

impl Erasure {
    /// `None` if the files are never wiped.
    pub fn new(ports: Ports, settings: Settings) -> Option<Self> {
        let Ports { log, warehouse, clock, .. } = ports;
        Some(Self { log, warehouse, clock, interval_micros: settings.erase_interval_micros? })
    }

    /// Looks again and again until cancelled; cancel-safe.
    pub async fn run(&self) -> Result<(), Infallible> {
        let interval = look_interval(Some(self.interval_micros));
        loop {
            self.look().await;
            tokio::time::sleep(interval).await;
        }
    }

    /// Wipes what is due. A store that fails does not keep the other, and is tried again at the next look.
    pub async fn look(&self) {
        let now = self.clock.now();
        match self.warehouse.scrub(now, self.interval_micros).await {
            Ok(true) => tracing::info!("deleted users have left the warehouse's files"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "deleted users stay in the warehouse's files until they can be wiped"),
        }
        match self.log.scrub(now, self.interval_micros).await {
            Ok(true) => tracing::debug!("what was trimmed has left the log's files"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "what was trimmed stays in the log's files until they can be wiped"),
        }
    }
}

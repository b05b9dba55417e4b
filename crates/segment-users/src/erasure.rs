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
use crate::retention::trim_interval;
use crate::settings::Settings;

/// How long after its deletion a user has left the warehouse's files, in microseconds, besides the time that wiping them takes:
/// an interval may have begun just before. `None`: never.
pub fn warehouse_delay(interval_micros: Option<i64>) -> Option<i64> {
    let interval = interval_micros?;
    let check = i64::try_from(trim_interval(interval_micros).as_micros()).ok()?;
    interval.checked_add(check)
}

/// As [`warehouse_delay`], of the log's files. The deletion's own record leaves the log when its retention has passed. A file
/// that holds records of a user may hold others of the interval after it, so the files follow within two intervals.
pub fn log_delay(retention_micros: Option<i64>, interval_micros: Option<i64>) -> Option<i64> {
    let check = i64::try_from(trim_interval(retention_micros).as_micros()).ok()?;
    let wiped = warehouse_delay(interval_micros)?.checked_mul(2)?;
    retention_micros?.checked_add(check)?.checked_add(wiped)
}

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

    /// Erases again and again until cancelled; cancel-safe.
    pub async fn run(&self) -> Result<(), Infallible> {
        let interval = trim_interval(Some(self.interval_micros));
        loop {
            self.erase_once().await;
            tokio::time::sleep(interval).await;
        }
    }

    /// Wipes what is due. A store that fails does not keep the other, and is tried again the next time.
    pub async fn erase_once(&self) {
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;
    const DAY: i64 = 86_400 * SECOND;

    #[test]
    fn a_user_has_left_the_files_after_intervals_and_checks() {
        // A check comes every five minutes, or after a 24th of what it is for; at least a second.
        assert_eq!(warehouse_delay(Some(DAY)), Some(DAY + 300 * SECOND));
        assert_eq!(warehouse_delay(Some(3_600 * SECOND)), Some(3_750 * SECOND));
        assert_eq!(log_delay(Some(7 * DAY), Some(DAY)), Some(9 * DAY + 900 * SECOND));
        assert_eq!(log_delay(Some(SECOND), Some(SECOND)), Some(6 * SECOND));
        let never = [log_delay(None, Some(DAY)), log_delay(Some(DAY), None), warehouse_delay(None)];
        assert_eq!(never, [None; 3]);
        assert_eq!(log_delay(Some(i64::MAX), Some(i64::MAX)), None, "beyond time");
    }
}

//! Erasure removes what deleted users left in the files of the warehouse and the log.
//!
//! Both stores stop reading a deleted user as soon as the deletion reaches them, but the bytes stay
//! until something else is written over them. Erasing them rewrites much of the rest of the file.
//! So it runs rarely, for all users deleted since the last time.

use std::convert::Infallible;
use std::sync::Arc;

use ports::clock::Clock;
use ports::log::Log;
use ports::warehouse::Warehouse;

use crate::partition::Ports;
use crate::retention::trim_interval;
use crate::settings::Settings;

/// Returns how long after its deletion a user has left the warehouse's files, in microseconds,
/// without the time that the erasure takes. An interval may have begun just before the deletion.
/// `None` means never.
pub fn warehouse_delay(interval_micros: Option<i64>) -> Option<i64> {
    let interval = interval_micros?;
    let check = i64::try_from(trim_interval(interval_micros).as_micros()).ok()?;
    interval.checked_add(check)
}

/// Like [`warehouse_delay`], for the log's files. The deletion's own record leaves the log after
/// the retention. A file with records of a user may also hold records of the next interval, so the
/// user has left the files after two intervals.
pub fn log_delay(retention_micros: Option<i64>, interval_micros: Option<i64>) -> Option<i64> {
    let check = i64::try_from(trim_interval(retention_micros).as_micros()).ok()?;
    let erased = warehouse_delay(interval_micros)?.checked_mul(2)?;
    retention_micros?.checked_add(check)?.checked_add(erased)
}

/// Erases deleted users from the files when it is due.
pub struct Erasure {
    log: Arc<dyn Log>,
    warehouse: Arc<dyn Warehouse>,
    clock: Arc<dyn Clock>,
    interval_micros: i64,
}

impl Erasure {
    /// Returns `None` if the settings turn erasure off.
    pub fn new(ports: Ports, settings: Settings) -> Option<Self> {
        let Ports { log, warehouse, clock, .. } = ports;
        Some(Self { log, warehouse, clock, interval_micros: settings.erase_interval_micros? })
    }

    /// Erases repeatedly until cancelled. Cancel-safe.
    pub async fn run(&self) -> Result<(), Infallible> {
        let interval = trim_interval(Some(self.interval_micros));
        loop {
            self.erase_once().await;
            tokio::time::sleep(interval).await;
        }
    }

    /// Erases what is due. If one store fails, the other is erased all the same, and the next call
    /// tries again.
    pub async fn erase_once(&self) {
        let now = self.clock.now();
        match self.warehouse.scrub(now, self.interval_micros).await {
            Ok(true) => tracing::info!("erased deleted users from the warehouse's files"),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "the warehouse's files still have deleted users; the next check tries again")
            }
        }
        match self.log.scrub(now, self.interval_micros).await {
            Ok(true) => tracing::debug!("erased trimmed records from the log's files"),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "the log's files still have trimmed records; the next check tries again")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;
    const DAY: i64 = 86_400 * SECOND;

    #[test]
    fn the_delays_cover_intervals_and_checks() {
        // A check runs every five minutes, or every 24th of the interval, but at most once a
        // second.
        assert_eq!(warehouse_delay(Some(DAY)), Some(DAY + 300 * SECOND));
        assert_eq!(warehouse_delay(Some(3_600 * SECOND)), Some(3_750 * SECOND));
        assert_eq!(log_delay(Some(7 * DAY), Some(DAY)), Some(9 * DAY + 900 * SECOND));
        assert_eq!(log_delay(Some(SECOND), Some(SECOND)), Some(6 * SECOND));
        let never = [log_delay(None, Some(DAY)), log_delay(Some(DAY), None), warehouse_delay(None)];
        assert_eq!(never, [None; 3]);
        assert_eq!(log_delay(Some(i64::MAX), Some(i64::MAX)), None, "beyond the range of time");
    }
}

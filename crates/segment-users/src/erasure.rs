//! Erasure removes what deleted users left in the files of the warehouse and the log.
//!
//! Both stores stop reading a deleted user as soon as the deletion reaches them, but the bytes stay
//! until something else is written over them. Erasing them rewrites much of the rest of the file.
//! So it runs rarely, for all users deleted since the last time.

use std::convert::Infallible;
use std::fmt::Display;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use ports::clock::Clock;
use ports::log::Log;
use ports::warehouse::Warehouse;
use segment_engine::time::Timestamp;

use crate::partition::Ports;
use crate::retention::trim_interval;
use crate::settings::Settings;

/// The longest wait after a failure. Each failure doubles the wait, because each attempt costs disk
/// space and writes.
const RETRY_WAIT_MAX_MICROS: i64 = 86_400 * SECOND_MICROS;
const SECOND_MICROS: i64 = 1_000_000;

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
    of_warehouse: Mutex<Retry>,
    of_log: Mutex<Retry>,
}

impl Erasure {
    /// Returns `None` if the settings turn erasure off.
    pub fn new(ports: Ports, settings: Settings) -> Option<Self> {
        let Ports { log, warehouse, clock, .. } = ports;
        let interval_micros = settings.erase_interval_micros?;
        Some(Self { log, warehouse, clock, interval_micros, of_warehouse: Mutex::default(), of_log: Mutex::default() })
    }

    /// Erases repeatedly until cancelled. Cancel-safe.
    pub async fn run(&self) -> Result<(), Infallible> {
        let interval = trim_interval(Some(self.interval_micros));
        loop {
            self.erase_once().await;
            tokio::time::sleep(interval).await;
        }
    }

    /// Erases what is due. If one store fails, the other is erased all the same, and a later call
    /// tries again.
    pub async fn erase_once(&self) {
        let now = self.clock.now();
        let warehouse = self.warehouse.wipe(now, self.interval_micros);
        if self.erase("the warehouse", &self.of_warehouse, now, warehouse).await {
            tracing::info!("erased deleted users from the warehouse's files");
        }
        let log = self.log.wipe(now, self.interval_micros);
        if self.erase("the log", &self.of_log, now, log).await {
            tracing::debug!("erased trimmed records from the log's files");
        }
    }

    /// Returns whether the store was erased. Reports the first of several failures in a row, and then one a day.
    async fn erase<E: Display>(
        &self,
        store: &str,
        retry: &Mutex<Retry>,
        now: Timestamp,
        wipe: impl Future<Output = Result<bool, E>>,
    ) -> bool {
        let retry = || retry.lock().unwrap_or_else(PoisonError::into_inner);
        if !retry().is_due(now) {
            return false;
        }
        match wipe.await {
            Ok(erased) => {
                if retry().succeeded() > 0 {
                    tracing::info!("the files of {store} can be erased again");
                }
                erased
            }
            Err(error) => {
                let check = trim_interval(Some(self.interval_micros)).as_micros();
                let (failures, wait_micros) = retry().failed(now, i64::try_from(check).unwrap_or(i64::MAX));
                let wait_seconds = wait_micros / SECOND_MICROS;
                // At the longest wait again each time, which is once a day.
                if failures == 1 || wait_micros == RETRY_WAIT_MAX_MICROS {
                    tracing::warn!(
                        %error, wait_seconds,
                        "the files of {store} still have deleted users; USS tries again, after longer and longer waits"
                    );
                } else {
                    tracing::debug!(%error, failures, wait_seconds, "the files of {store} still have deleted users");
                }
                false
            }
        }
    }
}

/// When a store whose erasure failed is tried again.
#[derive(Debug, Default)]
struct Retry {
    /// The number of failures in a row.
    failures: u32,
    not_before: Option<Timestamp>,
}

impl Retry {
    fn is_due(&self, now: Timestamp) -> bool {
        self.not_before.is_none_or(|not_before| now >= not_before)
    }

    /// Returns the number of failures before this success.
    fn succeeded(&mut self) -> u32 {
        std::mem::take(self).failures
    }

    /// Returns the number of failures in a row, and the wait until the next attempt: twice the
    /// interval of the checks after the first failure.
    fn failed(&mut self, now: Timestamp, check_micros: i64) -> (u32, i64) {
        self.failures = self.failures.saturating_add(1);
        let wait_micros = check_micros.saturating_mul(2_i64.saturating_pow(self.failures)).min(RETRY_WAIT_MAX_MICROS);
        self.not_before = Some(Timestamp(now.0.saturating_add(wait_micros)));
        (self.failures, wait_micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = SECOND_MICROS;
    const DAY: i64 = 86_400 * SECOND;

    #[test]
    fn the_wait_doubles_with_each_failure_up_to_a_day_and_a_success_ends_it() {
        let check = 300 * SECOND;
        let (mut retry, mut now) = (Retry::default(), Timestamp(5));
        assert!(retry.is_due(now));
        for (failures, seconds) in (1..).zip([600, 1_200, 2_400, 4_800, 9_600, 19_200, 38_400, 76_800, 86_400, 86_400])
        {
            assert_eq!(retry.failed(now, check), (failures, seconds * SECOND));
            let next = Timestamp(now.0 + seconds * SECOND);
            assert!(!retry.is_due(now) && !retry.is_due(Timestamp(next.0 - 1)) && retry.is_due(next));
            now = next;
        }
        assert_eq!(retry.succeeded(), 10);
        assert!(retry.is_due(Timestamp(0)));
        assert_eq!(retry.succeeded(), 0);
        assert_eq!(retry.failed(now, check), (1, 600 * SECOND));
        // The numbers do not overflow.
        let mut retry = Retry { failures: u32::MAX, not_before: None };
        assert_eq!(retry.failed(Timestamp(i64::MAX), i64::MAX), (u32::MAX, DAY));
    }

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

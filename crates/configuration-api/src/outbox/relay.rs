//! Moves outbox rows to the log: in order, each once.
//!
//! The log remembers the last row of each append under the producer's name. So a relay that died
//! after an append, and before it marked the rows as sent, goes on after them. There is one relay
//! per config store, beside its one writer.

use std::sync::Arc;
use std::time::Duration;

use ports::config_store::{ConfigStore, ConfigStoreError, OutboxRow};
use ports::log::{Log, LogError};
use tokio::sync::watch;

use super::Holds;

/// The producer's name in the log.
pub const PRODUCER: &str = "config-outbox";
/// Rows moved by one append.
const ROWS_MAX: usize = 1_000;
/// How long the relay sleeps if nobody wakes it. Then it finds writes of other processes (an
/// import, a command).
const POLL: Duration = Duration::from_secs(1);
/// The first pause after a failure; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Why the relay could not go on.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] ConfigStoreError),
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log has rows that the store has never written: log or store was replaced. Going on would
    /// lose changes.
    #[error(
        "the log has config changes up to {log}, the config store only up to {store}: one of them was replaced or restored; \
         restore the other from the same time, or start with a new data folder"
    )]
    Replaced {
        /// The last row in the log.
        log: u64,
        /// The last row of the store.
        store: u64,
    },
}

/// Appends outbox rows to the log.
pub struct Relay {
    store: Arc<dyn ConfigStore>,
    log: Arc<dyn Log>,
    holds: Arc<Holds>,
    /// The last row in the log, as far as this relay knows.
    relayed: watch::Sender<u64>,
}

impl Relay {
    /// A relay that leaves held rows alone.
    pub fn new(store: Arc<dyn ConfigStore>, log: Arc<dyn Log>, holds: Arc<Holds>) -> Self {
        Self { store, log, holds, relayed: watch::Sender::new(0) }
    }

    /// Returns a receiver of the last row that is in the log.
    pub fn relayed(&self) -> watch::Receiver<u64> {
        self.relayed.subscribe()
    }

    /// Moves rows for ever. Cancel-safe: cancelling it between any two steps loses and repeats
    /// nothing.
    pub async fn run(&self) {
        let mut pause = PAUSE_MIN;
        loop {
            match self.move_all().await {
                Ok(_) => {
                    pause = PAUSE_MIN;
                    let _ = tokio::time::timeout(POLL, self.holds.written.notified()).await;
                }
                Err(error) => {
                    tracing::error!(%error, "config changes wait in the outbox");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Moves all rows before the first that is held, and returns how many.
    ///
    /// # Errors
    /// Rows moved before the error stay moved.
    pub async fn move_all(&self) -> Result<usize, RelayError> {
        let mut moved = 0;
        let mut last = self.log.producer_sequence(PRODUCER).await?;
        let end = self.store.outbox_end().await?;
        if last > end {
            return Err(RelayError::Replaced { log: last, store: end });
        }
        // The end was read first: a row written since then may have a hold that began since then.
        let end = end.min(self.holds.free_up_to());
        loop {
            self.relayed.send_replace(last);
            // A hold may begin behind what was moved already.
            let passed = self.holds.appended_after(last).min(end).max(last);
            let mut rows = self.store.outbox(passed, ROWS_MAX).await?;
            let appended = self.holds.next_appended(passed).filter(|first| *first <= end);
            rows.retain(|row| row.id <= end && appended.is_none_or(|first| row.id < first));
            // Without rows before those that are in the log, it goes on to these.
            let newest = rows.last().map(|row| row.id).or(appended.map(|first| first - 1)).unwrap_or(passed);
            if newest == last {
                return Ok(moved);
            }
            moved += rows.len();
            self.append(rows, newest).await?;
            self.relayed.send_replace(newest);
            self.holds.passed(newest);
            self.store.outbox_sent(newest).await?;
            last = newest;
        }
    }

    async fn append(&self, rows: Vec<OutboxRow>, newest: u64) -> Result<(), LogError> {
        let partitions = self.log.partitions();
        let records = rows.into_iter().map(|row| row.entry.record(partitions)).collect();
        self.log.append_once(PRODUCER, newest, records).await?;
        Ok(())
    }
}

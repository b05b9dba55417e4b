//! Retention: records that are old enough, and that nobody will read again, leave the log.
//!
//! Three readers may still need a partition's records: the worker after its checkpoint, the
//! archiver after the archive position, the membership writer after the store's position. And if
//! the latest checkpoint is damaged, the worker falls back to an older one. So before anything is
//! trimmed, the latest checkpoint is kept as that fallback, and only records before the kept one
//! leave. A new one is kept when everything before the old one has left: once in a retention, not
//! at every trim. The config topic stays whole: definitions are read from its beginning.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use ports::checkpoints::{CheckpointError, Generation};
use ports::config_store::{ConfigStoreError, MembershipStore};
use ports::log::{Log, LogError, Progress, Topic};
use ports::warehouse::WarehouseError;
use segment_engine::ids::PartitionId;
use segment_engine::time::Timestamp;

use crate::partition::{Ports, check_latest};
use crate::settings::Settings;

/// The longest time between two trims.
const TRIM_INTERVAL_MAX: Duration = Duration::from_secs(300);
/// The shortest, for the short retentions of tests and trials.
const TRIM_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Trims per retention. Records may stay longer than the retention by one part in this many.
const TRIMS_PER_RETENTION: u64 = 24;

/// Returns how long to wait between two trims.
pub fn trim_interval(retention_micros: Option<i64>) -> Duration {
    let part = retention_micros.map(|micros| Duration::from_micros(micros.unsigned_abs() / TRIMS_PER_RETENTION));
    part.unwrap_or(TRIM_INTERVAL_MAX).clamp(TRIM_INTERVAL_MIN, TRIM_INTERVAL_MAX)
}

/// Why a partition was not trimmed. The next trim tries again.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A checkpoint could not be kept. A damaged one never is.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The archive position could not be read.
    #[error(transparent)]
    Warehouse(#[from] WarehouseError),
    /// The position of the memberships could not be read.
    #[error(transparent)]
    Store(#[from] ConfigStoreError),
}

/// Trims the log.
pub struct Retention {
    ports: Ports,
    settings: Settings,
    memberships: Arc<dyn MembershipStore>,
    retention_micros: i64,
}

impl Retention {
    /// Returns `None` if records stay for ever.
    pub fn new(ports: Ports, settings: Settings, memberships: Arc<dyn MembershipStore>) -> Option<Self> {
        Some(Self { ports, settings, memberships, retention_micros: settings.retention_micros? })
    }

    /// Trims at intervals until cancelled; cancel-safe.
    pub async fn run(&self) -> Result<(), Infallible> {
        let interval = trim_interval(Some(self.retention_micros));
        loop {
            self.trim_once().await;
            tokio::time::sleep(interval).await;
        }
    }

    /// Trims what may be trimmed now. A partition that cannot be trimmed does not hold up the others. Nothing is trimmed while the
    /// clock is in doubt: records that were trimmed cannot come back.
    pub async fn trim_once(&self) {
        if self.ports.clock.status().jump.is_some() {
            return;
        }
        let before = Timestamp(self.ports.clock.now().0.saturating_sub(self.retention_micros));
        if let Err(error) = self.trim_errors(before).await {
            tracing::error!("the error topic could not be trimmed: {error}");
        }
        for partition in PartitionId::all(self.ports.log.partitions()) {
            if let Err(error) = self.trim_partition(partition, before).await {
                tracing::error!(partition = partition.0, "the log could not be trimmed: {error}");
            }
        }
    }

    /// Nothing but people reads rejected events.
    async fn trim_errors(&self, before: Timestamp) -> Result<(), LogError> {
        let old = ExpiredRange::find(self.ports.log.as_ref(), Topic::Errors, PartitionId::ONLY, before).await?;
        old.trim(u64::MAX).await
    }

    async fn trim_partition(&self, partition: PartitionId, before: Timestamp) -> Result<(), RetentionError> {
        let log = self.ports.log.as_ref();
        let events = ExpiredRange::find(log, Topic::Events, partition, before).await?;
        let notifications = ExpiredRange::find(log, Topic::Notifications, partition, before).await?;
        if events.is_empty() && notifications.is_empty() {
            return Ok(());
        }
        let Some(latest) = self.ports.checkpoints.marker(partition, Generation::Latest).await? else { return Ok(()) };
        let archived = self.ports.warehouse.archive_position(partition).await?;
        let stored = self.memberships.membership_positions().await?;
        let stored = stored.iter().find(|(other, _)| *other == partition).map_or(0, |(_, position)| *position);
        let events = events.up_to(latest.next_offset.min(archived));
        let notifications = notifications.up_to(latest.notifications_offset.min(stored));
        if events.is_empty() && notifications.is_empty() {
            return Ok(());
        }
        let covers = |kept: &Progress| kept.next_offset >= events.end && kept.notifications_offset >= notifications.end;
        let kept = match self.ports.checkpoints.marker(partition, Generation::Kept).await {
            // A damaged one is replaced.
            Err(CheckpointError::Corrupt { .. }) => None,
            kept => kept?.filter(covers),
        };
        let kept = match kept {
            Some(kept) => kept,
            None => {
                check_latest(partition, &self.ports, self.settings).await?;
                let Some(kept) = self.ports.checkpoints.keep(partition).await? else { return Ok(()) };
                kept
            }
        };
        events.trim(kept.next_offset).await?;
        notifications.trim(kept.notifications_offset).await?;
        Ok(())
    }
}

/// The records of a partition that are old enough to leave.
struct ExpiredRange<'a> {
    log: &'a dyn Log,
    topic: Topic,
    partition: PartitionId,
    first: u64,
    /// The offset after the last of them.
    end: u64,
}

impl<'a> ExpiredRange<'a> {
    /// Finds the records appended before an instant, by bisection: instants never decrease along a
    /// partition.
    async fn find(log: &'a dyn Log, topic: Topic, partition: PartitionId, before: Timestamp) -> Result<Self, LogError> {
        let (first, end) = log.bounds(topic, partition).await?;
        // Before `old` all are expired, from `young` on none is. The first probe is the first
        // record, since most often nothing has expired.
        let (mut old, mut young, mut probe) = (first, end, first);
        while old < young {
            let batch = log.read(topic, partition, probe, 0).await?;
            match batch.records.iter().find(|record| record.offset < young) {
                Some(record) if record.appended_at < before => old = record.offset + 1,
                _ => young = probe,
            }
            probe = old + (young - old) / 2;
        }
        Ok(Self { log, topic, partition, first, end: old })
    }

    fn is_empty(&self) -> bool {
        self.end <= self.first
    }

    /// Returns the part before an offset.
    fn up_to(self, offset: u64) -> Self {
        Self { end: self.end.min(offset), ..self }
    }

    /// Removes the part before an offset.
    async fn trim(self, offset: u64) -> Result<(), LogError> {
        let Self { log, topic, partition, first, end } = self.up_to(offset);
        if end <= first {
            return Ok(());
        }
        log.trim(topic, partition, end).await?;
        tracing::debug!(?topic, partition = partition.0, from = first, to = end, "records have left the log");
        Ok(())
    }
}

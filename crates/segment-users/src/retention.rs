//! Retention: records that are old enough, and that nobody will read again, leave the log.
//!
//! Who reads a partition again: its worker from its checkpoint, its archiver from the archive position, the membership writer
//! from the store's. And the worker from an older checkpoint, should the latest be damaged: before anything is trimmed the
//! latest is kept for that, and only what lies before the kept one leaves. It is kept anew when all that lies before it has
//! left, so once in a retention and not at every look. The config topic stays whole: definitions are read from its beginning.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use ports::checkpoints::{CheckpointError, Generation};
use ports::config_store::{ConfigStoreError, MembershipStore};
use ports::log::{Log, LogError, Progress, Topic};
use ports::warehouse::WarehouseError;
use segment_engine::time::Timestamp;

use crate::partition::Ports;
use crate::recovery::check_latest;
use crate::settings::Settings;

/// The longest time between two looks.
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(300);
/// The shortest, for retentions that are only for trying things out.
const LOOK_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// A look comes this many times in a retention: so much longer than asked may records stay.
const LOOKS_PER_RETENTION: u64 = 24;

/// How long to wait between two looks for what no longer has to be kept.
pub fn look_interval(retention_micros: Option<i64>) -> Duration {
    let part = retention_micros.map(|micros| Duration::from_micros(micros.unsigned_abs() / LOOKS_PER_RETENTION));
    part.unwrap_or(LOOK_INTERVAL_MAX).clamp(LOOK_INTERVAL_MIN, LOOK_INTERVAL_MAX)
}

/// Why a partition was not trimmed. Nothing is lost: the next look tries again.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A checkpoint could not be kept; of a damaged one nothing is.
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
    /// `None` if records stay for ever.
    pub fn new(ports: Ports, settings: Settings, memberships: Arc<dyn MembershipStore>) -> Option<Self> {
        Some(Self { ports, settings, memberships, retention_micros: settings.retention_micros? })
    }

    /// Looks again and again until cancelled; cancel-safe.
    pub async fn run(&self) -> Result<(), Infallible> {
        let interval = look_interval(Some(self.retention_micros));
        loop {
            self.look().await;
            tokio::time::sleep(interval).await;
        }
    }

    /// Trims what may be trimmed now. A partition that cannot be does not keep the others. Nothing is trimmed while nobody is sure
    /// what time it is: records that left cannot come back.
    pub async fn look(&self) {
        if self.ports.clock.status().jump.is_some() {
            return;
        }
        let before = Timestamp(self.ports.clock.now().0.saturating_sub(self.retention_micros));
        if let Err(error) = self.trim_errors(before).await {
            tracing::error!("the error topic could not be trimmed: {error}");
        }
        for partition in 0..self.ports.log.partitions() {
            if let Err(error) = self.trim_partition(partition, before).await {
                tracing::error!(partition, "the log could not be trimmed: {error}");
            }
        }
    }

    /// Rejected events wait for nobody but people.
    async fn trim_errors(&self, before: Timestamp) -> Result<(), LogError> {
        let old = Old::find(self.ports.log.as_ref(), Topic::Errors, 0, before).await?;
        old.trim(u64::MAX).await
    }

    async fn trim_partition(&self, partition: u32, before: Timestamp) -> Result<(), RetentionError> {
        let log = self.ports.log.as_ref();
        let events = Old::find(log, Topic::Events, partition, before).await?;
        let notifications = Old::find(log, Topic::Notifications, partition, before).await?;
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
            // Of no use any longer, so it is replaced.
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
struct Old<'a> {
    log: &'a dyn Log,
    topic: Topic,
    partition: u32,
    first: u64,
    /// The offset after the last of them.
    end: u64,
}

impl<'a> Old<'a> {
    /// Those appended before an instant, found by halving: instants never decrease along a partition.
    async fn find(log: &'a dyn Log, topic: Topic, partition: u32, before: Timestamp) -> Result<Self, LogError> {
        let (first, end) = log.bounds(topic, partition).await?;
        // Before `old` all are old, at and after `young` none is. The first look is at the first record: most find it young.
        let (mut old, mut young, mut look) = (first, end, first);
        while old < young {
            let batch = log.read(topic, partition, look, 0).await?;
            match batch.records.iter().find(|record| record.offset < young) {
                Some(record) if record.appended_at < before => old = record.offset + 1,
                _ => young = look,
            }
            look = old + (young - old) / 2;
        }
        Ok(Self { log, topic, partition, first, end: old })
    }

    fn is_empty(&self) -> bool {
        self.end <= self.first
    }

    /// Those of them before an offset.
    fn up_to(self, offset: u64) -> Self {
        Self { end: self.end.min(offset), ..self }
    }

    /// Removes those of them before an offset.
    async fn trim(self, offset: u64) -> Result<(), LogError> {
        let Self { log, topic, partition, first, end } = self.up_to(offset);
        if end <= first {
            return Ok(());
        }
        log.trim(topic, partition, end).await?;
        tracing::debug!(?topic, partition, from = first, to = end, "records have left the log");
        Ok(())
    }
}

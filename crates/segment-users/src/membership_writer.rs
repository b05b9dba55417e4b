//! Writes transitions into the config store, where `GET` reads a user's memberships.
//!
//! The notification topic is its queue. The store moves the position in the transaction of the
//! rows, so a batch that is sent twice is written once.

use std::sync::Arc;

use ports::config_store::{Applied, ConfigStoreError, MembershipBatch, MembershipChange, MembershipStore};
use ports::log::{Log, LogError, Record, Topic};
use ports::records::{Notification, instant};
use segment_engine::ids::PartitionId;

const BATCH_BYTES_MAX: usize = 1 << 20;

/// Why the writer stopped. It loses nothing: it goes on from the store's position.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] ConfigStoreError),
}

/// Writes the memberships of one partition.
pub struct MembershipWriter {
    partition: PartitionId,
    log: Arc<dyn Log>,
    store: Arc<dyn MembershipStore>,
    position: u64,
}

impl MembershipWriter {
    /// Starts at the store's position.
    pub async fn open(
        partition: PartitionId,
        log: Arc<dyn Log>,
        store: Arc<dyn MembershipStore>,
    ) -> Result<Self, MembershipError> {
        let positions = store.membership_positions().await?;
        let position = positions.iter().find(|(other, _)| *other == partition).map_or(0, |(_, position)| *position);
        let (first, _) = log.bounds(Topic::Notifications, partition).await?;
        if position < first {
            tracing::error!(
                partition = partition.0,
                position,
                first,
                "notifications left the log before they were stored"
            );
        }
        Ok(Self { partition, log, store, position })
    }

    /// Writes one batch. Returns whether there was anything to write.
    pub async fn step(&mut self) -> Result<bool, MembershipError> {
        let batch = self.log.read(Topic::Notifications, self.partition, self.position, BATCH_BYTES_MAX).await?;
        if batch.next_offset == self.position {
            return Ok(false);
        }
        let changes = batch.records.iter().filter_map(change).collect();
        let (from, to) = (self.position, batch.next_offset);
        let batch = MembershipBatch { partition: self.partition, from, to, changes };
        self.position = match self.store.apply_memberships(batch).await? {
            Applied::Now => to,
            Applied::Before(position) => position,
        };
        Ok(true)
    }

    /// Writes until cancelled; cancel-safe.
    pub async fn run(&mut self, moved: &tokio::sync::watch::Sender<u64>) -> Result<(), MembershipError> {
        loop {
            moved.send_replace(self.position);
            while self.step().await? {
                moved.send_replace(self.position);
            }
            self.log.wait_for(Topic::Notifications, self.partition, self.position).await;
        }
    }
}

fn change(record: &Record) -> Option<MembershipChange> {
    let notification = match serde_json::from_slice::<Notification>(&record.value) {
        Ok(notification) => notification,
        Err(error) => {
            tracing::error!(offset = record.offset, %error, "a notification cannot be read; its memberships are skipped");
            return None;
        }
    };
    Some(MembershipChange {
        user_id: notification.user_id,
        entered: notification.in_segments,
        left: notification.out_segments,
        effective_at: instant::parse(&notification.effective_at)?,
    })
}

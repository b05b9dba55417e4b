//! Writes transitions into the config store, where `GET` reads a user's memberships.
//!
//! The notification topic is its queue. The store moves the position in the transaction of the
//! rows, so a batch that is sent twice is written once.

use std::borrow::Cow;
use std::sync::Arc;

use ports::config_store::{Applied, ConfigStoreError, MembershipBatch, MembershipChange, MembershipStore};
use ports::log::{Log, LogError, Record, Topic};
use ports::records::instant;
use segment_engine::ids::{PartitionId, SegmentId, UserId};
use serde::Deserialize;

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

/// What is stored of a [`Notification`](ports::records::Notification).
#[derive(Deserialize)]
struct Transitions<'a> {
    user_id: UserId,
    in_segments: Vec<SegmentId>,
    out_segments: Vec<SegmentId>,
    #[serde(borrow)]
    effective_at: Cow<'a, str>,
}

fn change(record: &Record) -> Option<MembershipChange> {
    let transitions = match serde_json::from_slice::<Transitions<'_>>(&record.value) {
        Ok(transitions) => transitions,
        Err(error) => {
            tracing::error!(offset = record.offset, %error, "a notification cannot be read; its memberships are skipped");
            return None;
        }
    };
    Some(MembershipChange {
        user_id: transitions.user_id,
        entered: transitions.in_segments,
        left: transitions.out_segments,
        effective_at: instant::parse(&transitions.effective_at)?,
    })
}

#[cfg(test)]
mod tests {
    use ports::records::{Cause, Notification};
    use segment_engine::time::Timestamp;

    use super::*;

    fn notification() -> Notification {
        Notification {
            id: "7:3".to_owned(),
            user_id: UserId(7),
            client_ref_id: Some("a \"b\"".to_owned()),
            sequence: 3,
            in_segments: vec![SegmentId(1), SegmentId(2)],
            out_segments: vec![SegmentId(5)],
            cause: Cause::Event,
            effective_at: instant::format(Timestamp(-1_500_000)),
            at: instant::format(Timestamp(9)),
            segments: Some(vec![SegmentId(1), SegmentId(2), SegmentId(8)]),
        }
    }

    fn change_of(value: impl Into<Vec<u8>>) -> Option<MembershipChange> {
        change(&Record { offset: 4, appended_at: Timestamp(10), key: "7".to_owned(), value: value.into() })
    }

    #[test]
    fn the_changes_of_a_notification_are_stored() {
        let expected = MembershipChange {
            user_id: UserId(7),
            entered: vec![SegmentId(1), SegmentId(2)],
            left: vec![SegmentId(5)],
            effective_at: Timestamp(-1_500_000),
        };
        let value = serde_json::to_string(&notification()).expect("a notification is plain data");
        assert_eq!(change_of(value.as_str()), Some(expected.clone()));
        // Written by another program: with escapes, and a field that we do not know.
        let escaped = value.replace("\"effective_at\":\"1969-", "\"new\":{},\"effective_at\":\"\\u0031969-");
        assert_ne!(escaped, value);
        assert_eq!(change_of(escaped), Some(expected));
    }

    #[test]
    fn a_record_that_is_no_notification_is_skipped() {
        for value in ["", "{}", "[]", r#"{"user_id":7,"in_segments":[1],"out_segments":[],"effective_at":"soon"}"#] {
            assert_eq!(change_of(value), None, "{value}");
        }
    }
}

//! The highest ids that any record ever had: one entry, written together with the records that
//! raise it.
//!
//! A start therefore reads one entry, however long the log is. A log of an earlier build has no
//! such entry: the first start computes it from the users in the checkpoints and the records after
//! them.

use fjall::Guard;
use ports::log::{HighestIds, LogError, Topic};
use segment_engine::ids::PartitionId;

use super::block::{Block, block_key};
use super::checkpoints;
use super::entry::Entry;
use super::group::entry_change;
use super::store::{Opened, Space, Store, StoreError};
use super::tail::corrupt;

/// Returns the entry as stored.
pub(super) fn stored(opened: &Opened) -> Result<HighestIds, LogError> {
    Ok(Entry::HighestIds.get(opened)?.unwrap_or_default())
}

/// Writes the entry if the log does not have it yet.
pub(super) fn ensure(store: &Store, partitions: u32) -> Result<(), LogError> {
    if store.with(|opened| Entry::HighestIds.get::<HighestIds>(opened))?.is_some() {
        return Ok(());
    }
    let found = store.with(|opened| find(opened, partitions))?;
    Ok(store.write(vec![entry_change(&Entry::HighestIds, &found)])?)
}

fn find(opened: &Opened, partitions: u32) -> Result<HighestIds, LogError> {
    let mut highest = HighestIds::default();
    note_from(opened, Topic::Config, PartitionId::ONLY, 0, &mut highest)?;
    for partition in PartitionId::all(partitions) {
        // A damaged checkpoint gives no position: then all retained records are read.
        let (marker, last_user) = checkpoints::newest(opened, partition).unwrap_or_default();
        highest.user = highest.user.max(last_user.map_or(0, |user| user.0));
        let (events, notifications) = marker.map_or((0, 0), |marker| (marker.next_offset, marker.notifications_offset));
        note_from(opened, Topic::Events, partition, events, &mut highest)?;
        note_from(opened, Topic::Notifications, partition, notifications, &mut highest)?;
    }
    Ok(highest)
}

/// Notes the ids of a partition's records, from the block that holds `from`.
fn note_from(
    opened: &Opened,
    topic: Topic,
    partition: PartitionId,
    from: u64,
    highest: &mut HighestIds,
) -> Result<(), LogError> {
    let blocks = opened.space(Space::Topic(topic));
    let before = blocks.range(block_key(partition, 0)..=block_key(partition, from)).next_back();
    let first = before.map(Guard::key).transpose().map_err(StoreError::from)?;
    let first = first.map_or_else(|| block_key(partition, from).to_vec(), |key| key.to_vec());
    for guard in blocks.range(first..=block_key(partition, u64::MAX).to_vec()) {
        let (key, value) = guard.into_inner().map_err(StoreError::from)?;
        let block = Block::parse(&key, &value).map_err(|what| corrupt(topic, partition, &key, what))?;
        for record in block.iter() {
            let record = record.and_then(|record| record.to_record());
            let record = record.map_err(|what| corrupt(topic, partition, &key, what))?;
            highest.note(topic, &record.key);
        }
    }
    Ok(())
}

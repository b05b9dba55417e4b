//! Cleans up after a trim: removes blocks before the first retained offset and frees their disk
//! space.
//!
//! An LSM tree drops a removed entry when a compaction meets its tombstone, and a value stored
//! apart from the tree when all of its file is known to be unused. Compactions follow what is
//! written. Blocks are written once, in order, so no compaction would ever reach the trimmed ones
//! by itself. Only the keys of the blocks are rewritten, and files with few blocks left.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fjall::{AbstractTree, Guard, Keyspace};
use ports::log::Topic;

use super::block::{block_key, first_offset};
use super::group::Place;
use super::store::{Change, Opened, Space, StoreError};

/// The number of blocks that one write removes. The log's own writes wait for it.
const REMOVE_BLOCKS_MAX: usize = 4096;
/// Space is freed when a topic's trimmed records reach one eighth of the records that are left.
/// That bounds the wasted disk space.
const WASTE_DIVISOR: u64 = 8;
/// The longest wait for a flush. A flush waits for the disk, and reopening a failed database waits
/// for this.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(10);
const FLUSH_POLL: Duration = Duration::from_millis(10);

/// What was removed since the start.
#[derive(Debug, Default)]
pub(super) struct Reclaim {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// No block is left before these offsets. Where none is known, a crash may have left some.
    removed: HashMap<Place, u64>,
    /// The records trimmed since a topic's space was last freed. Where none is known, it may be
    /// many.
    trimmed: HashMap<Topic, u64>,
}

impl Reclaim {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the blocks that hold nothing at or after `first`, the first retained offset of a
    /// partition that ends at `end`.
    pub(super) fn remove_blocks(&self, opened: &Opened, place: Place, first: u64, end: u64) -> Result<(), StoreError> {
        let (topic, partition) = place;
        let space = Space::Topic(topic);
        let blocks = opened.space(space);
        let mut from = self.state().removed.get(&place).copied().unwrap_or_default();
        // The last block before `first` may reach beyond it. It goes only if another block begins
        // at `first`, or the partition is empty.
        let is_whole = first == end || blocks.contains_key(block_key(partition, first))?;
        while from < first {
            let keys = blocks.range(block_key(partition, from)..block_key(partition, first)).map(Guard::key);
            let mut keys = keys.take(REMOVE_BLOCKS_MAX + 1).collect::<Result<Vec<_>, _>>()?;
            let has_more = keys.len() > REMOVE_BLOCKS_MAX;
            let next = if has_more || !is_whole { keys.pop() } else { None };
            opened.write(keys.into_iter().map(|key| Change { space, key, value: None }).collect())?;
            from = next.and_then(|key| first_offset(&key)).unwrap_or(first);
            self.state().removed.insert(place, from);
            if !has_more {
                break;
            }
        }
        Ok(())
    }

    /// Frees the space of a topic's removed blocks if there are many. `trimmed` records were just
    /// trimmed, `left` are left.
    pub(super) fn free_space(&self, opened: &Opened, topic: Topic, trimmed: u64, left: u64) -> Result<(), StoreError> {
        let is_due = match self.state().trimmed.get_mut(&topic) {
            Some(before) => {
                *before += trimmed;
                before.saturating_mul(WASTE_DIVISOR) >= left
            }
            None => true,
        };
        if !is_due {
            return Ok(());
        }
        let blocks = opened.space(Space::Topic(topic));
        flush(blocks)?;
        if blocks.tree.tombstone_count().saturating_mul(WASTE_DIVISOR) >= blocks.approximate_len() as u64 {
            blocks.major_compact()?;
        }
        self.state().trimmed.insert(topic, 0);
        Ok(())
    }
}

/// Writes what is in memory to tables, because a compaction sees nothing else.
fn flush(blocks: &Keyspace) -> Result<(), StoreError> {
    blocks.rotate_memtable()?;
    let started = Instant::now();
    while blocks.sealed_memtable_count() > 0 && started.elapsed() < FLUSH_WAIT_MAX {
        std::thread::sleep(FLUSH_POLL);
    }
    Ok(())
}

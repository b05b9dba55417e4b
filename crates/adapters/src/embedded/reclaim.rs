//! What a trim leaves behind: blocks before the first retained offset, and their space on the disk.
//!
//! A removed entry of an LSM tree goes when a compaction meets its removal, and a value that lies apart from the tree when all
//! of its file is known to be gone. By themselves compactions follow what is written; here blocks are written once, in order, so
//! that none would ever reach what was trimmed. Only the keys of the blocks are written anew, and files with few blocks left.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fjall::{AbstractTree, Guard, Keyspace};
use ports::log::Topic;

use super::block::{block_key, first_offset};
use super::group::Place;
use super::store::{Change, Opened, Space, StoreError};

/// How many blocks one write removes: the log's own writes wait for it.
const REMOVE_BLOCKS_MAX: usize = 4096;
/// Space is given back when a topic's trimmed records are this part of those that are left: so much of the disk is lent at most.
const PART: u64 = 8;
/// How long a flush may take. It waits for the disk, and reopening a failed database waits for us.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(10);
const FLUSH_POLL: Duration = Duration::from_millis(10);

/// What was removed since the start.
#[derive(Debug, Default)]
pub struct Reclaim {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Before these offsets no block is left. Without, a crash may have left some.
    removed: HashMap<Place, u64>,
    /// How many records were trimmed since a topic's space was given back. Without, perhaps many.
    trimmed: HashMap<Topic, u64>,
}

impl Reclaim {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the blocks that hold nothing at or after `first`, the first retained offset of a partition that goes to `end`.
    pub fn remove_blocks(&self, opened: &Opened, place: Place, first: u64, end: u64) -> Result<(), StoreError> {
        let (topic, partition) = place;
        let space = Space::Topic(topic);
        let blocks = opened.space(space);
        let mut from = self.state().removed.get(&place).copied().unwrap_or_default();
        // The last block before it may reach beyond: it goes if another one begins there, or nothing does.
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

    /// Gives the space of a topic's removed blocks back if they are many. `trimmed` records more have gone, `left` are left.
    pub fn give_back(&self, opened: &Opened, topic: Topic, trimmed: u64, left: u64) -> Result<(), StoreError> {
        let is_due = match self.state().trimmed.get_mut(&topic) {
            Some(before) => {
                *before += trimmed;
                before.saturating_mul(PART) >= left
            }
            None => true,
        };
        if !is_due {
            return Ok(());
        }
        let blocks = opened.space(Space::Topic(topic));
        flush(blocks)?;
        if blocks.tree.tombstone_count().saturating_mul(PART) >= blocks.approximate_len() as u64 {
            blocks.major_compact()?;
        }
        self.state().trimmed.insert(topic, 0);
        Ok(())
    }
}

/// Writes what is in memory into tables: a compaction sees nothing else.
fn flush(blocks: &Keyspace) -> Result<(), StoreError> {
    blocks.rotate_memtable()?;
    let started = Instant::now();
    while blocks.sealed_memtable_count() > 0 && started.elapsed() < FLUSH_WAIT_MAX {
        std::thread::sleep(FLUSH_POLL);
    }
    Ok(())
}

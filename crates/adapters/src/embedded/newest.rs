//! The newest blocks of each partition, in memory. Nearly all readers follow the end of the log, so
//! nearly all reads are of these, and need neither the database nor a thread that may block.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fjall::Slice;

use super::block::Block;
use super::group::Place;
use super::store::{Change, Space};

/// How many bytes of blocks all partitions keep together, without their keys. The database's memory
/// tables hold the same bytes until they are flushed.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// Blocks that were written, each until newer ones need its room.
pub(super) struct Newest {
    kept: HashMap<Place, Mutex<Kept>>,
    /// The share of one partition.
    bytes_max: usize,
}

#[derive(Default)]
struct Kept {
    /// In order of offset.
    blocks: VecDeque<KeptBlock>,
    bytes: usize,
}

#[derive(Clone)]
struct KeptBlock {
    key: Slice,
    value: Slice,
    /// The offset after the last record.
    end: u64,
}

impl Newest {
    /// Returns an empty store for these partitions.
    pub(super) fn of(places: impl ExactSizeIterator<Item = Place>) -> Self {
        let bytes_max = KEPT_BYTES_MAX / places.len().max(1);
        Self { kept: places.map(|place| (place, Mutex::default())).collect(), bytes_max }
    }

    /// Keeps the blocks of a write that is on the disk. The writer calls this in the order of its
    /// writes.
    pub(super) fn keep(&self, changes: &[Change]) {
        for Change { space, key, value } in changes {
            let (Space::Topic(topic), Some(value)) = (space, value) else { continue };
            let Ok(block) = Block::trusted(key, value) else { continue };
            let Some(mut kept) = self.kept((*topic, block.partition)) else { continue };
            kept.bytes += value.len();
            kept.blocks.push_back(KeptBlock { key: key.clone(), value: value.clone(), end: block.end() });
            while kept.bytes > self.bytes_max {
                kept.drop_first();
            }
        }
    }

    /// Returns the key and the value of the block with the record at an offset, or of the first
    /// after it if no record has that offset. `None` if the block, or one before it, is not kept.
    pub(super) fn block(&self, place: Place, offset: u64) -> Option<(Slice, Slice)> {
        let kept = self.kept(place)?;
        let first = Block::trusted(&kept.blocks.front()?.key, &kept.blocks.front()?.value).ok()?;
        if offset < first.first_offset {
            return None;
        }
        let index = kept.blocks.partition_point(|block| block.end <= offset);
        kept.blocks.get(index).map(|block| (block.key.clone(), block.value.clone()))
    }

    /// Drops the blocks before an offset, which were trimmed.
    pub(super) fn trim(&self, place: Place, before: u64) {
        let Some(mut kept) = self.kept(place) else { return };
        while kept.blocks.front().is_some_and(|block| block.end <= before) {
            kept.drop_first();
        }
    }

    /// Drops all blocks: the database may have others.
    pub(super) fn clear(&self) {
        for place in self.kept.keys() {
            self.kept(*place).into_iter().for_each(|mut kept| *kept = Kept::default());
        }
    }

    fn kept(&self, place: Place) -> Option<MutexGuard<'_, Kept>> {
        Some(self.kept.get(&place)?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Kept {
    fn drop_first(&mut self) {
        self.bytes -= self.blocks.pop_front().map_or(0, |block| block.value.len());
    }
}

#[cfg(test)]
mod tests {
    use ports::log::Topic;
    use segment_engine::ids::PartitionId;
    use segment_engine::time::Timestamp;

    use super::super::block::BlockBuilder;
    use super::*;

    const PLACE: Place = (Topic::Events, PartitionId(0));

    fn block(first: u64, records: u64) -> Change {
        let mut block = BlockBuilder::new(PLACE.1, first);
        (0..records).for_each(|_| block.push(Timestamp(1), "7", b"{}"));
        let (key, value) = block.finish();
        Change { space: Space::Topic(PLACE.0), key: key.into(), value: Some(value.into()) }
    }

    fn first_offset(newest: &Newest, offset: u64) -> Option<u64> {
        let (key, value) = newest.block(PLACE, offset)?;
        Some(Block::parse(&key, &value).unwrap().first_offset)
    }

    #[test]
    fn a_block_is_found_by_each_of_its_offsets_and_by_those_of_a_gap_before_it() {
        let newest = Newest::of([PLACE].into_iter());
        newest.keep(&[block(10, 5), block(15, 1), block(20, 2)]);
        let found: Vec<_> = [9, 10, 14, 15, 16, 19, 21, 22].map(|offset| first_offset(&newest, offset)).into();
        let expected = [None, Some(10), Some(10), Some(15), Some(20), Some(20), Some(20), None];
        assert_eq!(found, expected);
    }

    #[test]
    fn old_blocks_make_room_and_trimmed_ones_go() {
        let size = block(0, 1).value.unwrap().len();
        let newest = Newest { bytes_max: 3 * size, ..Newest::of([PLACE].into_iter()) };
        newest.keep(&(0..5).map(|offset| block(offset, 1)).collect::<Vec<_>>());
        assert_eq!([1, 2].map(|offset| first_offset(&newest, offset)), [None, Some(2)]);
        newest.trim(PLACE, 4);
        assert_eq!([3, 4].map(|offset| first_offset(&newest, offset)), [None, Some(4)]);
        newest.clear();
        assert_eq!(first_offset(&newest, 4), None);
    }
}

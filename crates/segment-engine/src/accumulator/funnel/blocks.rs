//! The entries of a funnel in blocks. A late event changes one block; the others are not scanned
//! again, because each remembers what it does to the chains before it.

use super::scan::{Entry, Passage, Scan};
use crate::time::Timestamp;

/// A block with more entries is split. About the square root of what an accumulator may have, so
/// that scanning a block costs about as much as passing all blocks.
const BLOCK_MAX: usize = if cfg!(test) { 4 } else { 512 };

/// Entries by `created_at`, then by end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entries {
    /// None is empty.
    blocks: Vec<Block>,
}

/// Entries of one instant are never in two blocks.
#[derive(Clone, Debug)]
struct Block {
    entries: Vec<Entry>,
    /// No entry ends before this.
    first_end: Timestamp,
    /// `None` if the block has changed since it was asked for.
    passage: Option<Box<Passage>>,
}

impl Entries {
    /// Adds an entry. Returns whether it can matter: not if entries of the same instant match the
    /// same steps and last as long.
    pub(super) fn insert(&mut self, entry: Entry) -> bool {
        let place = self.blocks.partition_point(|block| block.last_created() < entry.created_at);
        let place = place.min(self.blocks.len().saturating_sub(1));
        let Some(block) = self.blocks.get_mut(place) else {
            self.blocks.push(Block::new(vec![entry]));
            return true;
        };
        if !block.insert(entry) {
            return false;
        }
        if let Some(rest) = block.split() {
            self.blocks.insert(place + 1, rest);
        }
        true
    }

    /// Drops the entries that end at or before `until`.
    pub(super) fn drop_ended(&mut self, until: Timestamp) {
        let before = self.len();
        for block in self.blocks.iter_mut().filter(|block| block.first_end <= until) {
            block.entries.retain(|entry| entry.until > until);
            block.changed();
        }
        if self.len() == before {
            return;
        }
        // Blocks of which little is left are joined, so that there are never many blocks.
        let mut joined: Vec<Block> = Vec::new();
        for block in std::mem::take(&mut self.blocks) {
            match joined.last_mut() {
                _ if block.entries.is_empty() => {}
                Some(last) if last.entries.len() + block.entries.len() <= BLOCK_MAX / 2 => {
                    last.entries.extend(block.entries);
                    last.changed();
                }
                _ => joined.push(block),
            }
        }
        self.blocks = joined;
    }

    /// Drops the oldest entries. Returns when the last of them would have ended.
    pub(super) fn drop_oldest(&mut self, count: usize) -> Option<Timestamp> {
        let mut entries: Vec<Entry> = self.iter().copied().collect();
        let end = entries.drain(..count).map(|entry| entry.until).max();
        *self = entries.into();
        end
    }

    /// Returns the best chain of each length.
    pub(super) fn scan(&mut self, steps: u8, within: i64) -> Scan {
        if let [block] = &self.blocks[..] {
            return Scan::over(&block.entries, steps, within);
        }
        let mut scan = Scan::default();
        for block in &mut self.blocks {
            let passage = block.passage.get_or_insert_with(|| Box::new(Passage::over(&block.entries, steps, within)));
            scan.pass(passage, steps, within);
        }
        scan
    }

    /// Returns the earliest events of a chain of `length` steps that begins at `start` or later and
    /// lasts until `until`.
    pub(super) fn chain(&self, start: Timestamp, until: Timestamp, length: u8) -> Vec<Entry> {
        let mut events: Vec<Entry> = Vec::with_capacity(length.into());
        let first = self.blocks.partition_point(|block| block.last_created() < start);
        for block in &self.blocks[first..] {
            if events.len() == usize::from(length) {
                break;
            }
            if block.passage.as_ref().is_some_and(|passage| !passage.takes(events.len())) {
                continue;
            }
            for entry in block.entries.iter().filter(|entry| entry.created_at >= start && entry.until >= until) {
                let is_later = events.last().is_none_or(|last| last.created_at < entry.created_at);
                if events.len() < length.into() && is_later && entry.matches(events.len()) {
                    events.push(*entry);
                }
            }
        }
        events
    }

    /// Returns an instant before which no entry ends.
    pub(super) fn first_end(&self) -> Timestamp {
        self.blocks.iter().map(|block| block.first_end).min().unwrap_or(Timestamp::MAX)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.blocks.iter().flat_map(|block| &block.entries)
    }

    pub(super) fn len(&self) -> usize {
        self.blocks.iter().map(|block| block.entries.len()).sum()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let of_block = |block: &Block| {
            let passage = block.passage.as_ref().map_or(0, |passage| passage.heap_bytes());
            block.entries.capacity() * size_of::<Entry>() + passage
        };
        self.blocks.capacity() * size_of::<Block>() + self.blocks.iter().map(of_block).sum::<usize>()
    }
}

impl From<Vec<Entry>> for Entries {
    fn from(mut entries: Vec<Entry>) -> Self {
        entries.sort_by_key(Entry::key);
        let mut blocks: Vec<Vec<Entry>> = Vec::new();
        for instant in entries.chunk_by(|a, b| a.created_at == b.created_at) {
            match blocks.last_mut().filter(|block| block.len() + instant.len() <= BLOCK_MAX) {
                Some(block) => block.extend_from_slice(instant),
                None => blocks.push(instant.to_vec()),
            }
        }
        Self { blocks: blocks.into_iter().map(Block::new).collect() }
    }
}

impl Block {
    fn new(entries: Vec<Entry>) -> Self {
        let mut block = Self { entries, first_end: Timestamp::MAX, passage: None };
        block.changed();
        block
    }

    fn changed(&mut self) {
        self.first_end = self.entries.iter().map(|entry| entry.until).min().unwrap_or(Timestamp::MAX);
        self.passage = None;
    }

    fn last_created(&self) -> Timestamp {
        self.entries.last().map_or(Timestamp::MIN, |entry| entry.created_at)
    }

    fn insert(&mut self, mut entry: Entry) -> bool {
        let start = self.entries.partition_point(|other| other.created_at < entry.created_at);
        let same = self.entries[start..].partition_point(|other| other.created_at == entry.created_at);
        let of_instant = start..start + same;
        if self.entries[of_instant.clone()].iter().any(|other| other.covers(&entry)) {
            return false;
        }
        self.first_end = self.first_end.min(entry.until);
        self.passage = None;
        if same == 0 {
            self.entries.insert(start, entry);
            return true;
        }
        for other in self.entries[of_instant.clone()].iter().filter(|other| other.until == entry.until) {
            entry.steps |= other.steps;
        }
        let others = self.entries[of_instant.clone()].iter().filter(|other| !entry.covers(other));
        let mut instant: Vec<Entry> = others.copied().collect();
        instant.insert(instant.partition_point(|other| other.until < entry.until), entry);
        self.entries.splice(of_instant, instant);
        true
    }

    /// Takes the later half away, if the block has become too large.
    fn split(&mut self) -> Option<Block> {
        if self.entries.len() <= BLOCK_MAX {
            return None;
        }
        let middle = self.entries[self.entries.len() / 2].created_at;
        let place = match self.entries.partition_point(|entry| entry.created_at < middle) {
            0 => self.entries.partition_point(|entry| entry.created_at == middle),
            place => place,
        };
        let rest = self.entries.split_off(place);
        self.changed();
        (!rest.is_empty()).then(|| Block::new(rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(created_at: i64, until: i64) -> Entry {
        Entry { created_at: Timestamp(created_at), until: Timestamp(until), steps: 1 }
    }

    #[test]
    fn a_late_event_changes_one_block_and_there_are_never_many() {
        let mut entries = Entries::default();
        for number in 0..1_000_i64 {
            // Earlier and earlier, and two at a time in reverse.
            assert!(entries.insert(entry(5_000 - (number ^ 1), 9_000 + number)));
            let changed = entries.blocks.iter().filter(|block| block.passage.is_none()).count();
            assert!(changed <= 2, "{changed} blocks changed");
            entries.scan(2, 100);
            assert!(entries.blocks.len() <= 1 + 3 * entries.len() / BLOCK_MAX);
        }
        // What is left of many blocks is joined.
        entries.drop_ended(Timestamp(9_989));
        assert_eq!(entries.len(), 10);
        assert!(entries.blocks.len() <= 10);
        assert!(entries.iter().is_sorted_by_key(Entry::key));
        assert_eq!(entries.first_end(), Timestamp(9_990));
    }

    #[test]
    fn of_one_instant_only_entries_that_matter_beside_the_others_are_kept() {
        let mut entries = Entries::default();
        let of = |steps, until| Entry { created_at: Timestamp(1), until: Timestamp(until), steps };
        let cases =
            [(0b01, 10, true, 1), (0b01, 10, false, 1), (0b01, 9, false, 1), (0b10, 9, true, 2), (0b10, 10, true, 1)];
        for (steps, until, matters, left) in cases {
            assert_eq!((entries.insert(of(steps, until)), entries.len()), (matters, left), "{steps} until {until}");
        }
        assert_eq!(entries.iter().next(), Some(&of(0b11, 10)));
        assert!(entries.insert(of(0b111, 99)));
        assert_eq!(entries.len(), 1, "the last covers all");
    }
}

//! Reads a batch of records out of blocks, from memory or from the database.

use fjall::Guard;
use ports::log::{Batch, LogError, Record};

use super::block::{Block, block_key};
use super::group::Place;
use super::newest::Newest;
use super::store::{Opened, Space, StoreError};
use super::tail::{Readable, corrupt};

/// Where a batch may end before the end of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// Only between two instants.
    WithAnInstant,
    /// After any record.
    Anywhere,
}

/// What to read.
#[derive(Clone)]
pub(super) struct Wanted {
    pub place: Place,
    /// A record's offset. It is retained and before the end.
    pub from: u64,
    pub readable: Readable,
    /// Ranges of offsets without records.
    pub gaps: Vec<(u64, u64)>,
    /// A batch ends when it has this many bytes. With [`Ends::WithAnInstant`] it goes on to the end of
    /// the instant.
    pub bytes_max: usize,
    pub ends: Ends,
}

/// Returns `offset`, or the end of the gap that contains it.
pub(super) fn skip_gap(gaps: &[(u64, u64)], offset: u64) -> u64 {
    gaps.iter().find(|(from, to)| (*from..*to).contains(&offset)).map_or(offset, |(_, to)| *to)
}

/// Reads from memory. Returns `None` if it does not have all of the blocks.
pub(super) fn read_newest(newest: &Newest, wanted: &Wanted) -> Option<Batch> {
    let mut reading = Reading::of(wanted);
    while !reading.has_ended() {
        let (key, value) = newest.block(wanted.place, reading.expected)?;
        // What is wrong in memory may be right on the disk.
        if let Some(batch) = reading.add(&key, Block::trusted(&key, &value)).ok()? {
            return Some(batch);
        }
    }
    Some(reading.finish())
}

/// Reads from the database.
pub(super) fn read_blocks(opened: &Opened, wanted: &Wanted) -> Result<Batch, LogError> {
    let (topic, partition) = wanted.place;
    let from = block_key(partition, wanted.from);
    let blocks = opened.space(Space::Topic(topic));
    let at_or_before = blocks.range(block_key(partition, 0)..=from).next_back();
    let first_key = at_or_before.map(Guard::key).transpose().map_err(StoreError::from)?;
    let first_key = first_key.map_or_else(|| from.to_vec(), |key| key.to_vec());

    let mut reading = Reading::of(wanted);
    for guard in blocks.range(first_key..block_key(partition, wanted.readable.end).to_vec()) {
        let (key, value) = guard.into_inner().map_err(StoreError::from)?;
        if let Some(batch) = reading.add(&key, Block::parse(&key, &value))? {
            return Ok(batch);
        }
    }
    if !reading.has_ended() {
        return Err(reading.missing());
    }
    Ok(reading.finish())
}

/// A batch that is being read.
struct Reading<'a> {
    wanted: &'a Wanted,
    records: Vec<Record>,
    bytes: usize,
    /// The offset at which the next block begins.
    expected: u64,
}

impl<'a> Reading<'a> {
    fn of(wanted: &'a Wanted) -> Self {
        Self { wanted, records: Vec::new(), bytes: 0, expected: wanted.from }
    }

    /// Adds the records of the next block. Returns the batch if it ends within the block.
    fn add(&mut self, key: &[u8], block: Result<Block<'_>, &'static str>) -> Result<Option<Batch>, LogError> {
        let (topic, partition) = self.wanted.place;
        let corrupt = |what| corrupt(topic, partition, key, what);
        let block = block.map_err(corrupt)?;
        if block.first_offset > self.expected {
            self.expected = skip_gap(&self.wanted.gaps, self.expected);
        }
        if block.first_offset > self.expected || block.end() <= self.expected {
            return Err(self.missing());
        }
        let Wanted { from, bytes_max, ends, .. } = *self.wanted;
        for record in block.iter() {
            let record = record.map_err(corrupt)?;
            if record.offset < from {
                continue;
            }
            let last = self.records.last().map(|last| last.appended_at);
            let may_end = |last| ends == Ends::Anywhere || last < record.appended_at;
            if let Some(complete_until) = last.filter(|last| self.bytes >= bytes_max && may_end(*last)) {
                let records = std::mem::take(&mut self.records);
                return Ok(Some(Batch { records, next_offset: record.offset, complete_until }));
            }
            self.bytes += record.bytes();
            self.records.push(record.to_record().map_err(corrupt)?);
        }
        self.expected = block.end();
        Ok(None)
    }

    /// Whether the end of what is readable is reached.
    fn has_ended(&self) -> bool {
        skip_gap(&self.wanted.gaps, self.expected) == self.wanted.readable.end
    }

    fn finish(self) -> Batch {
        let Readable { end, complete_until, .. } = self.wanted.readable;
        Batch { records: self.records, next_offset: end, complete_until }
    }

    fn missing(&self) -> LogError {
        let (topic, partition) = self.wanted.place;
        corrupt(topic, partition, &block_key(partition, self.expected), "it is missing")
    }
}

//! The layout of records in the database: blocks, each under the key of its first record.
//!
//! A log is written and read in sequence, so one LSM entry per record would add cost and no
//! benefit. A block holds the records that one group of calls appended to one partition, up to
//! [`BLOCK_BYTES_MAX`].
//!
//! ```text
//! (all little-endian but the key)
//! key    partition u32 BE | offset of the first record u64 BE
//! value  crc32 u32 | records u32 | appended_at of the last i64 | record…
//! record appended_at i64 | key bytes u32 | value bytes u32 | key | value
//! ```
//!
//! [`Store`](super::store::Store) adds one entry without a value beyond all partitions.
//!
//! The checksum covers the block's key too: a block in the wrong place is as bad as a torn one.

use ports::log::Record;
use segment_engine::ids::PartitionId;
use segment_engine::time::Timestamp;

/// A block is closed when it reaches this size. A reader checks whole blocks, so this also bounds
/// the work to read one record.
pub(super) const BLOCK_BYTES_MAX: usize = 1 << 20;

const HEADER_BYTES: usize = 16;
const RECORD_HEADER_BYTES: usize = 16;

/// Returns the key of a block. Keys sort by partition, then offset.
pub(super) fn block_key(partition: PartitionId, first_offset: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&partition.0.to_be_bytes());
    key[4..].copy_from_slice(&first_offset.to_be_bytes());
    key
}

/// Returns the partition of the block under `key`.
fn partition(key: &[u8]) -> Option<PartitionId> {
    Some(PartitionId(u32::from_be_bytes(key.get(..4)?.try_into().ok()?)))
}

/// Returns the offset of the first record of the block under `key`.
pub(super) fn first_offset(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(4..12)?.try_into().ok()?))
}

/// A block under construction.
pub(super) struct BlockBuilder {
    key: [u8; 12],
    first_offset: u64,
    records: u32,
    last_appended_at: Timestamp,
    bytes: Vec<u8>,
}

impl BlockBuilder {
    /// Starts an empty block of `partition` at `first_offset`.
    pub(super) fn new(partition: PartitionId, first_offset: u64) -> Self {
        let bytes = vec![0; HEADER_BYTES];
        Self {
            key: block_key(partition, first_offset),
            first_offset,
            records: 0,
            last_appended_at: Timestamp::MIN,
            bytes,
        }
    }

    /// Returns the offset that the next record will have.
    pub(super) fn end(&self) -> u64 {
        self.first_offset + u64::from(self.records)
    }

    /// Whether the next record belongs in another block.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= BLOCK_BYTES_MAX
    }

    /// Adds a record. Key and value are below 4 GiB, because whole calls are.
    pub(super) fn push(&mut self, appended_at: Timestamp, key: &str, value: &[u8]) {
        self.bytes.reserve(RECORD_HEADER_BYTES + key.len() + value.len());
        self.bytes.extend_from_slice(&appended_at.0.to_le_bytes());
        self.bytes.extend_from_slice(&(key.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(key.as_bytes());
        self.bytes.extend_from_slice(value);
        self.records += 1;
        self.last_appended_at = appended_at;
    }

    /// Returns the finished block: its key and its value.
    pub(super) fn finish(mut self) -> ([u8; 12], Vec<u8>) {
        self.bytes[4..8].copy_from_slice(&self.records.to_le_bytes());
        self.bytes[8..16].copy_from_slice(&self.last_appended_at.0.to_le_bytes());
        let checksum = checksum(&self.key, &self.bytes[4..]);
        self.bytes[..4].copy_from_slice(&checksum.to_le_bytes());
        (self.key, self.bytes)
    }
}

/// Returns the CRC32 of an entry: its key, then the part of its value after the checksum.
pub(super) fn checksum(key: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(body);
    hasher.finalize()
}

/// A stored block.
pub(super) struct Block<'a> {
    /// The partition of all its records.
    pub partition: PartitionId,
    /// The offset of the block's first record.
    pub first_offset: u64,
    /// The number of records in the block.
    pub records: u32,
    /// The `appended_at` of the block's last record.
    pub last_appended_at: Timestamp,
    body: &'a [u8],
}

impl<'a> Block<'a> {
    /// Checks a stored entry. The error says what is wrong with it.
    pub(super) fn parse(key: &[u8], value: &'a [u8]) -> Result<Self, &'static str> {
        let (stored, rest) = value.split_first_chunk::<4>().ok_or("it is cut off")?;
        if u32::from_le_bytes(*stored) != checksum(key, rest) {
            return Err("its checksum does not match");
        }
        Self::trusted(key, value)
    }

    /// As [`Block::parse`], but without the checksum: for an entry that never left memory.
    pub(super) fn trusted(key: &[u8], value: &'a [u8]) -> Result<Self, &'static str> {
        let (partition, first_offset) = partition(key).zip(first_offset(key)).ok_or("its key is too short")?;
        let (_, rest) = value.split_first_chunk::<4>().ok_or("it is cut off")?;
        let (records, rest) = rest.split_first_chunk::<4>().ok_or("it is cut off")?;
        let (last, body) = rest.split_first_chunk::<8>().ok_or("it is cut off")?;
        let last_appended_at = Timestamp(i64::from_le_bytes(*last));
        Ok(Self { partition, first_offset, records: u32::from_le_bytes(*records), last_appended_at, body })
    }

    /// Returns the offset after the last record.
    pub(super) fn end(&self) -> u64 {
        self.first_offset + u64::from(self.records)
    }

    /// Returns the records in order. The checksum matches, so an error means that the block was
    /// written wrongly.
    pub(super) fn iter(&self) -> impl Iterator<Item = Result<StoredRecord<'a>, &'static str>> + use<'a> {
        let mut rest = self.body;
        (self.first_offset..self.end()).map(move |offset| {
            let (record, after) = StoredRecord::parse(offset, rest).ok_or("a record is cut off")?;
            rest = after;
            Ok(record)
        })
    }
}

/// A record inside its block.
pub(super) struct StoredRecord<'a> {
    /// The record's offset in its partition.
    pub offset: u64,
    /// The instant that the log gave the record.
    pub appended_at: Timestamp,
    key: &'a [u8],
    value: &'a [u8],
}

impl<'a> StoredRecord<'a> {
    fn parse(offset: u64, bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (appended_at, rest) = bytes.split_first_chunk::<8>()?;
        let (key_bytes, rest) = rest.split_first_chunk::<4>()?;
        let (value_bytes, rest) = rest.split_first_chunk::<4>()?;
        let (key, rest) = rest.split_at_checked(u32::from_le_bytes(*key_bytes) as usize)?;
        let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*value_bytes) as usize)?;
        Some((Self { offset, appended_at: Timestamp(i64::from_le_bytes(*appended_at)), key, value }, rest))
    }

    /// Returns the size that counts towards a reader's limit.
    pub(super) fn bytes(&self) -> usize {
        self.key.len() + self.value.len()
    }

    /// Converts to the port's record.
    pub(super) fn to_record(&self) -> Result<Record, &'static str> {
        let key = std::str::from_utf8(self.key).map_err(|_| "a record's key is not UTF-8")?.to_owned();
        Ok(Record { offset: self.offset, appended_at: self.appended_at, key, value: self.value.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> ([u8; 12], Vec<u8>) {
        let mut block = BlockBuilder::new(PartitionId(3), 40);
        block.push(Timestamp(1), "7", b"{}");
        block.push(Timestamp(2), "", b"");
        block.finish()
    }

    #[test]
    fn a_block_returns_its_records() {
        let (key, value) = sample();
        let block = Block::parse(&key, &value).expect("just written");
        let records: Vec<Record> = block.iter().map(|r| r.and_then(|r| r.to_record()).expect("sound")).collect();
        assert_eq!(block.end(), 42);
        assert_eq!(block.last_appended_at, Timestamp(2));
        assert_eq!(
            records[0],
            Record { offset: 40, appended_at: Timestamp(1), key: "7".into(), value: b"{}".to_vec() }
        );
        assert_eq!(records[1], Record { offset: 41, appended_at: Timestamp(2), key: String::new(), value: vec![] });
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_detected() {
        let (key, value) = sample();
        for bit in 0..value.len() * 8 {
            let mut damaged = value.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Block::parse(&key, &damaged).is_err(), "bit {bit}");
        }
        for length in 0..value.len() {
            assert!(Block::parse(&key, &value[..length]).is_err(), "truncated to {length} bytes");
        }
        assert!(Block::parse(&block_key(PartitionId(3), 41), &value).is_err(), "under another key");
    }

    #[test]
    fn keys_sort_by_partition_then_offset() {
        assert!(block_key(PartitionId(1), 300) < block_key(PartitionId(1), 70_000));
        assert!(block_key(PartitionId(1), u64::MAX) < block_key(PartitionId(256), 0));
    }
}

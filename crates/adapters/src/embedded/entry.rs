//! The small entries beside the blocks: layout, bounds, progress and producers. Each carries its
//! own checksum.

use ports::log::{LogError, Progress, Topic};
use segment_engine::ids::PartitionId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::block::checksum;
use super::store::{Opened, Space, StoreError};

/// The version of the stored format. A log with another version is refused at start.
pub(super) const FORMAT_VERSION: u32 = 1;

/// The settings that a log was created with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layout {
    /// The format version: [`FORMAT_VERSION`].
    pub version: u32,
    /// The number of partitions: see `Log::partitions`.
    pub partitions: u32,
}

/// What a trim stores, because the trimmed records no longer show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trimmed {
    /// The first retained offset.
    pub first: u64,
    /// The log's floor at the trim: every later append gets a later instant.
    pub floor_micros: i64,
}

/// A typed key of the `meta` keyspace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Entry {
    /// [`Layout`]
    Layout,
    /// [`Trimmed`]
    Trimmed(Topic, PartitionId),
    /// `Vec<(u64, u64)>`: ranges of offsets without records, end exclusive, ascending
    Gaps(Topic, PartitionId),
    /// [`Progress`]
    Progress(PartitionId),
    /// `u64`: the producer's last sequence
    Producer(String),
    /// [`HighestIds`](ports::log::HighestIds)
    HighestIds,
    /// `i64`: when the files were last wiped, in microseconds
    Wiped,
    /// [`Stamp`](super::stamp::Stamp) of the last write
    Stamp,
}

impl Entry {
    /// Returns the key as stored.
    pub(super) fn key(&self) -> Vec<u8> {
        match self {
            Entry::Layout => b"layout".to_vec(),
            Entry::Trimmed(topic, partition) => format!("trimmed/{topic:?}/{partition}").into_bytes(),
            Entry::Gaps(topic, partition) => format!("gaps/{topic:?}/{partition}").into_bytes(),
            Entry::Progress(partition) => format!("progress/{partition}").into_bytes(),
            Entry::HighestIds => b"highest-ids".to_vec(),
            Entry::Wiped => b"scrubbed".to_vec(),
            Entry::Stamp => b"stamp".to_vec(),
            Entry::Producer(name) => format!("producer/{name}").into_bytes(),
        }
    }

    /// Reads the entry. Returns `None` if it is not stored.
    pub(super) fn get<T: DeserializeOwned>(&self, opened: &Opened) -> Result<Option<T>, LogError> {
        let key = self.key();
        let stored = opened.space(Space::Meta).get(&key).map_err(StoreError::from)?;
        stored.map(|value| decode(&key, &value).map_err(|what| self.corrupt(what))).transpose()
    }

    fn corrupt(&self, what: &str) -> LogError {
        LogError::Corrupt(format!("the entry {}: {what}", String::from_utf8_lossy(&self.key())))
    }
}

/// Returns the last committed progress of a partition.
pub(super) fn progress(opened: &Opened, partition: PartitionId) -> Result<Option<Progress>, LogError> {
    Entry::Progress(partition).get(opened)
}

/// Serialises a value, with its checksum in front.
pub(super) fn encode<T: Serialize>(key: &[u8], value: &T) -> Vec<u8> {
    let body = postcard::to_stdvec(value).expect("plain numbers and bytes always serialise");
    let mut bytes = checksum(key, &body).to_le_bytes().to_vec();
    bytes.extend_from_slice(&body);
    bytes
}

/// The inverse of [`encode`]. The error says what is wrong.
pub(super) fn decode<T: DeserializeOwned>(key: &[u8], bytes: &[u8]) -> Result<T, &'static str> {
    let (stored, body) = bytes.split_first_chunk::<4>().ok_or("it is cut off")?;
    if u32::from_le_bytes(*stored) != checksum(key, body) {
        return Err("its checksum does not match");
    }
    postcard::from_bytes(body).map_err(|_| "it cannot be read")
}

//! The log: partitioned, append-only topics. Every input that can change a membership is a record
//! of the log.

use async_trait::async_trait;
use segment_engine::ids::{PartitionId, UserId};
use segment_engine::time::Timestamp;
use serde::{Deserialize, Serialize};

/// The topics of USS. Their public names are settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Topic {
    /// Events and every other input about one user, by the user's partition.
    Events,
    /// Rejected events and failed computations. One partition.
    Errors,
    /// Transitions that the workers emit, in the user's partition. As many partitions as
    /// [`Topic::Events`].
    Notifications,
    /// Segment definitions, in order. One partition.
    Config,
}

impl Topic {
    /// Returns how many partitions the topic has in a log of `partitions`.
    pub fn partitions(self, partitions: u32) -> u32 {
        match self {
            Topic::Events | Topic::Notifications => partitions,
            Topic::Errors | Topic::Config => 1,
        }
    }

    /// Refuses a partition that the topic does not have in a log of `partitions`.
    pub fn check(self, partition: PartitionId, partitions: u32) -> Result<(), LogError> {
        let has = self.partitions(partitions);
        if partition.0 < has { Ok(()) } else { Err(LogError::NoSuchPartition { topic: self, partition, has }) }
    }
}

/// A record to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecord {
    /// The topic to append to.
    pub topic: Topic,
    /// The partition; the writer chooses it.
    pub partition: PartitionId,
    /// Says what the record is about: a user id, a client id or a segment id.
    pub key: String,
    /// JSON.
    pub value: Vec<u8>,
}

/// A record as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Ascends along a partition, not necessarily without gaps.
    pub offset: u64,
    /// When the log appended the record. Never decreases along a partition.
    pub appended_at: Timestamp,
    /// As appended.
    pub key: String,
    /// As appended.
    pub value: Vec<u8>,
}

impl Record {
    /// Counts the records, from the first, that make up `bytes_max` bytes; the last of them may
    /// exceed it.
    fn up_to(records: &[Record], bytes_max: usize) -> usize {
        let mut bytes = 0;
        let fits = records.iter().take_while(|record| {
            let has_room = bytes == 0 || bytes < bytes_max;
            bytes += record.key.len() + record.value.len();
            has_room
        });
        fits.count()
    }
}

/// The place of an appended record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset in the partition.
    pub offset: u64,
    /// As in [`Record`].
    pub appended_at: Timestamp,
}

/// What [`Log::read`] returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// In order of offset. A batch never splits an instant: it has every record with the
    /// `appended_at` of its last.
    pub records: Vec<Record>,
    /// The offset to read next.
    pub next_offset: u64,
    /// No record at or after `next_offset` has, or will ever have, an `appended_at` at or before
    /// this instant. The reader's time may advance to it, and not beyond.
    pub complete_until: Timestamp,
}

/// How far a partition of [`Topic::Events`] has been consumed. Part of every commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The next record to consume.
    pub next_offset: u64,
    /// Partition time: what took effect later is not committed, and every record before `next_offset`
    /// is applied.
    pub time: Timestamp,
    /// How many microseconds some users are behind it: what followed for them from time, or from
    /// segments that took effect, is committed only up to then.
    pub behind: u64,
    /// Notifications of this partition before this offset are committed; the next one gets this
    /// offset or a later one.
    pub notifications_offset: u64,
}

impl Progress {
    /// Returns the instant up to which everything is committed, for all users.
    pub fn settled(&self) -> Timestamp {
        Timestamp(self.time.0.saturating_sub_unsigned(self.behind))
    }
}

/// One turn of a worker, stored atomically.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The partition of [`Topic::Events`].
    pub partition: PartitionId,
    /// The progress after the turn. The log fills in `notifications_offset` itself.
    pub progress: Progress,
    /// Notifications, errors, and records to other partitions.
    pub records: Vec<NewRecord>,
}

/// The highest ids of users and segments in any record ever appended, trimmed ones included; 0 for
/// none.
///
/// The config store assigns these ids. If its last ids were lower, it would assign an id a second
/// time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HighestIds {
    /// From the keys of [`Topic::Events`] and [`Topic::Notifications`].
    pub user: i64,
    /// From the keys of [`Topic::Config`].
    pub segment: i64,
}

impl HighestIds {
    /// Takes a record into account. A key that is not an id counts for nothing.
    pub fn note(&mut self, topic: Topic, key: &str) {
        let highest = match topic {
            Topic::Events | Topic::Notifications => &mut self.user,
            Topic::Config => &mut self.segment,
            Topic::Errors => return,
        };
        *highest = key.parse().map_or(*highest, |id: i64| id.max(*highest));
    }
}

/// Why a call failed. The kinds differ by what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Nothing was stored; the same call may succeed later. Becomes a 503 with Retry-After.
    #[error("the log is unavailable: {0}")]
    Unavailable(String),
    /// The disk or quota is full; nothing was stored.
    #[error("the log has no space left: {0}")]
    Full(String),
    /// Stored data failed a check. Needs an operator.
    #[error("the log is damaged: {0}")]
    Corrupt(String),
    /// The log was created with another number of partitions.
    #[error(
        "the log has {found} partitions but the settings ask for {asked}; keep USS_PARTITIONS={found}, or move to a new data folder"
    )]
    Partitions {
        /// The log's number of partitions.
        found: u32,
        /// The number in the settings.
        asked: u32,
    },
    /// The caller named a partition that the topic does not have.
    #[error("the topic {topic:?} has {has} partitions, and no partition {partition}")]
    NoSuchPartition {
        /// The topic that the caller named.
        topic: Topic,
        /// The partition that the caller named.
        partition: PartitionId,
        /// How many the topic has; they are counted from 0.
        has: u32,
    },
}

/// Returns the user's partition of [`Topic::Events`] and [`Topic::Notifications`]. It must never
/// change: stored records depend on it.
pub fn partition_of(user: UserId, partitions: u32) -> PartitionId {
    // The finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
    // generators", 2014).
    let mut z = user.0 as u64;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    PartitionId(((z ^ (z >> 31)) % u64::from(partitions)) as u32)
}

/// The log port. Cheap to share behind an `Arc`.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// Returns the number of partitions of [`Topic::Events`] and [`Topic::Notifications`]; the
    /// other topics have one.
    fn partitions(&self) -> u32;

    /// For health checks: checks that the log can be written, as far as is known. It writes only
    /// after a failed write, to see whether the next one would succeed.
    async fn ping(&self) -> Result<(), LogError>;

    /// Appends all of the records or none, and returns when they are synced to disk. Concurrent
    /// calls share a sync (group commit). All records of one call get the same `appended_at`, which
    /// is later than any before it and later than every [`Batch::complete_until`] returned before.
    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Appended>, LogError>;

    /// Like [`Log::append`], but only if `sequence` is greater than the producer's last one; it is
    /// stored in the same write. Returns whether the records were appended: `false` means that an
    /// earlier call already did it.
    async fn append_once(&self, producer: &str, sequence: u64, records: Vec<NewRecord>) -> Result<bool, LogError>;

    /// Returns the producer's last sequence in [`Log::append_once`]; 0 if it never appended.
    async fn producer_sequence(&self, producer: &str) -> Result<u64, LogError>;

    /// Reads about `bytes_max` bytes from an offset, or more to complete the last instant. Empty at
    /// the end. An offset before the first retained one reads from there. Returns only synced
    /// records.
    async fn read(&self, topic: Topic, partition: PartitionId, from: u64, bytes_max: usize) -> Result<Batch, LogError>;

    /// Like [`Log::read`], but it may end within an instant. For readers that do not follow time,
    /// and whose memory is bounded. Returns at least one record if there is one.
    async fn read_piece(
        &self,
        topic: Topic,
        partition: PartitionId,
        from: u64,
        bytes_max: usize,
    ) -> Result<Vec<Record>, LogError> {
        let mut records = self.read(topic, partition, from, bytes_max).await?.records;
        records.truncate(Record::up_to(&records, bytes_max));
        Ok(records)
    }

    /// Waits until there is a record at or after `offset`. Cancel-safe.
    async fn wait_for(&self, topic: Topic, partition: PartitionId, offset: u64);

    /// Returns the first retained offset, and the offset after the last record.
    async fn bounds(&self, topic: Topic, partition: PartitionId) -> Result<(u64, u64), LogError>;

    /// Stores a worker's turn atomically and durably. From then on no append gets an `appended_at`
    /// at or before `progress.time`, whatever the clock says, even after a restart.
    async fn commit(&self, commit: Commit) -> Result<(), LogError>;

    /// Returns the progress of the last commit of a partition.
    async fn committed(&self, partition: PartitionId) -> Result<Option<Progress>, LogError>;

    /// Returns the highest ids in any record ever appended, without reading records.
    async fn highest_ids(&self) -> Result<HighestIds, LogError>;

    /// Deletes the records before `before`, or all if it is beyond the end. Later records get the
    /// same offsets as without it.
    async fn trim(&self, topic: Topic, partition: PartitionId, before: u64) -> Result<(), LogError>;

    /// Wipes the traces of trimmed records, and of entries that were replaced or removed, from the
    /// log's files, if the last wipe was at least `interval_micros` before `now`; a new log counts
    /// as just wiped. Returns whether it did. If a call is cancelled or killed, the next one starts
    /// again. A log without files has nothing to wipe.
    async fn wipe(&self, _now: Timestamp, _interval_micros: i64) -> Result<bool, LogError> {
        Ok(false)
    }

    /// For a log that has lost its end: makes the next record of the partition get `offset` or a later one, so that no
    /// offset is assigned twice. Records stay; readers skip the gap.
    async fn skip_to(&self, topic: Topic, partition: PartitionId, offset: u64) -> Result<(), LogError>;
}

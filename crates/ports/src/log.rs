//! The log: partitioned, append-only topics. Every input that can change a membership is a record in it.

use async_trait::async_trait;
use segment_engine::time::Timestamp;
use serde::{Deserialize, Serialize};

/// The topics of USS. Their names outside are settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Topic {
    /// Events and every other input about one user, by the user's partition.
    Events,
    /// Rejected events and failed computations. One partition.
    Errors,
    /// What the workers tell: as many partitions as [`Topic::Events`], a user's notifications in the user's partition.
    Notifications,
    /// Segment definitions, in order. One partition.
    Config,
}

impl Topic {
    /// How many partitions the topic has in a log of `partitions`.
    pub fn partitions(self, partitions: u32) -> u32 {
        match self {
            Topic::Events | Topic::Notifications => partitions,
            Topic::Errors | Topic::Config => 1,
        }
    }

    /// Refuses a partition that the topic does not have in a log of `partitions`.
    pub fn check(self, partition: u32, partitions: u32) -> Result<(), LogError> {
        let has = self.partitions(partitions);
        if partition < has { Ok(()) } else { Err(LogError::NoSuchPartition { topic: self, partition, has }) }
    }
}

/// A record to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecord {
    /// The topic.
    pub topic: Topic,
    /// The partition of the topic: chosen by the writer, never by the log.
    pub partition: u32,
    /// Says what the record is about (a user id, a client id, a segment id) to readers of the topic.
    pub key: String,
    /// JSON text.
    pub value: Vec<u8>,
}

/// A record as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its offset in its partition: ascending, not necessarily contiguous.
    pub offset: u64,
    /// When the log took it. Never decreases along a partition.
    pub appended_at: Timestamp,
    /// As appended.
    pub key: String,
    /// As appended.
    pub value: Vec<u8>,
}

impl Record {
    /// How many of these records, from the first, come to `bytes_max` bytes; the last of them may go beyond.
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

/// Where an appended record stands, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its offset in its partition.
    pub offset: u64,
    /// Its `appended_at`.
    pub appended_at: Timestamp,
}

/// What [`Log::read`] answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Records in order of offset. A batch never splits an instant: it holds every record with the `appended_at` of its last.
    pub records: Vec<Record>,
    /// Where to read on.
    pub next_offset: u64,
    /// No record at or after `next_offset` has, or will ever have, an `appended_at` at or before this instant.
    /// The reader's time may advance to it, and not beyond.
    pub complete_until: Timestamp,
}

/// How far a partition of [`Topic::Events`] has been consumed: part of every commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The next record to consume.
    pub next_offset: u64,
    /// Partition time: every deadline up to and including it has fired.
    pub time: Timestamp,
    /// The next record of [`Topic::Config`] to apply.
    pub config_offset: u64,
    /// The offset that the next notification of this partition will get or follow: those before it are committed.
    pub notifications_offset: u64,
}

/// One turn of a worker: stored as a whole or not at all.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The partition of [`Topic::Events`].
    pub partition: u32,
    /// Where it stands after this turn. The log fills in `notifications_offset` itself.
    pub progress: Progress,
    /// What the turn produced: notifications, errors, records to other partitions.
    pub records: Vec<NewRecord>,
}

/// The highest ids of users and segments that records were ever about, those that have left the log included; 0 for none.
///
/// Ids are given by the config store. It must stand at least here: else it would give somebody's id to somebody else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HighestIds {
    /// Of the users in the keys of [`Topic::Events`] and [`Topic::Notifications`].
    pub user: i64,
    /// Of the segments in the keys of [`Topic::Config`].
    pub segment: i64,
}

impl HighestIds {
    /// Takes a record into account. A key that is no id is about none.
    pub fn note(&mut self, topic: Topic, key: &str) {
        let highest = match topic {
            Topic::Events | Topic::Notifications => &mut self.user,
            Topic::Config => &mut self.segment,
            Topic::Errors => return,
        };
        *highest = key.parse().map_or(*highest, |id: i64| id.max(*highest));
    }
}

/// Why the log could not do it. The caller's next step differs by kind.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Nothing was stored; the same call may succeed later. Callers answer 503 with Retry-After.
    #[error("the log is unavailable: {0}")]
    Unavailable(String),
    /// The disk (or quota) is full: nothing was stored.
    #[error("the log has no space left: {0}")]
    Full(String),
    /// Stored data fails its checks. Needs an operator.
    #[error("the log is damaged: {0}")]
    Corrupt(String),
    /// The log was created with another number of partitions.
    #[error(
        "the log has {found} partitions but the settings ask for {asked}; keep USS_PARTITIONS={found}, or move to a new data folder"
    )]
    Partitions {
        /// What the log has.
        found: u32,
        /// What was asked for.
        asked: u32,
    },
    /// The caller named a partition that the topic does not have.
    #[error("the topic {topic:?} has {has} partitions, and no partition {partition}")]
    NoSuchPartition {
        /// The topic.
        topic: Topic,
        /// What was asked for.
        partition: u32,
        /// How many it has, from 0.
        has: u32,
    },
}

/// Which partition of [`Topic::Events`] (and of [`Topic::Notifications`]) is a user's. Fixed for ever: it is part of the data.
pub fn partition_of(user_id: i64, partitions: u32) -> u32 {
    // The finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
    let mut z = user_id as u64;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) % u64::from(partitions)) as u32
}

/// The log port. Cheap to share behind an `Arc`.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// The number of partitions of [`Topic::Events`] and [`Topic::Notifications`]; the other topics have one.
    fn partitions(&self) -> u32;

    /// Whether the log can be written, as far as is known: what a health check asks. It writes only after a failed write, to
    /// see whether the next one would succeed.
    async fn ping(&self) -> Result<(), LogError>;

    /// Appends all of the records or none, and returns when they are synced to disk. Calls that come at the same time
    /// share a sync (group commit). All records of one call get the same `appended_at`, later than any before it and
    /// later than every [`Batch::complete_until`] answered before.
    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Appended>, LogError>;

    /// As [`Log::append`], but only if `sequence` is greater than the producer's last one, which is stored in the same
    /// write. Answers whether the records were appended: `false` means that an earlier call had already done it.
    async fn append_once(&self, producer: &str, sequence: u64, records: Vec<NewRecord>) -> Result<bool, LogError>;

    /// The producer's last sequence in [`Log::append_once`]; 0 if it never appended.
    async fn producer_sequence(&self, producer: &str) -> Result<u64, LogError>;

    /// Reads from an offset on, about `bytes_max` bytes (more, to finish the last instant). Empty at the end. An offset
    /// before the first retained one reads from there. Only synced records are read.
    async fn read(&self, topic: Topic, partition: u32, from: u64, bytes_max: usize) -> Result<Batch, LogError>;

    /// Reads from an offset on, about `bytes_max` bytes, and at least one record if there is one. As [`Log::read`], but it may
    /// end within an instant: for readers who do not follow time, and whose memory has a bound.
    async fn read_piece(
        &self,
        topic: Topic,
        partition: u32,
        from: u64,
        bytes_max: usize,
    ) -> Result<Vec<Record>, LogError> {
        let mut records = self.read(topic, partition, from, bytes_max).await?.records;
        records.truncate(Record::up_to(&records, bytes_max));
        Ok(records)
    }

    /// Returns when there is a record at or after `offset`. Cancel-safe.
    async fn wait_for(&self, topic: Topic, partition: u32, offset: u64);

    /// The first retained offset, and the offset after the last record.
    async fn bounds(&self, topic: Topic, partition: u32) -> Result<(u64, u64), LogError>;

    /// Stores a worker's turn atomically and durably. As `progress.time` has passed then, no later append gets an
    /// `appended_at` at or before it, whatever the clock says, also after a restart.
    async fn commit(&self, commit: Commit) -> Result<(), LogError>;

    /// The last commit of a partition.
    async fn committed(&self, partition: u32) -> Result<Option<Progress>, LogError>;

    /// The highest ids that records were ever about. Kept with the records: asking for it reads none of them.
    async fn highest_ids(&self) -> Result<HighestIds, LogError>;

    /// Forgets the records before `before`, at most all there are. Offsets go on where they were.
    async fn trim(&self, topic: Topic, partition: u32, before: u64) -> Result<(), LogError>;

    /// Wipes what trimmed records, and entries that were replaced or removed beside them, have left in the log's files, if
    /// the last time was at least `interval_micros` before `now`; a new log counts as just wiped. Returns whether it did.
    /// Cancelled or killed, the next call begins anew. A log without files of its own has nothing to wipe.
    async fn scrub(&self, _now: Timestamp, _interval_micros: i64) -> Result<bool, LogError> {
        Ok(false)
    }

    /// For a log that has lost its end: the next record of the partition gets `offset` or a later one, so that no offset is
    /// given twice. What is left stays; readers pass over the gap.
    async fn skip_to(&self, topic: Topic, partition: u32, offset: u64) -> Result<(), LogError>;
}

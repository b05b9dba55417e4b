//! The worker's settings and their defaults.

use std::time::Duration;

use segment_engine::machine;

const DAY_MICROS: i64 = 86_400_000_000;

/// Bounds and intervals of the partition loop.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// About how many bytes of records one turn takes.
    pub batch_bytes_max: usize,
    /// How many users who are behind one turn lets catch up, with a deadline or a segment that took
    /// effect, beside as many as it has records. More catch up between turns, in the partitions
    /// that are let: see [`Background`](crate::partition::Background).
    pub followers_per_turn_max: usize,
    /// For how long a partition keeps its thread before others run, and before it commits what users
    /// who catch up change, unless that fills a commit sooner.
    pub slice: Duration,
    /// How long at least between two checkpoints of a partition, in microseconds.
    pub checkpoint_interval_micros: i64,
    /// How many users one step of a checkpoint writes, between two turns.
    pub checkpoint_users_per_step: usize,
    /// The machine's own.
    pub machine: machine::Settings,
    /// Of how many merged users a backfill reads the history at a time.
    pub backfill_users_per_read: usize,
    /// About how many events one step of a backfill adds.
    pub backfill_events_per_step: usize,
    /// How many bytes of history a partition reads at a time, as
    /// [`history_bytes`](ports::warehouse::history_bytes) counts them. As many wait to be read.
    pub history_bytes_max: usize,
    /// About how many bytes of records the archivers' batches have together: enough for two of the
    /// warehouse's row groups.
    pub archive_bytes_max: usize,
    /// How long the archiver waits for a batch to fill, in milliseconds.
    pub archive_linger_ms: u64,
    /// How long records stay in the log at least, in microseconds; `None`: for ever.
    pub retention_micros: Option<i64>,
    /// How long at least between two times that deleted users are wiped out of the files, in microseconds; `None`: never.
    pub erase_interval_micros: Option<i64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            batch_bytes_max: 1 << 20,
            followers_per_turn_max: 64,
            slice: Duration::from_millis(2),
            checkpoint_interval_micros: 10_000_000,
            checkpoint_users_per_step: 512,
            machine: machine::Settings::default(),
            backfill_users_per_read: 512,
            backfill_events_per_step: 1 << 14,
            history_bytes_max: 16 << 20,
            archive_bytes_max: 128 << 20,
            archive_linger_ms: 500,
            retention_micros: Some(7 * DAY_MICROS),
            erase_interval_micros: Some(DAY_MICROS),
        }
    }
}

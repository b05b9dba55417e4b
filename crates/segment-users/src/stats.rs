//! Numbers for operators: how much the engine holds, and how far each partition is.
//!
//! They are collected only when somebody asks. An idle service does nothing for them, and a worker
//! only reads what its machine has counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use ports::clock::ClockStatus;
use ports::log::Progress;
use segment_engine::ids::{SegmentId, SegmentVersion};
use segment_engine::machine::SegmentCount;
use segment_engine::time::Timestamp;

use crate::partition::Partition;

/// How many segments have series of their own: a metrics store keeps each series for as long as it
/// keeps anything.
const SEGMENTS_MAX: usize = 1_000;

const MICROS_PER_SECOND: f64 = 1e6;

/// One partition's numbers, as its worker counts them between two turns.
#[derive(Debug, Default)]
pub(crate) struct PartitionStats {
    users: usize,
    state_bytes: usize,
    /// Each with how much of its newest version's work is done, from 0 to 1.
    segments: Vec<(SegmentCount, f64)>,
}

impl PartitionStats {
    pub(crate) fn of(partition: &Partition) -> Self {
        let machine = partition.machine();
        Self {
            users: machine.user_count(),
            state_bytes: machine.state_bytes(),
            segments: machine
                .segment_counts()
                .map(|count| (count.clone(), partition.newest_progress(count.id)))
                .collect(),
        }
    }
}

/// The last stats that a worker gave.
#[derive(Debug, Default)]
pub(crate) struct LastStats(Mutex<Arc<PartitionStats>>);

impl LastStats {
    pub(crate) fn set(&self, stats: PartitionStats) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(stats);
    }

    pub(crate) fn get(&self) -> Arc<PartitionStats> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The numbers of the whole service at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Users that the engine knows.
    pub users: usize,
    /// About how much memory they take, see [`segment_engine::machine::Machine::state_bytes`].
    pub state_bytes: usize,
    /// By segment id.
    pub segments: BTreeMap<SegmentId, SegmentStats>,
    /// In order.
    pub partitions: Vec<PartitionLag>,
    /// Of the clock that all partitions go by.
    pub clock: ClockStatus,
}

/// A segment over all partitions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SegmentStats {
    /// The tag of its newest version.
    pub tag: String,
    version: SegmentVersion,
    /// How many users are in it.
    pub members: u64,
    /// The sum over partitions of how much of the newest version's work is done, each from 0 to 1.
    done: f64,
}

/// How far behind one partition is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PartitionLag {
    /// Records that the worker has not applied.
    pub unapplied_records: u64,
    /// Records that are not in the warehouse.
    pub unarchived_records: u64,
    /// Notifications whose memberships are not in the config store.
    pub unstored_notifications: u64,
    /// The age of the last checkpoint; 0 if it holds everything that was applied.
    pub checkpoint_age_seconds: f64,
}

impl PartitionLag {
    pub(crate) fn new(
        end: u64,
        progress: Progress,
        marker: Progress,
        (archived, stored): (u64, u64),
        opened_at: Timestamp,
        now: Timestamp,
    ) -> Self {
        Self {
            unapplied_records: end.saturating_sub(progress.next_offset),
            unarchived_records: end.saturating_sub(archived),
            unstored_notifications: progress.notifications_offset.saturating_sub(stored),
            checkpoint_age_seconds: checkpoint_age_seconds(marker, progress.next_offset, opened_at, now),
        }
    }
}

/// A partition without a checkpoint has had none since it was opened.
fn checkpoint_age_seconds(marker: Progress, applied: u64, opened_at: Timestamp, now: Timestamp) -> f64 {
    if applied <= marker.next_offset {
        return 0.0;
    }
    let since = if marker.time == Timestamp::MIN { opened_at } else { marker.time };
    now.0.saturating_sub(since.0).max(0) as f64 / MICROS_PER_SECOND
}

impl Stats {
    pub(crate) fn add(&mut self, partition: &PartitionStats, lag: PartitionLag) {
        self.partitions.push(lag);
        self.users += partition.users;
        self.state_bytes += partition.state_bytes;
        for (count, done) in &partition.segments {
            let segment = self.segments.entry(count.id).or_default();
            segment.members += count.members;
            segment.done += done;
            if segment.tag.is_empty() || segment.version < count.version {
                segment.tag.clone_from(&count.tag);
                segment.version = count.version;
            }
        }
    }

    /// Returns how much of the work of a segment's newest version is done, from 0 to 1.
    pub fn progress(&self, segment: &SegmentStats) -> f64 {
        segment.done / self.partitions.len().max(1) as f64
    }

    /// Sets the gauges of the current recorder.
    pub fn report(&self) {
        metrics::gauge!("uss_users").set(self.users as f64);
        metrics::gauge!("uss_state_bytes").set(self.state_bytes as f64);
        let jump_micros = self.clock.jump.map_or(0, |jump| jump.ahead_micros);
        metrics::gauge!("uss_clock_jump_seconds").set(jump_micros as f64 / MICROS_PER_SECOND);
        metrics::gauge!("uss_clock_behind_seconds").set(self.clock.behind_micros as f64 / MICROS_PER_SECOND);
        metrics::counter!("uss_clock_jumps_total").absolute(self.clock.jumps);
        for (id, lag) in self.partitions.iter().enumerate() {
            let partition = id.to_string();
            metrics::gauge!("uss_consumer_lag_records", "partition" => partition.clone())
                .set(lag.unapplied_records as f64);
            metrics::gauge!("uss_archiver_backlog_records", "partition" => partition.clone())
                .set(lag.unarchived_records as f64);
            metrics::gauge!("uss_membership_backlog_records", "partition" => partition.clone())
                .set(lag.unstored_notifications as f64);
            metrics::gauge!("uss_checkpoint_age_seconds", "partition" => partition).set(lag.checkpoint_age_seconds);
        }
        for segment in self.largest(|_| false) {
            metrics::gauge!("uss_segment_members", "tag" => segment.tag.clone()).set(segment.members as f64);
        }
        for segment in self.largest(|segment| self.progress(segment) < 1.0) {
            metrics::gauge!("uss_backfill_progress_ratio", "tag" => segment.tag.clone()).set(self.progress(segment));
        }
    }

    /// Returns the segments that have series: the preferred ones first, then the largest.
    fn largest(&self, preferred: impl Fn(&SegmentStats) -> bool) -> Vec<&SegmentStats> {
        let mut segments: Vec<&SegmentStats> = self.segments.values().collect();
        segments.sort_by_key(|segment| std::cmp::Reverse((preferred(segment), segment.members)));
        segments.truncate(SEGMENTS_MAX);
        segments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(segments: &[(SegmentId, SegmentVersion, u64, f64)]) -> PartitionStats {
        let count = |&(id, version, members, ratio): &(SegmentId, SegmentVersion, u64, f64)| {
            (SegmentCount { id, tag: format!("s{id} v{version}"), version, members }, ratio)
        };
        PartitionStats { users: 3, state_bytes: 100, segments: segments.iter().map(count).collect() }
    }

    #[test]
    fn partitions_add_up_and_the_newest_version_gives_the_tag() {
        let mut stats = Stats::default();
        stats.add(
            &partition(&[(SegmentId(1), SegmentVersion(2), 5, 0.5), (SegmentId(2), SegmentVersion(1), 1, 1.0)]),
            PartitionLag::default(),
        );
        stats.add(&partition(&[(SegmentId(1), SegmentVersion(1), 7, 1.0)]), PartitionLag::default());
        assert_eq!((stats.users, stats.state_bytes), (6, 200));
        let first = &stats.segments[&SegmentId(1)];
        assert_eq!((first.tag.as_str(), first.members, stats.progress(first)), ("s1 v2", 12, 0.75));
        assert_eq!(
            stats.progress(&stats.segments[&SegmentId(2)]),
            0.5,
            "a partition that does not know it yet has done nothing"
        );
    }

    #[test]
    fn the_largest_segments_have_series_and_those_in_backfill_come_before_them() {
        let mut stats = Stats::default();
        let mut segments: Vec<(SegmentId, SegmentVersion, u64, f64)> =
            (0..1_500).map(|id: i64| (SegmentId(id), SegmentVersion(1), id.unsigned_abs(), 1.0)).collect();
        segments[3].3 = 0.25;
        stats.add(&partition(&segments), PartitionLag::default());
        let largest = stats.largest(|_| false);
        assert_eq!((largest.len(), largest[0].members, largest[999].members), (1_000, 1_499, 500));
        let first = stats.largest(|segment| stats.progress(segment) < 1.0);
        assert_eq!((first.len(), first[0].members, first[1].members), (1_000, 3, 1_499));
    }

    #[test]
    fn a_checkpoint_ages_only_while_something_is_not_in_it() {
        let marker = Progress { next_offset: 7, time: Timestamp(2_000_000), behind: 0, notifications_offset: 0 };
        let (opened_at, now) = (Timestamp(9_000_000), Timestamp(10_500_000));
        assert_eq!(checkpoint_age_seconds(marker, 7, opened_at, now), 0.0);
        assert_eq!(checkpoint_age_seconds(marker, 8, opened_at, now), 8.5);
        let none = Progress { next_offset: 0, time: Timestamp::MIN, ..marker };
        assert_eq!(checkpoint_age_seconds(none, 1, opened_at, now), 1.5);
    }
}

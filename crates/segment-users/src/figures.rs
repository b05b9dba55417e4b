//! Figures for operators: how much there is, and how far everything has come.
//!
//! They are asked for when somebody looks. An idle service does nothing for them, and a worker only reads what its machine
//! has counted as it went.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ports::clock::ClockStatus;
use ports::log::{LogError, Progress, Topic};
use segment_engine::machine::SegmentCount;
use segment_engine::time::Timestamp;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::lane::{Lane, Question};
use crate::partition::Partition;
use crate::service::Engine;

/// How long a look waits for the workers. One that does not answer counts with what it said last.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// How many segments have series of their own: a metrics store keeps each series for as long as it keeps anything.
const SEGMENTS_MAX: usize = 1_000;

const MICROS_PER_SECOND: f64 = 1e6;

/// What a worker says of its partition between two turns.
#[derive(Debug, Default)]
pub(crate) struct PartitionFigures {
    users: usize,
    state_bytes: usize,
    /// With how far the newest version is in force, from 0 to 1.
    segments: Vec<(SegmentCount, f64)>,
}

impl PartitionFigures {
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

/// What a worker said last.
#[derive(Debug, Default)]
pub(crate) struct Said(Mutex<Arc<PartitionFigures>>);

impl Said {
    fn set(&self, figures: PartitionFigures) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(figures);
    }

    fn get(&self) -> Arc<PartitionFigures> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The figures of the whole service at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Users that the engine knows.
    pub users: usize,
    /// About how much memory they take, see [`segment_engine::machine::Machine::state_bytes`].
    pub state_bytes: usize,
    /// By id.
    pub segments: BTreeMap<i64, SegmentFigures>,
    /// In order.
    pub partitions: Vec<Standing>,
    /// Of the clock that all partitions go by.
    pub clock: ClockStatus,
}

/// A segment over all partitions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SegmentFigures {
    /// The tag of its newest version.
    pub tag: String,
    version: u64,
    /// How many users are in it.
    pub members: u64,
    /// How far the newest version is in force, from 0 to 1.
    pub ratio: f64,
}

/// How far one partition has come.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Standing {
    /// Records that the worker has not applied.
    pub lag_records: u64,
    /// Records that are not in the warehouse.
    pub backlog_records: u64,
    /// How old the last checkpoint is; 0 if it holds everything that was applied.
    pub checkpoint_age_seconds: f64,
}

impl Engine {
    /// Asks every worker, and the log.
    ///
    /// # Errors
    /// The log does not answer.
    pub async fn figures(&self) -> Result<Figures, LogError> {
        let deadline = Instant::now() + WAIT_MAX;
        let asked: Vec<_> = self.lanes.iter().map(ask).collect();
        let mut figures = Figures { clock: self.clock.status(), ..Figures::default() };
        for ((id, lane), answer) in (0..).zip(self.lanes.iter()).zip(asked) {
            if let Ok(Ok(said)) = timeout_at(deadline, answer).await {
                lane.said.set(said);
            }
            figures.add(&lane.said.get());
            // Asked of nobody: that a worker is stuck must show.
            let (_, end) = self.log.bounds(Topic::Events, id).await?;
            figures.partitions.push(standing(lane, end, self.clock.now()));
        }
        let partitions = figures.partitions.len().max(1) as f64;
        figures.segments.values_mut().for_each(|segment| segment.ratio /= partitions);
        Ok(figures)
    }
}

/// If its queue is full the worker is behind, and there is no answer.
fn ask(lane: &Lane) -> oneshot::Receiver<PartitionFigures> {
    let (sender, answer) = oneshot::channel();
    let _ = lane.questions.try_send(Question::Figures { answer: sender });
    answer
}

fn standing(lane: &Lane, end: u64, now: Timestamp) -> Standing {
    let applied = lane.progress.borrow().next_offset;
    let marker = *lane.marker.borrow();
    Standing {
        lag_records: end.saturating_sub(applied),
        backlog_records: end.saturating_sub(*lane.archived.borrow()),
        checkpoint_age_seconds: checkpoint_age_seconds(marker, applied, lane.opened_at, now),
    }
}

/// A partition without a checkpoint has none since it was opened.
fn checkpoint_age_seconds(marker: Progress, applied: u64, opened_at: Timestamp, now: Timestamp) -> f64 {
    if applied <= marker.next_offset {
        return 0.0;
    }
    let since = if marker.time == Timestamp::MIN { opened_at } else { marker.time };
    now.0.saturating_sub(since.0).max(0) as f64 / MICROS_PER_SECOND
}

impl Figures {
    /// Adds a partition. Until all are there, `ratio` is their sum.
    fn add(&mut self, partition: &PartitionFigures) {
        self.users += partition.users;
        self.state_bytes += partition.state_bytes;
        for (count, ratio) in &partition.segments {
            let segment = self.segments.entry(count.id).or_default();
            segment.members += count.members;
            segment.ratio += ratio;
            if segment.tag.is_empty() || segment.version < count.version {
                segment.tag.clone_from(&count.tag);
                segment.version = count.version;
            }
        }
    }

    /// Sets the gauges. Those of a segment that is no more must be forgotten by the recorder.
    pub fn report(&self) {
        metrics::gauge!("uss_users").set(self.users as f64);
        metrics::gauge!("uss_state_bytes").set(self.state_bytes as f64);
        let jump_micros = self.clock.jump.map_or(0, |jump| jump.ahead_micros);
        metrics::gauge!("uss_clock_jump_seconds").set(jump_micros as f64 / MICROS_PER_SECOND);
        metrics::gauge!("uss_clock_behind_seconds").set(self.clock.behind_micros as f64 / MICROS_PER_SECOND);
        metrics::counter!("uss_clock_jumps_total").absolute(self.clock.jumps);
        for (id, standing) in self.partitions.iter().enumerate() {
            let partition = id.to_string();
            metrics::gauge!("uss_consumer_lag_records", "partition" => partition.clone())
                .set(standing.lag_records as f64);
            metrics::gauge!("uss_archiver_backlog_records", "partition" => partition.clone())
                .set(standing.backlog_records as f64);
            metrics::gauge!("uss_checkpoint_age_seconds", "partition" => partition)
                .set(standing.checkpoint_age_seconds);
        }
        for segment in self.largest(|_| false) {
            metrics::gauge!("uss_segment_members", "tag" => segment.tag.clone()).set(segment.members as f64);
        }
        for segment in self.largest(|segment| segment.ratio < 1.0) {
            metrics::gauge!("uss_backfill_progress_ratio", "tag" => segment.tag.clone()).set(segment.ratio);
        }
    }

    /// The segments that have series: those that come first, then the largest.
    fn largest(&self, first: impl Fn(&SegmentFigures) -> bool) -> Vec<&SegmentFigures> {
        let mut segments: Vec<&SegmentFigures> = self.segments.values().collect();
        segments.sort_by_key(|segment| std::cmp::Reverse((first(segment), segment.members)));
        segments.truncate(SEGMENTS_MAX);
        segments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(segments: &[(i64, u64, u64, f64)]) -> PartitionFigures {
        let count = |&(id, version, members, ratio): &(i64, u64, u64, f64)| {
            (SegmentCount { id, tag: format!("s{id} v{version}"), version, members }, ratio)
        };
        PartitionFigures { users: 3, state_bytes: 100, segments: segments.iter().map(count).collect() }
    }

    #[test]
    fn partitions_add_up_and_the_newest_version_gives_the_tag() {
        let mut figures = Figures::default();
        figures.add(&partition(&[(1, 2, 5, 0.5), (2, 1, 1, 1.0)]));
        figures.add(&partition(&[(1, 1, 7, 1.0)]));
        assert_eq!((figures.users, figures.state_bytes), (6, 200));
        let first = &figures.segments[&1];
        assert_eq!((first.tag.as_str(), first.members, first.ratio), ("s1 v2", 12, 1.5));
        assert_eq!(figures.segments[&2].ratio, 1.0, "a partition that does not know it yet has done nothing");
    }

    #[test]
    fn the_largest_have_series_and_of_progress_those_under_way_before_them() {
        let mut figures = Figures::default();
        let mut segments: Vec<(i64, u64, u64, f64)> =
            (0..1_500).map(|id: i64| (id, 1, id.unsigned_abs(), 1.0)).collect();
        segments[3].3 = 0.25;
        figures.add(&partition(&segments));
        let largest = figures.largest(|_| false);
        assert_eq!((largest.len(), largest[0].members, largest[999].members), (1_000, 1_499, 500));
        let first = figures.largest(|segment| segment.ratio < 1.0);
        assert_eq!((first.len(), first[0].members, first[1].members), (1_000, 3, 1_499));
    }

    #[test]
    fn a_checkpoint_ages_only_while_something_is_not_in_it() {
        let marker = Progress { next_offset: 7, time: Timestamp(2_000_000), config_offset: 0, notifications_offset: 0 };
        let (opened_at, now) = (Timestamp(9_000_000), Timestamp(10_500_000));
        assert_eq!(checkpoint_age_seconds(marker, 7, opened_at, now), 0.0);
        assert_eq!(checkpoint_age_seconds(marker, 8, opened_at, now), 8.5);
        let none = Progress { next_offset: 0, time: Timestamp::MIN, ..marker };
        assert_eq!(checkpoint_age_seconds(none, 1, opened_at, now), 1.5);
    }
}

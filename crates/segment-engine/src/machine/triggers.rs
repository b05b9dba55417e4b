//! What an input can change: event → accumulators → segments, and traits and profile → segments.

use super::index::SegmentIndex;
use rustc_hash::FxHashMap;

use super::accumulator_key::{AccumulatorId, AccumulatorKey};
use super::formula::Formula;
use super::postings::Postings;
use crate::event::Event;
use crate::plan::Expr;

/// Finds the accumulators and segments that an input can change.
#[derive(Debug, Default)]
pub(super) struct Triggers {
    /// Accumulators whose filter takes only some activities, by activity.
    by_activity: FxHashMap<Box<str>, Postings>,
    /// The other accumulators.
    any_activity: Postings,
    /// By the accumulator's id.
    readers: Vec<Readers>,
    /// Segments that read a trait, by the first key of its path.
    by_trait: FxHashMap<String, Vec<SegmentIndex>>,
    /// Segments that read a column of the user.
    profile: Vec<SegmentIndex>,
}

/// The windows of one threshold, ascending, each with its segments.
type Windows = Vec<(i64, Vec<SegmentIndex>)>;

/// The segments that read an accumulator.
#[derive(Debug, Default)]
pub(super) struct Readers {
    /// By k, ascending.
    thresholds: Vec<(u64, Windows)>,
    /// Those that read the value: any change may matter to them.
    values: Vec<SegmentIndex>,
}

impl Triggers {
    pub(super) fn add_accumulator(&mut self, id: AccumulatorId, key: &AccumulatorKey) {
        match key.activities() {
            Some(activities) => {
                for activity in activities {
                    self.by_activity.entry(activity.into()).or_default().add(id, key);
                }
            }
            None => self.any_activity.add(id, key),
        }
        self.readers.resize_with(self.readers.len().max(id.0 as usize + 1), Readers::default);
    }

    pub(super) fn remove_accumulator(&mut self, id: AccumulatorId, key: &AccumulatorKey) {
        match key.activities() {
            Some(activities) => {
                for activity in activities {
                    if let Some(postings) = self.by_activity.get_mut(activity) {
                        postings.remove(id, key);
                    }
                }
            }
            None => self.any_activity.remove(id, key),
        }
        self.readers[id.0 as usize] = Readers::default();
    }

    /// Calls `visit` with each accumulator whose filter may take the event, once.
    pub(super) fn accumulators(&self, event: &Event, mut visit: impl FnMut(AccumulatorId)) {
        if let Some(named) = event.activity_type.as_deref().and_then(|activity| self.by_activity.get(activity)) {
            named.find(event, &mut visit);
        }
        self.any_activity.find(event, &mut visit);
    }

    pub(super) fn readers(&self, id: AccumulatorId) -> &Readers {
        &self.readers[id.0 as usize]
    }

    pub(super) fn by_trait(&self, key: &str) -> &[SegmentIndex] {
        self.by_trait.get(key).map_or(&[], Vec::as_slice)
    }

    pub(super) fn by_profile(&self) -> &[SegmentIndex] {
        &self.profile
    }

    pub(super) fn add_segment(&mut self, segment: SegmentIndex, formula: &Formula) {
        formula.thresholds(&mut |accumulator, k, window| self.readers[accumulator.0 as usize].add(k, window, segment));
        for reading in formula.readings.iter().flatten() {
            insert(&mut self.readers[reading.accumulator.0 as usize].values, segment);
        }
        self.for_each_user_term(formula, |list| insert(list, segment));
    }

    pub(super) fn remove_segment(&mut self, segment: SegmentIndex, formula: &Formula) {
        formula
            .thresholds(&mut |accumulator, k, window| self.readers[accumulator.0 as usize].remove(k, window, segment));
        for reading in formula.readings.iter().flatten() {
            self.readers[reading.accumulator.0 as usize].values.retain(|other| *other != segment);
        }
        self.for_each_user_term(formula, |list| list.retain(|other| *other != segment));
    }

    fn for_each_user_term(&mut self, formula: &Formula, mut visit: impl FnMut(&mut Vec<SegmentIndex>)) {
        for test in formula.tests() {
            test.walk(&mut |node| match node {
                Expr::Trait(path) => visit(self.by_trait.entry(path.root_key().to_owned()).or_default()),
                Expr::User(_) => visit(&mut self.profile),
                _ => {}
            });
        }
    }
}

fn insert(list: &mut Vec<SegmentIndex>, segment: SegmentIndex) {
    if !list.contains(&segment) {
        list.push(segment);
    }
}

impl Readers {
    fn add(&mut self, k: u64, window: i64, segment: SegmentIndex) {
        let at = self.thresholds.partition_point(|(other, _)| *other < k);
        if self.thresholds.get(at).is_none_or(|(other, _)| *other != k) {
            self.thresholds.insert(at, (k, Vec::new()));
        }
        let windows = &mut self.thresholds[at].1;
        let at = windows.partition_point(|(other, _)| *other < window);
        if windows.get(at).is_none_or(|(other, _)| *other != window) {
            windows.insert(at, (window, Vec::new()));
        }
        insert(&mut windows[at].1, segment);
    }

    fn remove(&mut self, k: u64, window: i64, segment: SegmentIndex) {
        let Ok(at) = self.thresholds.binary_search_by_key(&k, |(other, _)| *other) else { return };
        let windows = &mut self.thresholds[at].1;
        if let Ok(at) = windows.binary_search_by_key(&window, |(other, _)| *other) {
            windows[at].1.retain(|other| *other != segment);
            if windows[at].1.is_empty() {
                windows.remove(at);
            }
        }
        if self.thresholds[at].1.is_empty() {
            self.thresholds.remove(at);
        }
    }

    /// Returns the segments that read the accumulator's value.
    pub(super) fn values(&self) -> &[SegmentIndex] {
        &self.values
    }

    /// Returns all segments that read the accumulator, some perhaps more than once.
    pub(super) fn all(&self) -> impl Iterator<Item = SegmentIndex> {
        let thresholds = self.thresholds.iter().flat_map(|(_, windows)| windows).flat_map(|(_, segments)| segments);
        thresholds.chain(&self.values).copied()
    }

    /// Returns the segments for which a count that grew from `before` to `after` crossed a
    /// threshold.
    pub(super) fn crossed(&self, before: u64, after: u64) -> impl Iterator<Item = SegmentIndex> {
        let start = self.thresholds.partition_point(|(k, _)| *k <= before);
        let end = self.thresholds.partition_point(|(k, _)| *k <= after);
        let windows = self.thresholds[start..end.max(start)].iter().flat_map(|(_, windows)| windows);
        windows.flat_map(|(_, segments)| segments.iter().copied())
    }

    /// Calls `flipped` with the segments for which an event turned a threshold true at `now`.
    /// `place` is its index among the newest events.
    ///
    /// Only the k-th newest with k > `place` changed. The windows that the new k-th falls into and
    /// the old one did not are a range of the sorted windows.
    pub(super) fn turned_true(&self, newest: &[i64], place: usize, now: i64, mut flipped: impl FnMut(SegmentIndex)) {
        let start = self.thresholds.partition_point(|(k, _)| *k <= place as u64);
        for (k, windows) in &self.thresholds[start..] {
            let k = *k as usize;
            let Some(&nth) = newest.get(k - 1) else { break };
            // The former k-th now has the next index. If it was pushed out of the last one, the
            // range is only larger, which costs a needless evaluation.
            let before = newest.get(k).copied();
            let low = windows.partition_point(|(window, _)| nth.saturating_add(*window) <= now);
            let high = before.map_or(windows.len(), |before| {
                windows.partition_point(|(window, _)| before.saturating_add(*window) <= now)
            });
            for (_, segments) in &windows[low..high.max(low)] {
                segments.iter().copied().for_each(&mut flipped);
            }
        }
    }
}

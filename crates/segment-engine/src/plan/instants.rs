//! Sets of instants.

use crate::time::Timestamp;

/// A set of instants: sorted, disjoint, non-adjacent, non-empty half-open intervals `[start, end)`.
///
/// An interval that ends at [`Timestamp::MAX`] goes on for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstantSet {
    intervals: Vec<(Timestamp, Timestamp)>,
}

impl InstantSet {
    /// Returns the empty set.
    pub fn empty() -> InstantSet {
        InstantSet::default()
    }

    /// Returns the set of all instants.
    pub fn all() -> InstantSet {
        InstantSet::between(Timestamp::MIN, Timestamp::MAX)
    }

    /// Returns the instants of `[start, end)`; none if it ends before it starts.
    pub fn between(start: Timestamp, end: Timestamp) -> InstantSet {
        if start < end { InstantSet { intervals: vec![(start, end)] } } else { InstantSet::empty() }
    }

    /// Returns the instants of any of the intervals `[start, end)`, which may overlap, be empty,
    /// and come in any order.
    pub fn from_pieces(mut pieces: Vec<(Timestamp, Timestamp)>) -> InstantSet {
        pieces.retain(|(start, end)| start < end);
        pieces.sort_unstable();
        pieces.dedup_by(|next, previous| {
            let touches = next.0 <= previous.1;
            if touches {
                previous.1 = previous.1.max(next.1);
            }
            touches
        });
        InstantSet { intervals: pieces }
    }

    /// Returns the intervals `[start, end)` in order. No two touch.
    pub fn intervals(&self) -> &[(Timestamp, Timestamp)] {
        &self.intervals
    }

    /// Whether the instant is in the set.
    pub fn contains(&self, now: Timestamp) -> bool {
        let next = self.intervals.partition_point(|(_, end)| *end <= now);
        self.intervals.get(next).is_some_and(|(start, _)| *start <= now)
    }

    /// Returns the first instant after `now` at which [`contains`](InstantSet::contains) differs
    /// from that at `now`; [`Timestamp::MAX`] if it never does.
    pub fn next_change(&self, now: Timestamp) -> Timestamp {
        let next = self.intervals.partition_point(|(_, end)| *end <= now);
        match self.intervals.get(next) {
            Some((start, end)) => {
                if *start <= now {
                    *end
                } else {
                    *start
                }
            }
            None => Timestamp::MAX,
        }
    }

    /// Returns the instants not in the set.
    pub fn complement(&self) -> InstantSet {
        let mut gaps = Vec::with_capacity(self.intervals.len() + 1);
        let mut start = Timestamp::MIN;
        for interval in &self.intervals {
            gaps.push((start, interval.0));
            start = interval.1;
        }
        gaps.push((start, Timestamp::MAX));
        // Only the first and the last gap can be empty.
        gaps.retain(|(start, end)| start < end);
        InstantSet { intervals: gaps }
    }

    /// Returns the instants in both sets.
    pub fn intersect(&self, other: &InstantSet) -> InstantSet {
        let (mut left, mut right) = (self.intervals.iter().peekable(), other.intervals.iter().peekable());
        let mut common = Vec::new();
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            let (start, end) = (a.0.max(b.0), a.1.min(b.1));
            if start < end {
                common.push((start, end));
            }
            if a.1 == end {
                left.next();
            } else {
                right.next();
            }
        }
        InstantSet { intervals: common }
    }

    /// Returns the instants in either set.
    pub fn union(&self, other: &InstantSet) -> InstantSet {
        InstantSet::from_pieces([&self.intervals[..], &other.intervals[..]].concat())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const END: i64 = 24;

    fn set() -> impl Strategy<Value = InstantSet> {
        prop::collection::vec((0..END, 0..END), 0..6).prop_map(|pieces| {
            InstantSet::from_pieces(pieces.into_iter().map(|(a, b)| (Timestamp(a), Timestamp(b))).collect())
        })
    }

    proptest! {
        #[test]
        fn operations_agree_with_membership(a in set(), b in set()) {
            let (union, both, neither) = (a.union(&b), a.intersect(&b), a.union(&b).complement());
            for now in (-1..=END).map(Timestamp) {
                prop_assert_eq!(union.contains(now), a.contains(now) || b.contains(now));
                prop_assert_eq!(both.contains(now), a.contains(now) && b.contains(now));
                prop_assert_eq!(neither.contains(now), !union.contains(now));
                let change = (now.0 + 1..=END).map(Timestamp).find(|later| a.contains(*later) != a.contains(now));
                prop_assert_eq!(a.next_change(now), change.unwrap_or(Timestamp::MAX));
            }
            for set in [a, b, union, both, neither] {
                prop_assert!(set.intervals().iter().all(|(start, end)| start < end));
                prop_assert!(set.intervals().windows(2).all(|pair| pair[0].1 < pair[1].0));
            }
        }
    }

    #[test]
    fn the_ends_of_the_range() {
        assert_eq!(InstantSet::all().complement(), InstantSet::empty());
        assert_eq!(InstantSet::empty().complement(), InstantSet::all());
        assert!(InstantSet::all().contains(Timestamp::MIN));
        assert_eq!(InstantSet::all().next_change(Timestamp(0)), Timestamp::MAX);
    }
}

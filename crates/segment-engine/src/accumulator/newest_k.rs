//! The newest `created_at`s of the events that one filter takes.

use thin_vec::{ThinVec, thin_vec};

use crate::thin;

/// The newest `created_at`s in microseconds, newest first, at most as many as the largest
/// threshold, `capacity`.
///
/// They decide every "at least k events in the last …" over one filter, whatever the window: only
/// the k-th newest matters. No time is needed, since a window decides when it is read which events
/// count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewestK {
    /// A single one, without an allocation: of most users' accumulators most are such.
    #[expect(missing_docs, reason = "the names say it")]
    One { capacity: u32, created_at: i64 },
    /// None, or two and more.
    #[expect(missing_docs, reason = "the names say it")]
    Many { capacity: u32, newest: ThinVec<i64> },
}

impl NewestK {
    /// Returns an empty accumulator for thresholds up to `capacity`.
    pub fn new(capacity: u32) -> Self {
        Self::Many { capacity, newest: ThinVec::new() }
    }

    /// Returns the accumulator that has these, which are newest first.
    pub(crate) fn of(newest: Vec<i64>, capacity: u32) -> Self {
        match newest[..] {
            [created_at] => Self::One { capacity, created_at },
            _ => Self::Many { capacity, newest: newest.into() },
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::One { .. } => 0,
            Self::Many { newest, .. } => thin::heap_bytes(newest),
        }
    }

    /// Returns the largest threshold that it answers.
    pub fn capacity(&self) -> u32 {
        let (Self::One { capacity, .. } | Self::Many { capacity, .. }) = self;
        *capacity
    }

    /// Returns the `created_at`s, newest first.
    pub fn newest(&self) -> &[i64] {
        match self {
            Self::One { created_at, .. } => std::slice::from_ref(created_at),
            Self::Many { newest, .. } => newest,
        }
    }

    /// Adds an event. Returns its index (0 is the newest), or `None` if `capacity` others are
    /// newer.
    pub fn insert(&mut self, created_at: i64) -> Option<usize> {
        let place = match self.newest() {
            [newest, ..] if created_at < *newest => self.newest().partition_point(|&other| other >= created_at),
            _ => 0,
        };
        if place >= self.capacity() as usize {
            return None;
        }
        match self {
            Self::One { capacity: 1, created_at: kept } => *kept = created_at,
            Self::One { capacity, created_at: kept } => {
                let both = if place == 0 { thin_vec![created_at, *kept] } else { thin_vec![*kept, created_at] };
                *self = Self::Many { capacity: *capacity, newest: both };
            }
            Self::Many { capacity, newest } if newest.is_empty() => {
                *self = Self::One { capacity: *capacity, created_at };
            }
            Self::Many { capacity, newest } => {
                if newest.len() == *capacity as usize {
                    newest.pop();
                }
                thin::insert(newest, place, created_at);
            }
        }
        Some(place)
    }

    /// Returns the k-th newest, from 1.
    pub fn nth(&self, k: u32) -> Option<i64> {
        self.newest().get(k as usize - 1).copied()
    }

    /// Returns the first instant at which fewer than `k` events count in a window of this length
    /// (an event counts before `created_at` + `window`). `None` if there are fewer than k.
    pub fn at_least_until(&self, k: u32, window: i64) -> Option<i64> {
        self.nth(k).map(|created_at| created_at.saturating_add(window))
    }

    /// Adds the other's events.
    pub fn merge(&mut self, other: &NewestK) {
        for &created_at in other.newest() {
            self.insert(created_at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_in_whatever_order_they_are_added() {
        let orders = [[1, 2, 3, 4, 4], [4, 4, 3, 2, 1], [3, 4, 1, 4, 2]];
        for order in orders {
            let mut newest_k = NewestK::new(3);
            for created_at in order {
                newest_k.insert(created_at);
            }
            assert_eq!(newest_k.newest(), [4, 4, 3], "{order:?}");
        }
    }

    #[test]
    fn however_few_are_kept_they_are_the_newest() {
        let kept = |capacity, events: &[i64]| {
            let mut newest_k = NewestK::new(capacity);
            let places: Vec<Option<usize>> = events.iter().map(|event| newest_k.insert(*event)).collect();
            assert_eq!(newest_k, NewestK::of(newest_k.newest().to_vec(), capacity), "one form for each content");
            (newest_k.newest().to_vec(), places)
        };
        assert_eq!(kept(1, &[]), (vec![], vec![]));
        assert_eq!(kept(1, &[5, 7, 6, 7]), (vec![7], vec![Some(0), Some(0), None, Some(0)]));
        assert_eq!(kept(2, &[5]), (vec![5], vec![Some(0)]));
        assert_eq!(kept(2, &[5, 4]), (vec![5, 4], vec![Some(0), Some(1)]));
        assert_eq!(kept(2, &[4, 5, 3, 6]), (vec![6, 5], vec![Some(0), Some(0), None, Some(0)]));
    }

    #[test]
    fn a_threshold_holds_until_the_kth_newest_leaves_the_window() {
        let mut newest_k = NewestK::new(2);
        assert_eq!(newest_k.at_least_until(1, 10), None);
        newest_k.insert(100);
        newest_k.insert(90);
        assert_eq!(newest_k.at_least_until(1, 10), Some(110));
        assert_eq!(newest_k.at_least_until(2, 10), Some(100));
        assert_eq!(newest_k.at_least_until(2, i64::MAX), Some(i64::MAX));
    }

    #[test]
    fn a_merge_equals_adding_the_events_of_both() {
        let (mut left, mut right, mut both) = (NewestK::new(3), NewestK::new(3), NewestK::new(3));
        for (n, created_at) in [5, 9, 1, 7, 7, 3].into_iter().enumerate() {
            if n % 2 == 0 { &mut left } else { &mut right }.insert(created_at);
            both.insert(created_at);
        }
        left.merge(&right);
        assert_eq!(left, both);
    }
}

//! The newest `created_at`s of the events that one filter takes.

/// The newest `created_at`s in microseconds, newest first, at most as many as the largest
/// threshold.
///
/// They decide every "at least k events in the last …" over one filter, whatever the window: only
/// the k-th newest matters. No time is needed, since a window decides when it is read which events
/// count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewestK {
    pub(crate) newest: Vec<i64>,
    pub(crate) capacity: u32,
}

impl NewestK {
    /// Returns an empty accumulator for thresholds up to `capacity`.
    pub fn new(capacity: u32) -> Self {
        Self { newest: Vec::new(), capacity }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.newest.capacity() * size_of::<i64>()
    }

    /// Returns the `created_at`s, newest first.
    pub fn newest(&self) -> &[i64] {
        &self.newest
    }

    /// Adds an event. Returns its index (0 is the newest), or `None` if `capacity` others are
    /// newer.
    pub fn insert(&mut self, created_at: i64) -> Option<usize> {
        let place = match self.newest.first() {
            Some(&newest) if created_at < newest => self.newest.partition_point(|&other| other >= created_at),
            _ => 0,
        };
        if place >= self.capacity as usize {
            return None;
        }
        if self.newest.len() == self.capacity as usize {
            self.newest.pop();
        }
        self.newest.insert(place, created_at);
        Some(place)
    }

    /// Returns the k-th newest, from 1.
    pub fn nth(&self, k: u32) -> Option<i64> {
        self.newest.get(k as usize - 1).copied()
    }

    /// Returns the first instant at which fewer than `k` events count in a window of this length
    /// (an event counts before `created_at` + `window`). `None` if there are fewer than k.
    pub fn at_least_until(&self, k: u32, window: i64) -> Option<i64> {
        self.nth(k).map(|created_at| created_at.saturating_add(window))
    }

    /// Adds the other's events.
    pub fn merge(&mut self, other: &NewestK) {
        for &created_at in &other.newest {
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

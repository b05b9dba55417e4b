//! The newest `created_at`s of the events that pass one filter.

/// The newest `created_at`s in microseconds, newest first, at most as many as the largest threshold over them.
///
/// One ring answers every "at least k events since …" over its filter, whatever the window: the k-th newest decides. It needs
/// no clock: an event that is too old for one window is merely not among those that count there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    pub(crate) newest: Vec<i64>,
    pub(crate) capacity: u32,
}

impl Ring {
    /// An empty ring that answers thresholds up to `capacity`.
    pub fn new(capacity: u32) -> Self {
        Self { newest: Vec::new(), capacity }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.newest.capacity() * size_of::<i64>()
    }

    /// Newest first.
    pub fn newest(&self) -> &[i64] {
        &self.newest
    }

    /// Adds an event; answers its place (0 is the newest), or `None` if `capacity` newer ones make it irrelevant.
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

    /// The k-th newest, from 1.
    pub fn nth(&self, k: u32) -> Option<i64> {
        self.newest.get(k as usize - 1).copied()
    }

    /// The first instant at which fewer than `k` events count in a window of this length (an event counts up to, not
    /// including, created_at + window). `None` if fewer than k are known.
    pub fn at_least_until(&self, k: u32, window: i64) -> Option<i64> {
        self.nth(k).map(|created_at| created_at.saturating_add(window))
    }

    /// Adds the other's events.
    pub fn merge(&mut self, other: &Ring) {
        for &created_at in &other.newest {
            self.insert(created_at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_newest_in_whatever_order_they_come() {
        let orders = [[1, 2, 3, 4, 4], [4, 4, 3, 2, 1], [3, 4, 1, 4, 2]];
        for order in orders {
            let mut ring = Ring::new(3);
            for created_at in order {
                ring.insert(created_at);
            }
            assert_eq!(ring.newest(), [4, 4, 3], "{order:?}");
        }
    }

    #[test]
    fn says_until_when_a_threshold_holds() {
        let mut ring = Ring::new(2);
        assert_eq!(ring.at_least_until(1, 10), None);
        ring.insert(100);
        ring.insert(90);
        assert_eq!(ring.at_least_until(1, 10), Some(110));
        assert_eq!(ring.at_least_until(2, 10), Some(100));
        assert_eq!(ring.at_least_until(2, i64::MAX), Some(i64::MAX));
    }

    #[test]
    fn merging_equals_having_seen_both() {
        let (mut left, mut right, mut both) = (Ring::new(3), Ring::new(3), Ring::new(3));
        for (n, created_at) in [5, 9, 1, 7, 7, 3].into_iter().enumerate() {
            if n % 2 == 0 { &mut left } else { &mut right }.insert(created_at);
            both.insert(created_at);
        }
        left.merge(&right);
        assert_eq!(left, both);
    }
}

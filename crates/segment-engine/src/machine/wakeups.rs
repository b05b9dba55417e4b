//! When to evaluate which segments of a user again.

use thin_vec::ThinVec;

use super::index::SegmentIndex;
use crate::thin;
use crate::time::Timestamp;

/// A user's wake-ups: at most one per segment, never later than the instant at which it flips.
#[derive(Clone, Debug, Default)]
pub(super) struct Wakeups(
    /// Ascending by segment.
    ThinVec<Wakeup>,
);

/// Packed into 12 bytes, because users have one for most of their memberships.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed(4))]
struct Wakeup {
    segment: SegmentIndex,
    due: Timestamp,
}

impl Wakeups {
    /// Evaluates `segment` again at `due`, or earlier if an earlier wake-up is set already. Returns
    /// whether anything changed. [`Timestamp::MAX`] is never.
    pub(super) fn set(&mut self, segment: SegmentIndex, due: Timestamp) -> bool {
        if due == Timestamp::MAX {
            return false;
        }
        match self.0.binary_search_by_key(&segment, |wakeup| wakeup.segment) {
            Ok(place) => {
                let known = self.0[place].due;
                self.0[place].due = known.min(due);
                due < known
            }
            Err(place) => {
                thin::insert(&mut self.0, place, Wakeup { segment, due });
                true
            }
        }
    }

    /// Removes the wake-ups up to `now` and calls `wake` with each segment. Returns the instant of
    /// the soonest of the others; [`Timestamp::MAX`] if there is none.
    pub(super) fn take_due(&mut self, now: Timestamp, mut wake: impl FnMut(SegmentIndex)) -> Timestamp {
        let mut next = Timestamp::MAX;
        self.0.retain(|wakeup| {
            let Wakeup { segment, due } = *wakeup;
            if due > now {
                next = next.min(due);
            } else {
                wake(segment);
            }
            due > now
        });
        next
    }

    /// Returns the instant of the soonest; [`Timestamp::MAX`] if there is none.
    pub(super) fn next(&self) -> Timestamp {
        self.0.iter().map(|wakeup| wakeup.due).min().unwrap_or(Timestamp::MAX)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Timestamp, SegmentIndex)> {
        self.0.iter().map(|wakeup| (wakeup.due, wakeup.segment))
    }

    pub(super) fn heap_bytes(&self) -> usize {
        thin::heap_bytes(&self.0)
    }
}

impl FromIterator<(Timestamp, SegmentIndex)> for Wakeups {
    fn from_iter<I: IntoIterator<Item = (Timestamp, SegmentIndex)>>(wakeups: I) -> Self {
        let mut list: ThinVec<Wakeup> = wakeups.into_iter().map(|(due, segment)| Wakeup { segment, due }).collect();
        list.sort_unstable_by_key(|wakeup| (wakeup.segment, wakeup.due));
        list.dedup_by_key(|wakeup| wakeup.segment);
        list.shrink_to_fit();
        Self(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wakeups(of: &[(i64, u32)]) -> Wakeups {
        of.iter().map(|(due, segment)| (Timestamp(*due), SegmentIndex(*segment))).collect()
    }

    fn listed(wakeups: &Wakeups) -> Vec<(i64, u32)> {
        wakeups.iter().map(|(due, segment)| (due.0, segment.0)).collect()
    }

    #[test]
    fn of_a_segment_the_earliest_is_kept() {
        let mut wakeups = wakeups(&[(50, 2), (70, 1), (60, 2)]);
        assert_eq!(listed(&wakeups), [(70, 1), (50, 2)]);
        assert!(!wakeups.set(SegmentIndex(2), Timestamp(50)), "as before");
        assert!(!wakeups.set(SegmentIndex(2), Timestamp(90)), "later");
        assert!(wakeups.set(SegmentIndex(1), Timestamp(40)), "earlier");
        assert!(wakeups.set(SegmentIndex(3), Timestamp(30)), "the first of the segment");
        assert!(wakeups.set(SegmentIndex(0), Timestamp(80)), "the first of the segment");
        assert!(!wakeups.set(SegmentIndex(4), Timestamp::MAX), "never");
        assert_eq!(listed(&wakeups), [(80, 0), (40, 1), (50, 2), (30, 3)]);
        assert_eq!(wakeups.next(), Timestamp(30));
    }

    #[test]
    fn what_is_due_is_taken_and_the_others_stay() {
        let mut wakeups = wakeups(&[(50, 1), (40, 2), (60, 3), (50, 4)]);
        let mut woken = Vec::new();
        assert_eq!(wakeups.take_due(Timestamp(39), |segment| woken.push(segment.0)), Timestamp(40));
        assert!(woken.is_empty());
        assert_eq!(wakeups.take_due(Timestamp(50), |segment| woken.push(segment.0)), Timestamp(60));
        assert_eq!(woken, [1, 2, 4]);
        assert_eq!(listed(&wakeups), [(60, 3)]);
        assert_eq!(wakeups.take_due(Timestamp(60), |segment| woken.push(segment.0)), Timestamp::MAX);
        assert_eq!((wakeups.next(), woken.len()), (Timestamp::MAX, 4));
    }

    #[test]
    fn a_wakeup_takes_twelve_bytes() {
        assert_eq!(size_of::<Wakeup>(), 12);
    }
}

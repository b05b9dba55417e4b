//! Wake-ups: which user to evaluate again, and when.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::index::UserSlot;
use crate::time::Timestamp;

/// Like a calendar queue (Brown, "Calendar queues", 1988), but a bucket of future wake-ups is sorted
/// only when time reaches it. A wake-up cannot be cancelled: the user remembers the instant that was
/// armed last, and a wake-up at any other instant is stale.
///
/// Most wake-ups are days away, and most users have one. So there are two calendars: in the long
/// buckets of the second a wake-up takes 8 bytes, which it would not if each had a bucket of its
/// own.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// The wake-ups of the seconds that time has reached, soonest first.
    near: BinaryHeap<Reverse<(i64, UserSlot)>>,
    /// Those of the later seconds of the hours that time has reached.
    seconds: Calendar<SECOND_BITS>,
    /// All later ones.
    hours: Calendar<HOUR_BITS>,
}

/// 2²⁰ µs, about a second.
const SECOND_BITS: u32 = 20;
/// 2³² µs, about 72 minutes: an instant in it is 4 bytes.
const HOUR_BITS: u32 = 32;

/// Buckets of 2^`BITS` µs, unsorted.
#[derive(Debug, Default)]
struct Calendar<const BITS: u32> {
    /// By number. An entry has the microseconds since the beginning of its bucket.
    buckets: BTreeMap<i64, Vec<(u32, UserSlot)>>,
    /// The last bucket that was taken.
    reached: Option<i64>,
}

impl<const BITS: u32> Calendar<BITS> {
    /// Adds a wake-up. Returns `false` if its bucket was taken before.
    fn add(&mut self, due: i64, slot: UserSlot) -> bool {
        let bucket = due >> BITS;
        if self.reached.is_some_and(|reached| bucket <= reached) {
            return false;
        }
        let offset = u32::try_from(due - (bucket << BITS)).expect("a bucket has at most 2³² µs");
        self.buckets.entry(bucket).or_default().push((offset, slot));
        true
    }

    /// Takes the first bucket, if it begins at or before `to`.
    fn take(&mut self, to: i64) -> Option<impl Iterator<Item = (i64, UserSlot)> + use<BITS>> {
        let first = self.buckets.first_entry().filter(|first| *first.key() <= to >> BITS)?;
        let (bucket, entries) = first.remove_entry();
        self.reached = Some(bucket);
        Some(entries.into_iter().map(move |(offset, slot)| ((bucket << BITS) + i64::from(offset), slot)))
    }

    /// Returns the beginning of the first bucket.
    fn next(&self) -> Option<i64> {
        self.buckets.first_key_value().map(|(bucket, _)| bucket << BITS)
    }
}

impl Timers {
    /// Wakes the user in `slot` at `due`.
    pub(super) fn arm(&mut self, due: Timestamp, slot: UserSlot) {
        if !self.hours.add(due.0, slot) && !self.seconds.add(due.0, slot) {
            self.near.push(Reverse((due.0, slot)));
        }
    }

    /// Takes the next wake-up at or before `to`.
    pub(super) fn pop(&mut self, to: Timestamp) -> Option<(Timestamp, UserSlot)> {
        loop {
            if let Some(&Reverse((due, slot))) = self.near.peek() {
                if due > to.0 {
                    return None;
                }
                self.near.pop();
                return Some((Timestamp(due), slot));
            }
            if let Some(entries) = self.seconds.take(to.0) {
                self.near.extend(entries.map(Reverse));
            } else {
                // Every second of these hours is later than those that were taken.
                for (due, slot) in self.hours.take(to.0)? {
                    self.seconds.add(due, slot);
                }
            }
        }
    }

    /// Returns an instant before which no wake-up is due. It may be early by up to a bucket.
    pub(super) fn next_due(&self) -> Timestamp {
        let near = self.near.peek().map(|Reverse((due, _))| *due);
        let next = near.or_else(|| self.seconds.next()).or_else(|| self.hours.next());
        Timestamp(next.unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Like a sorted list, however far away the wake-ups are.
        #[test]
        fn wakes_in_the_order_of_a_sorted_list(
            steps in prop::collection::vec((0..4_i64, 0..1_i64 << 34, proptest::bool::ANY), 1..200)
        ) {
            let (mut timers, mut list) = (Timers::default(), Vec::new());
            let mut now = -(1 << 33);
            for (slot, (scale, distance, is_passing)) in (0..).zip(steps) {
                let distance = distance >> (scale * 8);
                if !is_passing {
                    // Also instants that have passed.
                    let due = now + distance - (1 << 10);
                    timers.arm(Timestamp(due), UserSlot(slot));
                    list.push((due, slot));
                    continue;
                }
                now += distance;
                list.sort_unstable();
                let rest = list.split_off(list.partition_point(|(due, _)| *due <= now));
                prop_assert!(timers.next_due().0 <= list.first().or(rest.first()).map_or(i64::MAX, |(due, _)| *due));
                let woken: Vec<(i64, u32)> =
                    std::iter::from_fn(|| timers.pop(Timestamp(now))).map(|(due, slot)| (due.0, slot.0)).collect();
                prop_assert_eq!(woken, std::mem::replace(&mut list, rest));
                prop_assert!(timers.next_due().0 > now - (1 << HOUR_BITS) || list.is_empty());
            }
        }
    }

    #[test]
    fn wakes_in_order_and_never_early() {
        let mut timers = Timers::default();
        let second = 1 << SECOND_BITS;
        for (due, slot) in [(5 * second, 1), (3, 2), (2 * second + 7, 3), (2 * second + 6, 4), (-4, 5)] {
            timers.arm(Timestamp(due), UserSlot(slot));
        }
        assert_eq!(timers.pop(Timestamp(-5)), None);
        assert_eq!(timers.pop(Timestamp(2)), Some((Timestamp(-4), UserSlot(5))));
        assert_eq!(timers.pop(Timestamp(2)), None);
        timers.arm(Timestamp(1), UserSlot(6));
        assert_eq!(timers.pop(Timestamp(2)), Some((Timestamp(1), UserSlot(6))));
        let rest: Vec<u32> = std::iter::from_fn(|| timers.pop(Timestamp::MAX)).map(|(_, slot)| slot.0).collect();
        assert_eq!(rest, [2, 4, 3, 1]);
        assert_eq!(timers.next_due(), Timestamp::MAX);
    }
}

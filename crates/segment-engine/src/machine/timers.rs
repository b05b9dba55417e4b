//! Wake-ups: which user to evaluate again, and when.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::index::UserSlot;
use crate::time::Timestamp;

/// A bucket of the calendar spans 2²⁰ µs, about a second.
const BUCKET_BITS: u32 = 20;

/// Like a calendar queue (Brown, "Calendar queues", 1988), but a bucket of future wake-ups is sorted
/// only when time reaches it. A wake-up cannot be cancelled: the user remembers the instant that was
/// armed last, and a wake-up at any other instant is stale.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// The wake-ups of the buckets that time has reached, soonest first.
    near: BinaryHeap<Reverse<(i64, UserSlot)>>,
    /// The later buckets, unsorted.
    far: BTreeMap<i64, Vec<(i64, UserSlot)>>,
    /// The last bucket that was moved to `near`.
    reached: Option<i64>,
}

impl Timers {
    /// Wakes the user in `slot` at `due`.
    pub(super) fn arm(&mut self, due: Timestamp, slot: UserSlot) {
        let bucket = due.0 >> BUCKET_BITS;
        if self.reached.is_some_and(|reached| bucket <= reached) {
            self.near.push(Reverse((due.0, slot)));
        } else {
            self.far.entry(bucket).or_default().push((due.0, slot));
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
            let (&bucket, _) = self.far.first_key_value()?;
            if bucket > to.0 >> BUCKET_BITS {
                return None;
            }
            let entries = self.far.remove(&bucket)?;
            self.near.extend(entries.into_iter().map(Reverse));
            self.reached = Some(bucket);
        }
    }

    /// Returns an instant before which no wake-up is due. It may be early by up to a bucket.
    pub(super) fn next_due(&self) -> Timestamp {
        let near = self.near.peek().map(|Reverse((due, _))| *due);
        let far = || self.far.first_key_value().map(|(bucket, _)| bucket << BUCKET_BITS);
        Timestamp(near.or_else(far).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wakes_in_order_and_never_early() {
        let mut timers = Timers::default();
        let second = 1 << BUCKET_BITS;
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

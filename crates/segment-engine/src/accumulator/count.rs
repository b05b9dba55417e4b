//! Counting contributions.

use std::collections::VecDeque;

use super::{CapacityExceeded, Contribution, ENTRIES_MAX, Pending, add_all};
use crate::time::Timestamp;

/// A count, exact up to `cap`. Contributions that count for ever are a number; of the others the
/// ends are kept.
#[derive(Clone, Debug, Default)]
pub struct Count {
    /// The greatest count that is kept: greater ones count as this.
    pub(crate) cap: u64,
    pub(crate) for_ever: u64,
    /// The ends of those that have begun, latest last.
    pub(crate) ends: VecDeque<Timestamp>,
    pub(crate) pending: Pending,
}

impl Count {
    /// Returns an empty count that is exact up to `cap`.
    pub fn new(cap: u64) -> Self {
        Self { cap, ..Self::default() }
    }

    /// Adds a contribution. Its value does not matter.
    pub fn add(&mut self, contribution: Contribution, now: Timestamp) -> Result<(), CapacityExceeded> {
        if contribution.from > now {
            self.pending.push(contribution, self.ends.len())
        } else {
            self.begin(contribution.until)
        }
    }

    fn begin(&mut self, until: Timestamp) -> Result<(), CapacityExceeded> {
        if until == Timestamp::MAX {
            self.for_ever = (self.for_ever + 1).min(self.cap);
        } else {
            if self.entries() >= ENTRIES_MAX {
                return Err(CapacityExceeded { until });
            }
            let at = self.ends.partition_point(|end| *end < until);
            self.ends.insert(at, until);
        }
        self.drop_excess();
        Ok(())
    }

    /// Drops those that end soonest while `cap` others count at least as long.
    fn drop_excess(&mut self) {
        let room = usize::try_from(self.cap - self.for_ever).unwrap_or(usize::MAX);
        if self.ends.len() > room {
            self.ends.drain(..self.ends.len() - room);
        }
    }

    pub(super) fn settle(&mut self, now: Timestamp) {
        while let Some(contribution) = self.pending.pop_begun(now) {
            if contribution.until > now {
                let begun = self.begin(contribution.until);
                debug_assert!(begun.is_ok(), "it had its place while it waited");
            }
        }
        let ended = self.ends.partition_point(|end| *end <= now);
        self.ends.drain(..ended);
    }

    /// Returns how many count. Call after settling.
    pub fn value(&self) -> u64 {
        (self.for_ever + self.ends.len() as u64).min(self.cap)
    }

    /// Returns the ends of those that will end, latest last.
    pub(super) fn ends(&self) -> &VecDeque<Timestamp> {
        &self.ends
    }

    /// Returns until when at least `k` count if nothing is added; `None` if fewer count now. Call
    /// after settling.
    pub fn at_least_until(&self, k: u64) -> Option<Timestamp> {
        if self.for_ever >= k {
            return Some(Timestamp::MAX);
        }
        let nth = usize::try_from(k - self.for_ever).ok()?;
        self.ends.len().checked_sub(nth).map(|at| self.ends[at])
    }

    /// Returns when the next pending one begins; [`Timestamp::MAX`] if there is none.
    pub fn next_begin(&self) -> Timestamp {
        self.pending.next()
    }

    pub(crate) fn next_change(&self) -> Timestamp {
        self.pending.next().min(self.ends.front().copied().unwrap_or(Timestamp::MAX))
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.ends.capacity() * size_of::<Timestamp>() + self.pending.heap_bytes()
    }

    pub(super) fn entries(&self) -> usize {
        self.ends.len() + self.pending.len()
    }

    pub(super) fn merge(&mut self, other: Count, now: Timestamp) -> Result<(), CapacityExceeded> {
        self.for_ever = (self.for_ever + other.for_ever).min(self.cap);
        let begun = add_all(other.ends, |end| self.begin(end));
        let waiting = add_all(other.pending.into_contributions(), |contribution| self.add(contribution, now));
        self.settle(now);
        self.drop_excess();
        add_all([begun, waiting], |outcome| outcome)
    }
}

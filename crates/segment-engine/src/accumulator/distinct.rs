//! Counting distinct values.

use super::{CapacityExceeded, Contribution, ENTRIES_MAX, Ends, Pending, add_all};
use crate::time::Timestamp;
use crate::value::Value;

/// Each value with the latest end of its contributions. Exact up to `cap` values.
#[derive(Clone, Debug, Default)]
pub struct Distinct {
    /// The greatest count that is kept: greater ones count as this.
    pub(crate) cap: u64,
    pub(crate) ends: Ends,
    pub(crate) pending: Pending,
}

impl Distinct {
    /// Returns an empty accumulator that is exact up to `cap` values.
    pub fn new(cap: u64) -> Self {
        Self { cap, ..Self::default() }
    }

    /// Adds a contribution. NULL does not count as a value.
    pub fn add(&mut self, mut contribution: Contribution, now: Timestamp) -> Result<(), CapacityExceeded> {
        contribution.value = contribution.value.distinct_key();
        if contribution.value == Value::Null {
            return Ok(());
        }
        if contribution.from > now {
            self.pending.push(contribution, self.ends.len())
        } else {
            self.begin(contribution.value, contribution.until)
        }
    }

    /// With more than `cap` values, the one that ends soonest is dropped: `cap` others count at
    /// least as long. (If it is added again, that is with its new end.)
    fn begin(&mut self, value: Value, until: Timestamp) -> Result<(), CapacityExceeded> {
        if self.ends.extend(&value, until) {
            return Ok(());
        }
        let is_capped = self.value() >= self.cap;
        if is_capped && until <= self.ends.next() {
            return Ok(());
        }
        if !is_capped && self.entries() >= ENTRIES_MAX {
            return Err(CapacityExceeded { until });
        }
        self.ends.insert(value, until);
        if is_capped {
            self.ends.drop_soonest();
        }
        Ok(())
    }

    pub(super) fn settle(&mut self, now: Timestamp) {
        while let Some(contribution) = self.pending.pop_begun(now) {
            if contribution.until > now {
                let begun = self.begin(contribution.value, contribution.until);
                debug_assert!(begun.is_ok(), "it had its place while it waited");
            }
        }
        self.ends.settle(now);
    }

    /// Returns how many values count. Call after settling.
    pub fn value(&self) -> u64 {
        self.ends.len() as u64
    }

    /// Returns each value, and until when it counts.
    pub(super) fn ends(&self) -> impl Iterator<Item = (&Value, Timestamp)> {
        self.ends.iter()
    }

    pub(crate) fn next_change(&self) -> Timestamp {
        self.ends.next().min(self.pending.next())
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.ends.heap_bytes() + self.pending.heap_bytes()
    }

    pub(super) fn entries(&self) -> usize {
        self.ends.len() + self.pending.len()
    }

    pub(super) fn merge(&mut self, other: Distinct, now: Timestamp) -> Result<(), CapacityExceeded> {
        let begun = add_all(other.ends.into_entries(), |(value, until)| self.begin(value, until));
        let waiting = add_all(other.pending.into_contributions(), |contribution| self.add(contribution, now));
        self.settle(now);
        add_all([begun, waiting], |outcome| outcome)
    }
}

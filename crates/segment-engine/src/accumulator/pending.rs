//! Contributions that do not count yet.

use super::{CapacityExceeded, Contribution, ENTRIES_MAX, Queue};
use crate::time::Timestamp;

/// Contributions that begin to count later, soonest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pending(pub(crate) Queue<Contribution>);

impl Pending {
    /// `others` is how many entries the accumulator has besides. The bound is on both together, so
    /// that a pending contribution has its place when it begins.
    pub(super) fn push(&mut self, contribution: Contribution, others: usize) -> Result<(), CapacityExceeded> {
        if self.len() + others >= ENTRIES_MAX {
            return Err(CapacityExceeded { until: contribution.until });
        }
        self.0.push(contribution.from, contribution);
        Ok(())
    }

    pub(super) fn pop_begun(&mut self, now: Timestamp) -> Option<Contribution> {
        self.0.pop_until(now).map(|(_, contribution)| contribution)
    }

    pub(super) fn into_contributions(self) -> impl Iterator<Item = Contribution> {
        self.0.into_entries().map(|(_, contribution)| contribution)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let texts: usize = self.0.iter().map(|(_, contribution)| contribution.value.heap_bytes()).sum();
        self.0.heap_bytes() + texts
    }

    pub(super) fn next(&self) -> Timestamp {
        self.0.next()
    }
}

//! Accumulators: what is kept of a user's events to answer one aggregate, now and at every later
//! instant.
//!
//! An event is added as contributions: spans of time during which it counts, each with a value
//! ([`contribution`]). An accumulator is a commutative monoid over disjoint sets of contributions:
//! they may be added in any order, and merging two accumulators gives the one that has both sets.
//! Late events, backfills, merges of users and checkpoints need nothing else.
//!
//! Adding an event to n entries costs O(log n), so that a user with full accumulators is as fast as
//! any other. A [`Count`] and an [`Extreme`] keep entries in order: there a late event moves the
//! entries on one side of it. For a [`Funnel`] a late event costs O(√n).
//!
//! An accumulator keeps only what can matter: it drops a contribution once enough others count at
//! every instant at which that one would.

mod breakdown;
mod capacity;
mod contribution;
mod count;
mod distinct;
mod ends;
mod extreme;
pub(crate) mod funnel;
mod newest_k;
mod pending;
mod queue;
mod sum;

pub use breakdown::{Breakdown, Contributor};
pub(crate) use capacity::add_all;
pub use capacity::{CapacityExceeded, ENTRIES_MAX};
pub use contribution::{Contribution, Order, contributions};
pub use count::Count;
pub use distinct::Distinct;
pub(crate) use ends::Ends;
pub use extreme::{Extreme, Rank};
pub use funnel::Funnel;
pub use newest_k::NewestK;
pub(crate) use pending::Pending;
pub(crate) use queue::Queue;
pub use sum::Sum;

use crate::time::Timestamp;

/// What one aggregate needs of one user's events.
///
/// All but the most frequent kind are boxed, because the largest variant decides the size of all
/// accumulators: this one is 16 bytes.
#[derive(Clone, Debug)]
pub enum Accumulator {
    /// The newest `created_at`s, for thresholds of counts over rolling windows of any length.
    NewestK(NewestK),
    /// How many contributions count.
    Count(Box<Count>),
    /// Their total and their number.
    Sum(Box<Sum>),
    /// The contribution of the best rank.
    Extreme(Box<Extreme>),
    /// The distinct values.
    Distinct(Box<Distinct>),
    /// The events that match steps of a funnel.
    Funnel(Box<Funnel>),
}

impl Accumulator {
    /// Moves the accumulator to `now`: contributions that have begun count, those that have ended
    /// are dropped.
    pub fn settle(&mut self, now: Timestamp) {
        match self {
            Accumulator::NewestK(_) => {}
            Accumulator::Count(inner) => inner.settle(now),
            Accumulator::Sum(inner) => inner.settle(now),
            Accumulator::Extreme(inner) => inner.settle(now),
            Accumulator::Distinct(inner) => inner.settle(now),
            Accumulator::Funnel(inner) => inner.settle(now),
        }
    }

    /// Adds what `other` has, an accumulator with the same key over other events.
    pub fn merge(&mut self, other: Accumulator, now: Timestamp) -> Result<(), CapacityExceeded> {
        match (self, other) {
            (Accumulator::NewestK(into), Accumulator::NewestK(from)) => into.merge(&from),
            (Accumulator::Count(into), Accumulator::Count(from)) => into.merge(*from, now)?,
            (Accumulator::Sum(into), Accumulator::Sum(from)) => into.merge(*from, now)?,
            (Accumulator::Extreme(into), Accumulator::Extreme(from)) => into.merge(*from, now)?,
            (Accumulator::Distinct(into), Accumulator::Distinct(from)) => into.merge(*from, now)?,
            (Accumulator::Funnel(into), Accumulator::Funnel(from)) => into.merge(*from, now)?,
            _ => unreachable!("accumulators with one key have one kind"),
        }
        Ok(())
    }

    /// Returns the next instant at which the value can change without an event. Call after
    /// [`Accumulator::settle`].
    pub fn next_change(&self) -> Timestamp {
        match self {
            Accumulator::NewestK(_) => Timestamp::MAX,
            Accumulator::Count(inner) => inner.next_change(),
            Accumulator::Sum(inner) => inner.next_change(),
            Accumulator::Extreme(inner) => inner.next_change(),
            Accumulator::Distinct(inner) => inner.next_change(),
            Accumulator::Funnel(inner) => inner.next_change(),
        }
    }

    /// Returns about how many bytes it has allocated.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Accumulator::NewestK(inner) => inner.heap_bytes(),
            Accumulator::Count(inner) => size_of::<Count>() + inner.heap_bytes(),
            Accumulator::Sum(inner) => size_of::<Sum>() + inner.heap_bytes(),
            Accumulator::Extreme(inner) => size_of::<Extreme>() + inner.heap_bytes(),
            Accumulator::Distinct(inner) => size_of::<Distinct>() + inner.heap_bytes(),
            Accumulator::Funnel(inner) => size_of::<Funnel>() + inner.heap_bytes(),
        }
    }

    /// Returns how many entries it has, at most [`ENTRIES_MAX`].
    pub fn entries(&self) -> usize {
        match self {
            Accumulator::NewestK(inner) => inner.newest().len(),
            Accumulator::Count(inner) => inner.entries(),
            Accumulator::Sum(inner) => inner.entries(),
            Accumulator::Extreme(inner) => inner.entries(),
            Accumulator::Distinct(inner) => inner.entries(),
            Accumulator::Funnel(inner) => inner.entries(),
        }
    }
}

#[cfg(test)]
mod tests;

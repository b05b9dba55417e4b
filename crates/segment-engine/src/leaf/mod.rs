//! Leaf states: what is kept of a user's events to answer one aggregate, now and at every later instant.
//!
//! An event reaches a leaf as contributions: spans of time during which it counts, each with a value
//! ([`contribution`]). A leaf state is a commutative monoid over disjoint sets of contributions: they may be added in any order, and
//! two states merge into the one that would have seen both sets. That one operation serves late events, backfills, merges
//! of users and checkpoints.
//!
//! Adding an event costs O(log n) of n entries, so a user whose states are full is as fast as any other. Where entries are
//! kept in order (a [`Count`] and an [`Extreme`] tell them by rank) that is so of events in order; one that is late moves
//! the entries on one side of it.
//!
//! A state keeps only what can matter: a contribution that counts now is dropped once enough others count at every
//! later instant at which it would.

mod contribution;
mod count;
mod distinct;
mod ends;
mod extreme;
pub(crate) mod funnel;
mod queue;
mod ring;
mod shown;
mod sum;

pub use contribution::{Contribution, Order, contributions};
pub use count::Count;
pub use distinct::Distinct;
pub(crate) use ends::Ends;
pub use extreme::{Extreme, Rank};
pub use funnel::Funnel;
pub(crate) use queue::Queue;
pub use ring::Ring;
pub use shown::{Kept, Shown};
pub use sum::Sum;

use crate::time::Timestamp;

/// The most entries one leaf state of one user may hold. Beyond it the event is refused for that leaf, loudly.
pub const ENTRIES_MAX: usize = 100_000;

/// A leaf state reached [`ENTRIES_MAX`]: contributions were not added. What it says may be wrong until the last of them would
/// have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Overfull {
    /// That instant.
    pub until: Timestamp,
}

/// Adds one contribution after another; an error tells of all that were not added.
pub(crate) fn add_all<T>(
    contributions: impl IntoIterator<Item = T>,
    mut add: impl FnMut(T) -> Result<(), Overfull>,
) -> Result<(), Overfull> {
    let refused = contributions.into_iter().filter_map(|contribution| add(contribution).err()).max();
    refused.map_or(Ok(()), Err)
}

/// The state of one leaf of one user.
#[derive(Clone, Debug)]
pub enum State {
    /// The newest `created_at`s: thresholds of counts over rolling windows of any length.
    Ring(Ring),
    /// How many count.
    Count(Count),
    /// Their total and how many they are.
    Sum(Sum),
    /// The one of the best rank.
    Extreme(Extreme),
    /// The distinct values.
    Distinct(Distinct),
    /// The events that match steps of a funnel. Boxed: states are many, funnels few, and the largest decides.
    Funnel(Box<Funnel>),
}

impl State {
    /// Moves the state to `now`: contributions that have begun count, those that have ended go.
    pub fn settle(&mut self, now: Timestamp) {
        match self {
            State::Ring(_) => {}
            State::Count(state) => state.settle(now),
            State::Sum(state) => state.settle(now),
            State::Extreme(state) => state.settle(now),
            State::Distinct(state) => state.settle(now),
            State::Funnel(state) => state.settle(now),
        }
    }

    /// Adds what `other` has seen: a state of the same leaf over other events.
    pub fn merge(&mut self, other: State, now: Timestamp) -> Result<(), Overfull> {
        match (self, other) {
            (State::Ring(into), State::Ring(from)) => into.merge(&from),
            (State::Count(into), State::Count(from)) => into.merge(from, now)?,
            (State::Sum(into), State::Sum(from)) => into.merge(from, now)?,
            (State::Extreme(into), State::Extreme(from)) => into.merge(from, now)?,
            (State::Distinct(into), State::Distinct(from)) => into.merge(from, now)?,
            (State::Funnel(into), State::Funnel(from)) => into.merge(*from, now)?,
            _ => unreachable!("states of one leaf are of one kind"),
        }
        Ok(())
    }

    /// The next instant after `now` at which the leaf's value can change without an event. Call after [`State::settle`].
    pub fn next_change(&self) -> Timestamp {
        match self {
            State::Ring(_) => Timestamp::MAX,
            State::Count(state) => state.next_change(),
            State::Sum(state) => state.next_change(),
            State::Extreme(state) => state.next_change(),
            State::Distinct(state) => state.next_change(),
            State::Funnel(state) => state.next_change(),
        }
    }

    /// About how many bytes it has allocated.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            State::Ring(state) => state.heap_bytes(),
            State::Count(state) => state.heap_bytes(),
            State::Sum(state) => state.heap_bytes(),
            State::Extreme(state) => state.heap_bytes(),
            State::Distinct(state) => state.heap_bytes(),
            State::Funnel(state) => state.heap_bytes(),
        }
    }

    /// How many entries it holds.
    pub fn entries(&self) -> usize {
        match self {
            State::Ring(state) => state.newest().len(),
            State::Count(state) => state.entries(),
            State::Sum(state) => state.entries(),
            State::Extreme(state) => state.entries(),
            State::Distinct(state) => state.entries(),
            State::Funnel(state) => state.entries(),
        }
    }
}

/// Contributions that have not begun.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pending(pub(crate) Queue<Contribution>);

impl Pending {
    /// `others` is how many entries the state has besides: the bound is of all, so that one that waits has its place when it
    /// begins.
    fn push(&mut self, contribution: Contribution, others: usize) -> Result<(), Overfull> {
        if self.len() + others >= ENTRIES_MAX {
            return Err(Overfull { until: contribution.until });
        }
        self.0.push(contribution.from, contribution);
        Ok(())
    }

    fn pop_begun(&mut self, now: Timestamp) -> Option<Contribution> {
        self.0.pop_until(now).map(|(_, contribution)| contribution)
    }

    fn into_contributions(self) -> impl Iterator<Item = Contribution> {
        self.0.into_entries().map(|(_, contribution)| contribution)
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn heap_bytes(&self) -> usize {
        let texts: usize = self.0.iter().map(|(_, contribution)| contribution.value.heap_bytes()).sum();
        self.0.heap_bytes() + texts
    }

    fn next(&self) -> Timestamp {
        self.0.next()
    }
}

#[cfg(test)]
mod tests;

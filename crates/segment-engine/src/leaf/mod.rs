//! Leaf states: what is kept of a user's events to answer one aggregate, now and at every later instant.
//!
//! An event reaches a leaf as contributions: spans of time during which it counts, each with a value
//! ([`contribution`]). A leaf state is a commutative monoid over disjoint sets of contributions: they may be added in any order, and
//! two states merge into the one that would have seen both sets. That one operation serves late events, backfills, merges
//! of users and checkpoints.
//!
//! A state keeps only what can matter: a contribution that counts now is dropped once enough others count at every
//! later instant at which it would.

mod contribution;
mod count;
mod distinct;
mod extreme;
pub(crate) mod funnel;
mod ring;
mod shown;
mod sum;

pub use contribution::{Contribution, Order, contributions};
pub use count::Count;
pub use distinct::Distinct;
pub use extreme::{Extreme, Rank};
pub use funnel::Funnel;
pub use ring::Ring;
pub use shown::{Kept, Shown};
pub use sum::Sum;

use crate::time::Timestamp;

/// The most entries one leaf state of one user may hold. Beyond it the event is refused for that leaf, loudly.
pub const ENTRIES_MAX: usize = 100_000;

/// A leaf state reached [`ENTRIES_MAX`]: the contribution was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overfull;

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

/// Contributions that have not begun, soonest last.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Pending(pub(crate) Vec<Contribution>);

impl Pending {
    /// `others` is how many entries the state has besides: the bound is of all, so that one that waits has its place when it
    /// begins.
    fn push(&mut self, contribution: Contribution, others: usize) -> Result<(), Overfull> {
        if self.0.len() + others >= ENTRIES_MAX {
            return Err(Overfull);
        }
        let at = self.0.partition_point(|other| other.from > contribution.from);
        self.0.insert(at, contribution);
        Ok(())
    }

    fn pop_begun(&mut self, now: Timestamp) -> Option<Contribution> {
        if self.0.last()?.from > now { None } else { self.0.pop() }
    }

    fn heap_bytes(&self) -> usize {
        contributions_bytes(&self.0)
    }

    fn next(&self) -> Timestamp {
        self.0.last().map_or(Timestamp::MAX, |contribution| contribution.from)
    }
}

fn contributions_bytes(contributions: &Vec<Contribution>) -> usize {
    let texts: usize = contributions.iter().map(|contribution| contribution.value.heap_bytes()).sum();
    contributions.capacity() * size_of::<Contribution>() + texts
}

//! The best contribution, for `min`, `max`, `bool_or`, `bool_and`, `first` and `last`.

use std::cmp::Ordering;
use std::collections::VecDeque;

use super::{CapacityExceeded, Contribution, ENTRIES_MAX, Pending, add_all};
use crate::time::Timestamp;
use crate::value::Value;

/// What makes a contribution better than another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rank {
    /// A greater value; NULLs are skipped. `max`, `bool_or`.
    Greatest,
    /// A lesser value; NULLs are skipped. `min`, `bool_and`.
    Least,
    /// A later event; NULLs count. `last`.
    Latest,
    /// An earlier event; NULLs count. `first`.
    Earliest,
}

impl Rank {
    fn compare(self, a: &Contribution, b: &Contribution) -> Ordering {
        let by_value = || a.value.sql_cmp(&b.value).unwrap_or(Ordering::Equal);
        match self {
            Rank::Greatest => by_value(),
            Rank::Least => by_value().reverse(),
            Rank::Latest => a.order.cmp(&b.order),
            Rank::Earliest => b.order.cmp(&a.order),
        }
    }

    fn skips(self, value: &Value) -> bool {
        matches!(self, Rank::Greatest | Rank::Least) && *value == Value::Null
    }
}

/// The best contribution now, and those that will be the best when it ends.
#[derive(Clone, Debug)]
pub struct Extreme {
    pub(crate) rank: Rank,
    /// Best first. Each ends later than the one before it: a contribution that is worse and does
    /// not end later never matters, and is dropped.
    pub(crate) stairs: VecDeque<Contribution>,
    pub(crate) pending: Pending,
}

impl Extreme {
    #[expect(missing_docs, reason = "the name says it")]
    pub fn new(rank: Rank) -> Self {
        Self { rank, stairs: VecDeque::new(), pending: Pending::default() }
    }

    /// Adds a contribution.
    pub fn add(&mut self, contribution: Contribution, now: Timestamp) -> Result<(), CapacityExceeded> {
        if self.rank.skips(&contribution.value) {
            return Ok(());
        }
        if contribution.from > now {
            self.pending.push(contribution, self.stairs.len())
        } else {
            self.begin(contribution)
        }
    }

    fn begin(&mut self, new: Contribution) -> Result<(), CapacityExceeded> {
        let at = self.stairs.partition_point(|other| self.rank.compare(other, &new) != Ordering::Less);
        if at > 0 && self.stairs[at - 1].until >= new.until {
            return Ok(());
        }
        let dominated = self.stairs.range(at..).take_while(|other| other.until <= new.until).count();
        // Contributions of the same rank are before `at`: those of them that end sooner are dropped
        // too.
        let equals =
            self.stairs.range(..at).rev().take_while(|other| self.rank.compare(other, &new) == Ordering::Equal);
        let first = at - equals.count();
        if self.entries() >= ENTRIES_MAX && first == at && dominated == 0 {
            return Err(CapacityExceeded { until: new.until });
        }
        self.stairs.drain(first..at + dominated);
        self.stairs.insert(first, new);
        Ok(())
    }

    pub(super) fn settle(&mut self, now: Timestamp) {
        while let Some(contribution) = self.pending.pop_begun(now) {
            if contribution.until > now {
                let begun = self.begin(contribution);
                debug_assert!(begun.is_ok(), "it had its place while it waited");
            }
        }
        let ended = self.stairs.partition_point(|contribution| contribution.until <= now);
        self.stairs.drain(..ended);
    }

    /// Returns the best value; NULL if nothing counts. Call after settling.
    pub fn value(&self) -> Value {
        self.best().map_or(Value::Null, |best| best.value.clone())
    }

    pub(super) fn best(&self) -> Option<&Contribution> {
        self.stairs.front()
    }

    pub(crate) fn next_change(&self) -> Timestamp {
        self.pending.next().min(self.stairs.front().map_or(Timestamp::MAX, |best| best.until))
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let texts: usize = self.stairs.iter().map(|contribution| contribution.value.heap_bytes()).sum();
        self.stairs.capacity() * size_of::<Contribution>() + texts + self.pending.heap_bytes()
    }

    pub(super) fn entries(&self) -> usize {
        self.stairs.len() + self.pending.len()
    }

    pub(super) fn merge(&mut self, other: Extreme, now: Timestamp) -> Result<(), CapacityExceeded> {
        let contributions = other.stairs.into_iter().chain(other.pending.into_contributions());
        let outcome = add_all(contributions, |contribution| self.add(contribution, now));
        self.settle(now);
        outcome
    }
}

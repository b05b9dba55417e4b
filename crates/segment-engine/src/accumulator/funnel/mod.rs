//! How many steps of a funnel a user took: the longest chain among the events that count.
//!
//! A chain has one event per step, each created later than the one before, the last at most
//! `within` after the first. A late event may come between any two others, so an unfinished funnel
//! needs all its events: any of them may turn out to be the only one early or late enough. But
//! while a chain of all steps lasts, the value is certain, and events that end no later than that
//! chain never matter again.

mod blocks;
mod scan;
#[cfg(test)]
mod tests;

use super::{CapacityExceeded, Contribution, ENTRIES_MAX, Pending};
use crate::time::Timestamp;
use crate::value::Value;
pub(crate) use blocks::Entries;
pub(crate) use scan::{Entry, Scan};

/// The events that match a step of the funnel.
#[derive(Clone, Debug)]
pub struct Funnel {
    pub(crate) steps: u8,
    /// Microseconds from the first event of a chain to its last.
    pub(crate) within: i64,
    /// Those that count. Events for which `created_at` and end are equal share an entry.
    pub(crate) entries: Entries,
    pub(crate) pending: Pending,
    /// A chain of all steps.
    pub(crate) complete: Option<Complete>,
    /// The chains among the entries; `None` if the entries must be scanned again. Not stored.
    pub(crate) scan: Option<Scan>,
}

/// A chain of all steps. Until the first of its events ends, the value is the number of steps.
#[derive(Clone, Debug)]
pub(crate) struct Complete {
    pub(crate) until: Timestamp,
    /// One per step.
    pub(crate) events: Vec<Entry>,
}

impl Funnel {
    /// Returns an empty accumulator for a funnel with this many steps, within this many
    /// microseconds.
    pub fn new(steps: u8, within: i64) -> Self {
        let (entries, pending) = (Entries::default(), Pending::default());
        Self { steps, within, entries, pending, complete: None, scan: Some(Scan::default()) }
    }

    /// Adds an event. It matches the steps whose bits are set in `contribution.value`, and none if
    /// that is NULL.
    pub fn add(&mut self, contribution: Contribution, now: Timestamp) -> Result<(), CapacityExceeded> {
        let Some(entry) = entry(&contribution) else { return Ok(()) };
        if !self.matters(entry.until) {
            return Ok(());
        }
        if self.entries() >= ENTRIES_MAX {
            self.settle(now);
        }
        if self.entries() >= ENTRIES_MAX {
            return Err(CapacityExceeded { until: entry.until });
        }
        if contribution.from > now {
            return self.pending.push(contribution, self.entries.len());
        }
        self.begin(entry);
        Ok(())
    }

    /// Whether an event that ends then can ever change the value.
    fn matters(&self, until: Timestamp) -> bool {
        self.complete.as_ref().is_none_or(|complete| complete.until < until)
    }

    fn begin(&mut self, entry: Entry) {
        if !self.entries.insert(entry) {
            return;
        }
        // Mostly the newest event comes last, and the scan goes on. Any other may change what it
        // found.
        self.scan = self.scan.take().filter(|scan| scan.is_before(entry.created_at));
        if let Some(scan) = &mut self.scan {
            scan.go_on(&[entry], self.steps, self.within);
            self.drop_irrelevant();
        }
    }

    pub(super) fn settle(&mut self, now: Timestamp) {
        self.complete = self.complete.take().filter(|complete| complete.until > now);
        if self.scan.as_ref().is_none_or(|scan| scan.next_end() <= now) {
            self.entries.drop_ended(now);
            // A chain that lasts is still the best of its length. If one has ended, another may
            // take its place.
            self.scan =
                self.scan.take().filter(|scan| scan.outlasts(now)).map(|scan| scan.ending(self.entries.first_end()));
        }
        while let Some(contribution) = self.pending.pop_begun(now) {
            if let Some(entry) = entry(&contribution).filter(|entry| entry.until > now && self.matters(entry.until)) {
                self.begin(entry);
            }
        }
        if self.scan.is_none() {
            self.scan = Some(self.entries.scan(self.steps, self.within));
            self.drop_irrelevant();
        }
    }

    /// Once a chain has all steps, drops the events that end no later than the chain.
    fn drop_irrelevant(&mut self) {
        let Some(chain) = self.scan.as_ref().and_then(|scan| scan.chain(self.steps)) else { return };
        if !self.matters(chain.until) {
            return;
        }
        let events = self.entries.chain(chain.start, chain.until, self.steps);
        self.complete = Some(Complete { until: chain.until, events });
        self.entries.drop_ended(chain.until);
        self.pending.0.retain(|contribution: &Contribution| contribution.until > chain.until);
    }

    /// Returns the length of the longest chain. Call after settling.
    pub fn value(&self) -> u8 {
        match &self.complete {
            Some(_) => self.steps,
            None => self.scan.as_ref().map_or(0, Scan::length),
        }
    }

    /// Returns the events of a longest chain, one per step, in order. Call after settling.
    pub(super) fn chain(&self) -> Vec<Entry> {
        if let Some(complete) = &self.complete {
            return complete.events.clone();
        }
        let length = self.value();
        let chain = self.scan.as_ref().and_then(|scan| scan.chain(length));
        chain.map_or_else(Vec::new, |chain| self.entries.chain(chain.start, chain.until, length))
    }

    pub(crate) fn next_change(&self) -> Timestamp {
        match &self.complete {
            Some(complete) => complete.until,
            None => {
                let chain = self.scan.as_ref().and_then(|scan| scan.chain(scan.length()));
                self.pending.next().min(chain.map_or(Timestamp::MAX, |chain| chain.until))
            }
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let complete = self.complete.as_ref().map_or(0, |complete| complete.events.capacity());
        let scan = self.scan.as_ref().map_or(0, Scan::heap_bytes);
        let complete = complete * size_of::<Entry>();
        size_of::<Self>() + self.entries.heap_bytes() + complete + scan + self.pending.heap_bytes()
    }

    pub(super) fn entries(&self) -> usize {
        self.entries.len() + self.pending.len()
    }

    pub(super) fn merge(&mut self, other: Funnel, now: Timestamp) -> Result<(), CapacityExceeded> {
        if let Some(complete) = other.complete.filter(|complete| self.matters(complete.until)) {
            self.complete = Some(complete);
        }
        let mut entries: Vec<Entry> = self.entries.iter().chain(other.entries.iter()).copied().collect();
        entries.sort_by_key(Entry::key);
        entries.dedup_by(|next, kept| {
            let is_same = next.key() == kept.key();
            kept.steps |= if is_same { next.steps } else { 0 };
            is_same
        });
        self.entries = entries.into();
        for contribution in other.pending.into_contributions() {
            self.pending.0.push(contribution.from, contribution);
        }
        if let Some(complete) = &self.complete {
            self.entries.drop_ended(complete.until);
            self.pending.0.retain(|contribution: &Contribution| contribution.until > complete.until);
        }
        self.scan = None;
        self.settle(now);
        match self.entries().checked_sub(ENTRIES_MAX) {
            None | Some(0) => Ok(()),
            Some(excess) => Err(self.drop_excess(excess, now)),
        }
    }

    /// Drops the latest to begin of those that are pending, then the oldest entries. Returns until
    /// when that matters.
    fn drop_excess(&mut self, excess: usize, now: Timestamp) -> CapacityExceeded {
        let mut waiting: Vec<Contribution> = std::mem::take(&mut self.pending).into_contributions().collect();
        waiting.sort_by_key(|contribution| std::cmp::Reverse(contribution.from));
        let of_waiting = excess.min(waiting.len());
        let dropped = waiting.drain(..of_waiting).map(|contribution| contribution.until);
        let dropped = dropped.chain(self.entries.drop_oldest(excess - of_waiting));
        let until = dropped.max().unwrap_or(now);
        for contribution in waiting {
            self.pending.0.push(contribution.from, contribution);
        }
        self.scan = None;
        self.settle(now);
        CapacityExceeded { until }
    }
}

fn entry(contribution: &Contribution) -> Option<Entry> {
    match contribution.value {
        Value::Int(steps) => Some(Entry {
            created_at: contribution.order.created_at(),
            until: contribution.until,
            steps: u16::try_from(steps).expect("a bit per step, and a named bound limits the steps"),
        }),
        _ => None,
    }
}

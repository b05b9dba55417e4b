//! One pass over the events of a funnel, oldest first: the best chain of each length.

use super::Entry;
use crate::time::Timestamp;

/// For each length the chain that began last, among the entries passed. A chain that began later can do all that one of the
/// same length that began earlier can: whatever may follow the one may follow the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scan {
    /// By length, from 1.
    chains: Vec<Chain>,
    /// The instant of the entry passed last, and the first end of any.
    passed: Option<(Timestamp, Timestamp)>,
}

/// Of two the greater is the better: the one that began last, else the one that lasts longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Chain {
    /// When its first event was created.
    pub(super) start: Timestamp,
    /// The first instant at which one of its events no longer counts.
    pub(super) until: Timestamp,
}

impl Scan {
    /// Passes entries, which are in order.
    pub(super) fn over(entries: &[Entry], steps: u8, within: i64) -> Self {
        let mut scan = Scan::default();
        for instant in entries.chunk_by(|a, b| a.created_at == b.created_at) {
            scan.go_on(instant, steps, within);
        }
        scan
    }

    /// Passes the entries of one instant, which is later than all before: no two of them are in one chain.
    pub(super) fn go_on(&mut self, instant: &[Entry], steps: u8, within: i64) {
        // The last step first: what one step finds here must not be seen by the next.
        for step in (0..usize::from(steps)).rev() {
            for entry in instant.iter().filter(|entry| entry.matches(step)) {
                let Some(chain) = self.longer(step, entry, within) else { continue };
                match self.chains.get_mut(step) {
                    Some(known) => *known = chain.max(*known),
                    None => self.chains.push(chain),
                }
            }
        }
        for entry in instant {
            let first_end = self.passed.map_or(entry.until, |(_, end)| end.min(entry.until));
            self.passed = Some((entry.created_at, first_end));
        }
    }

    /// The best chain whose event for `step` (from 0) is this one.
    fn longer(&self, step: usize, entry: &Entry, within: i64) -> Option<Chain> {
        let Some(before) = step.checked_sub(1) else {
            return Some(Chain { start: entry.created_at, until: entry.until });
        };
        let chain = self.chains.get(before)?;
        let is_within = entry.created_at.0.saturating_sub(chain.start.0) <= within;
        is_within.then(|| Chain { start: chain.start, until: chain.until.min(entry.until) })
    }

    /// The length of the longest chain.
    pub(super) fn length(&self) -> u8 {
        u8::try_from(self.chains.len()).expect("no longer than the funnel has steps")
    }

    /// The best chain of a length; `None` for 0.
    pub(super) fn chain(&self, length: u8) -> Option<Chain> {
        self.chains.get(usize::from(length).checked_sub(1)?).copied()
    }

    /// Whether every entry passed was created before.
    pub(super) fn is_before(&self, created_at: Timestamp) -> bool {
        self.passed.is_none_or(|(last, _)| last < created_at)
    }

    /// No entry ends before this instant.
    pub(super) fn next_end(&self) -> Timestamp {
        self.passed.map_or(Timestamp::MAX, |(_, end)| end)
    }

    /// Whether all chains go on after `now`.
    pub(super) fn outlasts(&self, now: Timestamp) -> bool {
        self.chains.iter().all(|chain| chain.until > now)
    }

    /// The same, when only these entries are left, and what a chain of all steps has made irrelevant is still in the chains.
    pub(super) fn ending(self, entries: &[Entry]) -> Self {
        let ends = entries.iter().map(|entry| entry.until).chain(self.chains.iter().map(|chain| chain.until));
        let first_end = ends.min().unwrap_or(Timestamp::MAX);
        Scan { passed: self.passed.map(|(last, _)| (last, first_end)), ..self }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.chains.capacity() * size_of::<Chain>()
    }
}

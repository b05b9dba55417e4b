//! One pass over the events of a funnel, oldest first: the best chain of each length.

use crate::time::Timestamp;

/// The events of one instant that count until another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) created_at: Timestamp,
    /// The first instant at which they no longer count.
    pub(crate) until: Timestamp,
    /// The steps they match: bit 0 is the first.
    pub(crate) steps: u16,
}

impl Entry {
    pub(super) fn key(&self) -> (Timestamp, Timestamp) {
        (self.created_at, self.until)
    }

    pub(super) fn matches(&self, step: usize) -> bool {
        self.steps >> step & 1 == 1
    }
}

/// For each length the chain that began last, among the entries passed. Of two chains of one length
/// the one that began later is never worse: every entry that can follow the other can follow it
/// too.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scan {
    /// By length, from 1.
    chains: Vec<Chain>,
    /// When the last entry was created, and the first end of all entries.
    passed: Option<(Timestamp, Timestamp)>,
}

/// Chains are ordered by how good they are: the greater began later, or lasts longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Chain {
    /// When its first event was created.
    pub(super) start: Timestamp,
    /// The first instant at which one of its events no longer counts.
    pub(super) until: Timestamp,
}

impl Scan {
    /// Scans entries, which are in order.
    pub(super) fn over(entries: &[Entry], steps: u8, within: i64) -> Self {
        let mut scan = Scan::default();
        for instant in entries.chunk_by(|a, b| a.created_at == b.created_at) {
            scan.go_on(instant, steps, within);
        }
        scan
    }

    /// Continues with the entries of one instant, later than all before. No two of them are in one
    /// chain.
    pub(super) fn go_on(&mut self, instant: &[Entry], steps: u8, within: i64) {
        // From the last step to the first, so that no step continues a chain that was found at this
        // instant.
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

    /// Returns the best chain that ends with this entry as its event for `step` (from 0).
    fn longer(&self, step: usize, entry: &Entry, within: i64) -> Option<Chain> {
        let Some(before) = step.checked_sub(1) else {
            return Some(Chain { start: entry.created_at, until: entry.until });
        };
        let chain = self.chains.get(before)?;
        let is_within = entry.created_at.0.saturating_sub(chain.start.0) <= within;
        is_within.then(|| Chain { start: chain.start, until: chain.until.min(entry.until) })
    }

    /// Returns the length of the longest chain.
    pub(super) fn length(&self) -> u8 {
        u8::try_from(self.chains.len()).expect("no longer than the funnel has steps")
    }

    /// Returns the best chain of a length; `None` for 0.
    pub(super) fn chain(&self, length: u8) -> Option<Chain> {
        self.chains.get(usize::from(length).checked_sub(1)?).copied()
    }

    /// Whether all entries so far were created before this instant.
    pub(super) fn is_before(&self, created_at: Timestamp) -> bool {
        self.passed.is_none_or(|(last, _)| last < created_at)
    }

    /// Returns the first end of all entries.
    pub(super) fn next_end(&self) -> Timestamp {
        self.passed.map_or(Timestamp::MAX, |(_, end)| end)
    }

    /// Whether all chains last beyond `now`.
    pub(super) fn outlasts(&self, now: Timestamp) -> bool {
        self.chains.iter().all(|chain| chain.until > now)
    }

    /// Returns the same scan for when only these entries are left. Entries that a complete chain
    /// made irrelevant may still be in the chains.
    pub(super) fn ending(self, entries: &[Entry]) -> Self {
        let ends = entries.iter().map(|entry| entry.until).chain(self.chains.iter().map(|chain| chain.until));
        let first_end = ends.min().unwrap_or(Timestamp::MAX);
        Scan { passed: self.passed.map(|(last, _)| (last, first_end)), ..self }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.chains.capacity() * size_of::<Chain>()
    }
}

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

    /// Whether another entry of the same instant never matters beside this one.
    pub(super) fn covers(&self, other: &Entry) -> bool {
        self.until >= other.until && self.steps & other.steps == other.steps
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

/// What a block of entries does to the chains before it.
#[derive(Clone, Debug)]
pub(super) struct Passage {
    /// The chains within the block.
    within_block: Scan,
    /// By how many steps a chain has before the block, from 1: the steps that it can take in the
    /// block, each as early as possible.
    taken: Vec<Vec<Taken>>,
}

/// A step that a chain can take in a block.
#[derive(Clone, Copy, Debug)]
struct Taken {
    created_at: Timestamp,
    /// The first end of this and the earlier events in the block.
    until: Timestamp,
}

impl Passage {
    /// Scans the entries of a block.
    pub(super) fn over(entries: &[Entry], steps: u8, within: i64) -> Self {
        let mut taken: Vec<Vec<Taken>> = vec![Vec::new(); usize::from(steps).saturating_sub(1)];
        for entry in entries {
            for (before, taken) in (1..).zip(&mut taken) {
                let step = before + taken.len();
                let last = taken.last().copied();
                let is_later = last.is_none_or(|last| last.created_at < entry.created_at);
                if step < usize::from(steps) && is_later && entry.matches(step) {
                    let until = last.map_or(entry.until, |last| last.until.min(entry.until));
                    taken.push(Taken { created_at: entry.created_at, until });
                }
            }
        }
        Self { within_block: Scan::over(entries, steps, within), taken }
    }

    /// Whether the block has an event for the next step of a chain that has this many.
    pub(super) fn takes(&self, steps: usize) -> bool {
        match steps.checked_sub(1) {
            None => !self.within_block.chains.is_empty(),
            Some(before) => self.taken.get(before).is_some_and(|taken| !taken.is_empty()),
        }
    }

    /// Returns a chain of `before` steps after it took steps in the block until it has `length`.
    fn longer(&self, chain: Chain, before: usize, length: usize, within: i64) -> Option<Chain> {
        let last = self.taken.get(before - 1)?.get(length - before - 1)?;
        let is_within = last.created_at.0.saturating_sub(chain.start.0) <= within;
        is_within.then(|| Chain { start: chain.start, until: chain.until.min(last.until) })
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let taken: usize = self.taken.iter().map(|taken| taken.capacity() * size_of::<Taken>()).sum();
        size_of::<Self>() + self.taken.capacity() * size_of::<Vec<Taken>>() + taken + self.within_block.heap_bytes()
    }
}

impl Scan {
    /// Continues with a block of entries, all later than those before.
    pub(super) fn pass(&mut self, passage: &Passage, steps: u8, within: i64) {
        let mut chains = Vec::with_capacity(steps.into());
        for length in 1..=usize::from(steps) {
            let begun = self.chains.iter().take(length - 1);
            let longer = (1..).zip(begun).filter_map(|(before, chain)| passage.longer(*chain, before, length, within));
            let whole = [&self.chains, &passage.within_block.chains];
            let whole = whole.into_iter().filter_map(|chains| chains.get(length - 1).copied());
            // There is no chain that is longer than one that does not exist.
            let Some(best) = longer.chain(whole).max() else { break };
            chains.push(best);
        }
        self.chains = chains;
        self.passed = match (self.passed, passage.within_block.passed) {
            (Some((_, end)), Some((last, block_end))) => Some((last, end.min(block_end))),
            (before, of_block) => of_block.or(before),
        };
    }

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

    /// Returns the same scan for when only entries are left that do not end before this. Entries
    /// that a complete chain made irrelevant may still be in the chains.
    pub(super) fn ending(self, first_end: Timestamp) -> Self {
        let ends = self.chains.iter().map(|chain| chain.until);
        let first_end = ends.fold(first_end, Timestamp::min);
        Scan { passed: self.passed.map(|(last, _)| (last, first_end)), ..self }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.chains.capacity() * size_of::<Chain>()
    }
}

//! Holds on outbox rows that somebody else is about to append.
//!
//! Ingestion creates a user for an unknown identity, and appends the user's record itself, together
//! with the first event, so that both have one instant. The outbox has the record too, in case
//! ingestion dies before the append. If the relay were quicker, the engine would see a user without
//! events first. Rows that ingestion has appended, the relay passes over.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ports::identities::Hold;
use tokio::sync::Notify;

/// How many runs of appended rows are remembered. The relay appends those beyond it once more, which
/// changes nothing.
const APPENDED_MAX: usize = 10_000;

/// The rows that are held.
pub struct Holds {
    held: Mutex<Held>,
    /// Wakes the relay.
    pub(crate) written: Arc<Notify>,
}

#[derive(Default)]
struct Held {
    /// Of each hold: the end of the outbox when it began, and its number.
    ends: BTreeSet<(u64, u64)>,
    last: u64,
    /// Runs of rows that are in the log, and that the relay has not reached: from the first row to
    /// the one after the last.
    appended: BTreeMap<u64, u64>,
}

/// One hold; dropped, it ends.
pub(crate) struct Guard {
    holds: Arc<Holds>,
    key: (u64, u64),
    /// The rows of the users that were created under it.
    rows: Range<u64>,
}

impl Holds {
    /// Holds nothing. `written` wakes the relay.
    pub fn new(written: Arc<Notify>) -> Self {
        Self { held: Mutex::default(), written }
    }

    /// Holds the rows that are written after this end of the outbox.
    pub(crate) fn hold(self: &Arc<Self>, end: u64) -> Guard {
        let mut held = self.held();
        held.last += 1;
        let key = (end, held.last);
        held.ends.insert(key);
        Guard { holds: self.clone(), key, rows: 0..0 }
    }

    /// Returns the last row that nobody holds.
    pub(crate) fn free_up_to(&self) -> u64 {
        self.held().ends.first().map_or(u64::MAX, |(end, _)| *end)
    }

    /// Returns the last row of those after `row` that are in the log without a gap; `row` itself if
    /// the next is not.
    pub(crate) fn appended_after(&self, row: u64) -> u64 {
        let held = self.held();
        let mut last = row;
        while let Some(end) = held.appended.get(&(last + 1)) {
            last = end - 1;
        }
        last
    }

    /// Returns the first row after `row` that is in the log.
    pub(crate) fn next_appended(&self, row: u64) -> Option<u64> {
        self.held().appended.range(row + 1..).next().map(|(first, _)| *first)
    }

    /// Forgets appended rows up to this one: the relay has passed them.
    pub(crate) fn passed(&self, row: u64) {
        let mut held = self.held();
        held.appended = held.appended.split_off(&(row + 1));
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guard {
    /// Says which rows were written for the users that were created.
    pub(crate) fn of_rows(self, rows: Range<u64>) -> Self {
        let mut of_rows = self;
        of_rows.rows = rows;
        of_rows
    }
}

impl Hold for Guard {
    fn appended(self: Box<Self>) {
        let mut held = self.holds.held();
        if !self.rows.is_empty() && held.appended.len() < APPENDED_MAX {
            held.appended.insert(self.rows.start, self.rows.end);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.holds.held().ends.remove(&self.key);
        self.holds.written.notify_one();
    }
}

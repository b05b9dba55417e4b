//! Outbox rows that the relay leaves to somebody else for a moment.
//!
//! Ingestion makes a user of an unknown identity and appends the user's record itself, together with its first event, so that
//! both are one instant. The outbox has the record too, for the case that ingestion dies in between. A relay that was quicker
//! would tell of a user without events first.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ports::identities::Hold;
use tokio::sync::Notify;

/// Who holds which rows.
pub struct Holds {
    held: Mutex<Held>,
    /// Wakes the relay.
    pub(crate) written: Arc<Notify>,
}

#[derive(Default)]
struct Held {
    /// The end of the outbox when a hold began, and the hold's number.
    ends: BTreeSet<(u64, u64)>,
    last: u64,
}

/// One hold; dropped, it ends.
struct Guard {
    holds: Arc<Holds>,
    key: (u64, u64),
}

impl Holds {
    /// None. `written` wakes the relay.
    pub fn new(written: Arc<Notify>) -> Self {
        Self { held: Mutex::default(), written }
    }

    /// Holds what is written after this end of the outbox.
    pub(crate) fn hold(self: &Arc<Self>, end: u64) -> Hold {
        let mut held = self.held();
        held.last += 1;
        let key = (end, held.last);
        held.ends.insert(key);
        Box::new(Guard { holds: self.clone(), key })
    }

    /// The last row that nobody holds.
    pub(crate) fn free_up_to(&self) -> u64 {
        self.held().ends.first().map_or(u64::MAX, |(end, _)| *end)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.holds.held().ends.remove(&self.key);
        self.holds.written.notify_one();
    }
}

//! Holds on outbox rows that somebody else is about to append.
//!
//! Ingestion creates a user for an unknown identity, and appends the user's record itself, together
//! with the first event, so that both have one instant. The outbox has the record too, in case
//! ingestion dies before the append. If the relay were quicker, the engine would see a user without
//! events first.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ports::identities::Hold;
use tokio::sync::Notify;

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
}

/// One hold; dropped, it ends.
struct Guard {
    holds: Arc<Holds>,
    key: (u64, u64),
}

impl Holds {
    /// Holds nothing. `written` wakes the relay.
    pub fn new(written: Arc<Notify>) -> Self {
        Self { held: Mutex::default(), written }
    }

    /// Holds the rows that are written after this end of the outbox.
    pub(crate) fn hold(self: &Arc<Self>, end: u64) -> Hold {
        let mut held = self.held();
        held.last += 1;
        let key = (end, held.last);
        held.ends.insert(key);
        Box::new(Guard { holds: self.clone(), key })
    }

    /// Returns the last row that nobody holds.
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

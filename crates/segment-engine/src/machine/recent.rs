//! Which event ids a user has sent: at-least-once delivery made exactly-once.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// How long an event id is remembered by default: 24 hours.
pub const REMEMBERED_MICROS: i64 = 24 * 3_600 * 1_000_000;

/// The event ids a user's accepted records brought, as hashes. The one place that decides what a duplicate is, for the
/// machine and the archiver alike.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RecentIds {
    received: FxHashMap<u128, Receipt>,
    /// Ids that expire, oldest first.
    expiring: VecDeque<(Timestamp, u128)>,
}

/// An accepted record.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Receipt {
    at: Timestamp,
    /// Whether it is remembered for ever.
    once: bool,
}

/// An event id as it counts for duplicates.
#[derive(Clone, Copy, Debug)]
pub struct EventKey<'a> {
    /// The client's id of the delivery.
    pub id: &'a str,
    /// Whether the id is derived from the content, and so counts once without a time limit.
    pub once: bool,
}

impl RecentIds {
    /// Whether the record is accepted: the user has no accepted record with this id received at most `remembered`
    /// microseconds before. If it is, it is remembered.
    pub fn accept(&mut self, key: EventKey<'_>, received: Timestamp, remembered: i64) -> bool {
        match self.received.get(&fnv1a(key.id)) {
            Some(earlier) if key.once || received.0.saturating_sub(earlier.at.0) <= remembered => return false,
            _ => {}
        }
        self.note(key, received, remembered);
        true
    }

    /// Remembers an accepted record.
    pub fn note(&mut self, key: EventKey<'_>, received: Timestamp, remembered: i64) {
        let hash = fnv1a(key.id);
        let once = key.once || self.received.get(&hash).is_some_and(|earlier| earlier.once);
        self.received.insert(hash, Receipt { at: received, once });
        if !once {
            self.expiring.push_back((received, hash));
            self.forget(received, remembered);
        }
    }

    fn forget(&mut self, now: Timestamp, remembered: i64) {
        while let Some(&(received, hash)) = self.expiring.front() {
            if now.0.saturating_sub(received.0) <= remembered {
                break;
            }
            self.expiring.pop_front();
            if self.received.get(&hash).is_some_and(|receipt| !receipt.once && receipt.at == received) {
                self.received.remove(&hash);
            }
        }
    }

    /// Adds what another user, now merged into this one, had sent.
    pub fn merge(&mut self, other: RecentIds) {
        for (hash, theirs) in other.received {
            let ours = self.received.entry(hash).or_insert(theirs);
            *ours = Receipt { at: ours.at.max(theirs.at), once: ours.once || theirs.once };
        }
        self.expiring.extend(other.expiring);
        self.expiring.make_contiguous().sort_unstable();
    }

    /// How many ids are remembered.
    pub fn len(&self) -> usize {
        self.received.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }
}

/// FNV-1a, 128 bits (Fowler, Noll, Vo): simple, and the same in every build, since checkpoints hold it.
fn fnv1a(id: &str) -> u128 {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    id.bytes().fold(BASIS, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = REMEMBERED_MICROS;

    #[test]
    fn a_day_after_the_accepted_record_the_id_is_free_again() {
        let mut recent = RecentIds::default();
        let mut accept = |id, at| recent.accept(EventKey { id, once: false }, Timestamp(at), DAY);
        assert!(accept("a", 0));
        assert!(!accept("a", DAY), "at most 24 hours");
        assert!(accept("b", DAY));
        assert!(accept("a", DAY + 1), "a refused duplicate does not prolong it");
        assert!(!accept("a", 2 * DAY + 1));
    }

    #[test]
    fn ids_derived_from_the_content_count_once_for_ever() {
        let mut recent = RecentIds::default();
        let once = EventKey { id: "a", once: true };
        assert!(recent.accept(once, Timestamp(0), DAY));
        assert!(!recent.accept(EventKey { id: "a", once: false }, Timestamp(DAY), DAY), "the same id, within a day");
        assert!(recent.accept(EventKey { id: "a", once: false }, Timestamp(DAY + 1), DAY), "a day is over");
        assert!(recent.accept(EventKey { id: "b", once: false }, Timestamp(9 * DAY), DAY));
        assert!(!recent.accept(once, Timestamp(10 * DAY), DAY));
    }
}

//! Which event ids a user has sent: at-least-once delivery made exactly-once.

use std::collections::VecDeque;

use crate::time::Timestamp;
use rustc_hash::FxHashMap;

/// How long an event id is remembered by default: 24 hours.
pub const REMEMBERED_MICROS: i64 = 24 * 3_600 * 1_000_000;

/// How much longer it is kept, for records that come after newer ones: those that are sent on to the survivor of a merge keep
/// their receipt, and may wait for a partition that lags behind.
const LATE_MICROS: i64 = 24 * 3_600 * 1_000_000;

/// How many event ids of a user are remembered at least, the newest: of those that a client gave, and again of those that
/// dedupe forever. Beyond it the oldest are forgotten, and a delivery with one of them counts as a new one.
pub const REMEMBERED_IDS: usize = 100_000;

/// How many ids there may be of both kinds before the surplus is forgotten: so seldom that looking at all of them costs
/// little per id.
const IDS_MAX: usize = 2 * REMEMBERED_IDS + REMEMBERED_IDS / 4;

/// The event ids a user's accepted records brought, as hashes. The one place that decides what a duplicate is, for the
/// machine and the archiver alike.
#[derive(Clone, Debug, Default)]
pub struct RecentIds {
    pub(crate) received: FxHashMap<u128, Receipt>,
    /// Ids that expire, oldest first.
    pub(crate) expiring: VecDeque<(Timestamp, u128)>,
}

/// The accepted records with one id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// When the newest was received.
    pub at: Timestamp,
    /// Whether one of them dedupes forever: then the id is never forgotten.
    pub dedupe_forever: bool,
}

/// An event id as it counts for duplicates.
#[derive(Clone, Copy, Debug)]
pub struct EventKey<'a> {
    /// The client's id of the delivery.
    pub id: &'a str,
    /// Whether the id is derived from the content, and so dedupes without a time limit.
    pub dedupe_forever: bool,
}

impl RecentIds {
    /// Whether the record is accepted: the user has no accepted record with this id received at most `remembered`
    /// microseconds before; nor, if the id dedupes forever, any earlier one that did too. If it is, it is remembered.
    pub fn accept(&mut self, key: EventKey<'_>, received: Timestamp, remembered: i64) -> bool {
        let is_duplicate = |earlier: &Receipt| {
            key.dedupe_forever && earlier.dedupe_forever || received.0.saturating_sub(earlier.at.0) <= remembered
        };
        if self.received.get(&fnv1a(key.id)).is_some_and(is_duplicate) {
            return false;
        }
        self.note(key.id, Receipt { at: received, dedupe_forever: key.dedupe_forever }, remembered);
        true
    }

    /// Remembers an accepted record.
    pub fn note(&mut self, id: &str, Receipt { at, dedupe_forever }: Receipt, remembered: i64) {
        let hash = fnv1a(id);
        let dedupe_forever = dedupe_forever || self.received.get(&hash).is_some_and(|earlier| earlier.dedupe_forever);
        self.received.insert(hash, Receipt { at, dedupe_forever });
        if !dedupe_forever {
            self.expiring.push_back((at, hash));
            self.forget(at, remembered);
        }
        self.forget_surplus();
    }

    /// Which ids go follows from the ids alone, not from when the process was started.
    fn forget_surplus(&mut self) {
        if self.received.len() <= IDS_MAX {
            return;
        }
        for dedupe_forever in [false, true] {
            let of_kind = self.received.iter().filter(|(_, receipt)| receipt.dedupe_forever == dedupe_forever);
            let mut ids: Vec<(Timestamp, u128)> = of_kind.map(|(hash, receipt)| (receipt.at, *hash)).collect();
            let Some(surplus) = ids.len().checked_sub(REMEMBERED_IDS).filter(|surplus| *surplus > 0) else { continue };
            ids.select_nth_unstable(surplus - 1);
            for (_, hash) in &ids[..surplus] {
                self.received.remove(hash);
            }
        }
        let received = &self.received;
        self.expiring.retain(|(at, hash)| received.get(hash).is_some_and(|receipt| receipt.at == *at));
    }

    fn forget(&mut self, now: Timestamp, remembered: i64) {
        while let Some(&(received, hash)) = self.expiring.front() {
            if now.0.saturating_sub(received.0) <= remembered.saturating_add(LATE_MICROS) {
                break;
            }
            self.expiring.pop_front();
            if self.received.get(&hash).is_some_and(|receipt| !receipt.dedupe_forever && receipt.at == received) {
                self.received.remove(&hash);
            }
        }
    }

    /// Adds what another user, now merged into this one, had sent.
    pub fn merge(&mut self, other: RecentIds) {
        for (hash, theirs) in other.received {
            let ours = self.received.entry(hash).or_insert(theirs);
            *ours =
                Receipt { at: ours.at.max(theirs.at), dedupe_forever: ours.dedupe_forever || theirs.dedupe_forever };
        }
        self.expiring.extend(other.expiring);
        self.expiring.make_contiguous().sort_unstable();
        self.forget_surplus();
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
    #![allow(clippy::unwrap_used)]

    use super::*;

    const DAY: i64 = REMEMBERED_MICROS;

    #[test]
    fn a_day_after_the_accepted_record_the_id_is_free_again() {
        let mut recent = RecentIds::default();
        let mut accept = |id, at| recent.accept(EventKey { id, dedupe_forever: false }, Timestamp(at), DAY);
        assert!(accept("a", 0));
        assert!(!accept("a", DAY), "at most 24 hours");
        assert!(accept("b", DAY));
        assert!(accept("a", DAY + 1), "a refused duplicate does not prolong it");
        assert!(!accept("a", 2 * DAY + 1));
    }

    #[test]
    fn ids_derived_from_the_content_count_once_for_ever() {
        let mut recent = RecentIds::default();
        let forever = EventKey { id: "a", dedupe_forever: true };
        assert!(recent.accept(forever, Timestamp(0), DAY));
        assert!(
            !recent.accept(EventKey { id: "a", dedupe_forever: false }, Timestamp(DAY), DAY),
            "the same id, within a day"
        );
        assert!(recent.accept(EventKey { id: "a", dedupe_forever: false }, Timestamp(DAY + 1), DAY), "a day is over");
        assert!(recent.accept(EventKey { id: "b", dedupe_forever: false }, Timestamp(9 * DAY), DAY));
        assert!(!recent.accept(forever, Timestamp(10 * DAY), DAY));
    }

    /// Sends ids of a kind, one a microsecond.
    fn send(recent: &mut RecentIds, dedupe_forever: bool, ids: std::ops::Range<usize>) -> Vec<bool> {
        let accept = |n: usize| {
            let (id, at) = (format!("{dedupe_forever} {n}"), Timestamp(n as i64));
            recent.accept(EventKey { id: &id, dedupe_forever }, at, DAY)
        };
        ids.map(accept).collect()
    }

    #[test]
    fn the_newest_ids_are_remembered_and_never_more_than_the_bound() {
        for dedupe_forever in [false, true] {
            let mut recent = RecentIds::default();
            let other = send(&mut recent, !dedupe_forever, 0..1_000);
            assert!(other.into_iter().all(|accepted| accepted));
            let sent = 4 * REMEMBERED_IDS;
            assert!(
                send(&mut recent, dedupe_forever, 0..sent).into_iter().all(|accepted| accepted),
                "dedupe_forever: {dedupe_forever}"
            );
            assert!(recent.len() <= IDS_MAX && recent.expiring.len() <= IDS_MAX, "{} ids", recent.len());
            let mut again = recent.clone();
            assert!(
                !send(&mut again, dedupe_forever, sent - REMEMBERED_IDS..sent).contains(&true),
                "the newest are duplicates"
            );
            assert!(
                !send(&mut again, !dedupe_forever, 0..1_000).contains(&true),
                "those of the other kind are not pushed out"
            );
            assert_eq!(send(&mut recent, dedupe_forever, 0..1), [true], "the oldest is forgotten");
        }
    }

    #[test]
    fn a_merge_keeps_the_bound_and_what_is_stored_goes_on_alike() {
        let (mut recent, mut other) = (RecentIds::default(), RecentIds::default());
        send(&mut recent, true, 0..2 * REMEMBERED_IDS);
        send(&mut other, true, 2 * REMEMBERED_IDS..4 * REMEMBERED_IDS);
        recent.merge(other);
        assert_eq!(recent.len(), REMEMBERED_IDS);
        let mut stored: RecentIds = postcard::from_bytes(&postcard::to_stdvec(&recent).unwrap()).unwrap();
        for ids in [&mut recent, &mut stored] {
            assert!(!send(ids, true, 3 * REMEMBERED_IDS..4 * REMEMBERED_IDS).contains(&true));
            send(ids, true, 4 * REMEMBERED_IDS..6 * REMEMBERED_IDS);
        }
        assert_eq!(recent.received, stored.received);
    }

    #[test]
    fn an_id_of_a_client_is_forgotten_whoever_asks() {
        for another_between in [false, true] {
            let mut recent = RecentIds::default();
            assert!(recent.accept(EventKey { id: "a", dedupe_forever: false }, Timestamp(0), DAY));
            if another_between {
                assert!(recent.accept(EventKey { id: "b", dedupe_forever: false }, Timestamp(DAY + 1), DAY));
            }
            assert!(recent.accept(EventKey { id: "a", dedupe_forever: true }, Timestamp(DAY + 2), DAY));
        }
    }
}

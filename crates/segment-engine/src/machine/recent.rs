//! The event ids that a user has sent: they make at-least-once delivery exactly-once.

use rustc_hash::{FxHashMap, FxHashSet};

use super::remembered::Remembered;
use crate::time::Timestamp;

/// How long an event id is remembered by default: 24 hours.
pub const REMEMBERED_MICROS: i64 = 24 * 3_600 * 1_000_000;

/// How much longer an id is kept, for records that arrive after newer ones: records that are sent
/// on to the survivor of a merge keep their instant of receipt, and may wait for a partition that
/// lags.
const LATE_MICROS: i64 = 24 * 3_600 * 1_000_000;

/// How many event ids of a user are remembered at least, the newest first: so many of those that a
/// client gave, and so many of those that are deduped forever. Older ones are forgotten, and a
/// delivery with one of them counts as a new event.
pub const REMEMBERED_IDS: usize = 100_000;

/// How many ids of both kinds there may be before the surplus is forgotten. That happens so rarely
/// that looping over all of them costs little per id.
const IDS_MAX: usize = 2 * REMEMBERED_IDS + REMEMBERED_IDS / 4;

/// The hashes of the event ids of a user's accepted records. This is the one place that decides
/// what a duplicate is, for the machine and the archiver.
#[derive(Clone, Debug, Default)]
pub struct RecentIds(pub(super) Remembered);

/// The accepted records with one id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// When the newest was received.
    pub at: Timestamp,
    /// Whether one of them was to be deduped forever: then its id does not expire.
    pub dedupe_forever: bool,
}

/// An event id, and how it makes duplicates.
#[derive(Clone, Copy, Debug)]
pub struct EventKey<'a> {
    /// The client's id of the delivery.
    pub id: &'a str,
    /// Whether a second delivery is a duplicate however late it comes, as for ids that are derived
    /// from the content.
    pub dedupe_forever: bool,
}

impl RecentIds {
    /// Whether the record is accepted; then it is remembered. A record is a duplicate if the user
    /// has an accepted record with this id that was received at most `remembered` microseconds
    /// before, or if both are to be deduped forever.
    pub fn accept(&mut self, key: EventKey<'_>, received: Timestamp, remembered: i64) -> bool {
        let is_duplicate = |earlier: &Receipt| {
            key.dedupe_forever && earlier.dedupe_forever || received.0.saturating_sub(earlier.at.0) <= remembered
        };
        if self.0.get(fnv1a(key.id)).as_ref().is_some_and(is_duplicate) {
            return false;
        }
        self.note(key.id, Receipt { at: received, dedupe_forever: key.dedupe_forever }, remembered);
        true
    }

    /// Remembers an accepted record.
    pub fn note(&mut self, id: &str, Receipt { at, mut dedupe_forever }: Receipt, remembered: i64) {
        let hash = fnv1a(id);
        dedupe_forever |= self.0.get(hash).is_some_and(|earlier| earlier.dedupe_forever);
        self.0.put(hash, Receipt { at, dedupe_forever });
        if !dedupe_forever {
            let kept = remembered.saturating_add(LATE_MICROS);
            self.0.forget(|received| at.0.saturating_sub(received.0) > kept);
        }
        self.forget_surplus();
    }

    /// Which ids are forgotten follows from the ids alone, so that it does not depend on restarts.
    fn forget_surplus(&mut self) {
        if self.0.len() <= IDS_MAX {
            return;
        }
        let mut surplus_of_both = FxHashSet::default();
        for dedupe_forever in [false, true] {
            let of_kind = self.0.iter().filter(|(_, receipt)| receipt.dedupe_forever == dedupe_forever);
            let mut ids: Vec<(Timestamp, u128)> = of_kind.map(|(hash, receipt)| (receipt.at, hash)).collect();
            let Some(surplus) = ids.len().checked_sub(REMEMBERED_IDS).filter(|surplus| *surplus > 0) else { continue };
            ids.select_nth_unstable(surplus - 1);
            surplus_of_both.extend(ids[..surplus].iter().map(|(_, hash)| *hash));
        }
        self.0.remove(&surplus_of_both);
    }

    /// Adds the ids of a user that is merged into this one.
    pub fn merge(&mut self, other: RecentIds) {
        let mut receipts: FxHashMap<u128, Receipt> = self.0.iter().collect();
        for (hash, theirs) in other.0.iter() {
            let ours = receipts.entry(hash).or_insert(theirs);
            *ours =
                Receipt { at: ours.at.max(theirs.at), dedupe_forever: ours.dedupe_forever || theirs.dedupe_forever };
        }
        self.0 = receipts.into();
        self.forget_surplus();
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }

    /// Returns how many ids are remembered.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no id is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// FNV-1a, 128 bits (Fowler, Noll, Vo). Checkpoints hold the hashes, so it never changes.
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
    fn an_id_is_free_again_a_day_after_the_accepted_record() {
        let mut recent = RecentIds::default();
        let mut accept = |id, at| recent.accept(EventKey { id, dedupe_forever: false }, Timestamp(at), DAY);
        assert!(accept("a", 0));
        assert!(!accept("a", DAY), "at most 24 hours");
        assert!(accept("b", DAY));
        assert!(accept("a", DAY + 1), "a duplicate does not prolong it");
        assert!(!accept("a", 2 * DAY + 1));
    }

    #[test]
    fn an_id_that_is_deduped_forever_is_accepted_once() {
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

    /// Sends ids of one kind, one per microsecond.
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
            assert!(recent.len() <= IDS_MAX, "{} ids", recent.len());
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
    fn a_merge_keeps_the_bound_and_stored_ids_go_on_like_live_ones() {
        for dedupe_forever in [false, true] {
            let (mut recent, mut other) = (RecentIds::default(), RecentIds::default());
            send(&mut recent, dedupe_forever, 0..2 * REMEMBERED_IDS);
            send(&mut other, dedupe_forever, 2 * REMEMBERED_IDS..4 * REMEMBERED_IDS);
            recent.merge(other);
            assert_eq!(recent.len(), REMEMBERED_IDS);
            let mut stored: RecentIds = postcard::from_bytes(&postcard::to_stdvec(&recent).unwrap()).unwrap();
            for ids in [&mut recent, &mut stored] {
                let again = send(ids, dedupe_forever, 3 * REMEMBERED_IDS..4 * REMEMBERED_IDS);
                assert!(!again.contains(&true));
                send(ids, dedupe_forever, 4 * REMEMBERED_IDS..6 * REMEMBERED_IDS);
            }
            let receipts = |ids: &RecentIds| ids.0.iter().collect::<FxHashMap<u128, Receipt>>();
            assert_eq!(receipts(&recent), receipts(&stored));
        }
    }

    #[test]
    fn an_expired_id_is_accepted_whether_or_not_another_came_between() {
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

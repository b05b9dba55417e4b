//! Event ids with what is remembered of each: few in a list, many in a map.

use std::collections::VecDeque;

use rustc_hash::{FxHashMap, FxHashSet};
use thin_vec::ThinVec;

use super::recent::Receipt;
use crate::thin;
use crate::time::Timestamp;

/// Up to so many ids are in a list. To search it costs less than a miss of the cache; a map of so
/// few would take three times the memory, for most users more than everything else of them.
const FEW_MAX: usize = 32;

/// The hash of each id, with its receipt. What it holds follows from the calls, not from how it is
/// held.
#[derive(Clone, Debug)]
pub(super) enum Remembered {
    /// In no order.
    Few(ThinVec<Entry>),
    Many(Box<Many>),
}

/// Packed into 28 bytes.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed(4))]
pub(super) struct Entry {
    hash: u128,
    at: Timestamp,
    dedupe_forever: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Many {
    receipts: FxHashMap<u128, Receipt>,
    /// When each id that expires was received, ascending. An entry with another instant than the
    /// receipt is stale.
    expiring: VecDeque<(Timestamp, u128)>,
}

impl Default for Remembered {
    fn default() -> Self {
        Self::Few(ThinVec::new())
    }
}

impl Remembered {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Few(few) => few.len(),
            Self::Many(many) => many.receipts.len(),
        }
    }

    pub(super) fn get(&self, hash: u128) -> Option<Receipt> {
        match self {
            Self::Few(few) => few.iter().find(|entry| entry.hash == hash).map(Entry::receipt),
            Self::Many(many) => many.receipts.get(&hash).copied(),
        }
    }

    /// Remembers a receipt instead of an earlier one of the same id.
    pub(super) fn put(&mut self, hash: u128, Receipt { at, dedupe_forever }: Receipt) {
        match self {
            Self::Few(few) => {
                let new = Entry { hash, at, dedupe_forever };
                match few.iter().position(|entry| entry.hash == hash) {
                    Some(place) => few[place] = new,
                    None if few.len() < FEW_MAX => {
                        let end = few.len();
                        thin::insert(few, end, new);
                    }
                    None => {
                        let all = few.iter().map(|entry| (entry.hash, entry.receipt()));
                        let mut many = Many::from(all.collect::<FxHashMap<_, _>>());
                        many.put(hash, new.receipt());
                        *self = Self::Many(Box::new(many));
                    }
                }
            }
            Self::Many(many) => many.put(hash, Receipt { at, dedupe_forever }),
        }
    }

    /// Forgets the ids that expire and whose receipt `is_past`, which holds up to some instant.
    pub(super) fn forget(&mut self, is_past: impl Fn(Timestamp) -> bool) {
        match self {
            Self::Few(few) => few.retain(|entry| entry.dedupe_forever || !is_past(entry.at)),
            Self::Many(many) => {
                many.forget(is_past);
                self.make_few();
            }
        }
    }

    /// Forgets these ids.
    pub(super) fn remove(&mut self, hashes: &FxHashSet<u128>) {
        match self {
            Self::Few(few) => few.retain(|entry| !hashes.contains(&{ entry.hash })),
            Self::Many(many) => {
                many.receipts.retain(|hash, _| !hashes.contains(hash));
                **many = std::mem::take(&mut many.receipts).into();
                self.make_few();
            }
        }
    }

    /// At half of the bound, so that a user at the bound does not go to and fro.
    fn make_few(&mut self) {
        if let Self::Many(many) = self
            && many.receipts.len() <= FEW_MAX / 2
        {
            *self = std::mem::take(&mut many.receipts).into();
        }
    }

    /// Returns each id and its receipt, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u128, Receipt)> {
        let (few, many) = match self {
            Self::Few(few) => (Some(few), None),
            Self::Many(many) => (None, Some(&many.receipts)),
        };
        let few = few.into_iter().flatten().map(|entry| (entry.hash, entry.receipt()));
        few.chain(many.into_iter().flatten().map(|(hash, receipt)| (*hash, *receipt)))
    }

    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Few(few) => thin::heap_bytes(few),
            Self::Many(many) => {
                size_of::<Many>()
                    + many.receipts.capacity() * size_of::<(u128, Receipt)>()
                    + many.expiring.capacity() * size_of::<(Timestamp, u128)>()
            }
        }
    }
}

impl From<FxHashMap<u128, Receipt>> for Remembered {
    fn from(receipts: FxHashMap<u128, Receipt>) -> Self {
        if receipts.len() > FEW_MAX {
            return Self::Many(Box::new(receipts.into()));
        }
        let entry = |(hash, Receipt { at, dedupe_forever })| Entry { hash, at, dedupe_forever };
        let mut few = ThinVec::new();
        few.reserve_exact(receipts.len());
        few.extend(receipts.into_iter().map(entry));
        Self::Few(few)
    }
}

impl Entry {
    fn receipt(&self) -> Receipt {
        Receipt { at: self.at, dedupe_forever: self.dedupe_forever }
    }
}

impl Many {
    fn put(&mut self, hash: u128, receipt: Receipt) {
        self.receipts.insert(hash, receipt);
        if !receipt.dedupe_forever {
            // Nearly always the last.
            let place = self.expiring.partition_point(|(at, _)| *at <= receipt.at);
            self.expiring.insert(place, (receipt.at, hash));
        }
    }

    fn forget(&mut self, is_past: impl Fn(Timestamp) -> bool) {
        while let Some(&(at, hash)) = self.expiring.front()
            && is_past(at)
        {
            self.expiring.pop_front();
            if self.receipts.get(&hash).is_some_and(|receipt| !receipt.dedupe_forever && receipt.at == at) {
                self.receipts.remove(&hash);
            }
        }
    }
}

impl From<FxHashMap<u128, Receipt>> for Many {
    /// O(n log n).
    fn from(receipts: FxHashMap<u128, Receipt>) -> Self {
        let expire = receipts.iter().filter(|(_, receipt)| !receipt.dedupe_forever);
        let mut expiring: Vec<(Timestamp, u128)> = expire.map(|(hash, receipt)| (receipt.at, *hash)).collect();
        expiring.sort_unstable();
        Self { receipts, expiring: expiring.into() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Put(u128, i64, bool),
        Forget(i64),
        Remove(FxHashSet<u128>),
        Reload,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            30 => (0..60_u128, 0..100_i64, proptest::bool::weighted(0.2)).prop_map(|(hash, at, forever)| Step::Put(hash, at, forever)),
            2 => (0..100_i64).prop_map(Step::Forget),
            1 => prop::collection::hash_set(0..60_u128, 0..40).prop_map(|hashes| Step::Remove(hashes.into_iter().collect())),
            1 => Just(Step::Reload),
        ];
        prop::collection::vec(step, 1..200)
    }

    fn sorted(remembered: &Remembered) -> Vec<(u128, Timestamp, bool)> {
        let mut all: Vec<_> =
            remembered.iter().map(|(hash, receipt)| (hash, receipt.at, receipt.dedupe_forever)).collect();
        all.sort_unstable();
        all
    }

    proptest! {
        #[test]
        fn few_or_many_they_are_those_of_a_plain_map(steps in steps()) {
            let mut remembered = Remembered::default();
            let mut plain = std::collections::BTreeMap::new();
            for step in steps {
                match step {
                    Step::Put(hash, at, dedupe_forever) => {
                        remembered.put(hash, Receipt { at: Timestamp(at), dedupe_forever });
                        plain.insert(hash, (Timestamp(at), dedupe_forever));
                    }
                    Step::Forget(until) => {
                        remembered.forget(|at| at.0 <= until);
                        plain.retain(|_, (at, dedupe_forever)| *dedupe_forever || at.0 > until);
                    }
                    Step::Remove(hashes) => {
                        remembered.remove(&hashes);
                        plain.retain(|hash, _| !hashes.contains(hash));
                    }
                    Step::Reload => remembered = remembered.iter().collect::<FxHashMap<_, _>>().into(),
                }
                let expected: Vec<_> = plain.iter().map(|(hash, (at, forever))| (*hash, *at, *forever)).collect();
                prop_assert_eq!(sorted(&remembered), expected);
                prop_assert_eq!(remembered.len(), plain.len());
                for hash in 0..60 {
                    let receipt = remembered.get(hash).map(|receipt| (receipt.at, receipt.dedupe_forever));
                    prop_assert_eq!(receipt, plain.get(&hash).copied());
                }
            }
        }
    }

    #[test]
    fn a_few_ids_take_about_their_own_size() {
        assert_eq!(size_of::<Entry>(), 28);
        let mut remembered = Remembered::default();
        assert_eq!(remembered.heap_bytes(), 0);
        for hash in 0..20 {
            remembered.put(hash, Receipt { at: Timestamp(0), dedupe_forever: true });
            assert!(remembered.heap_bytes() <= 16 + 28 * (2 + hash as usize * 3 / 2), "{hash}");
        }
    }
}

//! A compact hash table from 88 bits of a hash to a user id: open addressing in 16 bytes a slot.
//!
//! It grows by a quarter when four fifths of it are full, so an entry takes 20 to 25 bytes. A table
//! that doubles would take up to twice as many.

use segment_engine::ids::UserId;

/// Larger ids do not fit into a slot. A store that assigns 1,000 ids a second takes 34 years.
const USER_BITS: u32 = 40;
const USER_MASK: u64 = (1 << USER_BITS) - 1;
/// Slots of the smallest table.
const SLOTS_MIN: usize = 16;

/// The bytes of one slot.
pub(super) const SLOT_BYTES: usize = size_of::<Slot>();

/// What a slot keeps of a hash. Two keys that are equal in it count as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Print {
    /// Decides where the entry stands.
    place: u64,
    /// The upper 24 bits of [`Slot::rest`].
    rest: u64,
}

impl Print {
    /// Takes 88 bits of a hash; the upper 40 remain for other uses.
    pub(super) fn of(hash: u128) -> Self {
        Self { place: hash as u64, rest: (hash >> 64) as u64 & (u64::MAX >> USER_BITS) }
    }
}

/// An entry; empty if its user is 0, since ids start at 1.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    place: u64,
    /// 24 bits of the hash, then the user.
    rest: u64,
}

impl Slot {
    fn is_empty(self) -> bool {
        self.rest & USER_MASK == 0
    }

    fn print(self) -> Print {
        Print { place: self.place, rest: self.rest >> USER_BITS }
    }
}

/// Whether an entry could be put into a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    Done,
    /// The table must [grow](Table::grow) first.
    Full,
    /// The user id is too large.
    Unfit,
}

/// The table. Entries stand at the place that their hash gives, or in the slots after it.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Vec<Slot>,
    used: usize,
}

impl Table {
    pub(super) fn get(&self, print: Print) -> Option<UserId> {
        let slot = self.slots.get(self.find(print)?)?;
        i64::try_from(slot.rest & USER_MASK).ok().map(UserId)
    }

    /// Puts an entry, or replaces its user.
    pub(super) fn put(&mut self, print: Print, user: UserId) -> Put {
        let Some(user) = u64::try_from(user.0).ok().filter(|user| (1..=USER_MASK).contains(user)) else {
            return Put::Unfit;
        };
        let slot = Slot { place: print.place, rest: print.rest << USER_BITS | user };
        if let Some(found) = self.find(print) {
            self.slots[found] = slot;
            return Put::Done;
        }
        if self.used >= self.slots.len() / 5 * 4 {
            return Put::Full;
        }
        self.insert(slot);
        Put::Done
    }

    /// Removes an entry if it is there.
    pub(super) fn remove(&mut self, print: Print) {
        let Some(mut hole) = self.find(print) else { return };
        self.used -= 1;
        // Entries after it that could not stand nearer to their place move up.
        let mut at = hole;
        loop {
            at = self.after(at);
            let slot = self.slots[at];
            if slot.is_empty() {
                break;
            }
            let distance = |from: usize| (at + self.slots.len() - from) % self.slots.len();
            if distance(self.home(slot.place)) >= distance(hole) {
                self.slots[hole] = slot;
                hole = at;
            }
        }
        self.slots[hole] = Slot::default();
    }

    /// Returns how many slots a grown table has.
    pub(super) fn grown(&self) -> usize {
        (self.slots.len() + self.slots.len() / 4).max(SLOTS_MIN)
    }

    /// Makes room for a quarter more entries.
    pub(super) fn grow(&mut self) {
        let slots = vec![Slot::default(); self.grown()];
        self.used = 0;
        for slot in std::mem::replace(&mut self.slots, slots) {
            if !slot.is_empty() {
                self.insert(slot);
            }
        }
    }

    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Puts an entry that is not there into the first free slot. There is one.
    fn insert(&mut self, slot: Slot) {
        let mut at = self.home(slot.place);
        while !self.slots[at].is_empty() {
            at = self.after(at);
        }
        self.slots[at] = slot;
        self.used += 1;
    }

    fn find(&self, print: Print) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let mut at = self.home(print.place);
        loop {
            let slot = self.slots[at];
            if slot.is_empty() {
                return None;
            }
            if slot.print() == print {
                return Some(at);
            }
            at = self.after(at);
        }
    }

    /// Returns the slot for a hash: ascending with the hash, so that growing moves entries in order.
    fn home(&self, place: u64) -> usize {
        ((u128::from(place) * self.slots.len() as u128) >> 64) as usize
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.slots.len() { 0 } else { at + 1 }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn put(table: &mut Table, print: Print, user: i64) {
        while table.put(print, UserId(user)) == Put::Full {
            table.grow();
        }
    }

    /// Hashes of few places, so that entries push each other aside, also over the table's end.
    fn crowded(random: &mut fastrand::Rng) -> Print {
        let place = if random.bool() { u64::MAX } else { 0 };
        Print::of(u128::from(random.u64(..300)) << 64 | u128::from(place - random.u64(..4) * (place & 1)))
    }

    #[test]
    fn it_is_a_map_whatever_is_put_and_removed() {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut table, mut expected) = (Table::default(), HashMap::new());
        for step in 1..20_000 {
            let print = crowded(&mut random);
            if random.u8(..3) == 0 {
                table.remove(print);
                expected.remove(&(print.place, print.rest));
            } else {
                put(&mut table, print, step);
                expected.insert((print.place, print.rest), UserId(step));
            }
            let asked = crowded(&mut random);
            assert_eq!(table.get(asked), expected.get(&(asked.place, asked.rest)).copied(), "step {step}");
            assert_eq!(table.used, expected.len());
        }
        for ((place, rest), user) in &expected {
            assert_eq!(table.get(Print { place: *place, rest: *rest }), Some(*user));
        }
    }

    #[test]
    fn an_entry_takes_at_most_25_bytes() {
        let mut random = fastrand::Rng::with_seed(8);
        let mut table = Table::default();
        for entries in 1..100_000_usize {
            put(&mut table, Print::of(random.u128(..)), 1);
            if entries > 1_000 {
                assert!(table.slots() * SLOT_BYTES <= entries * 251 / 10, "{} slots, {entries}", table.slots());
            }
        }
        assert_eq!(table.used, 99_999);
    }

    #[test]
    fn ids_that_do_not_fit_are_refused() {
        let mut table = Table::default();
        table.grow();
        let print = Print::of(5);
        let largest = UserId((1 << 40) - 1);
        assert_eq!(table.put(print, largest), Put::Done);
        assert_eq!(table.get(print), Some(largest));
        for unfit in [UserId(1 << 40), UserId(0), UserId(-1)] {
            assert_eq!(table.put(print, unfit), Put::Unfit);
        }
        assert_eq!(table.get(print), Some(largest));
    }
}

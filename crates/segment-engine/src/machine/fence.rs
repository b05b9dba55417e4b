//! An accumulator that lacks history: where that ends, and what users have of it until it is
//! complete.

use rustc_hash::FxHashMap;

use super::accumulator_key::AccumulatorId;
use super::index::UserSlot;
use super::user::User;
use crate::accumulator::Accumulator;
use crate::ids::UserId;

/// Where the history of an accumulator ends and its live events begin.
#[derive(Clone, Debug, Default)]
pub(super) struct Fence {
    /// The log offset at which the accumulator was created: it got this partition's later events
    /// live.
    pub(super) offset: u64,
    /// Absorbed users of whom it got events live, each with the offset up to which the survivor had
    /// their events before.
    pub(super) sources: FxHashMap<UserId, u64>,
    /// Whether the filter of a scan decides which events the accumulator takes.
    pub(super) filter_decides: bool,
    /// What the users have of it. It stands here, apart from the users, until all history was added, so
    /// that a scan touches little memory.
    apart: BySlot,
    /// The users in the slots before this one have theirs.
    moved: usize,
    /// Those in the slots before this one had it when a checkpoint began, which may lack it.
    left_out: usize,
    /// Whether a checkpoint had it, with what users have of it.
    pub(super) is_restored: bool,
}

/// The accumulators of users. Two small reads find one: a scan adds millions of events, in no order of
/// users.
#[derive(Clone, Debug, Default)]
struct BySlot {
    /// By slot: the place in `kept`, or [`NOWHERE`].
    places: Vec<u32>,
    kept: Vec<Option<Accumulator>>,
}

const NOWHERE: u32 = u32::MAX;

impl Fence {
    pub(super) fn new(offset: u64, filter_decides: bool) -> Self {
        Self { offset, filter_decides, ..Self::default() }
    }

    /// Returns what a user has of the accumulator, which is `id`; at first it is `empty`.
    pub(super) fn accumulator<'a>(
        &'a mut self,
        (slot, user): (UserSlot, &'a mut User),
        id: AccumulatorId,
        empty: impl FnOnce() -> Accumulator,
    ) -> &'a mut Accumulator {
        if self.has_moved(slot) { user.accumulator_or(id, empty) } else { self.apart.of(slot, empty) }
    }

    /// The same, if the user need not be looked at.
    pub(super) fn accumulator_apart(
        &mut self,
        slot: UserSlot,
        empty: impl FnOnce() -> Accumulator,
    ) -> Option<&mut Accumulator> {
        (!self.has_moved(slot)).then(|| self.apart.of(slot, empty))
    }

    /// Returns what the user in a slot has of the accumulator here.
    pub(super) fn kept(&self, slot: UserSlot) -> Option<&Accumulator> {
        self.apart.place(slot).and_then(|place| self.apart.kept[place].as_ref())
    }

    /// Sets what the user in a slot has of the accumulator, as a checkpoint had it.
    pub(super) fn restore(&mut self, slot: UserSlot, accumulator: Accumulator) {
        self.apart.of(slot, || accumulator);
    }

    fn has_moved(&self, slot: UserSlot) -> bool {
        (slot.0 as usize) < self.moved
    }

    /// Forgets what a user has of the accumulator, which is `id`: they leave the slot.
    pub(super) fn forget(&mut self, slot: UserSlot, user: &mut User, id: AccumulatorId) {
        if self.has_moved(slot) {
            user.accumulators.retain(|(other, _)| *other != id);
        }
        self.apart.take(slot);
    }

    /// Notes that a checkpoint begins. It may lack what users have got already.
    pub(super) fn begin_saving(&mut self) {
        self.left_out = self.moved;
    }

    /// Returns the slot before which users had the accumulator when the last checkpoint began.
    pub(super) fn left_out(&self) -> usize {
        self.left_out
    }

    /// Returns the slot of the next user who has something here; `None` if all have theirs.
    pub(super) fn next(&mut self) -> Option<UserSlot> {
        while self.moved < self.apart.places.len() {
            let slot = UserSlot::new(self.moved);
            if self.apart.has(slot) {
                return Some(slot);
            }
            self.moved += 1;
        }
        None
    }

    /// Returns what the user in a slot has of the accumulator, and has from now on, if they are the
    /// next.
    pub(super) fn take_next(&mut self, slot: UserSlot) -> Option<Accumulator> {
        if self.next() != Some(slot) {
            return None;
        }
        self.moved += 1;
        self.apart.take(slot)
    }
}

impl BySlot {
    fn of(&mut self, slot: UserSlot, empty: impl FnOnce() -> Accumulator) -> &mut Accumulator {
        let slot = slot.0 as usize;
        if self.places.len() <= slot {
            self.places.resize(slot + 1, NOWHERE);
        }
        let place = &mut self.places[slot];
        if *place == NOWHERE {
            *place = u32::try_from(self.kept.len()).expect("a slot has one place, and there are fewer than 2³²");
            self.kept.push(None);
        }
        self.kept[*place as usize].get_or_insert_with(empty)
    }

    fn place(&self, slot: UserSlot) -> Option<usize> {
        self.places.get(slot.0 as usize).filter(|place| **place != NOWHERE).map(|place| *place as usize)
    }

    fn has(&self, slot: UserSlot) -> bool {
        self.place(slot).is_some_and(|place| self.kept[place].is_some())
    }

    fn take(&mut self, slot: UserSlot) -> Option<Accumulator> {
        self.place(slot).and_then(|place| self.kept[place].take())
    }
}

//! Saving a checkpoint while the machine goes on.
//!
//! A checkpoint holds the users as they are at one instant. Those that changed since the one before
//! are written a few at a time; a user who is about to change before it is their turn is written
//! first. So a checkpoint of a million users holds up no record.
//!
//! What a scan of the history has filled by then can be part of it: a restart goes on with the scan.
//!
//! When most users changed, all are written: that costs less than to read the others from the
//! checkpoint before, to merge them.

use super::index::UserSlot;
use super::user::User;
use super::{AccumulatorId, Machine};
use crate::ids::UserId;
use crate::time::Timestamp;

/// A user's block; `None` if the user was removed.
pub type SavedUser = (UserId, Option<Vec<u8>>);

/// What checkpoints have of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// The user has not changed since a checkpoint saved them. It belongs to this round.
    Saved(Turn),
    /// The user changed in this period.
    Changed(Turn),
}

/// One of two in turn.
///
/// The time from one checkpoint to the next is a period. When a checkpoint begins, all changes of the
/// period before the last are saved, so their mark can be used again. The checkpoints from one with all
/// users up to the next such are a round. When one with all users begins, the last such has marked
/// everybody, so the mark of the round before it can be used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Turn {
    #[default]
    Odd,
    Even,
}

impl Turn {
    fn other(self) -> Self {
        match self {
            Self::Odd => Self::Even,
            Self::Even => Self::Odd,
        }
    }
}

impl Default for Mark {
    fn default() -> Self {
        Self::Saved(Turn::default())
    }
}

/// The users that changed since the last checkpoint began.
#[derive(Debug, Default)]
pub(super) struct ChangedUsers {
    period: Turn,
    round: Turn,
    users: Vec<UserId>,
    removed: Vec<UserId>,
    /// The accumulators that lack history of which the last checkpoint had what users have; none, if
    /// history was added since.
    apart: Vec<AccumulatorId>,
    /// Whether accumulators have got their history since.
    was_completed: bool,
}

impl ChangedUsers {
    /// Notes that a user changes.
    pub(super) fn note(&mut self, user: &mut User) {
        if user.mark != Mark::Changed(self.period) {
            user.mark = Mark::Changed(self.period);
            self.users.push(user.id);
        }
    }

    /// Notes that users change who are not noted.
    pub(super) fn history_was_added(&mut self) {
        self.apart.clear();
    }

    /// Notes that accumulators have got their history.
    pub(super) fn accumulators_were_completed(&mut self) {
        self.was_completed = true;
    }

    /// Notes that a user is removed.
    pub(super) fn remove(&mut self, id: UserId) {
        self.removed.push(id);
    }
}

/// A checkpoint that is being written.
#[derive(Debug)]
pub(super) struct Saving {
    at: Timestamp,
    /// The users that it has, but for those in `blocks`.
    left: Left,
    blocks: Vec<SavedUser>,
    /// The accumulators that lack history of which it has what users have.
    apart: Vec<AccumulatorId>,
    /// Where a block is written before its size is known.
    scratch: Vec<u8>,
}

impl Saving {
    pub(super) fn apart(&self) -> &[AccumulatorId] {
        &self.apart
    }
}

#[derive(Debug)]
enum Left {
    /// The users that changed. Some may have been saved since.
    Changed(Vec<UserId>),
    /// All users in the slots from this one on that were there when it began, and were not saved
    /// since.
    All { from: usize },
}

impl Machine {
    /// Whether a checkpoint that began now would have all users, because most have changed since the one
    /// before began.
    pub fn most_changed(&self) -> bool {
        self.changed.users.len() > self.by_id.len() / 2
    }

    /// Whether accumulators have got their history since the last checkpoint began. Until the next is
    /// stored, a restart reads that history again.
    pub fn has_read_history(&self) -> bool {
        self.changed.was_completed
    }

    /// Begins a checkpoint of this instant, which must be settled, with nobody behind.
    /// [`Machine::save_some`] returns its users. Returns whether that is every user, and not only those
    /// that changed since the checkpoint before.
    ///
    /// The checkpoint has also what users have of `apart`, accumulators that lack history. The caller adds
    /// no history to them while [`Machine::is_saving_apart`].
    #[must_use]
    pub fn begin_saving(&mut self, apart: &[AccumulatorId]) -> bool {
        assert!(self.saving.is_none(), "the users of the checkpoint before are saved");
        // Users whose history was added are not noted.
        let is_whole = self.most_changed() || apart.iter().any(|id| !self.changed.apart.contains(id));
        let ChangedUsers { period, round, users, mut removed, .. } = std::mem::take(&mut self.changed);
        self.changed.apart = apart.to_vec();
        self.changed.period = period.other();
        self.changed.round = if is_whole { round.other() } else { round };
        self.catalog.fences().for_each(|(_, fence)| fence.begin_saving());
        removed.sort_unstable();
        removed.dedup();
        // A user who was removed and came back has a block.
        let removed = removed.into_iter().filter(|id| !self.by_id.contains_key(id));
        let blocks = removed.map(|id| (id, None)).collect();
        let left = if is_whole { Left::All { from: 0 } } else { Left::Changed(users) };
        self.saving = Some(Saving { at: self.now, left, blocks, apart: apart.to_vec(), scratch: Vec::new() });
        is_whole
    }

    /// Whether a checkpoint is being written that has accumulators that lack history, and still lacks users.
    pub fn is_saving_apart(&self) -> bool {
        self.saving.as_ref().is_some_and(|saving| !saving.apart.is_empty())
    }

    /// Returns about `users_max` users of the checkpoint that was begun, as they were then; none if
    /// all have been returned.
    pub fn save_some(&mut self, users_max: usize) -> Vec<SavedUser> {
        let Some(mut saving) = self.saving.take() else { return Vec::new() };
        let mut is_over = false;
        while saving.blocks.len() < users_max && !is_over {
            match self.next_left(&mut saving.left) {
                Some(slot) => saving = self.save(slot, saving),
                None => is_over = true,
            }
        }
        let blocks = std::mem::take(&mut saving.blocks);
        self.saving = (!is_over).then_some(saving);
        blocks
    }

    /// Saves all users that are left, because what follows changes what their blocks hold: it removes
    /// segments, or accumulators that the checkpoint has.
    pub(super) fn save_all_before_change(&mut self) {
        let Some(mut saving) = self.saving.take() else { return };
        while let Some(slot) = self.next_left(&mut saving.left) {
            saving = self.save(slot, saving);
        }
        self.saving = Some(saving);
    }

    /// Takes the next user who may have to be saved.
    fn next_left(&self, left: &mut Left) -> Option<UserSlot> {
        match left {
            Left::Changed(users) => loop {
                // One who was removed since was saved before that.
                if let Some(slot) = self.by_id.get(&users.pop()?) {
                    return Some(*slot);
                }
            },
            Left::All { from } => {
                let slot = (*from < self.users.len()).then(|| UserSlot::new(*from));
                *from += 1;
                slot
            }
        }
    }

    /// Saves a user who is about to change, unless the checkpoint that is being written has them or
    /// does not need them.
    #[inline]
    pub(super) fn save_before_change(&mut self, slot: UserSlot) {
        if let Some(saving) = self.saving.take() {
            self.saving = Some(self.save(slot, saving));
        }
    }

    fn save(&mut self, slot: UserSlot, mut saving: Saving) -> Saving {
        let Some(user) = self.users[slot.0 as usize].as_mut() else { return saving };
        let is_due = match user.mark {
            Mark::Changed(period) => period != self.changed.period,
            Mark::Saved(round) => round != self.changed.round,
        };
        if is_due {
            user.mark = Mark::Saved(self.changed.round);
            self.tally.measure(user);
            if let Some(user) = &self.users[slot.0 as usize] {
                saving.scratch.clear();
                let kept = |id: &AccumulatorId| {
                    let shared = self.catalog.accumulators[id.0 as usize].as_ref();
                    (*id, shared.and_then(|shared| shared.fence.as_ref()?.kept(slot)))
                };
                let apart: Vec<_> = saving.apart.iter().map(kept).collect();
                self.write_user(user, saving.at, &apart, &mut saving.scratch);
                saving.blocks.push((user.id, Some(saving.scratch.clone())));
            }
        }
        saving
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use super::*;
    use crate::decimal::Decimal;
    use crate::event::{Event, Position};
    use crate::ids::{PartitionId, SegmentId, SegmentVersion};
    use crate::language::compile;
    use crate::machine::{Cause, Definition, Settings, UserProfile};

    const SECOND: i64 = 1_000_000;
    /// `NEW` makes accumulators that no earlier version had: there is no history to read again.
    const CLAUSES: [&str; 4] = [
        "count(*) FILTER (WHERE url <> 'NEW' AND created_at >= now() - INTERVAL '7 seconds') >= 2",
        "sum(order_total) FILTER (WHERE url <> 'NEW' AND created_at >= now() - INTERVAL '20 seconds') > 3",
        "traits->>'plan' = 'pro' AND count(*) FILTER (WHERE url <> 'NEW') >= 3",
        "count(DISTINCT url) FILTER (WHERE url <> 'NEW' AND created_at >= now() - INTERVAL '5 seconds') >= 2",
    ];

    struct World {
        random: fastrand::Rng,
        machine: Machine,
        now: i64,
        version: u64,
    }

    impl World {
        fn step(&mut self) {
            let (at, user) = (Timestamp(self.now), UserId(self.random.i64(1..12)));
            match self.random.u32(..26) {
                0..10 => {
                    let event = self.event(user);
                    self.machine.event(&event, false, at);
                }
                10 => self.machine.profile(user, Some("client"), UserProfile::default(), at),
                11 => {
                    let plan = [("plan".to_owned(), serde_json::json!("pro"))].into_iter().collect();
                    self.machine.traits(user, &plan, at, at);
                }
                12 => drop(self.machine.remove_user(user, Cause::Delete, at)),
                13..18 => {
                    self.now += self.random.i64(1..3 * SECOND);
                    self.machine.advance(Timestamp(self.now), self.random.usize(1..4));
                }
                18 => self.define(),
                19..25 => self.complete(),
                _ => self.machine.remove_segment(SegmentId(self.random.i64(1..5)), at),
            }
        }

        fn event(&mut self, user: UserId) -> Event {
            let created_at = Timestamp(self.now - self.random.i64(0..9) * SECOND / 2);
            Event {
                user_id: user,
                event_id: Some(self.random.u8(..9).to_string().into()),
                client_ref_id: "client".into(),
                id_type: None,
                region: None,
                device_type: None,
                country: None,
                activity_type: None,
                url: Some(format!("u{}", self.random.u8(..3)).into()),
                order_total: Some(Decimal::from_int(1)),
                order_id: None,
                element_id: None,
                created_at,
                processed_at: Timestamp(self.now),
                payload: Arc::default(),
                position: Position { partition: PartitionId(0), offset: 0 },
            }
        }

        fn define(&mut self) {
            self.version += 1;
            let where_statement = self.random.choice(&CLAUSES).unwrap().replace("NEW", &self.version.to_string());
            let (id, version) = (SegmentId(self.random.i64(1..5)), SegmentVersion(self.version));
            let (tag, rule) = (format!("s{id}"), compile(&where_statement).unwrap().into());
            let at = Timestamp(self.now);
            self.machine.define(Definition { id, tag, version, where_statement, rule }, 0, at);
        }

        /// Lets a new segment come a little nearer to its effect.
        fn complete(&mut self) {
            let mut accumulators = self.machine.incomplete();
            self.random.shuffle(&mut accumulators);
            accumulators.truncate(self.random.usize(1..4));
            self.machine.complete_some(&accumulators, self.random.usize(1..4));
            for (id, version) in self.machine.ready() {
                self.machine.activate(id, version, Timestamp(self.now));
            }
        }
    }

    fn users(machine: &Machine) -> BTreeMap<UserId, Vec<u8>> {
        machine.user_ids().filter_map(|id| Some((id, machine.save_user(id)?))).collect()
    }

    /// Returns how each user goes on after a restart. Blocks may differ in what counts no longer.
    fn outlook(state: &[u8], blocks: &BTreeMap<UserId, Vec<u8>>) -> BTreeMap<UserId, String> {
        let mut machine = Machine::load_state(state, 0, Settings::default()).unwrap();
        blocks.values().for_each(|block| machine.load_user(block).unwrap());
        for (id, version) in machine.ready() {
            machine.activate(id, version, machine.now());
        }
        machine.settle();
        let mut outlook: BTreeMap<UserId, String> = BTreeMap::new();
        for &user in blocks.keys() {
            let explained = (1..5).map(|id| machine.explain(user, &format!("s{id}")));
            let explained: Vec<_> = explained.collect();
            outlook.insert(user, format!("{:?} {explained:?}", machine.memberships(user)));
        }
        machine.advance(Timestamp(machine.now().0 + 100 * SECOND), usize::MAX);
        for change in machine.take_changes() {
            outlook.entry(change.user).or_default().push_str(&format!("{change:?}"));
        }
        outlook
    }

    /// Whatever happens while it is being written, a checkpoint has the users as they were.
    #[test]
    fn a_checkpoint_has_the_users_of_the_instant_at_which_it_began() {
        let mut kinds = [0; 2];
        for seed in 0..400 {
            let mut world = World {
                random: fastrand::Rng::with_seed(seed),
                machine: Machine::new(Settings::default()),
                now: 1_000 * SECOND,
                version: 0,
            };
            let mut stored: BTreeMap<UserId, Vec<u8>> = BTreeMap::new();
            for _ in 0..8 {
                (0..world.random.u32(..30)).for_each(|_| world.step());
                world.machine.settle();
                let expected = users(&world.machine);
                let state = world.machine.save_state();
                let is_whole = world.machine.begin_saving(&[]);
                if is_whole {
                    stored.clear();
                }
                kinds[usize::from(is_whole)] += 1;
                let mut saved = BTreeSet::new();
                loop {
                    (0..world.random.u32(..4)).for_each(|_| world.step());
                    let users = world.machine.save_some(world.random.usize(1..3));
                    if users.is_empty() {
                        break;
                    }
                    for (user, block) in users {
                        assert!(saved.insert(user), "seed {seed}: a checkpoint has a user once");
                        match block {
                            Some(block) => stored.insert(user, block),
                            None => stored.remove(&user),
                        };
                    }
                }
                assert_eq!(outlook(&state, &stored), outlook(&state, &expected), "seed {seed}");
            }
        }
        assert!(kinds.iter().all(|count| *count > 100), "{kinds:?}: of both kinds");
    }
}

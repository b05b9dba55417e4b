//! Adding past events to accumulators that lack history.

use std::sync::Arc;

use super::accumulator_key::AccumulatorKind;
use super::catalog::SharedAccumulator;
use super::index::UserSlot;
use super::inputs::holds;
use super::{AccumulatorId, Machine, Source};
use crate::accumulator::{Accumulator, NewestK};
use crate::event::{Event, Position};
use crate::ids::{PartitionId, SegmentId, UserId};
use crate::time::Timestamp;

/// An event of the past.
#[derive(Clone, Debug, PartialEq)]
pub struct PastEvent {
    /// The user id that it was received with.
    pub user_id: UserId,
    /// When it happened.
    pub created_at: Timestamp,
    /// When the log received it.
    pub processed_at: Timestamp,
    /// Where, in the partition that is scanned.
    pub offset: u64,
    /// Has bit n for the n-th accumulator, if its filter is TRUE for the event.
    pub takers: u32,
    /// The event with the columns that are needed; `None` if none are.
    pub rest: Option<Box<Event>>,
}

/// An accumulator that is filled by a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filled {
    /// The accumulator, which lacks history.
    pub accumulator: AccumulatorId,
    /// What comes at this offset or later has been added already.
    pub below: u64,
}

impl PastEvent {
    /// Returns an event with nothing but what each has.
    fn bare(&self, partition: PartitionId) -> Event {
        Event {
            user_id: self.user_id,
            event_id: None,
            client_ref_id: Box::default(),
            id_type: None,
            region: None,
            device_type: None,
            country: None,
            activity_type: None,
            url: None,
            order_total: None,
            order_id: None,
            element_id: None,
            created_at: self.created_at,
            processed_at: self.processed_at,
            payload: Arc::default(),
            position: Position { partition, offset: self.offset },
        }
    }
}

impl Machine {
    /// Returns the accumulators that need history. The caller adds users' own events by
    /// [`Machine::add_scanned`], and those of users merged into them ([`Machine::sources`]) below
    /// [`Machine::history_below`] by [`Machine::add_history`].
    pub fn incomplete(&self) -> Vec<AccumulatorId> {
        self.catalog.incomplete()
    }

    /// Returns those of them that the pending version of a segment reads.
    pub fn lacking(&self, segment: SegmentId) -> Vec<AccumulatorId> {
        let slot = self.catalog.index_of(segment).map(|index| &self.catalog.slots[index.0 as usize]);
        let pending = slot.and_then(|slot| slot.pending.as_ref());
        let reads = pending.iter().flat_map(|pending| &pending.accumulators).copied();
        reads.filter(|id| self.catalog.accumulator(*id).fence.is_some()).collect()
    }

    /// Returns a name of an accumulator that means the same in every machine; `None` if no segment reads
    /// it any longer.
    pub fn accumulator_name(&self, accumulator: AccumulatorId) -> Option<u64> {
        let shared = self.catalog.accumulators.get(accumulator.0 as usize)?.as_ref()?;
        Some(shared.fingerprint)
    }

    /// Returns the accumulator with this name, if it lacks history and a checkpoint had it.
    pub fn restored_accumulator(&self, name: u64) -> Option<AccumulatorId> {
        self.catalog.restored(name)
    }

    /// Returns the offset at which the history of these accumulators ends, for events in this
    /// partition; `None` if none of them lacks history.
    pub fn fence(&self, accumulators: &[AccumulatorId]) -> Option<u64> {
        self.existing(accumulators).filter_map(|shared| shared.fence.as_ref()).map(|fence| fence.offset).max()
    }

    /// Returns the users that were merged into the user.
    pub fn sources(&self, user: UserId) -> &[Source] {
        let user = self.by_id.get(&user).and_then(|slot| self.users[slot.0 as usize].as_ref());
        user.map_or(&[], |user| &user.rare().sources)
    }

    /// Returns all pairs of a user and one that was merged into them. Loops over all users.
    pub fn merged(&self) -> impl Iterator<Item = (UserId, UserId)> {
        self.users.iter().flatten().flat_map(|user| user.rare().sources.iter().map(|source| (user.id, source.user)))
    }

    /// Returns the offset of the source's partition below which their events are history for one of
    /// the accumulators. `source` is the user, or one that was merged into them.
    pub fn history_below(&self, accumulators: &[AccumulatorId], user: UserId, source: UserId) -> u64 {
        self.existing(accumulators).map(|accumulator| self.below(accumulator, user, source)).max().unwrap_or(0)
    }

    fn saves_any(&self, accumulators: &[AccumulatorId]) -> bool {
        let mut saved = self.saving.iter().flat_map(|saving| saving.apart());
        saved.any(|id| accumulators.contains(id))
    }

    pub(super) fn existing(&self, accumulators: &[AccumulatorId]) -> impl Iterator<Item = &SharedAccumulator> {
        accumulators.iter().filter_map(|id| self.catalog.accumulators.get(id.0 as usize)?.as_ref())
    }

    fn below(&self, accumulator: &SharedAccumulator, user: UserId, source: UserId) -> u64 {
        let merged = || self.sources(user).iter().find(|known| known.user == source).map_or(0, |known| known.below);
        match &accumulator.fence {
            Some(fence) if source == user => fence.offset,
            Some(fence) => fence.sources.get(&source).copied().unwrap_or_else(merged),
            None => merged(),
        }
    }

    /// Adds an event of `source` to those of the accumulators of the event's user that did not get
    /// it live.
    pub fn add_history(&mut self, accumulators: &[AccumulatorId], source: UserId, event: &Event) {
        debug_assert!(!self.saves_any(accumulators), "a checkpoint has what users had when it began");
        if self.existing(accumulators).any(|shared| shared.fence.is_some()) {
            self.changed.history_was_added();
        }
        let (now, user) = (self.now, event.user_id);
        let Some(slot) = self.by_id.get(&user).copied() else { return };
        for &id in accumulators {
            let Some(Some(entry)) = self.catalog.accumulators.get(id.0 as usize) else { continue };
            if !entry.key.fixed.iter().all(|condition| holds(condition, event, now))
                || event.position.offset >= self.below(entry, user, source)
            {
                continue;
            }
            self.add_past(slot, id, event);
        }
    }

    /// Adds events of a scan of `partition` by [`Machine::history_needs`] of these accumulators, in
    /// the same order. Users that are unknown have no history.
    pub fn add_scanned(&mut self, filled: &[Filled], partition: PartitionId, events: &[PastEvent]) {
        debug_assert!(!self.is_saving_apart(), "a checkpoint has what users had when it began");
        self.changed.history_was_added();
        for past in events {
            let Some(slot) = self.by_id.get(&past.user_id).copied() else { continue };
            let mut takers = past.takers;
            while takers != 0 {
                let filled = filled[takers.trailing_zeros() as usize];
                takers &= takers - 1;
                self.add_to_filled(filled, slot, partition, past);
            }
        }
    }

    fn add_to_filled(&mut self, filled: Filled, slot: UserSlot, partition: PartitionId, past: &PastEvent) {
        let Filled { accumulator: id, below } = filled;
        let Some(Some(entry)) = self.catalog.accumulators.get_mut(id.0 as usize) else { return };
        let SharedAccumulator { key, fence: Some(fence), .. } = entry else { return };
        if past.offset >= below.min(fence.offset) {
            return;
        }
        if let (AccumulatorKind::NewestK(capacity), true) = (key.kind, fence.filter_decides) {
            // The quick way of the most frequent kind.
            let accumulator = fence.accumulator_apart(slot, || Accumulator::NewestK(NewestK::new(capacity)));
            if let Some(Accumulator::NewestK(newest_k)) = accumulator {
                newest_k.insert(past.created_at.0);
                return;
            }
        }
        let bare;
        let event = match &past.rest {
            Some(event) => event.as_ref(),
            None => {
                bare = past.bare(partition);
                &bare
            }
        };
        if fence.filter_decides || key.fixed.iter().all(|condition| holds(condition, event, self.now)) {
            self.add_past(slot, id, event);
        }
    }

    /// Adds an event that passes the conditions that do not depend on now.
    fn add_past(&mut self, slot: UserSlot, id: AccumulatorId, event: &Event) {
        let Some(Some(entry)) = self.catalog.accumulators.get_mut(id.0 as usize) else { return };
        let (key, user) = (&entry.key, &mut self.users[slot.0 as usize]);
        let user = user.as_mut().expect("the index has only users that exist");
        let accumulator = match &mut entry.fence {
            Some(fence) => fence.accumulator((slot, user), id, || key.empty()),
            None => user.accumulator_or(id, || key.empty()),
        };
        if let Err(exceeded) = key.add(accumulator, event, self.now) {
            self.refused(slot, id, exceeded);
        }
    }

    /// Gives what users have of these accumulators to some of them, `users_max` at most: all history
    /// was added. Returns whether all have theirs. Then the accumulators are complete, and checkpoints
    /// that begin from now on hold them.
    pub fn complete_some(&mut self, accumulators: &[AccumulatorId], users_max: usize) -> bool {
        debug_assert!(!self.saves_any(accumulators), "a checkpoint has what users had when it began");
        for _ in 0..users_max {
            let next = |id: &AccumulatorId| self.catalog.fence_mut(*id)?.next();
            let Some(slot) = accumulators.iter().filter_map(next).min() else {
                self.end_completing(accumulators);
                return true;
            };
            self.complete_user(accumulators, slot);
        }
        false
    }

    fn complete_user(&mut self, accumulators: &[AccumulatorId], slot: UserSlot) {
        self.save_before_change(slot);
        let mut user = self.users[slot.0 as usize].as_mut();
        for &id in accumulators {
            let Some(accumulator) = self.catalog.fence_mut(id).and_then(|fence| fence.take_next(slot)) else {
                continue;
            };
            if let Some(user) = &mut user {
                user.accumulator_or(id, || accumulator);
            }
        }
        if let Some(user) = user {
            self.changed.note(user);
        }
    }

    fn end_completing(&mut self, accumulators: &[AccumulatorId]) {
        let left_out = accumulators.iter().filter_map(|id| Some(self.catalog.fence_mut(*id)?.left_out())).max();
        for id in accumulators {
            self.catalog.complete(*id);
        }
        if left_out.is_some() {
            self.changed.accumulators_were_completed();
        }
        // The next checkpoint has what the last one left out.
        for slot in (0..left_out.unwrap_or_default()).map(UserSlot::new) {
            self.save_before_change(slot);
            let user = self.users[slot.0 as usize].as_mut();
            if let Some(user) = user.filter(|user| accumulators.iter().any(|id| user.accumulator(*id).is_some())) {
                self.changed.note(user);
            }
        }
    }

    /// As [`Machine::complete_some`], for all users.
    pub fn complete(&mut self, accumulator: AccumulatorId) {
        while !self.complete_some(&[accumulator], usize::MAX) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SegmentVersion;
    use crate::language::compile;
    use crate::machine::{Cause, Definition, Rule, Settings, UserProfile};

    fn past(user: i64, offset: u64) -> PastEvent {
        let (created_at, rest) = (Timestamp(offset as i64), None);
        PastEvent { user_id: UserId(user), created_at, processed_at: created_at, offset, takers: 1, rest }
    }

    #[test]
    fn each_accumulator_gets_its_events_of_those_that_several_take() {
        let mut machine = Machine::new(Settings::default());
        machine.assume_history();
        for user in 1..=3 {
            machine.profile(UserId(user), None, UserProfile::default(), Timestamp(1));
        }
        for (id, activity, at_least) in [(1, "a", 1), (2, "b", 2), (3, "c", 1)] {
            let where_statement = format!("count(*) FILTER (WHERE activity_type = '{activity}') >= {at_least}");
            let rule: Rule = compile(&where_statement).unwrap().into();
            let (id, version) = (SegmentId(id), SegmentVersion(1));
            machine.define(
                Definition { id, tag: activity.to_owned(), version, where_statement, rule },
                100,
                Timestamp(2),
            );
        }
        let accumulators = machine.incomplete();
        let filled: Vec<Filled> = accumulators.iter().map(|id| Filled { accumulator: *id, below: u64::MAX }).collect();
        // User 3 is not known any more, and nobody takes the third.
        machine.remove_user(UserId(3), Cause::Delete, Timestamp(3));
        let takers = [(1, 0b11), (2, 0b10), (3, 0b11), (1, 0b01), (2, 0b10), (2, 0b01)];
        let events = (5..).zip(takers).map(|(offset, (user, takers))| PastEvent { takers, ..past(user, offset) });
        machine.add_scanned(&filled, PartitionId(0), &events.collect::<Vec<_>>());
        while !machine.complete_some(&accumulators, 1) {}
        for id in 1..=3 {
            machine.activate(SegmentId(id), SegmentVersion(1), Timestamp(20));
        }
        machine.settle();
        let members = [1, 2, 3].map(|id| machine.members(SegmentId(id)).to_vec());
        assert_eq!(members, [vec![UserId(1), UserId(2)], vec![UserId(2)], vec![]]);
    }

    /// What a machine with a scan goes through, live.
    #[derive(Clone, Copy)]
    enum Live {
        Event(i64),
        Remove(i64),
    }

    /// The first events of a scan are past, the others come live.
    const SCANNED: u64 = 40;
    const CLAUSES: [&str; 4] = [
        "count(*) >= 6",
        "sum(order_total) > 7",
        "count(DISTINCT url) >= 3",
        "count(*) FILTER (WHERE created_at >= now() - INTERVAL '30 microseconds') >= 3",
    ];

    fn full(user: i64, offset: u64) -> Event {
        let bare = past(user, offset).bare(PartitionId(0));
        let (url, total) = (format!("u{}", offset % 4), crate::decimal::Decimal::from_int(1));
        Event { url: Some(url.into()), order_total: Some(total), ..bare }
    }

    fn live(machine: &mut Machine, what: Live, offset: u64) {
        let at = Timestamp(offset as i64);
        match what {
            Live::Event(user) => drop(machine.event(&full(user, offset), false, at)),
            Live::Remove(user) => drop(machine.remove_user(UserId(user), Cause::Delete, at)),
        }
    }

    fn with_segments() -> Machine {
        let mut machine = Machine::new(Settings::default());
        machine.assume_history();
        for user in 1..=5 {
            machine.profile(UserId(user), None, UserProfile::default(), Timestamp(1));
        }
        for (id, clause) in (1..).zip(CLAUSES) {
            let (id, version, where_statement) = (SegmentId(id), SegmentVersion(1), clause.to_owned());
            let rule = compile(clause).unwrap().into();
            let definition = Definition { id, tag: format!("s{id}"), version, where_statement, rule };
            machine.define(definition, SCANNED, Timestamp(SCANNED as i64));
        }
        machine.settle();
        machine
    }

    fn add_all(machine: &mut Machine, accumulators: &[AccumulatorId], events: &[PastEvent]) {
        let filled: Vec<Filled> = accumulators.iter().map(|id| Filled { accumulator: *id, below: u64::MAX }).collect();
        machine.add_scanned(&filled, PartitionId(0), events);
    }

    /// A machine that crashes in the middle of a scan, and while a checkpoint is written, ends as one that
    /// does not.
    #[test]
    fn a_scan_goes_on_from_a_checkpoint() {
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            let history: Vec<PastEvent> = (0..SCANNED)
                .map(|offset| {
                    let user = random.i64(1..6);
                    let rest = Some(Box::new(full(user, offset)));
                    PastEvent { takers: 0b1111, rest, ..past(user, offset) }
                })
                .collect();
            let mut step = |offset: u64| match random.u32(..12) {
                0 => (offset, Live::Remove(random.i64(1..6))),
                _ => (offset, Live::Event(random.i64(1..6))),
            };
            let log: Vec<(u64, Live)> = (SCANNED..SCANNED + 30).map(&mut step).collect();
            let mut random = fastrand::Rng::with_seed(seed);
            let (read, applied) = (random.usize(1..history.len()), random.usize(..log.len()));

            let mut plain = with_segments();
            let accumulators = plain.incomplete();
            add_all(&mut plain, &accumulators, &history[..read]);
            log[..applied].iter().for_each(|(offset, what)| live(&mut plain, *what, *offset));
            plain.settle();
            assert!(plain.begin_saving(&accumulators), "with what stands apart it has all users");
            let (state, mut blocks) = (plain.save_state(), Vec::new());
            let mut rest = log[applied..].iter();
            while plain.is_saving_apart() {
                rest.by_ref().take(random.usize(..3)).for_each(|(offset, what)| live(&mut plain, *what, *offset));
                blocks.extend(plain.save_some(1));
            }
            rest.for_each(|(offset, what)| live(&mut plain, *what, *offset));
            add_all(&mut plain, &accumulators, &history[read..]);

            let mut restored = Machine::load_state(&state, SCANNED + applied as u64, Settings::default()).unwrap();
            let block = |(_, block): &crate::machine::SavedUser| block.clone();
            blocks.iter().filter_map(block).for_each(|block| restored.load_user(&block).unwrap());
            log[applied..].iter().for_each(|(offset, what)| live(&mut restored, *what, *offset));
            let same = accumulators
                .iter()
                .map(|id| restored.restored_accumulator(plain.accumulator_name(*id).unwrap()).unwrap());
            let same: Vec<AccumulatorId> = same.collect();
            add_all(&mut restored, &same, &history[read..]);

            let end = |machine: &mut Machine, accumulators: &[AccumulatorId]| {
                accumulators.iter().for_each(|id| machine.complete(*id));
                for id in 1..=4 {
                    machine.activate(SegmentId(id), SegmentVersion(1), Timestamp(80));
                }
                machine.settle();
                let explained = |user| (1..=4).map(move |id| (user, format!("s{id}")));
                let explained = (1..=5).flat_map(explained).map(|(user, tag)| machine.explain(UserId(user), &tag));
                format!("{:?}", explained.collect::<Vec<_>>())
            };
            assert_eq!(end(&mut restored, &same), end(&mut plain, &accumulators), "seed {seed}");
        }
    }

    #[test]
    fn a_user_does_not_get_the_history_of_one_who_was_removed() {
        let mut machine = Machine::new(Settings::default());
        machine.assume_history();
        machine.profile(UserId(1), None, UserProfile::default(), Timestamp(1));
        machine.profile(UserId(2), None, UserProfile::default(), Timestamp(1));
        let (tag, where_statement) = ("s".to_owned(), "count(*) >= 1".to_owned());
        let rule: Rule = compile(&where_statement).unwrap().into();
        let definition = Definition { id: SegmentId(1), tag, version: SegmentVersion(1), where_statement, rule };
        machine.define(definition, 100, Timestamp(2));
        let accumulators = machine.incomplete();
        let filled = Filled { accumulator: accumulators[0], below: u64::MAX };
        machine.add_scanned(&[filled], PartitionId(0), &[past(1, 5), past(2, 6)]);
        machine.remove_user(UserId(1), Cause::Delete, Timestamp(3));
        // Takes the slot of the first.
        machine.profile(UserId(3), None, UserProfile::default(), Timestamp(4));
        // At its fence or later, or where it joined a scan or later, an accumulator got the events before.
        machine.add_scanned(&[filled], PartitionId(0), &[past(3, 100)]);
        machine.add_scanned(&[Filled { below: 50, ..filled }], PartitionId(0), &[past(3, 50)]);
        accumulators.into_iter().for_each(|accumulator| machine.complete(accumulator));
        machine.activate(SegmentId(1), SegmentVersion(1), Timestamp(5));
        machine.settle();
        assert_eq!(machine.members(SegmentId(1)), [UserId(2)]);
    }
}

//! Evaluating users: which segments they enter and leave, and when to evaluate them again.

use std::cmp::Reverse;

use super::index::{SegmentIndex, UserSlot};
use super::user::User;
use super::{Cause, Change, Machine};
use crate::ids::{SegmentId, UserId};
use crate::time::Timestamp;

impl Machine {
    /// Returns the user's slot. The user is up to date then.
    pub(super) fn slot_or_new(&mut self, id: UserId, cause: Cause) -> UserSlot {
        if let Some(&slot) = self.by_id.get(&id) {
            self.bring_up(slot);
            return slot;
        }
        let mut user = User::new(id);
        user.dirty.extend_from_slice(&self.catalog.by_default);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.users.push(None);
            UserSlot::new(self.users.len() - 1)
        });
        self.users[slot.0 as usize] = Some(user);
        self.by_id.insert(id, slot);
        self.join_sweep(slot);
        self.touch(slot, cause);
        slot
    }

    /// Notes that a record changed the user, who is evaluated when the instant is complete.
    pub(super) fn touch(&mut self, slot: UserSlot, cause: Cause) {
        self.mark_dirty(slot, cause);
        let user = self.users[slot.0 as usize].as_mut().expect("the caller found it");
        self.changed.note(user);
    }

    /// Notes that the user must be evaluated when the instant is complete.
    pub(super) fn mark_dirty(&mut self, slot: UserSlot, cause: Cause) {
        let user = self.users[slot.0 as usize].as_mut().expect("the caller found it");
        if user.dirty_cause.is_none() {
            self.dirty.push(slot);
        }
        user.dirty_cause = Some(user.dirty_cause.map_or(cause, |other| other.min(cause)));
    }

    /// Evaluates a user's dirty segments at an instant, and emits the changes. A segment is evaluated
    /// after those that it names.
    pub(super) fn evaluate(&mut self, slot: UserSlot, at: Timestamp, cause: Cause) {
        let Some(mut user) = self.users[slot.0 as usize].take() else { return };
        let mut queue = std::mem::take(&mut self.queue);
        queue.extend(std::mem::take(&mut user.dirty));
        // The last is next: descending by rank, so that a segment comes after those that it names.
        let order = |index: SegmentIndex| Reverse((self.catalog.slots[index.0 as usize].rank, index));
        queue.sort_unstable_by_key(|index| order(*index));
        queue.dedup();
        let (mut entered, mut left) = (Vec::new(), Vec::new());
        let mut soonest = Timestamp::MAX;
        while let Some(index) = queue.pop() {
            let (holds, valid_until) = self.verdict_at(index, &mut user, at);
            if user.wakeups.set(index, valid_until) {
                soonest = soonest.min(valid_until);
            }
            if holds == user.is_member(index) {
                continue;
            }
            user.set_member(index, holds);
            if holds { &mut entered } else { &mut left }.push(index);
            for &dependant in &self.catalog.slots[index.0 as usize].dependants {
                let place = queue.partition_point(|other| order(*other) < order(dependant));
                if queue.get(place) != Some(&dependant) {
                    queue.insert(place, dependant);
                }
            }
        }
        self.queue = queue;
        // The next checkpoint must have a new wake-up, since nothing else would wake the user after
        // a restart.
        if soonest < Timestamp::MAX {
            self.changed.note(&mut user);
        }
        if soonest < user.armed {
            user.armed = soonest;
            self.timers.arm(soonest, slot);
        }
        self.emit(&mut user, (entered, left), at, cause);
        self.users[slot.0 as usize] = Some(user);
    }

    /// Emits the difference between the memberships that were emitted (ids of segments) and those
    /// that hold. `sequence` is that of the last emitted change.
    pub fn reconcile(&mut self, id: UserId, emitted: &[SegmentId], sequence: u64, cause: Cause) {
        let Some(slot) = self.by_id.get(&id).copied() else { return };
        self.bring_up(slot);
        let Some(user) = self.users[slot.0 as usize].as_mut() else { return };
        let mut emitted: Vec<SegmentIndex> =
            emitted.iter().filter_map(|segment| self.catalog.index_of(*segment)).collect();
        emitted.sort_unstable();
        emitted.dedup();
        user.dirty.extend_from_slice(&user.members);
        user.dirty.extend_from_slice(&emitted);
        if user.sequence != sequence {
            self.changed.note(user);
        }
        self.tally.leave(&user.members);
        self.tally.enter(&emitted);
        user.members = emitted.into_iter().collect();
        user.sequence = sequence;
        self.evaluate(slot, self.now, cause);
    }

    /// Whether the segment holds for the user at an instant, and until when at least, if nothing
    /// happens.
    pub(super) fn verdict_at(&self, index: SegmentIndex, user: &mut User, now: Timestamp) -> (bool, Timestamp) {
        let Some(compiled) = self.catalog.in_force(index) else { return (false, Timestamp::MAX) };
        match &compiled.formula {
            Some(formula) => {
                let verdict = formula.evaluate(user, now);
                (verdict.holds, verdict.valid_until)
            }
            None => (user.rare().manual.segments.contains(&compiled.definition.id), Timestamp::MAX),
        }
    }

    pub(super) fn emit(
        &mut self,
        user: &mut User,
        (entered, left): (Vec<SegmentIndex>, Vec<SegmentIndex>),
        at: Timestamp,
        cause: Cause,
    ) {
        let removed = user.some_rare().map(|rare| std::mem::take(&mut rare.left_by_removal)).unwrap_or_default();
        if entered.is_empty() && left.is_empty() && removed.is_empty() {
            return;
        }
        self.tally.enter(&entered);
        self.tally.leave(&left);
        let ids = |indexes: Vec<SegmentIndex>| {
            let mut ids: Vec<SegmentId> = indexes.into_iter().filter_map(|index| self.catalog.id_of(index)).collect();
            ids.sort_unstable();
            ids
        };
        let (mut entered, mut left) = (ids(entered), ids(left));
        for removed in removed {
            // A segment that was removed and defined again in one instant was never left.
            match entered.binary_search(&removed) {
                Ok(again) => drop(entered.remove(again)),
                Err(_) => left.push(removed),
            }
        }
        if entered.is_empty() && left.is_empty() {
            return;
        }
        left.sort_unstable();
        user.sequence += 1;
        self.changes.push(Change {
            user: user.id,
            client_ref_id: user.client_ref_id.clone(),
            sequence: user.sequence,
            effective_at: at,
            cause,
            entered,
            left,
            segments: self.settings.emit_all_segments.then(|| ids(user.members.to_vec())),
        });
        self.changed.note(user);
    }
}

//! How time passes: the machine reaches an instant at once, and its users follow.
//!
//! Users do not depend on each other. So a deadline of a million users, or a segment that takes
//! effect for all of them, holds up no record: users are behind until it is their turn, each is then
//! evaluated at the instants that passed, in order, and a user whom a record is about comes at once.

use super::index::{SegmentIndex, UserSlot};
use super::{Cause, Machine};
use crate::ids::{SegmentId, UserId};
use crate::time::Timestamp;

/// The evaluation of all users for segments that took effect at one instant.
#[derive(Debug)]
pub(super) struct Sweep {
    pub(super) at: Timestamp,
    pub(super) segments: Vec<(SegmentIndex, Cause)>,
    /// The users in the slots before this one are done.
    next: usize,
    /// Whether the user in a slot needs no evaluation any more, because they came after the instant
    /// or had theirs.
    done: Vec<bool>,
}

impl Sweep {
    pub(super) fn new(at: Timestamp, slots: usize) -> Self {
        Self { at, segments: Vec::new(), next: 0, done: vec![false; slots] }
    }

    fn is_done(&self, slot: UserSlot) -> bool {
        self.done.get(slot.0 as usize).copied().unwrap_or(true)
    }

    /// Notes that the user in a slot needs no evaluation.
    pub(super) fn skip(&mut self, slot: UserSlot) {
        if let Some(done) = self.done.get_mut(slot.0 as usize) {
            *done = true;
        }
    }

    /// Includes a user who comes into a slot.
    fn include(&mut self, slot: UserSlot) {
        let index = slot.0 as usize;
        if self.done.len() <= index {
            self.done.resize(index + 1, true);
        }
        self.done[index] = false;
    }

    fn next(&mut self) -> Option<UserSlot> {
        while self.next < self.done.len() {
            let slot = UserSlot::new(self.next);
            if !self.is_done(slot) {
                return Some(slot);
            }
            self.next += 1;
        }
        None
    }
}

impl Machine {
    /// Completes the present instant, advances to `to`, and fires the deadlines up to it, each at
    /// its own instant, but about `users_max` at most. Returns whether nobody is behind; if not, call
    /// [`Machine::catch_up`].
    pub fn advance(&mut self, to: Timestamp, users_max: usize) -> bool {
        self.settle_touched();
        self.now = self.now.max(to);
        self.catch_up(users_max)
    }

    /// Completes the present instant: evaluates each user that the records touched, once, and
    /// everybody who is behind.
    pub fn settle(&mut self) {
        self.advance(self.now, usize::MAX);
    }

    /// Lets users who are behind catch up, with about `users_max` evaluations. The present instant
    /// is complete. Returns whether nobody is behind any more.
    pub fn catch_up(&mut self, users_max: usize) -> bool {
        let is_level = self.follow(users_max, self.now);
        let first_due = self.sweep.as_ref().map_or(Timestamp::MAX, |sweep| sweep.at).min(self.timers.next_due());
        let settled = if is_level { self.now } else { Timestamp(first_due.0 - 1) };
        self.settled = self.settled.max(settled);
        is_level
    }

    /// Lets users who are behind come to `at`, with about `users_max` evaluations. There a record
    /// changes which segments are in force: until then they follow the old ones. Returns whether
    /// all have come.
    pub fn gather(&mut self, at: Timestamp, users_max: usize) -> bool {
        self.reach(at);
        // Segments that took effect in this instant wait for its other records.
        self.follow(users_max, Timestamp(self.now.0.saturating_sub(1)))
    }

    /// Returns the instant up to which everything has been evaluated for everybody.
    pub fn settled_until(&self) -> Timestamp {
        self.settled
    }

    /// Returns how many of the users have been evaluated for a segment that took effect, from 0 to
    /// 1; `None` if all have.
    pub fn sweep_progress(&self, segment: SegmentId) -> Option<f64> {
        let index = self.catalog.index_of(segment)?;
        let sweep = self.sweep.as_ref().filter(|sweep| sweep.segments.iter().any(|(other, _)| *other == index))?;
        Some(sweep.next as f64 / sweep.done.len().max(1) as f64)
    }

    /// Fires deadlines up to now, and evaluates users for segments that took effect up to
    /// `sweeps_until`, in the order of their instants.
    fn follow(&mut self, users_max: usize, sweeps_until: Timestamp) -> bool {
        let mut left = users_max;
        if let Some(at) = self.sweep.as_ref().map(|sweep| sweep.at).filter(|at| *at <= sweeps_until)
            && !(self.fire(at, &mut left) && self.finish_sweep(&mut left))
        {
            return false;
        }
        self.fire(self.now, &mut left)
    }

    /// Fires deadlines up to an instant while users are `left`. Returns whether all have fired.
    fn fire(&mut self, until: Timestamp, left: &mut usize) -> bool {
        while let Some((due, slot)) = self.timers.pop(until) {
            if self.users[slot.0 as usize].as_ref().is_none_or(|user| user.armed != due) {
                continue;
            }
            if *left == 0 {
                self.timers.arm(due, slot);
                return false;
            }
            *left -= 1;
            self.wake_until(slot, due);
        }
        true
    }

    fn finish_sweep(&mut self, left: &mut usize) -> bool {
        while let Some(slot) = self.sweep.as_mut().and_then(Sweep::next) {
            if *left == 0 {
                return false;
            }
            *left -= 1;
            self.evaluate_for_sweep(slot);
        }
        self.sweep = None;
        true
    }

    /// Completes the present instant and comes to `at`, where a record is applied. Users follow
    /// when it is their turn.
    pub(super) fn reach(&mut self, at: Timestamp) {
        if at > self.now {
            self.settle_touched();
            self.now = at;
        }
    }

    /// Comes to `at` and brings a user there, if there is one.
    pub fn bring(&mut self, user: UserId, at: Timestamp) {
        self.reach(at);
        if let Some(&slot) = self.by_id.get(&user) {
            self.bring_up(slot);
        }
    }

    /// Brings a user to the present instant, before a record of it changes them.
    pub(super) fn bring_up(&mut self, slot: UserSlot) {
        if self.sweep.as_ref().is_some_and(|sweep| sweep.at < self.now && !sweep.is_done(slot)) {
            self.evaluate_for_sweep(slot);
        }
        self.wake_until(slot, self.now);
    }

    /// Notes that a user comes into a slot. At the instant of the sweep they are part of it, because
    /// another segment may take effect after them; later they are not behind.
    pub(super) fn join_sweep(&mut self, slot: UserSlot) {
        match &mut self.sweep {
            Some(sweep) if sweep.at == self.now => sweep.include(slot),
            Some(sweep) => sweep.skip(slot),
            None => {}
        }
    }

    /// Notes that the user who leaves a slot is not behind.
    pub(super) fn skip_sweep(&mut self, slot: UserSlot) {
        if let Some(sweep) = &mut self.sweep {
            sweep.skip(slot);
        }
    }

    fn evaluate_for_sweep(&mut self, slot: UserSlot) {
        let Some(at) = self.sweep.as_ref().map(|sweep| sweep.at) else { return };
        self.wake_until(slot, at);
        let Some(cause) = self.add_sweep(slot) else { return };
        if self.users[slot.0 as usize].as_ref().is_some_and(|user| !user.dirty.is_empty()) {
            self.evaluate(slot, at, cause);
        }
    }

    /// Makes the segments of the sweep dirty for a user who has not been evaluated for them. It leaves
    /// out those that the user cannot enter or leave. Returns the cause, which is the same for everybody.
    fn add_sweep(&mut self, slot: UserSlot) -> Option<Cause> {
        let sweep = self.sweep.as_mut().filter(|sweep| !sweep.is_done(slot))?;
        sweep.skip(slot);
        let user = self.users[slot.0 as usize].as_mut()?;
        for &(index, _) in &sweep.segments {
            let in_force = self.catalog.in_force(index);
            if in_force.is_some_and(|compiled| !compiled.may_hold_for(user)) && !user.is_member(index) {
                continue;
            }
            user.dirty.push(index);
        }
        sweep.segments.iter().map(|(_, cause)| *cause).min()
    }

    /// Fires a user's deadlines up to an instant. Whatever else changes a user comes after a call of
    /// this.
    fn wake_until(&mut self, slot: UserSlot, until: Timestamp) {
        self.save_before_change(slot);
        while let Some(user) = self.users[slot.0 as usize].as_mut().filter(|user| user.armed <= until) {
            let due = user.armed;
            let next = user.wakeups.take_due(due, |segment| self.queue.push(segment));
            user.armed = next;
            self.evaluate(slot, due, Cause::Time);
            // Otherwise the evaluation armed an earlier one.
            if next < Timestamp::MAX && self.users[slot.0 as usize].as_ref().is_some_and(|user| user.armed == next) {
                self.timers.arm(next, slot);
            }
        }
    }

    /// Evaluates each user that the records of the present instant touched, once.
    fn settle_touched(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for slot in dirty.drain(..) {
            let cause = self.users[slot.0 as usize].as_mut().and_then(|user| user.dirty_cause.take());
            let Some(cause) = cause else { continue };
            let is_swept = self.sweep.as_ref().is_some_and(|sweep| sweep.at == self.now);
            let swept = if is_swept { self.add_sweep(slot) } else { None };
            self.evaluate(slot, self.now, swept.map_or(cause, |swept| swept.min(cause)));
        }
        // Evaluating makes no other user dirty; the memory is used again.
        debug_assert!(self.dirty.is_empty());
        self.dirty = dirty;
    }
}

#[cfg(test)]
mod tests {
    use crate::ids::{SegmentId, SegmentVersion, UserId};
    use crate::language::compile;
    use crate::machine::{Definition, Machine, Settings, UserProfile};
    use crate::time::Timestamp;

    const AT: Timestamp = Timestamp(5);

    fn define(machine: &mut Machine, version: u64, clause: &str) {
        let rule = compile(clause).unwrap().into();
        let (id, tag, version) = (SegmentId(1), "s".to_owned(), SegmentVersion(version));
        machine.define(Definition { id, tag, version, where_statement: clause.to_owned(), rule }, 0, AT);
        machine.activate(id, version, AT);
    }

    #[test]
    fn a_user_who_comes_between_two_versions_of_one_instant_follows_the_second() {
        for known_before in [0, 1, 2] {
            let mut machine = Machine::new(Settings::default());
            let come = |machine: &mut Machine, user| {
                machine.profile(UserId(user), None, UserProfile::default(), AT);
            };
            (0..known_before).for_each(|user| come(&mut machine, user));
            // A slot that is free again.
            machine.remove_user(UserId(0), crate::machine::Cause::Delete, AT);
            define(&mut machine, 1, "country IN ('US')");
            come(&mut machine, 7);
            come(&mut machine, 8);
            define(&mut machine, 2, "traits->>'city' IS NULL");
            come(&mut machine, 9);
            machine.settle();
            let members = machine.members(SegmentId(1));
            assert!([7, 8, 9].iter().all(|user| members.contains(&UserId(*user))), "{known_before}: {members:?}");
            assert_eq!(members.len(), machine.user_count(), "{known_before}");
        }
    }
}

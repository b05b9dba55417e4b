//! Segments coming, changing and going, and the history that a new one needs.

use super::inputs::holds;
use super::{Cause, Definition, Failure, Machine, StoreId};
use crate::event::{Event, UserId};
use crate::time::Timestamp;

impl Machine {
    /// Takes a segment's new version. `offset` is where the log stands: what was received before it is history. Until
    /// [`Machine::activate`] the old version stays in force.
    pub fn define(&mut self, definition: Definition, offset: u64, at: Timestamp) {
        self.reach(at);
        let (_, unused) = self.catalog.define(definition, self.has_history.then_some(offset));
        self.drop_states(&unused);
    }

    /// The segments whose new version waits for nothing but [`Machine::activate`]: id and version.
    pub fn ready(&self) -> Vec<(i64, u64)> {
        let indexes = (0..).zip(&self.catalog.slots).filter(|(index, _)| self.catalog.is_ready(*index));
        let pending = indexes.filter_map(|(_, slot)| slot.pending.as_ref());
        pending.map(|compiled| (compiled.definition.id, compiled.definition.version)).collect()
    }

    /// Whether the new version can take effect where it is defined: there is no history, or what it reads is kept for versions
    /// in force. That follows from the log alone; whether a backfill has been done by then does not.
    pub fn needs_no_history(&self, segment: i64) -> bool {
        !self.has_history || self.catalog.index_of(segment).is_some_and(|index| self.catalog.is_covered(index))
    }

    /// Whether a newer version of the segment waits to take effect; `None` if the segment is unknown.
    pub fn is_pending(&self, segment: i64) -> Option<bool> {
        let index = self.catalog.index_of(segment)?;
        Some(self.catalog.slots[index as usize].pending.is_some())
    }

    /// The stores that need history, each with the offset below which it does. See [`Machine::add_history`].
    pub fn incomplete(&self) -> Vec<(StoreId, u64)> {
        let fence = |id| self.catalog.store(id).fence;
        self.catalog.incomplete().into_iter().filter_map(|id| Some((id, fence(id)?))).collect()
    }

    /// Adds an event from before the fence to one store, under the user it belongs to now.
    pub fn add_history(&mut self, store: StoreId, user: UserId, event: &Event) {
        let now = self.now;
        let (Some(Some(entry)), Some(slot)) = (self.catalog.stores.get(store.0 as usize), self.by_id.get(&user)) else {
            return;
        };
        if !entry.key.fixed.iter().all(|condition| holds(condition, event, now)) {
            return;
        }
        let user = self.users[*slot as usize].as_mut().expect("the index has only users that are there");
        let added = entry.key.add(user.state_or(store, || entry.key.empty()), event, now);
        if added.is_err() {
            let reason = "the history has more entries in one window than can be held".to_owned();
            self.failures.push(Failure { user: user.id, segments: Vec::new(), reason });
        }
    }

    /// The store has seen the whole history: from now on checkpoints hold it.
    pub fn complete(&mut self, store: StoreId) {
        self.catalog.complete(store);
        for user in self.users.iter_mut().flatten().filter(|user| !user.changed && user.state(store).is_some()) {
            user.changed = true;
            self.changed.push(user.id);
        }
    }

    /// Puts a segment's new version in force. The difference is told when the instant is complete, together with what its
    /// other records change.
    pub fn activate(&mut self, segment: i64, version: u64, at: Timestamp) {
        self.reach(at);
        let Some(index) = self.catalog.index_of(segment) else { return };
        let slot = &self.catalog.slots[index as usize];
        if slot.pending.as_ref().is_none_or(|pending| pending.definition.version != version) {
            return;
        }
        let cause = if slot.in_force.is_some() { Cause::Edit } else { Cause::Backfill };
        let unused = self.catalog.activate(index);
        self.drop_states(&unused);
        self.ask_everyone(index, cause);
    }

    /// Ends a segment: its members leave.
    pub fn remove_segment(&mut self, segment: i64, at: Timestamp) {
        self.reach(at);
        let Some(index) = self.catalog.index_of(segment) else { return };
        for slot in 0..self.users.len() {
            if let Some(mut user) = self.users[slot].take() {
                if user.is_member(index) {
                    user.set_member(index, false);
                    self.tell(&mut user, Vec::new(), vec![index], Cause::Delete);
                }
                self.users[slot] = Some(user);
            }
        }
        let unused = self.catalog.remove(index);
        self.drop_states(&unused);
    }

    fn ask_everyone(&mut self, index: u32, cause: Cause) {
        for slot in 0..u32::try_from(self.users.len()).expect("fewer than 2³² users") {
            if let Some(user) = self.users[slot as usize].as_mut() {
                user.dirty.push(index);
                self.ask(slot, cause);
            }
        }
    }

    fn drop_states(&mut self, unused: &[StoreId]) {
        if unused.is_empty() {
            return;
        }
        for user in self.users.iter_mut().flatten() {
            user.states.retain(|(id, _)| !unused.contains(id));
            self.tally.measure(user);
        }
    }
}

//! Segments coming, changing and going, and the history that a new one needs.

use super::catalog::Store;
use super::inputs::holds;
use super::{Cause, Definition, Machine, Source, StoreId};
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

    /// There are events that the machine was never given: new versions wait for their history.
    pub fn assume_history(&mut self) {
        self.has_history = true;
    }

    /// Whether a newer version of the segment waits to take effect; `None` if the segment is unknown.
    pub fn is_pending(&self, segment: i64) -> Option<bool> {
        let index = self.catalog.index_of(segment)?;
        Some(self.catalog.slots[index as usize].pending.is_some())
    }

    /// The version of the segment that waits to take effect, if one does.
    pub fn pending_version(&self, segment: i64) -> Option<u64> {
        let slot = &self.catalog.slots[self.catalog.index_of(segment)? as usize];
        slot.pending.as_ref().map(|pending| pending.definition.version)
    }

    /// The stores that need history: of every user ([`Machine::user_ids`]) and everyone merged into it ([`Machine::sources`]),
    /// the events below [`Machine::history_below`], by [`Machine::add_history`].
    pub fn incomplete(&self) -> Vec<StoreId> {
        self.catalog.incomplete()
    }

    /// The offset that the history of incomplete stores ends at, for what users of this partition did in it.
    pub fn fence(&self) -> Option<u64> {
        self.catalog.stores.iter().flatten().filter_map(|store| store.fence.as_ref()).map(|fence| fence.offset).max()
    }

    /// Who was merged into the user.
    pub fn sources(&self, user: UserId) -> &[Source] {
        let user = self.by_id.get(&user).and_then(|slot| self.users[*slot as usize].as_ref());
        user.map_or(&[], |user| &user.sources)
    }

    /// Below which offset of its partition what `source` (the user, or one merged into it) did is history for one of the stores.
    pub fn history_below(&self, stores: &[StoreId], user: UserId, source: UserId) -> u64 {
        let stores = stores.iter().filter_map(|id| self.catalog.stores.get(id.0 as usize)?.as_ref());
        stores.map(|store| self.below(store, user, source)).max().unwrap_or(0)
    }

    fn below(&self, store: &Store, user: UserId, source: UserId) -> u64 {
        let merged = || self.sources(user).iter().find(|known| known.user == source).map_or(0, |known| known.below);
        match &store.fence {
            Some(fence) if source == user => fence.offset,
            Some(fence) => fence.sources.get(&source).copied().unwrap_or_else(merged),
            None => merged(),
        }
    }

    /// Adds an event that `source` did to one store, as the event's user's, unless the store has seen it live.
    pub fn add_history(&mut self, store: StoreId, source: UserId, event: &Event) {
        let (now, user) = (self.now, event.user_id);
        let (Some(Some(entry)), Some(slot)) = (self.catalog.stores.get(store.0 as usize), self.by_id.get(&user)) else {
            return;
        };
        if event.position.offset >= self.below(entry, user, source)
            || !entry.key.fixed.iter().all(|condition| holds(condition, event, now))
        {
            return;
        }
        let user = self.users[*slot as usize].as_mut().expect("the index has only users that are there");
        let added = entry.key.add(user.state_or(store, || entry.key.empty()), event, now);
        if let Err(overfull) = added {
            let slot = *slot;
            self.refused(slot, store, overfull);
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

    /// Ends a segment: its members leave. They are told when the instant is complete, together with what its other records
    /// change.
    pub fn remove_segment(&mut self, segment: i64, at: Timestamp) {
        self.reach(at);
        let Some(index) = self.catalog.index_of(segment) else { return };
        for slot in 0..u32::try_from(self.users.len()).expect("fewer than 2³² users") {
            let Some(user) = self.users[slot as usize].as_mut().filter(|user| user.is_member(index)) else { continue };
            user.set_member(index, false);
            user.left_by_removal.push(segment);
            self.tally.leave(&[index]);
            self.ask(slot, Cause::Delete);
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
            user.limited.forget(unused);
            self.tally.measure(user);
        }
    }
}

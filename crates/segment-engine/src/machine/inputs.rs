//! Applying records: what each kind of input changes, and whom it makes dirty.

use super::store::StoreKey;
use super::triggers::Readers;
use super::user::{Profile, User};
use super::{Cause, EventKey, Failure, Machine};
use crate::eval::{EventScope, evaluate};
use crate::event::{Event, UserId};
use crate::leaf::{ENTRIES_MAX, Overfull, State};
use crate::plan::Expr;
use crate::time::Timestamp;
use crate::value::Value;

/// What was known of a user that left its machine.
#[derive(Clone, Debug)]
pub struct Departed(pub(super) Box<User>);

impl Machine {
    /// Applies an event received at `at`. Answers `false` for a duplicate, which changes nothing.
    pub fn event(&mut self, event: &Event, once: bool, at: Timestamp) -> bool {
        self.reach(at);
        let remembered = self.settings.remembered_micros;
        let slot = self.slot_or_new(event.user_id, Cause::Event);
        let user = self.users[slot as usize].as_mut().expect("just found or made");
        if user.client_ref_id.is_none() {
            user.client_ref_id = Some(event.client_ref_id.clone());
        }
        if let Some(id) = &event.event_id
            && !user.recent.accept(EventKey { id, once }, event.processed_at, remembered)
        {
            return false;
        }
        self.has_history = true;
        self.apply_to_stores(slot, event);
        self.touch(slot, Cause::Event);
        true
    }

    fn apply_to_stores(&mut self, slot: u32, event: &Event) {
        let now = self.now;
        let user = self.users[slot as usize].as_mut().expect("the caller found it");
        let mut overfull = Vec::new();
        for id in self.catalog.triggers.stores(event.activity_type.as_deref()) {
            let key = &self.catalog.store(id).key;
            if !key.fixed.iter().all(|condition| holds(condition, event, now)) {
                continue;
            }
            let readers = self.catalog.triggers.readers(id);
            let User { dirty, .. } = user;
            let mut found = std::mem::take(dirty);
            let state = user.state_or(id, || key.empty());
            if add_and_note(state, key, event, now, readers, &mut found).is_err() {
                overfull.extend(readers.all());
            }
            user.dirty = found;
        }
        if !overfull.is_empty() {
            let segments = overfull.into_iter().filter_map(|index| self.catalog.id_of(index)).collect();
            let reason = format!(
                "more than {} events of one user count in one window; shorten the window or use a threshold",
                ENTRIES_MAX
            );
            self.failures.push(Failure { user: event.user_id, segments, reason });
        }
    }

    /// A user was created or its profile changed.
    pub fn profile(&mut self, id: UserId, client_ref_id: Option<&str>, profile: Profile, at: Timestamp) {
        self.reach(at);
        let slot = self.slot_or_new(id, Cause::User);
        let user = self.users[slot as usize].as_mut().expect("just found or made");
        if user.client_ref_id.is_none() {
            user.client_ref_id = client_ref_id.map(Into::into);
        }
        if user.profile != profile {
            user.profile = profile;
            user.dirty.extend(self.catalog.triggers.by_profile());
        }
        self.touch(slot, Cause::User);
    }

    /// Traits of a user were set, true since `created_at`.
    pub fn traits(
        &mut self,
        id: UserId,
        traits: &serde_json::Map<String, serde_json::Value>,
        created_at: Timestamp,
        at: Timestamp,
    ) {
        self.reach(at);
        let slot = self.slot_or_new(id, Cause::Trait);
        let user = self.users[slot as usize].as_mut().expect("just found or made");
        for (key, value) in traits {
            if user.traits.set(key, value.clone(), created_at) {
                user.dirty.extend(self.catalog.triggers.by_trait(key));
            }
        }
        self.touch(slot, Cause::Trait);
    }

    /// The user's manual segments were set to exactly these ids.
    pub fn manual(&mut self, id: UserId, segments: &[i64], at: Timestamp) {
        self.reach(at);
        let slot = self.slot_or_new(id, Cause::Manual);
        let user = self.users[slot as usize].as_mut().expect("just found or made");
        let touched = user.manual.iter().chain(segments).filter_map(|id| self.catalog.index_of(*id));
        user.dirty.extend(touched);
        user.manual = segments.to_vec();
        self.touch(slot, Cause::Manual);
    }

    /// Removes a user: it leaves every segment, with this cause. Answers what was known of it, for [`Machine::absorb`].
    pub fn remove_user(&mut self, id: UserId, cause: Cause, at: Timestamp) -> Option<Departed> {
        self.reach(at);
        let slot = self.by_id.remove(&id)?;
        let mut user = self.users[slot as usize].take()?;
        self.free.push(slot);
        self.tally.forget(&user);
        // What other records of this instant changed is now the survivor's, or nobody's.
        user.dirty.clear();
        user.dirty_cause = None;
        self.changed.push(id);
        let left = std::mem::take(&mut user.members);
        self.tell(&mut user, Vec::new(), left, cause);
        Some(Departed(Box::new(user)))
    }

    /// Merges a user that was removed from its machine into `survivor`, which then has both histories and traits.
    pub fn absorb(&mut self, survivor: UserId, departed: Departed, at: Timestamp) {
        self.reach(at);
        let slot = self.slot_or_new(survivor, Cause::Merge);
        let now = self.now;
        let Departed(other) = departed;
        self.has_history = true;
        let user = self.users[slot as usize].as_mut().expect("just found or made");
        user.traits.absorb(other.traits);
        user.recent.merge(other.recent);
        user.manual.extend(other.manual);
        user.manual.sort_unstable();
        user.manual.dedup();
        if user.client_ref_id.is_none() {
            user.client_ref_id = other.client_ref_id;
        }
        let mut failed = false;
        for (id, state) in other.states {
            match user.states.binary_search_by_key(&id, |(id, _)| *id) {
                Ok(place) => failed |= user.states[place].1.merge(state, now).is_err(),
                Err(place) => user.states.insert(place, (id, state)),
            }
        }
        // Everything about the user may have changed: a merge is rare, a missed segment would be wrong for good.
        user.dirty
            .extend(self.catalog.slots.iter().zip(0..).filter(|(slot, _)| slot.in_force.is_some()).map(|(_, at)| at));
        if failed {
            let reason = "the merged user has more entries in one window than can be held".to_owned();
            self.failures.push(Failure { user: survivor, segments: Vec::new(), reason });
        }
        self.touch(slot, Cause::Merge);
    }
}

/// Adds an event to a state and notes the segments whose truth, or whose next look, it may have changed.
fn add_and_note(
    state: &mut State,
    key: &StoreKey,
    event: &Event,
    now: Timestamp,
    readers: &Readers,
    dirty: &mut Vec<u32>,
) -> Result<(), Overfull> {
    if let State::Ring(ring) = state {
        if let Some(place) = ring.insert(event.created_at.0) {
            readers.turned_true(ring.newest(), place, now.0, |segment| dirty.push(segment));
        }
        return Ok(());
    }
    state.settle(now);
    let before = count_of(state);
    key.add(state, event, now)?;
    match (before, count_of(state)) {
        (Some((before, begin_before)), Some((after, begin_after))) => {
            dirty.extend(readers.crossed(before, after));
            dirty.extend(readers.values());
            // An entry that begins sooner than any other moves the next look. Ends need none: a truth that holds looks
            // again when it ends, and an entry more only makes it last.
            if begin_after < begin_before {
                dirty.extend(readers.all());
            }
        }
        _ => dirty.extend(readers.all()),
    }
    Ok(())
}

/// How many count, and when the next begins.
fn count_of(state: &State) -> Option<(u64, Timestamp)> {
    match state {
        State::Count(count) => Some((count.value(), count.next_begin())),
        _ => None,
    }
}

/// Whether a condition without now is TRUE of an event.
pub(super) fn holds(condition: &Expr, event: &Event, now: Timestamp) -> bool {
    evaluate(condition, &mut EventScope { event, now }) == Value::Bool(true)
}

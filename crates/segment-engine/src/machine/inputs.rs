//! Applying records: what each kind of input changes, and whom it makes dirty.

use super::store::{StoreId, StoreKey};
use super::triggers::Readers;
use super::user::{ManualList, Profile, Source, User};
use super::{Cause, EventKey, Machine};
use crate::eval::{EventScope, evaluate};
use crate::event::{Event, UserId};
use crate::leaf::{Overfull, State};
use crate::plan::Expr;
use crate::time::Timestamp;
use crate::value::Value;

/// What was known of a user that left its machine.
#[derive(Clone, Debug)]
pub struct Departed {
    pub(super) user: Box<User>,
    /// Stores of the absorbing machine that have all history but this user's, because the machine it left did not keep them.
    pub(super) lacking: Vec<StoreId>,
}

impl Departed {
    /// Who had been merged into the user.
    pub fn sources(&self) -> impl Iterator<Item = UserId> {
        self.user.sources.iter().map(|source| source.user)
    }
}

impl Machine {
    /// Applies an event received at `at`. Answers `false` for a duplicate, which changes nothing.
    pub fn event(&mut self, event: &Event, dedupe_forever: bool, at: Timestamp) -> bool {
        self.reach(at);
        let remembered = self.settings.remembered_micros;
        let slot = self.slot_or_new(event.user_id, Cause::Event);
        let user = self.users[slot as usize].as_mut().expect("just found or made");
        if user.client_ref_id.is_none() {
            user.client_ref_id = Some(event.client_ref_id.clone());
        }
        if let Some(id) = &event.event_id
            && !user.recent.accept(EventKey { id, dedupe_forever }, event.processed_at, remembered)
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
            let added = add_and_note(state, key, event, now, readers, &mut found);
            overfull.extend(added.err().map(|overfull| (id, overfull)));
            user.dirty = found;
        }
        for (id, overfull) in overfull {
            self.refused(slot, id, overfull);
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

    /// The user's manual segments were set to exactly these, by hand or by a merge.
    pub fn manual(&mut self, id: UserId, list: ManualList, cause: Cause, at: Timestamp) {
        self.reach(at);
        let slot = self.slot_or_new(id, cause);
        let user = self.users[slot as usize].as_mut().expect("just found or made");
        if list.version < user.manual.version {
            return;
        }
        let touched = user.manual.segments.iter().chain(&list.segments);
        user.dirty.extend(touched.filter_map(|id| self.catalog.index_of(*id)));
        user.manual = list;
        self.touch(slot, cause);
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
        Some(Departed { user: Box::new(user), lacking: Vec::new() })
    }

    /// Merges a user that was removed from its machine into `survivor`, which then has both histories and traits; what becomes
    /// of manual lists is [`Machine::manual`]'s. `below` says
    /// up to which offset of its partition `departed` holds what the absorbed user did.
    ///
    /// Answers the stores that need the absorbed user's events from history all the same, by [`Machine::add_history`] in this
    /// instant. Stores that wait for their history read it there.
    #[must_use]
    pub fn absorb(&mut self, survivor: UserId, departed: Departed, below: u64, at: Timestamp) -> Vec<StoreId> {
        self.reach(at);
        let slot = self.slot_or_new(survivor, Cause::Merge);
        let now = self.now;
        let Departed { user: other, mut lacking } = departed;
        self.has_history = true;
        let user = self.users[slot as usize].as_mut().expect("just found or made");
        user.traits.absorb(other.traits);
        user.recent.merge(other.recent);
        if user.client_ref_id.is_none() {
            user.client_ref_id = other.client_ref_id;
        }
        for source in other.sources.into_iter().chain([Source { user: other.id, below }]) {
            user.extend(source);
            // What a store under a fence had seen of it live went with the absorbed state.
            for fence in self.catalog.fences() {
                fence.sources.remove(&source.user);
            }
        }
        // An event of the absorbed user is from now on one of the survivor's: what reads `user_id` reads it anew.
        let anew = self.catalog.complete_stores().filter(|(_, store)| store.key.reads_user_id());
        lacking.extend(anew.map(|(id, _)| id));
        lacking.sort_unstable();
        lacking.dedup();
        let is_absorbed = |id: StoreId| lacking.binary_search(&id).is_err() && self.catalog.is_complete(id);
        for (id, until) in other.limited.stores(now).filter(|(id, _)| is_absorbed(*id)) {
            // It was told of the absorbed user.
            user.limited.note(id, until, now);
        }
        let mut overfull = Vec::new();
        for (id, state) in other.states {
            if !is_absorbed(id) {
                continue;
            }
            match user.states.binary_search_by_key(&id, |(id, _)| *id) {
                Ok(place) => {
                    let merged = user.states[place].1.merge(state, now);
                    overfull.extend(merged.err().map(|overfull| (id, overfull)));
                }
                Err(place) => user.states.insert(place, (id, state)),
            }
        }
        // Everything about the user may have changed: a merge is rare, a missed segment would be wrong for good.
        user.dirty
            .extend(self.catalog.slots.iter().zip(0..).filter(|(slot, _)| slot.in_force.is_some()).map(|(_, at)| at));
        for (id, refusal) in overfull {
            self.refused(slot, id, refusal);
        }
        self.touch(slot, Cause::Merge);
        lacking
    }

    /// An event of an absorbed user reached the survivor by itself, because it came after the merge: stores that wait for
    /// history have seen it live.
    pub fn extend_source(&mut self, survivor: UserId, source: Source) {
        let slot = self.slot_or_new(survivor, Cause::Event);
        let mut user = self.users[slot as usize].take().expect("just found or made");
        let had = user.extend(source);
        for fence in self.catalog.fences() {
            fence.sources.entry(source.user).or_insert(had);
        }
        self.note_changed(&mut user);
        self.users[slot as usize] = Some(user);
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
    if matches!(state, State::Funnel(_)) {
        return add_to_funnel(state, key, event, now, readers, dirty);
    }
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

/// Most events of a funnel leave its value as it is, and when that is to be looked at again.
fn add_to_funnel(
    state: &mut State,
    key: &StoreKey,
    event: &Event,
    now: Timestamp,
    readers: &Readers,
    dirty: &mut Vec<u32>,
) -> Result<(), Overfull> {
    let outlook = |state: &State| match state {
        State::Funnel(funnel) => Some((funnel.value(), funnel.next_change())),
        _ => None,
    };
    let before = outlook(state);
    key.add(state, event, now)?;
    state.settle(now);
    if outlook(state) != before {
        dirty.extend(readers.all());
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

//! Applying records: what each kind of input changes, and which users it makes dirty.

use thin_vec::ThinVec;

use super::accumulator_key::{AccumulatorId, AccumulatorKey};
use super::catalog::Catalog;
use super::index::{SegmentIndex, UserSlot};
use super::triggers::Readers;
use super::user::{ManualList, Source, User, UserProfile};
use super::{Cause, EventKey, Machine};
use crate::accumulator::{Accumulator, CapacityExceeded};
use crate::eval::{EventScope, evaluate};
use crate::event::Event;
use crate::ids::UserId;
use crate::plan::Expr;
use crate::thin;
use crate::time::Timestamp;
use crate::value::Value;

/// A user that left its machine, to be merged into another user.
#[derive(Clone, Debug)]
pub struct Departed {
    pub(super) user: Box<User>,
    /// Accumulators of the absorbing machine that have all history but this user's, because the
    /// machine that the user left did not keep them.
    pub(super) lacking: Vec<AccumulatorId>,
}

impl Departed {
    /// Returns the users that had been merged into the user.
    pub fn sources(&self) -> impl Iterator<Item = UserId> {
        self.user.rare().sources.iter().map(|source| source.user)
    }
}

impl Machine {
    /// Applies an event that was received at `at`. Returns `false` for a duplicate, which changes
    /// nothing.
    pub fn event(&mut self, event: &Event, dedupe_forever: bool, at: Timestamp) -> bool {
        self.reach(at);
        let remembered = self.settings.remembered_micros;
        let slot = self.slot_or_new(event.user_id, Cause::Event);
        let user = self.users[slot.0 as usize].as_mut().expect("just found or made");
        if user.client_ref_id.is_none() {
            user.client_ref_id = Some(event.client_ref_id.clone());
        }
        if let Some(id) = &event.event_id
            && !user.recent.accept(EventKey { id, dedupe_forever }, event.processed_at, remembered)
        {
            return false;
        }
        self.has_history = true;
        self.apply_to_accumulators(slot, event);
        self.touch(slot, Cause::Event);
        true
    }

    fn apply_to_accumulators(&mut self, slot: UserSlot, event: &Event) {
        let now = self.now;
        let user = self.users[slot.0 as usize].as_mut().expect("the caller found it");
        let Catalog { triggers, accumulators, .. } = &mut self.catalog;
        let mut exceeded = Vec::new();
        let mut dirty = std::mem::take(&mut user.dirty);
        triggers.accumulators(event, |id| {
            let shared = accumulators[id.0 as usize].as_mut().expect("an accumulator in use exists");
            let key = &shared.key;
            if !key.fixed.iter().all(|condition| holds(condition, event, now)) {
                return;
            }
            let accumulator = match &mut shared.fence {
                Some(fence) => fence.accumulator((slot, user), id, || key.empty()),
                None => user.accumulator_or(id, || key.empty()),
            };
            let added = add_and_note(accumulator, key, event, now, triggers.readers(id), &mut dirty);
            exceeded.extend(added.err().map(|exceeded| (id, exceeded)));
        });
        user.dirty = dirty;
        for (id, exceeded) in exceeded {
            self.refused(slot, id, exceeded);
        }
    }

    /// Applies that a user was created or their profile changed.
    pub fn profile(&mut self, id: UserId, client_ref_id: Option<&str>, profile: UserProfile, at: Timestamp) {
        self.reach(at);
        let slot = self.slot_or_new(id, Cause::User);
        let user = self.users[slot.0 as usize].as_mut().expect("just found or made");
        if user.client_ref_id.is_none() {
            user.client_ref_id = client_ref_id.map(Into::into);
        }
        if *user.profile() != profile {
            user.set_profile(profile);
            user.dirty.extend_from_slice(self.catalog.triggers.by_profile());
        }
        self.touch(slot, Cause::User);
    }

    /// Applies that traits of a user were set, true since `created_at`.
    pub fn traits(
        &mut self,
        id: UserId,
        traits: &serde_json::Map<String, serde_json::Value>,
        created_at: Timestamp,
        at: Timestamp,
    ) {
        self.reach(at);
        let slot = self.slot_or_new(id, Cause::Trait);
        let user = self.users[slot.0 as usize].as_mut().expect("just found or made");
        for (key, value) in traits {
            if user.traits.set(key, value.clone(), created_at) {
                user.dirty.extend_from_slice(self.catalog.triggers.by_trait(key));
            }
        }
        self.touch(slot, Cause::Trait);
    }

    /// Applies that the user's manual segments were set to exactly these, by hand or by a merge.
    pub fn manual(&mut self, id: UserId, list: ManualList, cause: Cause, at: Timestamp) {
        self.reach(at);
        let slot = self.slot_or_new(id, cause);
        let user = self.users[slot.0 as usize].as_mut().expect("just found or made");
        let present = &user.rare().manual;
        if list.version < present.version {
            return;
        }
        let touched = present.segments.iter().chain(&list.segments);
        let touched: Vec<SegmentIndex> = touched.filter_map(|id| self.catalog.index_of(*id)).collect();
        user.dirty.extend(touched);
        user.rare_mut().manual = list;
        self.touch(slot, cause);
    }

    /// Removes a user: they leave every segment, with this cause. Returns what [`Machine::absorb`]
    /// needs.
    pub fn remove_user(&mut self, id: UserId, cause: Cause, at: Timestamp) -> Option<Departed> {
        self.reach(at);
        let slot = *self.by_id.get(&id)?;
        self.bring_up(slot);
        self.by_id.remove(&id);
        self.skip_sweep(slot);
        let mut user = self.users[slot.0 as usize].take()?;
        self.free.push(slot);
        for (id, fence) in self.catalog.fences() {
            fence.forget(slot, &mut user, id);
        }
        self.tally.forget(&user);
        // What other records of this instant changed is evaluated for the survivor, if there is
        // one.
        user.dirty.clear();
        user.dirty_cause = None;
        self.changed.remove(id);
        let left = std::mem::take(&mut user.members).into_iter().collect();
        self.emit(&mut user, (Vec::new(), left), self.now, cause);
        Some(Departed { user: Box::new(user), lacking: Vec::new() })
    }

    /// Merges a user that was removed from their machine into `survivor`, which then has both
    /// histories and traits. Manual lists are merged by [`Machine::manual`]. `departed` has the
    /// absorbed user's events below the offset `below` of their partition.
    ///
    /// Returns the accumulators that still need the absorbed user's events: the caller adds them
    /// from history by [`Machine::add_history`], at this instant. Accumulators that wait for their
    /// history get them with it.
    #[must_use]
    pub fn absorb(&mut self, survivor: UserId, departed: Departed, below: u64, at: Timestamp) -> Vec<AccumulatorId> {
        self.reach(at);
        let slot = self.slot_or_new(survivor, Cause::Merge);
        let now = self.now;
        let Departed { user: mut other, mut lacking } = departed;
        self.has_history = true;
        let user = self.users[slot.0 as usize].as_mut().expect("just found or made");
        user.traits.absorb(std::mem::take(&mut other.traits));
        user.recent.merge(std::mem::take(&mut other.recent));
        if user.client_ref_id.is_none() {
            user.client_ref_id = other.client_ref_id.take();
        }
        let sources = other.rare().sources.iter().copied();
        for source in sources.chain([Source { user: other.id, below }]) {
            user.extend(source);
            // Events of the source that an incomplete accumulator got live were in the absorbed
            // user's accumulator, which is not taken over.
            for (_, fence) in self.catalog.fences() {
                fence.sources.remove(&source.user);
            }
        }
        // The absorbed user's events are the survivor's from now on: accumulators that read
        // `user_id` read them again.
        let anew = self.catalog.complete_accumulators().filter(|(_, accumulator)| accumulator.key.reads_user_id());
        lacking.extend(anew.map(|(id, _)| id));
        lacking.sort_unstable();
        lacking.dedup();
        let is_absorbed = |id: AccumulatorId| lacking.binary_search(&id).is_err() && self.catalog.is_complete(id);
        for (id, until) in other.rare().limited.accumulators(now).filter(|(id, _)| is_absorbed(*id)) {
            // This was reported for the absorbed user.
            user.rare_mut().limited.note(id, until, now);
        }
        let mut exceeded = Vec::new();
        for (id, accumulator) in std::mem::take(&mut other.accumulators) {
            if !is_absorbed(id) {
                continue;
            }
            match user.accumulators.binary_search_by_key(&id, |(id, _)| *id) {
                Ok(place) => {
                    let merged = user.accumulators[place].1.merge(accumulator, now);
                    exceeded.extend(merged.err().map(|exceeded| (id, exceeded)));
                }
                Err(place) => thin::insert(&mut user.accumulators, place, (id, accumulator)),
            }
        }
        // Anything about the user may have changed. Merges are rare, and a segment that is missed
        // would stay wrong.
        let in_force = self.catalog.slots_by_index().filter(|(_, slot)| slot.in_force.is_some());
        user.dirty.extend(in_force.map(|(index, _)| index));
        for (id, refusal) in exceeded {
            self.refused(slot, id, refusal);
        }
        self.touch(slot, Cause::Merge);
        lacking
    }

    /// Notes that an event of an absorbed user reached the survivor after the merge: accumulators
    /// that wait for history got it live.
    pub fn extend_source(&mut self, survivor: UserId, source: Source) {
        let slot = self.slot_or_new(survivor, Cause::Event);
        let mut user = self.users[slot.0 as usize].take().expect("just found or made");
        let had = user.extend(source);
        for (_, fence) in self.catalog.fences() {
            fence.sources.entry(source.user).or_insert(had);
        }
        self.changed.note(&mut user);
        self.users[slot.0 as usize] = Some(user);
    }
}

/// Adds an event to an accumulator and notes the segments whose truth or next flip it may have
/// changed.
fn add_and_note(
    accumulator: &mut Accumulator,
    key: &AccumulatorKey,
    event: &Event,
    now: Timestamp,
    readers: &Readers,
    dirty: &mut ThinVec<SegmentIndex>,
) -> Result<(), CapacityExceeded> {
    if let Accumulator::NewestK(newest_k) = accumulator {
        if let Some(place) = newest_k.insert(event.created_at.0) {
            readers.turned_true(newest_k.newest(), place, now.0, |segment| dirty.push(segment));
        }
        return Ok(());
    }
    accumulator.settle(now);
    if matches!(accumulator, Accumulator::Funnel(_)) {
        return add_to_funnel(accumulator, key, event, now, readers, dirty);
    }
    let before = count_of(accumulator);
    key.add(accumulator, event, now)?;
    match (before, count_of(accumulator)) {
        (Some((before, begin_before)), Some((after, begin_after))) => {
            dirty.extend(readers.crossed(before, after));
            dirty.extend_from_slice(readers.values());
            // An entry that begins sooner than all others brings the next flip forward. An end does
            // not: a condition that holds is evaluated again when it may end, and one more entry
            // only makes it last longer.
            if begin_after < begin_before {
                dirty.extend(readers.all());
            }
        }
        _ => dirty.extend(readers.all()),
    }
    Ok(())
}

/// Most events of a funnel change neither its value nor the instant of its next change.
fn add_to_funnel(
    accumulator: &mut Accumulator,
    key: &AccumulatorKey,
    event: &Event,
    now: Timestamp,
    readers: &Readers,
    dirty: &mut ThinVec<SegmentIndex>,
) -> Result<(), CapacityExceeded> {
    let outlook = |accumulator: &Accumulator| match accumulator {
        Accumulator::Funnel(funnel) => Some((funnel.value(), funnel.next_change())),
        _ => None,
    };
    let before = outlook(accumulator);
    key.add(accumulator, event, now)?;
    accumulator.settle(now);
    if outlook(accumulator) != before {
        dirty.extend(readers.all());
    }
    Ok(())
}

/// Returns how many contributions count, and when the next one begins to.
fn count_of(accumulator: &Accumulator) -> Option<(u64, Timestamp)> {
    match accumulator {
        Accumulator::Count(count) => Some((count.value(), count.next_begin())),
        _ => None,
    }
}

/// Whether a condition that does not depend on now is TRUE of an event.
pub(super) fn holds(condition: &Expr, event: &Event, now: Timestamp) -> bool {
    evaluate(condition, &mut EventScope { event, now }) == Value::Bool(true)
}

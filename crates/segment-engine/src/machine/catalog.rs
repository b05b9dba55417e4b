//! The segments of a machine, their accumulators, and what triggers what.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::accumulator_key::{AccumulatorId, AccumulatorKey};
use super::fence::Fence;
use super::format_3;
use super::formula::Formula;
use super::history_needs::filter_decides;
use super::index::SegmentIndex;
use super::lower::lower;
use super::triggers::Triggers;
use super::user::User;
use crate::ids::{SegmentId, SegmentVersion, UserId};
use crate::plan::{Expr, Plan};

/// A segment as the config store has it.
#[derive(Clone, Debug)]
pub struct Definition {
    /// The config store's id of the segment.
    pub id: SegmentId,
    /// What `segment('…')` names it by.
    pub tag: String,
    /// Grows with each change of meaning.
    pub version: SegmentVersion,
    /// The clause as saved; empty for a manual segment.
    pub where_statement: String,
    /// Who the members are.
    pub rule: Rule,
}

/// How a segment gets its members.
#[derive(Clone, Debug)]
pub enum Rule {
    /// Users for whom the plan's formula holds.
    Where(Arc<Plan>),
    /// Users that were put there by hand.
    Manual,
}

/// One version of a segment, ready to be evaluated.
#[derive(Clone, Debug)]
pub(super) struct Compiled {
    pub(super) definition: Definition,
    /// `None` for manual segments.
    pub(super) formula: Option<Formula>,
    /// The accumulators that the formula reads, ascending.
    pub(super) accumulators: Vec<AccumulatorId>,
    /// Whether it may hold for a user without events, traits and profile.
    pub(super) may_hold_by_default: bool,
}

impl Compiled {
    /// Whether it may hold for a user at some instant, if nothing happens; decided without an evaluation.
    pub(super) fn may_hold_for(&self, user: &User) -> bool {
        let has_some = || self.accumulators.iter().any(|id| user.accumulator(*id).is_some());
        self.formula.is_none() || self.may_hold_by_default || has_some()
    }
}

/// A place for a segment. The machine refers to a segment by the index of its slot. Small, since to
/// order segments for evaluation reads many slots.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    /// The version that decides memberships.
    pub(super) in_force: Option<Box<Compiled>>,
    /// A newer version that waits for its history.
    pub(super) pending: Option<Box<Compiled>>,
    /// Segments whose clause in force names this one.
    pub(super) dependants: Vec<SegmentIndex>,
    /// The order of evaluation: greater than the rank of every segment that this one names.
    pub(super) rank: u32,
}

/// An accumulator that each user has once, however many segments read it.
#[derive(Clone, Debug)]
pub(super) struct SharedAccumulator {
    pub(super) key: AccumulatorKey,
    pub(super) fingerprint: u64,
    /// `None` once it has the whole history.
    pub(super) fence: Option<Fence>,
    /// How many versions of segments read it.
    pub(super) readers: u32,
}

/// Segments, accumulators, triggers.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    pub(super) slots: Vec<Slot>,
    by_id: FxHashMap<SegmentId, SegmentIndex>,
    by_tag: FxHashMap<String, SegmentIndex>,
    pub(super) accumulators: Vec<Option<SharedAccumulator>>,
    by_key: FxHashMap<AccumulatorKey, AccumulatorId>,
    by_fingerprint: FxHashMap<u64, AccumulatorId>,
    /// By the names of format 3. Filled when a block of that format is read; a new accumulator
    /// clears it.
    by_fingerprint_3: Option<FxHashMap<u64, AccumulatorId>>,
    pub(super) triggers: Triggers,
    /// Segments in force that are evaluated for every new user.
    pub(super) by_default: Vec<SegmentIndex>,
    /// The slots with a pending version, and the accumulators with a fence: few, and asked for each
    /// turn.
    pending: BTreeSet<SegmentIndex>,
    incomplete: BTreeSet<AccumulatorId>,
}

impl Catalog {
    pub(super) fn index_of(&self, id: SegmentId) -> Option<SegmentIndex> {
        self.by_id.get(&id).copied()
    }

    pub(super) fn index_of_tag(&self, tag: &str) -> Option<SegmentIndex> {
        self.by_tag.get(tag).copied()
    }

    pub(super) fn slots_by_index(&self) -> impl Iterator<Item = (SegmentIndex, &Slot)> {
        (0..).map(SegmentIndex).zip(&self.slots)
    }

    pub(super) fn in_force(&self, index: SegmentIndex) -> Option<&Compiled> {
        self.slots[index.0 as usize].in_force.as_deref()
    }

    pub(super) fn id_of(&self, index: SegmentIndex) -> Option<SegmentId> {
        let slot = &self.slots[index.0 as usize];
        slot.in_force.as_ref().or(slot.pending.as_ref()).map(|compiled| compiled.definition.id)
    }

    pub(super) fn accumulator(&self, id: AccumulatorId) -> &SharedAccumulator {
        self.accumulators[id.0 as usize].as_ref().expect("an accumulator in use exists")
    }

    /// Returns the ids of the segments that read an accumulator, in force or pending.
    pub(super) fn segments_of(&self, accumulator: AccumulatorId) -> impl Iterator<Item = SegmentId> {
        let versions = self.slots.iter().flat_map(|slot| slot.in_force.iter().chain(&slot.pending));
        let reading = versions.filter(move |compiled| compiled.accumulators.binary_search(&accumulator).is_ok());
        reading.map(|compiled| compiled.definition.id)
    }

    /// Compiles a definition and adds the accumulators that are missing, with this fence (`None`:
    /// there is no history to read). Returns the segment's index, and the accumulators that no
    /// segment reads any longer.
    pub(super) fn define(&mut self, definition: Definition, fence: Option<u64>) -> (SegmentIndex, Vec<AccumulatorId>) {
        let index = self.place(&definition);
        let compiled = self.compile(definition, fence);
        let unused = self.drop_pending(index);
        self.slots[index.0 as usize].pending = Some(Box::new(compiled));
        self.pending.insert(index);
        (index, unused)
    }

    /// Returns the definition's index: its own, or the one that other segments already refer to by
    /// its tag.
    fn place(&mut self, definition: &Definition) -> SegmentIndex {
        let index = match self.by_id.get(&definition.id) {
            Some(index) => *index,
            None => match self.by_tag.get(&definition.tag) {
                Some(index) if self.id_of(*index).is_none() => *index,
                // Another segment gave the tag up, but its old version is still in force.
                _ => self.new_slot(),
            },
        };
        self.by_id.insert(definition.id, index);
        let slot = &self.slots[index.0 as usize];
        for old in slot.in_force.iter().chain(&slot.pending) {
            if self.by_tag.get(&old.definition.tag) == Some(&index) {
                self.by_tag.remove(&old.definition.tag);
            }
        }
        self.by_tag.insert(definition.tag.clone(), index);
        index
    }

    fn new_slot(&mut self) -> SegmentIndex {
        let index = SegmentIndex::new(self.slots.len());
        self.slots.push(Slot::default());
        index
    }

    fn tag_index(&mut self, tag: &str) -> SegmentIndex {
        if let Some(index) = self.by_tag.get(tag) {
            return *index;
        }
        let index = self.new_slot();
        self.by_tag.insert(tag.to_owned(), index);
        index
    }

    fn compile(&mut self, definition: Definition, fence: Option<u64>) -> Compiled {
        let Rule::Where(plan) = &definition.rule else {
            return Compiled { definition, formula: None, accumulators: Vec::new(), may_hold_by_default: false };
        };
        let plan = plan.clone();
        let segments: Vec<SegmentIndex> = plan.segments.iter().map(|tag| self.tag_index(tag)).collect();
        let mut accumulators = Vec::new();
        let formula = lower(&plan, &segments, &mut |key| {
            let id = self.accumulator_of(key, fence);
            accumulators.push(id);
            id
        });
        accumulators.sort_unstable();
        accumulators.dedup();
        for id in &accumulators {
            self.accumulators[id.0 as usize].as_mut().expect("just found or added").readers += 1;
        }
        let may_hold_by_default = may_hold_by_default(&formula, &plan);
        Compiled { definition, formula: Some(formula), accumulators, may_hold_by_default }
    }

    fn accumulator_of(&mut self, key: AccumulatorKey, fence: Option<u64>) -> AccumulatorId {
        if let Some(id) = self.by_key.get(&key) {
            return *id;
        }
        let id = AccumulatorId(u32::try_from(self.accumulators.len()).expect("fewer than 2³² accumulators"));
        self.triggers.add_accumulator(id, &key);
        self.by_key.insert(key.clone(), id);
        let fingerprint = key.fingerprint();
        self.by_fingerprint.insert(fingerprint, id);
        self.by_fingerprint_3 = None;
        let filter_decides = filter_decides(&key);
        let fence = fence.map(|offset| Fence::new(offset, filter_decides));
        if fence.is_some() {
            self.incomplete.insert(id);
        }
        self.accumulators.push(Some(SharedAccumulator { key, fingerprint, fence, readers: 0 }));
        id
    }

    /// Returns the accumulators by the names that a format gives them.
    pub(super) fn names(&self, format: u8) -> Cow<'_, FxHashMap<u64, AccumulatorId>> {
        match (format, &self.by_fingerprint_3) {
            (3, Some(names)) => Cow::Borrowed(names),
            (3, None) => Cow::Owned(self.names_of_format_3()),
            _ => Cow::Borrowed(&self.by_fingerprint),
        }
    }

    /// Keeps the names of format 3 at hand, because many blocks of that format follow.
    pub(super) fn keep_names_of_format_3(&mut self) {
        if self.by_fingerprint_3.is_none() {
            self.by_fingerprint_3 = Some(self.names_of_format_3());
        }
    }

    fn names_of_format_3(&self) -> FxHashMap<u64, AccumulatorId> {
        let ids = (0..).map(AccumulatorId).zip(&self.accumulators);
        ids.filter_map(|(id, shared)| Some((format_3::fingerprint(&shared.as_ref()?.key), id))).collect()
    }

    /// Whether the accumulator has the whole history.
    pub(super) fn is_complete(&self, id: AccumulatorId) -> bool {
        self.accumulator(id).fence.is_none()
    }

    /// Returns the accumulators that lack history.
    pub(super) fn incomplete(&self) -> Vec<AccumulatorId> {
        self.incomplete.iter().copied().collect()
    }

    /// Returns the accumulators that have the whole history.
    pub(super) fn complete_accumulators(&self) -> impl Iterator<Item = (AccumulatorId, &SharedAccumulator)> {
        let ids = (0..).map(AccumulatorId).zip(&self.accumulators);
        ids.filter_map(|(id, shared)| Some((id, shared.as_ref().filter(|shared| shared.fence.is_none())?)))
    }

    /// Returns the accumulators that lack history, with their fences.
    pub(super) fn fences(&mut self) -> impl Iterator<Item = (AccumulatorId, &mut Fence)> {
        let ids = (0..).map(AccumulatorId).zip(&mut self.accumulators);
        ids.filter_map(|(id, shared)| Some((id, shared.as_mut()?.fence.as_mut()?)))
    }

    /// Returns the accumulator with this name.
    pub(super) fn accumulator_named(&self, name: u64) -> Option<AccumulatorId> {
        self.by_fingerprint.get(&name).copied()
    }

    /// Returns the accumulator with this name, if it lacks history and a checkpoint had it.
    pub(super) fn restored(&self, name: u64) -> Option<AccumulatorId> {
        let fence = |id: &AccumulatorId| self.accumulator(*id).fence.as_ref();
        self.accumulator_named(name).filter(|id| fence(id).is_some_and(|fence| fence.is_restored))
    }

    /// Returns the names of the accumulators that have the whole history, of those that only pending
    /// versions read, ascending.
    pub(super) fn complete_and_pending(&self) -> Vec<u64> {
        let pending = self.pending.iter().filter_map(|index| self.slots[index.0 as usize].pending.as_ref());
        let mut ids: BTreeSet<AccumulatorId> = pending.flat_map(|compiled| &compiled.accumulators).copied().collect();
        ids.retain(|id| self.is_complete(*id));
        if !ids.is_empty() {
            for compiled in self.slots.iter().filter_map(|slot| slot.in_force.as_ref()) {
                ids.retain(|id| compiled.accumulators.binary_search(id).is_err());
            }
        }
        let mut names: Vec<u64> = ids.into_iter().map(|id| self.accumulator(id).fingerprint).collect();
        names.sort_unstable();
        names
    }

    /// Returns a digest of the accumulators that versions in force read. They are complete.
    pub(super) fn digest_in_force(&self, format: u8) -> u64 {
        let compiled = self.slots.iter().filter_map(|slot| slot.in_force.as_ref());
        let accumulators: FxHashSet<AccumulatorId> =
            compiled.flat_map(|compiled| &compiled.accumulators).copied().collect();
        digest_of(accumulators.into_iter().map(|id| self.accumulator(id)), format)
    }

    /// Returns a digest of the complete accumulators: machines with the same digest have the same
    /// ones.
    pub(super) fn digest(&self, format: u8) -> u64 {
        digest_of(self.complete_accumulators().map(|(_, shared)| shared), format)
    }

    /// Returns the fence of an accumulator, if it lacks history.
    pub(super) fn fence_mut(&mut self, id: AccumulatorId) -> Option<&mut Fence> {
        self.accumulators.get_mut(id.0 as usize)?.as_mut()?.fence.as_mut()
    }

    /// Notes that an accumulator has the whole history.
    pub(super) fn complete(&mut self, id: AccumulatorId) {
        self.incomplete.remove(&id);
        if let Some(Some(shared)) = self.accumulators.get_mut(id.0 as usize) {
            shared.fence = None;
        }
    }

    /// Returns the pending versions whose accumulators all have the whole history.
    pub(super) fn ready(&self) -> impl Iterator<Item = &Compiled> {
        let slots = self.pending.iter().filter(|index| self.is_ready(**index));
        slots.filter_map(|index| self.slots[index.0 as usize].pending.as_deref())
    }

    fn is_ready(&self, index: SegmentIndex) -> bool {
        self.slots[index.0 as usize]
            .pending
            .as_ref()
            .is_some_and(|compiled| compiled.accumulators.iter().all(|id| self.accumulator(*id).fence.is_none()))
    }

    /// Whether versions in force read every accumulator of the pending one.
    pub(super) fn is_covered(&self, index: SegmentIndex) -> bool {
        let in_force = |id: AccumulatorId| {
            let mut compiled = self.slots.iter().filter_map(|slot| slot.in_force.as_ref());
            self.accumulator(id).readers > 1
                && compiled.any(|compiled| compiled.accumulators.binary_search(&id).is_ok())
        };
        let pending = self.slots[index.0 as usize].pending.as_ref();
        pending.is_some_and(|compiled| compiled.accumulators.iter().all(|id| in_force(*id)))
    }

    /// Puts the pending version in force. Returns the accumulators that no segment reads any
    /// longer: users may drop theirs.
    pub(super) fn activate(&mut self, index: SegmentIndex) -> Vec<AccumulatorId> {
        let Some(pending) = self.take_pending(index) else { return Vec::new() };
        let unused = self.retire(index);
        if let Some(formula) = &pending.formula {
            self.triggers.add_segment(index, formula);
            for &named in &formula.segments {
                self.slots[named.0 as usize].dependants.push(index);
            }
        }
        if pending.may_hold_by_default {
            self.by_default.push(index);
        }
        self.slots[index.0 as usize].in_force = Some(pending);
        self.rank_from(index);
        unused
    }

    /// Removes a segment. Returns the accumulators that no segment reads any longer.
    pub(super) fn remove(&mut self, index: SegmentIndex) -> Vec<AccumulatorId> {
        if let Some(id) = self.id_of(index) {
            self.by_id.remove(&id);
        }
        let mut unused = self.drop_pending(index);
        unused.extend(self.retire(index));
        unused
    }

    fn drop_pending(&mut self, index: SegmentIndex) -> Vec<AccumulatorId> {
        self.take_pending(index).map_or_else(Vec::new, |pending| self.release(&pending.accumulators))
    }

    fn take_pending(&mut self, index: SegmentIndex) -> Option<Box<Compiled>> {
        self.pending.remove(&index);
        self.slots[index.0 as usize].pending.take()
    }

    fn retire(&mut self, index: SegmentIndex) -> Vec<AccumulatorId> {
        let Some(old) = self.slots[index.0 as usize].in_force.take() else { return Vec::new() };
        self.by_default.retain(|other| *other != index);
        if let Some(formula) = &old.formula {
            self.triggers.remove_segment(index, formula);
            for &named in &formula.segments {
                self.slots[named.0 as usize].dependants.retain(|dependant| *dependant != index);
            }
        }
        self.release(&old.accumulators)
    }

    fn release(&mut self, accumulators: &[AccumulatorId]) -> Vec<AccumulatorId> {
        let mut unused = Vec::new();
        for id in accumulators {
            let entry = &mut self.accumulators[id.0 as usize];
            let shared = entry.as_mut().expect("an accumulator in use exists");
            shared.readers -= 1;
            if shared.readers == 0 {
                self.triggers.remove_accumulator(*id, &shared.key);
                self.by_key.remove(&shared.key);
                self.by_fingerprint.remove(&shared.fingerprint);
                self.incomplete.remove(id);
                *entry = None;
                unused.push(*id);
            }
        }
        unused
    }

    /// Ranks the segment above the segments it names, and its dependants above it. The
    /// configuration API refuses cycles; if one occurs nevertheless, `rank_max` ends the loop.
    fn rank_from(&mut self, index: SegmentIndex) {
        let rank_max = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let mut queue = vec![(index, true)];
        while let Some((index, forced)) = queue.pop() {
            let formula = self.in_force(index).and_then(|compiled| compiled.formula.as_ref());
            let named = formula.iter().flat_map(|formula| &formula.segments);
            let rank = named.map(|named| self.slots[named.0 as usize].rank + 1).max().unwrap_or(0).min(rank_max);
            let slot = &mut self.slots[index.0 as usize];
            if forced || rank != slot.rank {
                slot.rank = rank;
                queue.extend(slot.dependants.iter().map(|dependant| (*dependant, false)));
            }
        }
    }
}

/// The order of accumulators differs between machines, so the digest must not depend on it.
fn digest_of<'a>(accumulators: impl Iterator<Item = &'a SharedAccumulator>, format: u8) -> u64 {
    let name = |shared: &SharedAccumulator| match format {
        3 => format_3::fingerprint(&shared.key),
        _ => shared.fingerprint,
    };
    accumulators.fold(0, |digest, shared| digest ^ name(shared).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))
}

/// A formula that reads only accumulators may hold by default if it holds when all are empty. One
/// that reads anything else must be evaluated.
fn may_hold_by_default(formula: &Formula, plan: &Plan) -> bool {
    let mut reads_more = !plan.segments.is_empty();
    plan.formula.walk(&mut |node| {
        reads_more |= matches!(node, Expr::Trait(_) | Expr::User(_) | Expr::Bucket(_) | Expr::TimeCompare(_))
    });
    let mut nobody = User::new(UserId(0));
    reads_more || formula.evaluate(&mut nobody, crate::time::Timestamp(0)).holds
}

impl From<Plan> for Rule {
    fn from(plan: Plan) -> Self {
        Rule::Where(Arc::new(plan))
    }
}

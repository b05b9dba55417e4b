//! The segments of a machine, their stores, and what triggers what.

use std::borrow::Cow;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::format_3;
use super::formula::Formula;
use super::lower::lower;
use super::store::{StoreId, StoreKey};
use super::triggers::Triggers;
use crate::event::UserId;
use crate::plan::{Expr, Plan};

/// A segment as it is saved.
#[derive(Clone, Debug)]
pub struct Definition {
    /// Its id.
    pub id: i64,
    /// Its tag: what `segment('…')` names it by.
    pub tag: String,
    /// Grows with each change of meaning.
    pub version: u64,
    /// Its clause as saved; empty for a manual segment.
    pub where_statement: String,
    /// What it means.
    pub rule: Rule,
}

/// Who is in a segment.
#[derive(Clone, Debug)]
pub enum Rule {
    /// Whoever the plan's formula holds for.
    Where(Arc<Plan>),
    /// Whoever was put there by hand.
    Manual,
}

/// One version of a segment, ready to be evaluated.
#[derive(Clone, Debug)]
pub(super) struct Compiled {
    pub(super) definition: Definition,
    /// `None` for manual segments.
    pub(super) formula: Option<Formula>,
    /// Its stores, ascending.
    pub(super) stores: Vec<StoreId>,
    /// Whether it may hold for a user of whom nothing is known.
    pub(super) may_hold_by_default: bool,
}

/// A place for a segment: its index is the segment's name inside the machine.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    /// The version that decides memberships.
    pub(super) in_force: Option<Compiled>,
    /// A newer version whose history is being read.
    pub(super) pending: Option<Compiled>,
    /// Segments whose clause in force names this one.
    pub(super) dependants: Vec<u32>,
    /// Greater than that of every segment it names: the order of evaluation.
    pub(super) rank: u32,
}

/// Where the history of a store ends and what it saw live begins.
#[derive(Clone, Debug, Default)]
pub(super) struct Fence {
    /// The log offset it was made at: it has seen what users of this partition did since.
    pub(super) offset: u64,
    /// For absorbed users of whom it has seen records live: how far the survivor had theirs before.
    pub(super) sources: FxHashMap<UserId, u64>,
}

/// A store and who needs it.
#[derive(Clone, Debug)]
pub(super) struct Store {
    pub(super) key: StoreKey,
    pub(super) fingerprint: u64,
    /// `None` once it has seen the whole history.
    pub(super) fence: Option<Fence>,
    /// How many versions of segments read it.
    pub(super) users: u32,
}

/// Segments, stores, triggers.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    pub(super) slots: Vec<Slot>,
    by_id: FxHashMap<i64, u32>,
    by_tag: FxHashMap<String, u32>,
    pub(super) stores: Vec<Option<Store>>,
    by_key: FxHashMap<StoreKey, StoreId>,
    by_fingerprint: FxHashMap<u64, StoreId>,
    /// By the names of format 3, once a block of that format was read; a new store voids it.
    by_fingerprint_3: Option<FxHashMap<u64, StoreId>>,
    pub(super) triggers: Triggers,
    /// Segments in force to ask about every new user.
    pub(super) by_default: Vec<u32>,
}

impl Catalog {
    pub(super) fn index_of(&self, id: i64) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    pub(super) fn index_of_tag(&self, tag: &str) -> Option<u32> {
        self.by_tag.get(tag).copied()
    }

    pub(super) fn in_force(&self, index: u32) -> Option<&Compiled> {
        self.slots[index as usize].in_force.as_ref()
    }

    pub(super) fn id_of(&self, index: u32) -> Option<i64> {
        let slot = &self.slots[index as usize];
        slot.in_force.as_ref().or(slot.pending.as_ref()).map(|compiled| compiled.definition.id)
    }

    pub(super) fn store(&self, id: StoreId) -> &Store {
        self.stores[id.0 as usize].as_ref().expect("a store in use is there")
    }

    /// The ids of the segments that read a store, in force or not yet.
    pub(super) fn segments_of(&self, store: StoreId) -> impl Iterator<Item = i64> {
        let versions = self.slots.iter().flat_map(|slot| slot.in_force.iter().chain(&slot.pending));
        let reading = versions.filter(move |compiled| compiled.stores.binary_search(&store).is_ok());
        reading.map(|compiled| compiled.definition.id)
    }

    /// Compiles a definition and makes the stores it lacks, with this fence (`None`: there is no history to read).
    /// Answers the segment's index, and the stores that are no longer read.
    pub(super) fn define(&mut self, definition: Definition, fence: Option<u64>) -> (u32, Vec<StoreId>) {
        let index = self.place(&definition);
        let compiled = self.compile(definition, fence);
        let unused = self.drop_pending(index);
        self.slots[index as usize].pending = Some(compiled);
        (index, unused)
    }

    /// The definition's index: its own, or the one that others already name by its tag.
    fn place(&mut self, definition: &Definition) -> u32 {
        let index = match self.by_id.get(&definition.id) {
            Some(index) => *index,
            None => match self.by_tag.get(&definition.tag) {
                Some(index) if self.id_of(*index).is_none() => *index,
                // Another segment has given the tag up, but its old version is still in force.
                _ => self.new_slot(),
            },
        };
        self.by_id.insert(definition.id, index);
        let slot = &self.slots[index as usize];
        for old in slot.in_force.iter().chain(&slot.pending) {
            if self.by_tag.get(&old.definition.tag) == Some(&index) {
                self.by_tag.remove(&old.definition.tag);
            }
        }
        self.by_tag.insert(definition.tag.clone(), index);
        index
    }

    fn new_slot(&mut self) -> u32 {
        let index = u32::try_from(self.slots.len()).expect("fewer than 2³² segments");
        self.slots.push(Slot::default());
        index
    }

    fn tag_index(&mut self, tag: &str) -> u32 {
        if let Some(index) = self.by_tag.get(tag) {
            return *index;
        }
        let index = self.new_slot();
        self.by_tag.insert(tag.to_owned(), index);
        index
    }

    fn compile(&mut self, definition: Definition, fence: Option<u64>) -> Compiled {
        let Rule::Where(plan) = &definition.rule else {
            return Compiled { definition, formula: None, stores: Vec::new(), may_hold_by_default: false };
        };
        let plan = plan.clone();
        let segments: Vec<u32> = plan.segments.iter().map(|tag| self.tag_index(tag)).collect();
        let mut stores = Vec::new();
        let formula = lower(&plan, &segments, &mut |key| {
            let id = self.store_of(key, fence);
            stores.push(id);
            id
        });
        stores.sort_unstable();
        stores.dedup();
        for id in &stores {
            self.stores[id.0 as usize].as_mut().expect("just made or found").users += 1;
        }
        let may_hold_by_default = may_hold_by_default(&formula, &plan);
        Compiled { definition, formula: Some(formula), stores, may_hold_by_default }
    }

    fn store_of(&mut self, key: StoreKey, fence: Option<u64>) -> StoreId {
        if let Some(id) = self.by_key.get(&key) {
            return *id;
        }
        let id = StoreId(u32::try_from(self.stores.len()).expect("fewer than 2³² stores"));
        self.triggers.add_store(id, &key);
        self.by_key.insert(key.clone(), id);
        let fingerprint = key.fingerprint();
        self.by_fingerprint.insert(fingerprint, id);
        self.by_fingerprint_3 = None;
        let fence = fence.map(|offset| Fence { offset, sources: FxHashMap::default() });
        self.stores.push(Some(Store { key, fingerprint, fence, users: 0 }));
        id
    }

    /// The complete stores by the names that a format gives them.
    pub(super) fn names(&self, format: u8) -> Cow<'_, FxHashMap<u64, StoreId>> {
        match (format, &self.by_fingerprint_3) {
            (3, Some(names)) => Cow::Borrowed(names),
            (3, None) => Cow::Owned(self.names_of_format_3()),
            _ => Cow::Borrowed(&self.by_fingerprint),
        }
    }

    /// Keeps the names of format 3: many blocks of that format follow.
    pub(super) fn keep_names_of_format_3(&mut self) {
        if self.by_fingerprint_3.is_none() {
            self.by_fingerprint_3 = Some(self.names_of_format_3());
        }
    }

    fn names_of_format_3(&self) -> FxHashMap<u64, StoreId> {
        let stores = (0..).map(StoreId).zip(&self.stores);
        stores.filter_map(|(id, store)| Some((format_3::fingerprint(&store.as_ref()?.key), id))).collect()
    }

    /// Whether the store has seen the whole history.
    pub(super) fn is_complete(&self, id: StoreId) -> bool {
        self.store(id).fence.is_none()
    }

    /// The stores that have not seen the whole history.
    pub(super) fn incomplete(&self) -> Vec<StoreId> {
        let ids = (0..).map(StoreId).zip(&self.stores);
        ids.filter(|(_, store)| store.as_ref().is_some_and(|store| store.fence.is_some())).map(|(id, _)| id).collect()
    }

    /// The stores that have seen the whole history.
    pub(super) fn complete_stores(&self) -> impl Iterator<Item = (StoreId, &Store)> {
        let ids = (0..).map(StoreId).zip(&self.stores);
        ids.filter_map(|(id, store)| Some((id, store.as_ref().filter(|store| store.fence.is_none())?)))
    }

    /// The fences of the stores that have not seen the whole history.
    pub(super) fn fences(&mut self) -> impl Iterator<Item = &mut Fence> {
        self.stores.iter_mut().flatten().filter_map(|store| store.fence.as_mut())
    }

    /// Names the set of stores that versions in force read, which are complete.
    pub(super) fn digest_in_force(&self, format: u8) -> u64 {
        let compiled = self.slots.iter().filter_map(|slot| slot.in_force.as_ref());
        let stores: FxHashSet<StoreId> = compiled.flat_map(|compiled| &compiled.stores).copied().collect();
        digest_of(stores.into_iter().map(|id| self.store(id)), format)
    }

    /// Names the set of complete stores: machines with the same digest have the same.
    pub(super) fn digest(&self, format: u8) -> u64 {
        digest_of(self.complete_stores().map(|(_, store)| store), format)
    }

    /// A store has now seen the whole history.
    pub(super) fn complete(&mut self, id: StoreId) {
        if let Some(Some(store)) = self.stores.get_mut(id.0 as usize) {
            store.fence = None;
        }
    }

    /// Whether every store of the pending version has seen the whole history.
    pub(super) fn is_ready(&self, index: u32) -> bool {
        self.slots[index as usize]
            .pending
            .as_ref()
            .is_some_and(|compiled| compiled.stores.iter().all(|id| self.store(*id).fence.is_none()))
    }

    /// Whether versions in force read every store of the pending one.
    pub(super) fn is_covered(&self, index: u32) -> bool {
        let in_force = |id: StoreId| {
            let mut compiled = self.slots.iter().filter_map(|slot| slot.in_force.as_ref());
            self.store(id).users > 1 && compiled.any(|compiled| compiled.stores.binary_search(&id).is_ok())
        };
        let pending = self.slots[index as usize].pending.as_ref();
        pending.is_some_and(|compiled| compiled.stores.iter().all(|id| in_force(*id)))
    }

    /// Puts the pending version in force. The stores that nobody reads any longer are answered: users may drop their states.
    pub(super) fn activate(&mut self, index: u32) -> Vec<StoreId> {
        let Some(pending) = self.slots[index as usize].pending.take() else { return Vec::new() };
        let unused = self.retire(index);
        if let Some(formula) = &pending.formula {
            self.triggers.add_segment(index, formula);
            for &named in &formula.segments {
                self.slots[named as usize].dependants.push(index);
            }
        }
        if pending.may_hold_by_default {
            self.by_default.push(index);
        }
        self.slots[index as usize].in_force = Some(pending);
        self.rank_from(index);
        unused
    }

    /// Ends a segment. As [`Catalog::activate`], answers the stores that are no longer read.
    pub(super) fn remove(&mut self, index: u32) -> Vec<StoreId> {
        if let Some(id) = self.id_of(index) {
            self.by_id.remove(&id);
        }
        let mut unused = self.drop_pending(index);
        unused.extend(self.retire(index));
        unused
    }

    fn drop_pending(&mut self, index: u32) -> Vec<StoreId> {
        match self.slots[index as usize].pending.take() {
            Some(pending) => self.release(&pending.stores),
            None => Vec::new(),
        }
    }

    fn retire(&mut self, index: u32) -> Vec<StoreId> {
        let Some(old) = self.slots[index as usize].in_force.take() else { return Vec::new() };
        self.by_default.retain(|other| *other != index);
        if let Some(formula) = &old.formula {
            self.triggers.remove_segment(index, formula);
            for &named in &formula.segments {
                self.slots[named as usize].dependants.retain(|dependant| *dependant != index);
            }
        }
        self.release(&old.stores)
    }

    fn release(&mut self, stores: &[StoreId]) -> Vec<StoreId> {
        let mut unused = Vec::new();
        for id in stores {
            let entry = &mut self.stores[id.0 as usize];
            let store = entry.as_mut().expect("a store in use is there");
            store.users -= 1;
            if store.users == 0 {
                self.triggers.remove_store(*id, &store.key);
                self.by_key.remove(&store.key);
                self.by_fingerprint.remove(&store.fingerprint);
                *entry = None;
                unused.push(*id);
            }
        }
        unused
    }

    /// Ranks the segment above those it names, and what depends on it above it. Definitions have no cycles: the
    /// configuration refuses them; should one come all the same, the bound ends it.
    fn rank_from(&mut self, index: u32) {
        let rank_max = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let mut queue = vec![(index, true)];
        while let Some((index, forced)) = queue.pop() {
            let formula = self.in_force(index).and_then(|compiled| compiled.formula.as_ref());
            let named = formula.iter().flat_map(|formula| &formula.segments);
            let rank = named.map(|named| self.slots[*named as usize].rank + 1).max().unwrap_or(0).min(rank_max);
            let slot = &mut self.slots[index as usize];
            if forced || rank != slot.rank {
                slot.rank = rank;
                queue.extend(slot.dependants.iter().map(|dependant| (*dependant, false)));
            }
        }
    }
}

/// The order of stores differs between machines, so the sum must not depend on it.
fn digest_of<'a>(stores: impl Iterator<Item = &'a Store>, format: u8) -> u64 {
    let name = |store: &Store| if format == 3 { format_3::fingerprint(&store.key) } else { store.fingerprint };
    stores.fold(0, |digest, store| digest ^ name(store).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))
}

/// A formula that reads only stores may hold by default if it holds when all are empty; one that reads anything else must be asked.
fn may_hold_by_default(formula: &Formula, plan: &Plan) -> bool {
    let mut asks = !plan.segments.is_empty();
    plan.formula.walk(&mut |node| {
        asks |= matches!(node, Expr::Trait(_) | Expr::User(_) | Expr::Bucket(_) | Expr::TimeCompare(_))
    });
    let mut nobody = super::user::User::new(crate::event::UserId(0));
    asks || formula.evaluate(&mut nobody, crate::time::Timestamp(0)).holds
}

/// A plan as a rule.
impl From<Plan> for Rule {
    fn from(plan: Plan) -> Self {
        Rule::Where(Arc::new(plan))
    }
}

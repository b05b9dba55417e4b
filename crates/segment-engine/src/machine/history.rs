//! The history that a new accumulator needs: which events, what of them, and adding them.

use std::sync::Arc;

use super::accumulator_key::{AccumulatorKey, AccumulatorKind};
use super::catalog::SharedAccumulator;
use super::index::UserSlot;
use super::inputs::holds;
use super::{AccumulatorId, Machine, Source};
use crate::accumulator::{Accumulator, NewestK};
use crate::event::{Event, Position};
use crate::ids::{PartitionId, SegmentId, UserId};
use crate::plan::{CompareOp, EventColumn, Expr};
use crate::schema::ColumnType;
use crate::time::Timestamp;
use crate::value::{Type, Value};

/// So many accumulators share a scan at most: a store evaluates the filters of all for each event.
pub const FILTERS_MAX: usize = 32;

/// What accumulators read of past events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryNeeds {
    /// The columns, in the order of the schema. The user id, both instants and the position are
    /// always needed.
    pub columns: Vec<EventColumn>,
    /// Whether the payload is needed, apart from its columns.
    pub payload: bool,
    /// For each accumulator, at most [`FILTERS_MAX`]: TRUE for each event that may count; `None` if
    /// that may be any. A filter compares columns with constants, and nothing else.
    pub filters: Vec<Option<Expr>>,
}

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

impl HistoryNeeds {
    /// Whether more of an event is needed than a [`PastEvent`] has in any case.
    pub fn more(&self) -> bool {
        self.payload || !self.columns.is_empty()
    }

    /// Returns what is needed of an event, with nothing where a column is not; `None` if the event
    /// cannot count.
    pub fn reduce(&self, event: &Event) -> Option<PastEvent> {
        let takes = |filter: &Option<Expr>| filter.as_ref().is_none_or(|filter| holds(filter, event, Timestamp::MIN));
        let takers = (0..).zip(&self.filters).filter(|(_, filter)| takes(filter));
        let takers = takers.fold(0, |takers, (number, _)| takers | 1 << number);
        (takers != 0).then(|| PastEvent {
            user_id: event.user_id,
            created_at: event.created_at,
            processed_at: event.processed_at,
            offset: event.position.offset,
            takers,
            rest: self.more().then(|| Box::new(self.columns_of(event))),
        })
    }

    fn columns_of(&self, event: &Event) -> Event {
        let text = |column: EventColumn, text: &Option<Box<str>>| {
            if self.columns.contains(&column) { text.clone() } else { None }
        };
        let client_ref_id = self.columns.contains(&EventColumn::ClientRefId).then(|| event.client_ref_id.clone());
        Event {
            user_id: event.user_id,
            event_id: text(EventColumn::EventId, &event.event_id),
            client_ref_id: client_ref_id.unwrap_or_default(),
            id_type: text(EventColumn::IdType, &event.id_type),
            region: text(EventColumn::Region, &event.region),
            device_type: text(EventColumn::DeviceType, &event.device_type),
            country: text(EventColumn::Country, &event.country),
            activity_type: text(EventColumn::ActivityType, &event.activity_type),
            url: text(EventColumn::Url, &event.url),
            order_total: event.order_total.filter(|_| self.columns.contains(&EventColumn::OrderTotal)),
            order_id: text(EventColumn::OrderId, &event.order_id),
            element_id: text(EventColumn::ElementId, &event.element_id),
            created_at: event.created_at,
            processed_at: event.processed_at,
            payload: if self.payload { event.payload.clone() } else { Default::default() },
            position: event.position,
        }
    }
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

    /// Returns what the accumulators read of past events.
    pub fn history_needs(&self, accumulators: &[AccumulatorId]) -> HistoryNeeds {
        let keys: Vec<&AccumulatorKey> = self.existing(accumulators).map(|accumulator| &accumulator.key).collect();
        let (mut columns, mut payload) = (Vec::new(), false);
        for expr in keys.iter().flat_map(|key| read_of_events(key)) {
            expr.walk(&mut |node| match node {
                Expr::Event(EventColumn::UserId | EventColumn::CreatedAt | EventColumn::ProcessedAt) => {}
                Expr::Event(column) => columns.push(*column),
                Expr::Payload(_) => payload = true,
                _ => {}
            });
        }
        columns.sort_by_key(|column| column.index());
        columns.dedup();
        HistoryNeeds { columns, payload, filters: keys.iter().map(|key| filter(key, self.now)).collect() }
    }

    fn existing(&self, accumulators: &[AccumulatorId]) -> impl Iterator<Item = &SharedAccumulator> {
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
            let accumulator = fence.accumulators.entry(slot);
            let accumulator = accumulator.or_insert_with(|| Accumulator::NewestK(NewestK::new(capacity)));
            if let Accumulator::NewestK(newest_k) = accumulator {
                newest_k.insert(past.created_at.0);
            }
            return;
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
        let key = &entry.key;
        let accumulator = match &mut entry.fence {
            Some(fence) => fence.accumulators.entry(slot).or_insert_with(|| key.empty()),
            None => {
                let user = self.users[slot.0 as usize].as_mut().expect("the index has only users that exist");
                user.accumulator_or(id, || key.empty())
            }
        };
        if let Err(exceeded) = key.add(accumulator, event, self.now) {
            self.refused(slot, id, exceeded);
        }
    }

    /// Notes that an accumulator has the whole history: from now on the users have it, and
    /// checkpoints hold it.
    pub fn complete(&mut self, id: AccumulatorId) {
        self.save_all_before_change();
        let Some(fence) = self.catalog.complete(id) else { return };
        let mut accumulators: Vec<(UserSlot, Accumulator)> = fence.accumulators.into_iter().collect();
        accumulators.sort_unstable_by_key(|(slot, _)| *slot);
        for (slot, accumulator) in accumulators {
            let Some(user) = self.users[slot.0 as usize].as_mut() else { continue };
            user.accumulator_or(id, || accumulator);
            self.changed.note(user);
        }
    }
}

/// Returns what an accumulator reads of the events that its filter takes.
fn read_of_events(key: &AccumulatorKey) -> impl Iterator<Item = &Expr> {
    let fixed = if filter_decides(key) { &[][..] } else { &key.fixed };
    fixed.iter().chain(&key.timed).chain(&key.argument)
}

/// Whether an event that the filter takes passes all conditions that do not depend on now.
pub(super) fn filter_decides(key: &AccumulatorKey) -> bool {
    key.fixed.iter().all(is_plain)
}

/// Returns a filter that takes each event that counts for an accumulator at `now` or later; `None`
/// if that may be any event.
fn filter(key: &AccumulatorKey, now: Timestamp) -> Option<Expr> {
    let timed = key.timed.as_ref().and_then(|timed| still_counts(timed, now));
    all(key.fixed.iter().filter_map(weaken).chain(timed).collect())
}

/// Returns a condition of comparisons with constants that is TRUE wherever this one is; `None` if
/// that may be anywhere.
fn weaken(condition: &Expr) -> Option<Expr> {
    match condition {
        Expr::And(items) => all(items.iter().filter_map(weaken).collect()),
        Expr::Or(items) => items.iter().map(weaken).collect::<Option<Vec<_>>>().map(any),
        Expr::IsTrue(inner) => weaken(inner),
        _ => is_plain(condition).then(|| condition.clone()),
    }
}

/// Whether a condition only compares texts and numbers in columns with constants.
fn is_plain(condition: &Expr) -> bool {
    match condition {
        Expr::Compare(_, left, right) | Expr::NotDistinct(left, right) => {
            is_operand(left) && is_operand(right) && left.value_type() == right.value_type()
        }
        Expr::InList(x, items) => {
            is_operand(x) && items.iter().all(|item| is_operand(item) && item.value_type() == x.value_type())
        }
        Expr::IsNull(inner) => is_operand(inner),
        Expr::Not(inner) => is_plain(inner),
        _ => false,
    }
}

fn is_operand(expr: &Expr) -> bool {
    match expr {
        Expr::Event(column) => matches!(column.column_type(), ColumnType::Text | ColumnType::Decimal),
        Expr::Literal(_, ty) => matches!(ty, Type::Text | Type::Decimal),
        _ => false,
    }
}

/// Returns a bound of `created_at` for events that count at `now` or later; `None` if there is
/// none.
fn still_counts(timed: &Expr, now: Timestamp) -> Option<Expr> {
    match timed {
        Expr::And(items) => all(items.iter().filter_map(|item| still_counts(item, now)).collect()),
        Expr::TimeCompare(compare) => {
            let oldest = now.0.checked_sub(compare.created_at_window()?)?;
            let oldest = Expr::Literal(Value::Timestamp(Timestamp(oldest)), Type::Timestamp);
            let created_at = Expr::Event(EventColumn::CreatedAt);
            Some(Expr::Compare(CompareOp::Gt, Box::new(created_at), Box::new(oldest)))
        }
        _ => None,
    }
}

fn all(mut conditions: Vec<Expr>) -> Option<Expr> {
    if conditions.len() > 1 { Some(Expr::And(conditions)) } else { conditions.pop() }
}

fn any(mut conditions: Vec<Expr>) -> Expr {
    conditions.dedup();
    match conditions.pop() {
        Some(only) if conditions.is_empty() => only,
        Some(last) => {
            conditions.push(last);
            Expr::Or(conditions)
        }
        None => Expr::Literal(Value::Bool(false), Type::Bool),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SegmentVersion;
    use crate::language::{Names, compile, print_expression};
    use crate::machine::{Cause, Definition, Rule, Settings, UserProfile};

    const DAY: i64 = 86_400_000_000;

    /// Returns what the accumulators of these clauses need at day 100.
    fn needs(clauses: &[&str]) -> HistoryNeeds {
        let mut machine = Machine::new(Settings::default());
        machine.assume_history();
        for (id, clause) in (1..).zip(clauses) {
            let rule: Rule = compile(clause).unwrap().into();
            let (tag, where_statement) = (format!("s{id}"), (*clause).to_owned());
            let definition = Definition { id: SegmentId(id), tag, version: SegmentVersion(1), where_statement, rule };
            machine.define(definition, 1, Timestamp(100 * DAY));
        }
        machine.history_needs(&machine.incomplete())
    }

    fn filters(clauses: &[&str]) -> Vec<Option<String>> {
        let print = |filter: Expr| print_expression(&filter, &Names { aggregates: &[], segments: &[] });
        needs(clauses).filters.into_iter().map(|filter| filter.map(print)).collect()
    }

    #[test]
    fn a_filter_compares_columns_with_constants() {
        let month = "created_at > TIMESTAMPTZ '1970-03-12 00:00:00+00'";
        let cases = [
            ("count(*) > 3", None),
            ("count(*) FILTER (WHERE url = 'a') > 3", Some("url = 'a'".to_owned())),
            ("sum(order_total) FILTER (WHERE order_total > 5 AND region IS NOT NULL) > 3", {
                Some("order_total > 5 AND region IS NOT NULL".to_owned())
            }),
            ("count(*) FILTER (WHERE url LIKE '%a') > 3", None),
            ("count(*) FILTER (WHERE url LIKE '%a' AND region = 'b') > 3", Some("region = 'b'".to_owned())),
            ("count(*) FILTER (WHERE url LIKE '%a' OR region = 'b') > 3", None),
            ("count(*) FILTER (WHERE lower(url) = 'a') > 3", None),
            ("count(*) FILTER (WHERE payload->>'a' = 'a' AND NOT region IN ('a', 'b')) > 3", {
                Some("region NOT IN ('a', 'b')".to_owned())
            }),
            ("sum(order_total) FILTER (WHERE created_at > now() - INTERVAL '30 days') > 3", Some(month.to_owned())),
            ("sum(order_total) FILTER (WHERE created_at > now() - INTERVAL '30 days' AND url = 'a') > 3", {
                Some(format!("url = 'a' AND {month}"))
            }),
            // The newest of all events are kept, for other windows too.
            ("count(*) FILTER (WHERE created_at > now() - INTERVAL '30 days') > 3", None),
            ("sum(order_total) FILTER (WHERE created_at < now() - INTERVAL '30 days') > 3", None),
            ("sum(order_total) FILTER (WHERE created_at > now() - INTERVAL '1 month') > 3", None),
            ("sum(order_total) FILTER (WHERE processed_at > now() - INTERVAL '30 days') > 3", None),
        ];
        for (clause, expected) in cases {
            assert_eq!(filters(&[clause]), [expected], "{clause}");
        }
    }

    #[test]
    fn each_accumulator_has_a_filter() {
        let (a, b) = ("count(*) FILTER (WHERE url = 'a') > 3", "count(*) FILTER (WHERE url = 'b') > 3");
        assert_eq!(filters(&[a, b]), [Some("url = 'a'".to_owned()), Some("url = 'b'".to_owned())]);
        assert_eq!(filters(&["count(*) > 3", a]), [None, Some("url = 'a'".to_owned())]);
    }

    #[test]
    fn columns_are_those_that_the_clauses_read() {
        let of = |clauses: &[&str]| (needs(clauses).columns, needs(clauses).payload);
        assert_eq!(of(&["count(*) > 3"]), (vec![], false));
        // A filter that decides is the store's to read.
        let read = of(&["count(DISTINCT url) FILTER (WHERE region = 'a') > 3", "last(payload->>'a') = 'b'"]);
        assert_eq!(read, (vec![EventColumn::Url], true));
        assert_eq!(of(&["count(*) FILTER (WHERE region = 'a' AND lower(url) = 'b') > 3"]), {
            (vec![EventColumn::Region, EventColumn::Url], false)
        });
        let read = of(&["funnel(INTERVAL '1 day', element_id = 'a', country = 'b') = 2"]);
        assert_eq!(read, (vec![EventColumn::Country, EventColumn::ElementId], false));
        let read = of(&["sum(order_total) FILTER (WHERE created_at > now() - INTERVAL '1 day') > 3"]);
        assert_eq!(read, (vec![EventColumn::OrderTotal], false));
    }

    fn past(user: i64, offset: u64) -> PastEvent {
        let (created_at, rest) = (Timestamp(offset as i64), None);
        PastEvent { user_id: UserId(user), created_at, processed_at: created_at, offset, takers: 1, rest }
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

//! The history that a new accumulator needs: which events, what of them, and adding them.

use super::accumulator_key::AccumulatorKey;
use super::catalog::SharedAccumulator;
use super::inputs::holds;
use super::{AccumulatorId, Machine, Source};
use crate::event::Event;
use crate::ids::{SegmentId, UserId};
use crate::plan::{CompareOp, EventColumn, Expr};
use crate::schema::ColumnType;
use crate::time::Timestamp;
use crate::value::{Type, Value};

/// Beyond so many accumulators, only their activities are in a filter: a store would evaluate all
/// of a long filter for each event.
const FILTERS_MAX: usize = 32;

/// What accumulators read of past events. A store returns no less, and need not return more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryNeeds {
    /// The columns, in the order of the schema. The user id, both instants and the position are
    /// always needed.
    pub columns: Vec<EventColumn>,
    /// Whether the payload is needed, apart from its columns.
    pub payload: bool,
    /// TRUE for each event that may count; `None` if that may be any. It compares columns with
    /// constants, and nothing else.
    pub filter: Option<Expr>,
}

impl HistoryNeeds {
    /// Returns what is needed of an event, with nothing where a column is not; `None` if the event
    /// cannot count.
    pub fn reduce(&self, event: &Event) -> Option<Event> {
        if self.filter.as_ref().is_some_and(|filter| !holds(filter, event, Timestamp::MIN)) {
            return None;
        }
        let text = |column: EventColumn, text: &Option<Box<str>>| {
            if self.columns.contains(&column) { text.clone() } else { None }
        };
        let client_ref_id = self.columns.contains(&EventColumn::ClientRefId).then(|| event.client_ref_id.clone());
        Some(Event {
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
        })
    }
}

impl Machine {
    /// Returns the accumulators that need history. For every user ([`Machine::user_ids`]) and every
    /// user merged into them ([`Machine::sources`]) the caller adds the events below
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

    /// Returns the offset at which the history of incomplete accumulators ends, for events in this
    /// partition.
    pub fn fence(&self) -> Option<u64> {
        self.catalog
            .accumulators
            .iter()
            .flatten()
            .filter_map(|shared| shared.fence.as_ref())
            .map(|fence| fence.offset)
            .max()
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
        for expr in keys.iter().flat_map(|key| key.fixed.iter().chain(&key.timed).chain(&key.argument)) {
            expr.walk(&mut |node| match node {
                Expr::Event(column) => columns.push(*column),
                Expr::Payload(_) => payload = true,
                _ => {}
            });
        }
        columns.sort_by_key(|column| column.index());
        columns.dedup();
        let filter = if keys.len() <= FILTERS_MAX {
            keys.iter().map(|key| filter(key, self.now)).collect::<Option<Vec<_>>>().map(any)
        } else {
            activities(&keys)
        };
        HistoryNeeds { columns, payload, filter }
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
            let user = self.users[slot.0 as usize].as_mut().expect("the index has only users that exist");
            let added = entry.key.add(user.accumulator_or(id, || entry.key.empty()), event, now);
            if let Err(exceeded) = added {
                self.refused(slot, id, exceeded);
            }
        }
    }

    /// Notes that an accumulator has the whole history: from now on checkpoints hold it.
    pub fn complete(&mut self, accumulator: AccumulatorId) {
        self.catalog.complete(accumulator);
        for user in
            self.users.iter_mut().flatten().filter(|user| !user.changed && user.accumulator(accumulator).is_some())
        {
            user.changed = true;
            self.changed.push(user.id);
        }
    }
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

/// Returns a filter that takes the events of the keys' activities; `None` if one takes any.
fn activities(keys: &[&AccumulatorKey]) -> Option<Expr> {
    let mut activities = keys.iter().map(|key| key.activities()).collect::<Option<Vec<_>>>()?.concat();
    activities.sort_unstable();
    activities.dedup();
    let texts = activities.into_iter().map(|activity| Expr::Literal(Value::Text(activity.into()), Type::Text));
    let texts: Vec<Expr> = texts.collect();
    Some(Expr::InList(Box::new(Expr::Event(EventColumn::ActivityType)), texts.into()))
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
    use crate::machine::{Definition, Rule, Settings};

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

    fn filter(clauses: &[&str]) -> Option<String> {
        needs(clauses).filter.map(|filter| print_expression(&filter, &Names { aggregates: &[], segments: &[] }))
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
            assert_eq!(filter(&[clause]), expected, "{clause}");
        }
    }

    #[test]
    fn a_filter_takes_the_events_of_every_accumulator() {
        let [a, b] = ["count(*) FILTER (WHERE url = 'a') > 3", "count(*) FILTER (WHERE url = 'b') > 3"];
        assert_eq!(filter(&[a, b]).as_deref(), Some("url = 'a' OR url = 'b'"));
        assert_eq!(filter(&[a, "sum(order_total) FILTER (WHERE url = 'a') > 3"]).as_deref(), Some("url = 'a'"));
        assert_eq!(filter(&[a, "count(*) > 3"]), None);
    }

    #[test]
    fn a_filter_of_many_accumulators_has_their_activities() {
        let clause = |number: usize| {
            format!("count(*) FILTER (WHERE activity_type = 'a{}' AND url = '{number}') > 3", number % 3)
        };
        let mut clauses: Vec<String> = (0..=FILTERS_MAX).map(clause).collect();
        let filter_of = |clauses: &[String]| filter(&clauses.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(filter_of(&clauses).as_deref(), Some("activity_type IN ('a0', 'a1', 'a2')"));
        clauses.push("count(*) FILTER (WHERE url = 'a') > 3".to_owned());
        assert_eq!(filter_of(&clauses), None);
    }

    #[test]
    fn columns_are_those_that_the_clauses_read() {
        let of = |clauses: &[&str]| (needs(clauses).columns, needs(clauses).payload);
        assert_eq!(of(&["count(*) > 3"]), (vec![], false));
        let read = of(&["count(DISTINCT url) FILTER (WHERE region = 'a') > 3", "last(payload->>'a') = 'b'"]);
        assert_eq!(read, (vec![EventColumn::Region, EventColumn::Url], true));
        let read = of(&["funnel(INTERVAL '1 day', element_id = 'a', country = 'b') = 2"]);
        assert_eq!(read, (vec![EventColumn::Country, EventColumn::ElementId], false));
        let read = of(&["sum(order_total) FILTER (WHERE created_at > now() - INTERVAL '1 day') > 3"]);
        assert_eq!(read, (vec![EventColumn::OrderTotal, EventColumn::CreatedAt], false));
    }
}

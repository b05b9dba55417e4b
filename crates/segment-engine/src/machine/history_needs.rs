//! What a new accumulator needs of past events.

use super::Machine;
use super::accumulator_key::{AccumulatorId, AccumulatorKey};
use super::history::PastEvent;
use super::inputs::holds;
use crate::event::Event;
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

    /// Returns a condition that is TRUE for each event that one of several filters takes, and is quicker
    /// to evaluate than all of them; `None` if there is none.
    pub fn cover(&self) -> Option<Expr> {
        let filters = self.filters.iter().map(Option::as_ref).collect::<Option<Vec<&Expr>>>()?;
        let (first, others) = filters.split_first()?;
        let in_all = |condition: &Expr| {
            let weakest = |so_far: Expr, other: &&Expr| conjuncts(other).iter().find_map(|one| weaker(&so_far, one));
            others.iter().try_fold(condition.clone(), weakest)
        };
        all(conjuncts(first).iter().filter_map(in_all).collect())
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

impl Machine {
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

/// Returns the conditions of which all must be TRUE.
fn conjuncts(condition: &Expr) -> &[Expr] {
    match condition {
        Expr::And(items) => items,
        other => std::slice::from_ref(other),
    }
}

/// Returns a condition that is TRUE wherever one of these is, if they are alike: of one column, and
/// either comparisons for equality or lower bounds of time.
fn weaker(one: &Expr, other: &Expr) -> Option<Expr> {
    if one == other {
        return Some(one.clone());
    }
    if let (Expr::Compare(CompareOp::Gt, x, bound), Expr::Compare(CompareOp::Gt, y, other_bound)) = (one, other)
        && x == y
        && let (Expr::Literal(Value::Timestamp(a), _), Expr::Literal(Value::Timestamp(b), _)) =
            (&**bound, &**other_bound)
    {
        return Some(if a <= b { one.clone() } else { other.clone() });
    }
    let (column, mut values) = equalities(one)?;
    let (other_column, others) = equalities(other)?;
    if column != other_column {
        return None;
    }
    values.extend(others.into_iter().filter(|other| !values.contains(other)).collect::<Vec<_>>());
    Some(any(values.into_iter().cloned().collect()))
}

/// Returns the column and the comparisons of a condition that compares one column for equality.
fn equalities(condition: &Expr) -> Option<(&Expr, Vec<&Expr>)> {
    let items = match condition {
        Expr::Or(items) => items,
        other => std::slice::from_ref(other),
    };
    let Expr::Compare(CompareOp::Eq, column, _) = items.first()? else { return None };
    let compares = |item: &Expr| matches!(item, Expr::Compare(CompareOp::Eq, other, _) if other == column);
    items.iter().all(compares).then(|| (column.as_ref(), items.iter().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{SegmentId, SegmentVersion};
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

    #[test]
    fn a_cover_has_what_the_filters_have_in_common() {
        let cover = |clauses: &[&str]| {
            needs(clauses).cover().map(|cover| print_expression(&cover, &Names { aggregates: &[], segments: &[] }))
        };
        let of = |condition: &str| format!("sum(order_total) FILTER (WHERE {condition}) > 3");
        let cases = [
            (vec!["url = 'a' AND region = 'x'", "url = 'b' AND region <> 'x'"], Some("url = 'a' OR url = 'b'")),
            (
                vec!["url = 'a'", "region = 'x' AND url = 'b'", "url = 'a' AND region = 'y'"],
                Some("url = 'a' OR url = 'b'"),
            ),
            (
                vec!["url = 'a' AND region = 'x'", "region = 'x' AND url = 'a' AND country = 'c'"],
                Some("region = 'x' AND url = 'a'"),
            ),
            (vec!["order_total > 3", "order_total > 4"], None),
            (vec!["url = 'a'", "region = 'x'"], None),
            (vec!["url = 'a'", "url LIKE 'a%'"], None),
            (
                vec!["created_at > now() - INTERVAL '30 days'", "created_at > now() - INTERVAL '7 days' AND url = 'a'"],
                Some("created_at > TIMESTAMPTZ '1970-03-12 00:00:00+00'"),
            ),
        ];
        for (conditions, expected) in cases {
            let clauses: Vec<String> = conditions.iter().map(|condition| of(condition)).collect();
            let clauses: Vec<&str> = clauses.iter().map(String::as_str).collect();
            assert_eq!(cover(&clauses).as_deref(), expected, "{conditions:?}");
        }
    }
}

//! From an event to the spans of time during which it counts.

use crate::eval::{EventScope, evaluate};
use crate::event::{Event, Position};
use crate::plan::{Expr, TimeCompare};
use crate::time::Timestamp;
use crate::value::Value;

/// What one event contributes to an aggregate during one span of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Contribution {
    /// The first instant at which it counts.
    pub from: Timestamp,
    /// The first instant at which it no longer counts; [`Timestamp::MAX`] for never.
    pub until: Timestamp,
    /// The aggregate's argument. `Bool(true)` for `count(*)`.
    pub value: Value,
    /// The event's place in the order of the user's events.
    pub order: Order,
}

/// The order of events for `first` and `last`: `created_at`, ties by `processed_at`, then by log
/// position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    pub(crate) created_at: Timestamp,
    pub(crate) processed_at: Timestamp,
    pub(crate) position: Position,
}

impl Order {
    /// Returns the order of an event.
    pub fn of(event: &Event) -> Self {
        Self { created_at: event.created_at, processed_at: event.processed_at, position: event.position }
    }

    /// Returns the order of an event that is received when it is created, at offset 0.
    #[cfg(test)]
    pub(crate) fn created(created_at: Timestamp) -> Self {
        let position = Position { partition: crate::ids::PartitionId(0), offset: 0 };
        Self { created_at, processed_at: created_at, position }
    }

    pub(super) fn created_at(self) -> Timestamp {
        self.created_at
    }
}

/// Calls `add` with each maximal span from `now` on during which `filter` is TRUE of the event and
/// `argument` has one value.
///
/// Both depend on now only through comparisons whose flips are known in advance. These divide the
/// future into finitely many spans in which nothing changes, so one evaluation per span is enough.
pub fn contributions(
    filter: Option<&Expr>,
    argument: Option<&Expr>,
    event: &Event,
    now: Timestamp,
    mut add: impl FnMut(Contribution),
) {
    let mut edges = vec![now];
    for compare in filter.iter().chain(argument.iter()).flat_map(|expr| time_compares(expr)) {
        let x = evaluate(&compare.x, &mut EventScope { event, now });
        edges.extend(compare.edges(&x));
    }
    edges.retain(|edge| *edge >= now && *edge < Timestamp::MAX);
    edges.sort_unstable();
    edges.dedup();

    let order = Order::of(event);
    let mut open: Option<Contribution> = None;
    for &from in &edges {
        let value = value_at(filter, argument, event, from);
        if open.as_ref().map(|contribution| &contribution.value) == value.as_ref() {
            continue;
        }
        if let Some(mut contribution) = open.take() {
            contribution.until = from;
            add(contribution);
        }
        open = value.map(|value| Contribution { from, until: Timestamp::MAX, value, order });
    }
    if let Some(contribution) = open {
        add(contribution);
    }
}

/// Returns the argument's value if the filter is TRUE at `now`.
fn value_at(filter: Option<&Expr>, argument: Option<&Expr>, event: &Event, now: Timestamp) -> Option<Value> {
    let mut scope = EventScope { event, now };
    if filter.is_some_and(|filter| evaluate(filter, &mut scope) != Value::Bool(true)) {
        return None;
    }
    Some(argument.map_or(Value::Bool(true), |argument| evaluate(argument, &mut scope)))
}

/// Returns the comparisons with now in an expression.
pub(crate) fn time_compares(expr: &Expr) -> Vec<&TimeCompare> {
    let mut found = Vec::new();
    expr.walk(&mut |node| {
        if let Expr::TimeCompare(compare) = node {
            found.push(&**compare);
        }
    });
    found
}

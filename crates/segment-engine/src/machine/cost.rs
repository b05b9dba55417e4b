//! What a clause costs: how much its accumulators keep per user.

use std::fmt;

use super::accumulator_key::{AccumulatorId, AccumulatorKey, AccumulatorKind};
use super::index::SegmentIndex;
use super::lower::lower;
use crate::accumulator::{ENTRIES_MAX, Rank};
use crate::plan::{CompareOp, EventColumn, Expr, Plan};
use crate::value::Type;

/// The cost class of a clause: how much its most expensive accumulator keeps per user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cost {
    /// At most one value.
    Constant,
    /// At most this many entries.
    Entries(u64),
    /// An entry per distinct value.
    Distinct,
    /// An entry per event in a window of time.
    Window,
    /// An entry per event that matches, until an instant that is the same for all of them: a
    /// constant one, or that of the last step of a funnel.
    History,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cost::Constant => f.write_str("O(1)"),
            Cost::Entries(entries) => write!(f, "O(k), k = {entries}"),
            Cost::Distinct => f.write_str("O(distinct)"),
            Cost::Window => f.write_str("O(window)"),
            Cost::History => f.write_str("whole history"),
        }
    }
}

impl Cost {
    /// Returns what the class means, in words for users.
    pub fn meaning(self) -> String {
        let bound = format!("at most {ENTRIES_MAX} per user");
        match self {
            Cost::Constant => "one value per aggregate and user".to_owned(),
            Cost::Entries(_) => "at most k entries per aggregate and user".to_owned(),
            Cost::Distinct => format!("an entry per distinct value, {bound}"),
            Cost::Window => format!("an entry per event in the window, {bound}"),
            Cost::History => format!("an entry per event that matches, {bound}"),
        }
    }
}

/// Returns the cost class of a plan.
pub fn cost(plan: &Plan) -> Cost {
    accumulators(plan).iter().map(cost_of).max().unwrap_or(Cost::Constant)
}

fn accumulators(plan: &Plan) -> Vec<AccumulatorKey> {
    let mut keys = Vec::new();
    lower(plan, &vec![SegmentIndex(0); plan.segments.len()], &mut |key| {
        keys.push(key);
        AccumulatorId(0)
    });
    keys
}

fn cost_of(key: &AccumulatorKey) -> Cost {
    if let AccumulatorKind::NewestK(capacity) = key.kind {
        return Cost::Entries(capacity.into());
    }
    let argument_changes = key.argument.as_ref().is_some_and(Expr::reads_now);
    match &key.timed {
        None if !argument_changes => cost_for_ever(key.kind),
        Some(timed) if !argument_changes && only_ends(timed) => cost_until_the_end(key, timed),
        _ if key.timed.iter().chain(&key.argument).any(changes_for_all_events) => Cost::History,
        _ => Cost::Window,
    }
}

/// The cost of events that count for ever: most are kept as a number or a value.
fn cost_for_ever(kind: AccumulatorKind) -> Cost {
    match kind {
        AccumulatorKind::Distinct(u64::MAX) => Cost::Distinct,
        AccumulatorKind::Distinct(cap) => Cost::Entries(cap),
        // For users who never take the last step all events of the others are kept.
        AccumulatorKind::Funnel { steps: 2.., .. } => Cost::History,
        _ => Cost::Constant,
    }
}

/// The cost of events that count from their receipt until an instant, so that none is pending.
fn cost_until_the_end(key: &AccumulatorKey, timed: &Expr) -> Cost {
    let is_bool = key.argument.as_ref().is_some_and(|argument| argument.value_type() == Type::Bool);
    let together = !timed.any(&Expr::reads_event);
    let in_order = |part: &Expr| match part {
        Expr::TimeCompare(compare) => compare.x == Expr::Event(EventColumn::CreatedAt) || !compare.x.reads_event(),
        _ => false,
    };
    match key.kind {
        AccumulatorKind::Count(cap) | AccumulatorKind::Distinct(cap) if cap < u64::MAX => Cost::Entries(cap),
        // If all end together, the best stays the best. The latest event is also the last to end.
        AccumulatorKind::Extreme(_) if together => Cost::Constant,
        AccumulatorKind::Extreme(Rank::Latest) if conjuncts(timed).iter().all(in_order) => Cost::Constant,
        // The best, and the other value if it ends later.
        AccumulatorKind::Extreme(Rank::Greatest | Rank::Least) if is_bool => Cost::Entries(2),
        AccumulatorKind::Funnel { steps: 1, .. } => Cost::Constant,
        _ if together => Cost::History,
        _ => Cost::Window,
    }
}

/// Whether an event counts from its receipt on or never: every condition is a time later than a
/// bound that never steps back.
fn only_ends(timed: &Expr) -> bool {
    let only_ends = |condition: &Expr| match condition {
        Expr::TimeCompare(compare) => {
            matches!(compare.op, CompareOp::Gt | CompareOp::GtEq) && compare.bound.is_non_decreasing()
        }
        _ => false,
    };
    conjuncts(timed).iter().all(only_ends)
}

fn conjuncts(timed: &Expr) -> &[Expr] {
    match timed {
        Expr::And(items) => items,
        single => std::slice::from_ref(single),
    }
}

/// Whether a condition in it changes for all events at one instant.
fn changes_for_all_events(expr: &Expr) -> bool {
    expr.any(&|part| matches!(part, Expr::TimeCompare(compare) if !compare.x.reads_event()))
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::decimal::Decimal;
    use crate::event::{Event, Position};
    use crate::ids::{PartitionId, UserId};
    use crate::language::compile;
    use crate::time::Timestamp;
    use crate::time::calendar::{DAY, HOUR};

    const CASES: [(&str, &str); 29] = [
        ("TRUE", "O(1)"),
        ("region = 'x'", "O(1)"),
        ("sum(order_total) > 5 AND last(region) = 'x'", "O(1)"),
        ("count(DISTINCT url) = count(*)", "O(distinct)"),
        ("count(DISTINCT url) >= 3", "O(k), k = 4"),
        ("count(DISTINCT url) FILTER (WHERE created_at >= now() - INTERVAL '7 days') >= 3", "O(k), k = 4"),
        ("created_at >= now() - INTERVAL '7 days'", "O(k), k = 1"),
        ("count(*) FILTER (WHERE created_at >= now() - INTERVAL '7 days') >= 10", "O(k), k = 16"),
        ("count(*) FILTER (WHERE created_at >= now() - INTERVAL '7 days') <= 10", "O(k), k = 16"),
        ("count(*) FILTER (WHERE created_at >= date_trunc('day', now())) = 0", "O(k), k = 1"),
        ("count(*) FILTER (WHERE segment('a') AND created_at >= now() - INTERVAL '1 day') > 2", "O(k), k = 4"),
        ("bool_or(order_total > 20) FILTER (WHERE created_at >= now() - INTERVAL '7 days')", "O(k), k = 2"),
        ("last(region) FILTER (WHERE created_at >= now() - INTERVAL '7 days') = 'x'", "O(1)"),
        ("first(region) FILTER (WHERE created_at >= now() - INTERVAL '7 days') = 'x'", "O(window)"),
        ("max(order_total) FILTER (WHERE created_at >= now() - INTERVAL '7 days') > 2", "O(window)"),
        ("sum(order_total) FILTER (WHERE created_at >= now() - INTERVAL '7 days') > 2", "O(window)"),
        ("sum(CASE WHEN created_at >= now() - INTERVAL '7 days' THEN order_total ELSE 0 END) > 2", "O(window)"),
        ("count(*) FILTER (WHERE created_at >= now() - INTERVAL '7 days') > count(*) / 2", "O(window)"),
        ("count(*) FILTER (WHERE created_at >= now() - INTERVAL '1 month') > 2", "O(window)"),
        ("count(*) FILTER (WHERE created_at < now() - INTERVAL '7 days') > 2", "O(window)"),
        ("count(*) FILTER (WHERE created_at::date = (now() - INTERVAL '1 day')::date) > 2", "O(window)"),
        ("count(*) FILTER (WHERE region = 'x' AND now() > '2030-01-01' OR url = 'y') > 2", "whole history"),
        ("sum(order_total) FILTER (WHERE region = 'x' OR now() < '2030-01-01') > 2", "whole history"),
        ("region = 'x' OR now() > '2030-01-01'", "whole history"),
        ("funnel(INTERVAL '3 days', region = 'x') > 0", "O(1)"),
        ("funnel(INTERVAL '3 days', region = 'x') FILTER (WHERE created_at >= now() - INTERVAL '7 days') > 0", "O(1)"),
        ("funnel(INTERVAL '3 days', region = 'x', url = '1') < 2", "whole history"),
        (
            "funnel(INTERVAL '1 day', url = '1', url = '2') FILTER (WHERE created_at > now() - INTERVAL '7 days') < 2",
            "O(window)",
        ),
        (
            "funnel(INTERVAL '1 day', url = '1', url = '2') FILTER (WHERE created_at < now() - INTERVAL '7 days') < 2",
            "O(window)",
        ),
    ];

    #[test]
    fn classes_of_clauses() {
        for (clause, class) in CASES {
            assert_eq!(cost(&compile(clause).unwrap()).to_string(), class, "{clause}");
        }
    }

    /// Events of five days, not in order, with 7 addresses and rising totals.
    fn events(now: Timestamp) -> impl Iterator<Item = Event> {
        (0..60_i64).map(move |number| Event {
            user_id: UserId(1),
            event_id: None,
            client_ref_id: "c".into(),
            id_type: None,
            region: Some(if number % 2 == 0 { "x" } else { "z" }.into()),
            device_type: None,
            country: None,
            activity_type: None,
            url: Some(format!("{}", number % 7).into()),
            order_total: Some(Decimal::from_int(number)),
            order_id: None,
            element_id: None,
            created_at: Timestamp(now.0 - 5 * DAY + number * 37 % 60 * 2 * HOUR),
            processed_at: now,
            payload: serde_json::json!({}).into(),
            position: Position { partition: PartitionId(0), offset: number.unsigned_abs() },
        })
    }

    #[test]
    fn no_accumulator_keeps_more_than_its_class_says() {
        let now = Timestamp::parse("2026-01-08T12:00:00Z").unwrap();
        for key in CASES.iter().flat_map(|(clause, _)| accumulators(&compile(clause).unwrap())) {
            let (mut accumulator, mut most) = (key.empty(), 0);
            for event in events(now) {
                key.add(&mut accumulator, &event, now).unwrap();
                most = most.max(accumulator.entries() as u64);
            }
            let bound = match cost_of(&key) {
                Cost::Constant => 1,
                Cost::Entries(entries) => entries,
                Cost::Distinct => 7,
                Cost::Window | Cost::History => u64::MAX,
            };
            assert!(most <= bound, "{most} entries of {key:?}");
        }
    }
}

//! What an aggregate has to keep per user, so that its value is right at every later instant.
//!
//! An event may be forgotten only if enough others count at every future instant at which it counts. Without a condition on
//! now that leaves a number; with nothing but a lower bound on a time, the newest events that a threshold can still need;
//! with anything else, the events whose condition can still change.

use super::{Aggregate, AggregateFunction, CompareOp, Expr, NowExpr, NowStep, Plan, TimeCompare};
use crate::value::{Type, Value};

/// The cost class of an aggregate, cheapest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CostClass {
    /// A number or two, however many events there are.
    Constant,
    /// This many events: the newest ones that the threshold it is compared with can need.
    Threshold(u64),
    /// The different values met.
    Distinct,
    /// The events whose condition can still change: those of its windows of time.
    Window,
    /// All events that match, since one instant changes the condition on all of them.
    History,
}

impl std::fmt::Display for CostClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CostClass::Constant => f.write_str("O(1)"),
            CostClass::Threshold(k) => write!(f, "O(k), k = {k}"),
            CostClass::Distinct => f.write_str("O(distinct)"),
            CostClass::Window => f.write_str("O(window)"),
            CostClass::History => f.write_str("whole history"),
        }
    }
}

/// The cost class of the whole plan: that of its dearest aggregate.
pub fn cost(plan: &Plan) -> CostClass {
    costs(plan).into_iter().max().unwrap_or(CostClass::Constant)
}

/// The cost class of each aggregate, by its index in the plan.
pub fn costs(plan: &Plan) -> Vec<CostClass> {
    let mut uses = vec![Use::Threshold(0); plan.aggregates.len()];
    note_uses(&plan.formula, &mut uses);
    plan.aggregates.iter().zip(uses).map(|(aggregate, used)| aggregate_cost(aggregate, used)).collect()
}

/// How the formula reads an aggregate.
#[derive(Clone, Copy, PartialEq)]
enum Use {
    /// Only to compare it with constants: more than this many events never make a difference.
    Threshold(u64),
    /// Its exact value.
    Value,
}

fn note_uses(expr: &Expr, uses: &mut [Use]) {
    match expr {
        Expr::Compare(op, left, right) => match (&**left, &**right) {
            (read, Expr::Literal(Value::Int(number), _)) if indexes(read).next().is_some() => {
                for index in indexes(read) {
                    if let Use::Threshold(known) = uses[index] {
                        uses[index] = Use::Threshold(known.max(needed(*op, *number)));
                    }
                }
                // The terms that choose among aggregates may read others.
                read.children().into_iter().for_each(|child| note_uses(child, uses));
            }
            (left, right) => {
                note_uses(left, uses);
                note_uses(right, uses);
            }
        },
        other => {
            indexes(other).for_each(|index| uses[index] = Use::Value);
            other.children().into_iter().for_each(|child| note_uses(child, uses));
        }
    }
}

/// The aggregates that a node itself reads.
fn indexes(expr: &Expr) -> impl Iterator<Item = usize> + '_ {
    let (one, several): (Option<usize>, &[usize]) = match expr {
        Expr::Aggregate(index, _) => (Some(*index), &[]),
        Expr::AggregateBy { cases, .. } => (None, cases),
        _ => (None, &[]),
    };
    one.into_iter().chain(several.iter().copied())
}

/// How many events decide a comparison with a number: one more than it where equality matters.
fn needed(op: CompareOp, number: i64) -> u64 {
    let number = u64::try_from(number).unwrap_or(0);
    match op {
        CompareOp::GtEq | CompareOp::Lt => number,
        CompareOp::Gt | CompareOp::LtEq | CompareOp::Eq | CompareOp::NotEq => number.saturating_add(1),
    }
}

fn aggregate_cost(aggregate: &Aggregate, used: Use) -> CostClass {
    use AggregateFunction as F;
    let threshold = match used {
        Use::Threshold(k) => Some(CostClass::Threshold(k.max(1))),
        Use::Value => None,
    };
    match (time_dependence(aggregate), aggregate.function) {
        (TimeDependence::Everything, _) => CostClass::History,
        (TimeDependence::None, F::CountDistinct) => threshold.unwrap_or(CostClass::Distinct),
        (TimeDependence::None, _) => CostClass::Constant,
        (TimeDependence::LowerBound, F::Count | F::CountDistinct) => threshold.unwrap_or(CostClass::Window),
        (TimeDependence::LowerBound, F::BoolOr | F::BoolAnd) => CostClass::Threshold(1),
        // The last event is also the last to leave.
        (TimeDependence::LowerBound, F::Last) => CostClass::Constant,
        (TimeDependence::LowerBound | TimeDependence::Other, _) => CostClass::Window,
    }
}

/// How the counting of an event depends on now.
#[derive(PartialEq)]
enum TimeDependence {
    None,
    /// An event counts until an instant, and the later its `created_at` the longer.
    LowerBound,
    /// At one instant all events may begin or cease to count.
    Everything,
    Other,
}

fn time_dependence(aggregate: &Aggregate) -> TimeDependence {
    if aggregate.argument.as_ref().is_some_and(Expr::reads_now) {
        return TimeDependence::Everything;
    }
    let Some(filter) = &aggregate.filter else { return TimeDependence::None };
    if filter.any(&|part| matches!(part, Expr::TimeCompare(compare) if !compare.x.reads_event())) {
        return TimeDependence::Everything;
    }
    let conditions = match filter {
        Expr::And(items) => items.as_slice(),
        single => std::slice::from_ref(single),
    };
    let mut found = TimeDependence::None;
    for condition in conditions.iter().filter(|condition| condition.reads_now()) {
        match condition {
            Expr::TimeCompare(compare) if is_lower_bound(compare) => found = TimeDependence::LowerBound,
            _ => return TimeDependence::Other,
        }
    }
    found
}

fn is_lower_bound(compare: &TimeCompare) -> bool {
    use super::EventColumn::CreatedAt;
    compare.x == Expr::Event(CreatedAt)
        && matches!(compare.op, CompareOp::Gt | CompareOp::GtEq)
        && never_goes_back(&compare.bound)
}

/// Whether the bound never decreases as time passes: months and local times step back now and then.
fn never_goes_back(bound: &NowExpr) -> bool {
    bound.value_type() != Type::Decimal
        && bound.steps.iter().all(|step| match step {
            NowStep::Add(interval) => interval.months == 0,
            NowStep::Trunc(_) | NowStep::ToDate | NowStep::ToLocal | NowStep::ToTimestamp => true,
            NowStep::AtTimeZone(_) | NowStep::Extract(_) => false,
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::language::compile;

    #[test]
    fn classes_of_aggregates() {
        let cases = [
            ("TRUE", "O(1)"),
            ("region = 'x'", "O(1)"),
            ("sum(order_total) > 5 AND last(region) = 'x'", "O(1)"),
            ("count(DISTINCT url) = count(*)", "O(distinct)"),
            ("count(DISTINCT url) >= 3", "O(k), k = 3"),
            ("created_at >= now() - INTERVAL '7 days'", "O(k), k = 1"),
            ("count(*) FILTER (WHERE created_at >= now() - INTERVAL '7 days') >= 10", "O(k), k = 10"),
            ("count(*) FILTER (WHERE created_at >= now() - INTERVAL '7 days') <= 10", "O(k), k = 11"),
            ("count(*) FILTER (WHERE created_at >= date_trunc('day', now())) = 0", "O(k), k = 1"),
            ("count(*) FILTER (WHERE created_at >= now() - INTERVAL '1 day') > count(*) / 2", "O(window)"),
            ("count(*) FILTER (WHERE created_at >= now() - INTERVAL '1 month') > 2", "O(window)"),
            ("count(*) FILTER (WHERE created_at < now() - INTERVAL '1 day') > 2", "O(window)"),
            ("count(*) FILTER (WHERE created_at::date = now()::date) > 2", "O(window)"),
            ("sum(order_total) FILTER (WHERE created_at >= now() - INTERVAL '1 day') > 2", "O(window)"),
            ("last(region) FILTER (WHERE created_at >= now() - INTERVAL '1 day') = 'x'", "O(1)"),
            ("count(*) FILTER (WHERE segment('a') AND created_at >= now() - INTERVAL '1 day') > 2", "O(k), k = 3"),
            ("region = 'x' OR now() > '2030-01-01'", "whole history"),
        ];
        for (clause, class) in cases {
            assert_eq!(cost(&compile(clause).unwrap()).to_string(), class, "{clause}");
        }
    }
}

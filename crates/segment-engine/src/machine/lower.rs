//! From a plan to a formula over accumulators: which accumulators a segment needs, and how it reads
//! them.

use super::accumulator_key::{AccumulatorId, AccumulatorKey, AccumulatorKind};
use super::formula::{Formula, Node, Reading};
use super::index::SegmentIndex;
use crate::accumulator::Rank;
use crate::plan::{Aggregate, AggregateFunction, CompareOp, Expr, Plan};
use crate::value::Value;

/// The window of a count that has none.
pub(super) const ALL_TIME: i64 = i64::MAX;

/// Rounds a threshold up to a power of two, so that segments with similar thresholds share
/// accumulators.
fn bucket(threshold: u64) -> u64 {
    threshold.checked_next_power_of_two().unwrap_or(u64::MAX)
}

/// The largest threshold that the newest k answer. They keep as many entries as the threshold, so
/// for a larger one a count with its own window is cheaper.
const NEWEST_K_MAX: u64 = 4_096;

/// Lowers a plan. `accumulator` finds or adds the accumulator of a key; `segments` has the
/// machine's index of each tag of the plan.
pub(super) fn lower(
    plan: &Plan,
    segments: &[SegmentIndex],
    accumulator: &mut dyn FnMut(AccumulatorKey) -> AccumulatorId,
) -> Formula {
    let mut lowering = Lowering { plan, segments, accumulator, readings: vec![None; plan.aggregates.len()] };
    let root = lowering.node(&plan.formula);
    Formula { root, readings: lowering.readings, segments: segments.to_vec() }
}

struct Lowering<'a> {
    plan: &'a Plan,
    segments: &'a [SegmentIndex],
    accumulator: &'a mut dyn FnMut(AccumulatorKey) -> AccumulatorId,
    readings: Vec<Option<Reading>>,
}

impl Lowering<'_> {
    fn node(&mut self, expr: &Expr) -> Node {
        match expr {
            Expr::Literal(Value::Bool(truth), _) => Node::Constant(Some(*truth)),
            Expr::Literal(Value::Null, _) => Node::Constant(None),
            Expr::And(items) => Node::And(items.iter().map(|item| self.node(item)).collect()),
            Expr::Or(items) => Node::Or(items.iter().map(|item| self.node(item)).collect()),
            Expr::Not(inner) => Node::Not(Box::new(self.node(inner))),
            Expr::Segment(index) => Node::Segment(self.segments[*index]),
            Expr::Compare(op, left, right) => self.compare(expr, *op, left, right),
            _ => self.test(expr),
        }
    }

    /// `count(…) op k` becomes a threshold; every other comparison is evaluated as it is.
    fn compare(&mut self, expr: &Expr, op: CompareOp, left: &Expr, right: &Expr) -> Node {
        let Expr::Literal(Value::Int(k), _) = right else { return self.test(expr) };
        match left {
            Expr::Aggregate(index, _) if self.is_count(*index) => self.thresholds(*index, op, *k),
            Expr::AggregateBy { terms, cases, .. } if cases.iter().all(|case| self.is_count(*case)) => Node::Switch {
                terms: terms.iter().map(|term| self.node(term)).collect(),
                cases: cases.iter().map(|case| self.thresholds(*case, op, *k)).collect(),
            },
            _ => self.test(expr),
        }
    }

    fn is_count(&self, index: usize) -> bool {
        matches!(self.plan.aggregates[index].function, AggregateFunction::Count | AggregateFunction::CountDistinct)
    }

    fn thresholds(&mut self, index: usize, op: CompareOp, k: i64) -> Node {
        let next = k.saturating_add(1);
        match op {
            CompareOp::GtEq => self.at_least(index, k),
            CompareOp::Gt => self.at_least(index, next),
            CompareOp::Lt => negate(self.at_least(index, k)),
            CompareOp::LtEq => negate(self.at_least(index, next)),
            CompareOp::Eq => Node::And(vec![self.at_least(index, k), negate(self.at_least(index, next))]),
            CompareOp::NotEq => Node::Or(vec![negate(self.at_least(index, k)), self.at_least(index, next)]),
        }
    }

    fn at_least(&mut self, index: usize, k: i64) -> Node {
        let Ok(k @ 1..) = u64::try_from(k) else { return Node::Constant(Some(true)) };
        let (key, window) = threshold_key(&self.plan.aggregates[index], k);
        Node::AtLeast { accumulator: (self.accumulator)(key), k, window }
    }

    fn test(&mut self, expr: &Expr) -> Node {
        expr.walk(&mut |node| match node {
            Expr::Aggregate(index, _) => self.read(*index),
            Expr::AggregateBy { cases, .. } => cases.iter().for_each(|index| self.read(*index)),
            _ => {}
        });
        Node::Test(expr.clone())
    }

    fn read(&mut self, index: usize) {
        if self.readings[index].is_none() {
            let aggregate = &self.plan.aggregates[index];
            let accumulator = (self.accumulator)(value_key(aggregate));
            self.readings[index] = Some(Reading { accumulator, function: aggregate.function });
        }
    }
}

fn negate(node: Node) -> Node {
    match node {
        Node::Constant(truth) => Node::Constant(truth.map(|truth| !truth)),
        node => Node::Not(Box::new(node)),
    }
}

/// Returns the key of the accumulator that says whether a count reaches `k`, and the window to read
/// it with.
fn threshold_key(aggregate: &Aggregate, k: u64) -> (AccumulatorKey, i64) {
    let (fixed, timed) = split_filter(aggregate);
    if aggregate.function == AggregateFunction::CountDistinct {
        let kind = AccumulatorKind::Distinct(bucket(k));
        return (key(fixed, timed, aggregate.argument.clone(), kind), ALL_TIME);
    }
    if timed.is_empty() {
        return (key(fixed, timed, None, AccumulatorKind::Count(u64::MAX)), ALL_TIME);
    }
    if let ([Expr::TimeCompare(compare)], true) = (&timed[..], k <= NEWEST_K_MAX)
        && let Some(window) = compare.created_at_window()
    {
        let capacity = u32::try_from(bucket(k)).expect("at most NEWEST_K_MAX");
        return (key(fixed, Vec::new(), None, AccumulatorKind::NewestK(capacity)), window);
    }
    (key(fixed, timed, None, AccumulatorKind::Count(bucket(k))), ALL_TIME)
}

/// Returns the key of the accumulator that has an aggregate's value.
pub(super) fn value_key(aggregate: &Aggregate) -> AccumulatorKey {
    let (mut fixed, timed) = split_filter(aggregate);
    let kind = match aggregate.function {
        AggregateFunction::Count => AccumulatorKind::Count(u64::MAX),
        AggregateFunction::CountDistinct => AccumulatorKind::Distinct(u64::MAX),
        AggregateFunction::Sum | AggregateFunction::Avg => AccumulatorKind::Sum,
        AggregateFunction::Max | AggregateFunction::BoolOr => AccumulatorKind::Extreme(Rank::Greatest),
        AggregateFunction::Min | AggregateFunction::BoolAnd => AccumulatorKind::Extreme(Rank::Least),
        AggregateFunction::Last => AccumulatorKind::Extreme(Rank::Latest),
        AggregateFunction::First => AccumulatorKind::Extreme(Rank::Earliest),
        AggregateFunction::Funnel { within } => {
            let steps = steps(aggregate);
            // An event that matches no step is not added.
            fixed.push(if let [step] = steps { step.clone() } else { Expr::Or(steps.to_vec()) });
            AccumulatorKind::Funnel { steps: u8::try_from(steps.len()).expect("a named bound limits them"), within }
        }
    };
    let counts = aggregate.function == AggregateFunction::Count;
    key(fixed, timed, if counts { None } else { aggregate.argument.clone() }, kind)
}

/// Returns the conditions of a funnel's steps.
fn steps(aggregate: &Aggregate) -> &[Expr] {
    match &aggregate.argument {
        Some(Expr::Steps(steps)) => steps,
        other => unreachable!("the argument of a funnel is its steps, not {other:?}"),
    }
}

fn key(fixed: Vec<Expr>, mut timed: Vec<Expr>, argument: Option<Expr>, kind: AccumulatorKind) -> AccumulatorKey {
    let timed = if timed.len() < 2 { timed.pop() } else { Some(Expr::And(timed)) };
    AccumulatorKey { fixed, timed, argument, kind }
}

/// Returns a filter's conjuncts: those that do not depend on now, and those that do. `count(x)`
/// gets the conjunct that x is not NULL.
fn split_filter(aggregate: &Aggregate) -> (Vec<Expr>, Vec<Expr>) {
    let mut conjuncts = match &aggregate.filter {
        None => Vec::new(),
        Some(Expr::And(items)) => items.clone(),
        Some(other) => vec![other.clone()],
    };
    if let (AggregateFunction::Count, Some(argument)) = (aggregate.function, &aggregate.argument) {
        conjuncts.push(Expr::Not(Box::new(Expr::IsNull(Box::new(argument.clone())))));
    }
    conjuncts.into_iter().partition(|conjunct| !depends_on_now(conjunct))
}

fn depends_on_now(expr: &Expr) -> bool {
    let mut found = false;
    expr.walk(&mut |node| found |= matches!(node, Expr::TimeCompare(_)));
    found
}

//! From a plan to a formula over stores: which leaf states a segment needs, and how it reads them.

use super::formula::{Formula, Node, Reading};
use super::store::{StoreId, StoreKey, StoreKind};
use crate::leaf::Rank;
use crate::plan::{Aggregate, AggregateFunction, CompareOp, Expr, Plan};
use crate::value::Value;

/// Windows for ever.
pub const ALL_TIME: i64 = i64::MAX;

/// Thresholds are rounded up to powers of two, so that segments with near thresholds share their stores.
fn bucket(threshold: u64) -> u64 {
    threshold.checked_next_power_of_two().unwrap_or(u64::MAX)
}

/// A ring holds as many entries as its threshold asks for; above this a count with its own window is cheaper to bound.
const RING_CAPACITY_MAX: u64 = 4_096;

/// Lowers a plan. `store` finds or makes the store of a key; `segments` are the machine's indexes of the plan's tags.
pub fn lower(plan: &Plan, segments: &[u32], store: &mut dyn FnMut(StoreKey) -> StoreId) -> Formula {
    let mut lowering = Lowering { plan, segments, store, readings: vec![None; plan.aggregates.len()] };
    let root = lowering.node(&plan.formula);
    Formula { root, readings: lowering.readings, segments: segments.to_vec() }
}

struct Lowering<'a> {
    plan: &'a Plan,
    segments: &'a [u32],
    store: &'a mut dyn FnMut(StoreKey) -> StoreId,
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

    /// `count(…) op k` becomes a threshold; everything else is evaluated as it stands.
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
        let (key, window) = threshold_store(&self.plan.aggregates[index], k);
        Node::AtLeast { store: (self.store)(key), k, window }
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
            let store = (self.store)(value_store(aggregate));
            self.readings[index] = Some(Reading { store, function: aggregate.function });
        }
    }
}

fn negate(node: Node) -> Node {
    match node {
        Node::Constant(truth) => Node::Constant(truth.map(|truth| !truth)),
        node => Node::Not(Box::new(node)),
    }
}

/// The store that tells whether a count reaches `k`, and the window to read it with.
fn threshold_store(aggregate: &Aggregate, k: u64) -> (StoreKey, i64) {
    let (fixed, timed) = split_filter(aggregate);
    if aggregate.function == AggregateFunction::CountDistinct {
        let kind = StoreKind::Distinct(bucket(k));
        return (key(fixed, timed, aggregate.argument.clone(), kind), ALL_TIME);
    }
    if timed.is_empty() {
        return (key(fixed, timed, None, StoreKind::Count(u64::MAX)), ALL_TIME);
    }
    if let ([Expr::TimeCompare(compare)], true) = (&timed[..], k <= RING_CAPACITY_MAX)
        && let Some(window) = compare.created_at_window()
    {
        let capacity = u32::try_from(bucket(k)).expect("at most RING_CAPACITY_MAX");
        return (key(fixed, Vec::new(), None, StoreKind::Ring(capacity)), window);
    }
    (key(fixed, timed, None, StoreKind::Count(bucket(k))), ALL_TIME)
}

/// The store that tells an aggregate's value.
fn value_store(aggregate: &Aggregate) -> StoreKey {
    let (mut fixed, timed) = split_filter(aggregate);
    let kind = match aggregate.function {
        AggregateFunction::Count => StoreKind::Count(u64::MAX),
        AggregateFunction::CountDistinct => StoreKind::Distinct(u64::MAX),
        AggregateFunction::Sum | AggregateFunction::Avg => StoreKind::Sum,
        AggregateFunction::Max | AggregateFunction::BoolOr => StoreKind::Extreme(Rank::Greatest),
        AggregateFunction::Min | AggregateFunction::BoolAnd => StoreKind::Extreme(Rank::Least),
        AggregateFunction::Last => StoreKind::Extreme(Rank::Latest),
        AggregateFunction::First => StoreKind::Extreme(Rank::Earliest),
        AggregateFunction::Funnel { within } => {
            let steps = steps(aggregate);
            // An event of no step reaches no state.
            fixed.push(if let [step] = steps { step.clone() } else { Expr::Or(steps.to_vec()) });
            StoreKind::Funnel { steps: u8::try_from(steps.len()).expect("a named bound keeps them few"), within }
        }
    };
    let counts = aggregate.function == AggregateFunction::Count;
    key(fixed, timed, if counts { None } else { aggregate.argument.clone() }, kind)
}

/// The conditions of a funnel.
fn steps(aggregate: &Aggregate) -> &[Expr] {
    match &aggregate.argument {
        Some(Expr::Steps(steps)) => steps,
        other => unreachable!("the argument of a funnel is its steps, not {other:?}"),
    }
}

fn key(fixed: Vec<Expr>, mut timed: Vec<Expr>, argument: Option<Expr>, kind: StoreKind) -> StoreKey {
    let timed = if timed.len() < 2 { timed.pop() } else { Some(Expr::And(timed)) };
    StoreKey { fixed, timed, argument, kind }
}

/// A filter's conjuncts: those that never change, and those that depend on now. `count(x)` counts where x is not NULL.
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

//! A segment's condition over one user's accumulators: is it true now, and until when at least?

use super::accumulator_key::AccumulatorId;
use super::index::SegmentIndex;
use super::user::User;
use crate::accumulator::Accumulator;
use crate::eval::{Scope, bucket, chosen_case, evaluate};
use crate::plan::{AggregateFunction, EventColumn, Expr, JsonPath, TimeCompare, UserColumn};
use crate::time::Timestamp;
use crate::value::Value;

/// A lowered plan.
#[derive(Clone, Debug)]
pub(super) struct Formula {
    /// The condition.
    pub root: Node,
    /// How [`Node::Test`]s read the plan's aggregates; `None` for those that only thresholds read.
    pub readings: Vec<Option<Reading>>,
    /// The machine's index of each segment of the plan.
    pub segments: Vec<SegmentIndex>,
}

/// How an aggregate's value is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// The accumulator that has it.
    pub accumulator: AccumulatorId,
    /// What to compute from the accumulator.
    pub function: AggregateFunction,
}

/// A node of a condition; three-valued, `None` is NULL.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// A constant truth.
    Constant(Option<bool>),
    /// SQL's AND.
    And(Vec<Node>),
    /// SQL's OR.
    Or(Vec<Node>),
    /// SQL's NOT.
    Not(Box<Node>),
    /// At least `k` events or values count. Of a [`NewestK`](crate::accumulator::NewestK) those
    /// count that were created less than `window` microseconds ago.
    AtLeast { accumulator: AccumulatorId, k: u64, window: i64 },
    /// One of `cases`, by the truth of the terms: TRUE 0, FALSE 1, NULL 2, the first term most
    /// significant.
    Switch { terms: Vec<Node>, cases: Vec<Node> },
    /// Membership of the segment with this index.
    Segment(SegmentIndex),
    /// Any other condition, evaluated as it is.
    Test(Expr),
}

/// A condition's truth, and until when it holds if nothing but time happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Whether the condition is TRUE, and not NULL.
    pub holds: bool,
    /// The first instant at which the truth may change; [`Timestamp::MAX`] for never. It may be too
    /// early, which costs a needless evaluation, but never too late.
    pub valid_until: Timestamp,
}

impl Formula {
    /// Evaluates the condition for a user.
    pub(super) fn evaluate(&self, user: &mut User, now: Timestamp) -> Verdict {
        let mut evaluation = Evaluation { formula: self, user, now, valid_until: Timestamp::MAX };
        let holds = evaluation.node(&self.root) == Some(true);
        Verdict { holds, valid_until: evaluation.valid_until }
    }

    /// Returns the truth of one of its nodes (`None` is NULL), and until when it holds at least.
    pub(super) fn truth_until(&self, node: &Node, user: &mut User, now: Timestamp) -> (Option<bool>, Timestamp) {
        let mut evaluation = Evaluation { formula: self, user, now, valid_until: Timestamp::MAX };
        (evaluation.node(node), evaluation.valid_until)
    }

    /// Returns the value of an expression for the user. It may read the aggregates that tests read.
    pub(super) fn value_of(&self, expr: &Expr, user: &mut User, now: Timestamp) -> Value {
        evaluate(expr, &mut Evaluation { formula: self, user, now, valid_until: Timestamp::MAX })
    }

    /// Returns the index of the case of an [`Expr::AggregateBy`] that counts for the user.
    pub(super) fn case_of(&self, terms: &[Expr], user: &mut User, now: Timestamp) -> usize {
        chosen_case(terms, &mut Evaluation { formula: self, user, now, valid_until: Timestamp::MAX })
    }

    /// Calls `visit` with each threshold: accumulator, k, window.
    pub(super) fn thresholds(&self, visit: &mut dyn FnMut(AccumulatorId, u64, i64)) {
        self.root.visit(&mut |node| {
            if let Node::AtLeast { accumulator, k, window } = node {
                visit(*accumulator, *k, *window);
            }
        });
    }

    /// Returns the accumulators that one of its nodes reads.
    pub(super) fn accumulators_of(&self, node: &Node) -> Vec<AccumulatorId> {
        let mut accumulators = Vec::new();
        node.visit(&mut |part| match part {
            Node::AtLeast { accumulator, .. } => accumulators.push(*accumulator),
            Node::Test(expr) => expr.walk(&mut |part| {
                let of = |index: &usize| self.readings[*index].map(|reading| reading.accumulator);
                match part {
                    Expr::Aggregate(index, _) => accumulators.extend(of(index)),
                    Expr::AggregateBy { cases, .. } => accumulators.extend(cases.iter().filter_map(of)),
                    _ => {}
                }
            }),
            _ => {}
        });
        accumulators
    }

    /// Returns the expressions of all [`Node::Test`]s.
    pub(super) fn tests(&self) -> Vec<&Expr> {
        let mut tests = Vec::new();
        self.root.visit(&mut |node| {
            if let Node::Test(expr) = node {
                tests.push(expr);
            }
        });
        tests
    }
}

impl Node {
    pub(super) fn visit<'a>(&'a self, visit: &mut dyn FnMut(&'a Node)) {
        visit(self);
        match self {
            Node::And(items) | Node::Or(items) => items.iter().for_each(|item| item.visit(visit)),
            Node::Switch { terms, cases } => terms.iter().chain(cases).for_each(|item| item.visit(visit)),
            Node::Not(inner) => inner.visit(visit),
            Node::Constant(_) | Node::AtLeast { .. } | Node::Segment(_) | Node::Test(_) => {}
        }
    }
}

struct Evaluation<'a> {
    formula: &'a Formula,
    user: &'a mut User,
    now: Timestamp,
    /// The earliest flip of the operands that decided the result so far.
    valid_until: Timestamp,
}

impl Evaluation<'_> {
    fn node(&mut self, node: &Node) -> Option<bool> {
        match node {
            Node::Constant(truth) => *truth,
            Node::And(items) => self.until_decided(items, false),
            Node::Or(items) => self.until_decided(items, true),
            Node::Not(inner) => self.node(inner).map(|truth| !truth),
            Node::AtLeast { accumulator, k, window } => Some(self.at_least(*accumulator, *k, *window)),
            Node::Switch { terms, cases } => {
                let digit = |truth| match truth {
                    Some(true) => 0,
                    Some(false) => 1,
                    None => 2,
                };
                let case = terms.iter().fold(0, |case, term| case * 3 + digit(self.node(term)));
                self.node(&cases[case])
            }
            Node::Segment(index) => Some(self.user.is_member(*index)),
            Node::Test(expr) => match evaluate(expr, self) {
                Value::Bool(truth) => Some(truth),
                _ => None,
            },
        }
    }

    /// The first FALSE decides AND, the first TRUE decides OR; then only the flip of that operand
    /// matters.
    fn until_decided(&mut self, items: &[Node], decisive: bool) -> Option<bool> {
        let outer = self.valid_until;
        let mut all = outer;
        let mut result = Some(!decisive);
        for item in items {
            self.valid_until = Timestamp::MAX;
            match self.node(item) {
                Some(truth) if truth == decisive => {
                    self.valid_until = self.valid_until.min(outer);
                    return Some(decisive);
                }
                None => result = None,
                Some(_) => {}
            }
            all = all.min(self.valid_until);
        }
        self.valid_until = all;
        result
    }

    fn at_least(&mut self, accumulator: AccumulatorId, k: u64, window: i64) -> bool {
        let now = self.now;
        let Some(accumulator) = self.user.accumulator_mut(accumulator) else { return false };
        accumulator.settle(now);
        let (until, next) = match accumulator {
            Accumulator::NewestK(newest_k) => {
                (newest_k.at_least_until(k as u32, window).map(Timestamp), Timestamp::MAX)
            }
            Accumulator::Count(count) => (count.at_least_until(k), count.next_begin()),
            Accumulator::Distinct(distinct) => {
                let next = distinct.next_change();
                ((distinct.value() >= k).then_some(next), next)
            }
            Accumulator::Sum(_) | Accumulator::Extreme(_) | Accumulator::Funnel(_) => {
                unreachable!("thresholds are over counts")
            }
        };
        match until {
            Some(until) if until > now => {
                self.valid_until = self.valid_until.min(until);
                true
            }
            _ => {
                self.valid_until = self.valid_until.min(next);
                false
            }
        }
    }
}

impl Scope for Evaluation<'_> {
    fn event(&self, _: EventColumn) -> Value {
        unreachable!("formulas read events through aggregates only")
    }

    fn payload(&self, _: &JsonPath) -> Value {
        unreachable!("formulas read events through aggregates only")
    }

    fn user_trait(&self, path: &JsonPath) -> Value {
        self.user.traits.get(path)
    }

    fn user(&self, column: UserColumn) -> Value {
        self.user.profile().column(column)
    }

    fn borrowed_json(&self, expr: &Expr) -> Option<&serde_json::Value> {
        match expr {
            Expr::Trait(path) => self.user.traits.json(path),
            _ => unreachable!("formulas read events through aggregates only"),
        }
    }

    fn bucket(&self, name: &str) -> Value {
        bucket(name, self.user.id)
    }

    fn aggregate(&mut self, index: usize) -> Value {
        let reading = self.formula.readings[index].expect("lowering reads every aggregate of a test");
        let Some(accumulator) = self.user.accumulator_mut(reading.accumulator) else {
            return empty_value(reading.function);
        };
        accumulator.settle(self.now);
        self.valid_until = self.valid_until.min(accumulator.next_change());
        match (accumulator, reading.function) {
            (Accumulator::Count(count), _) => int(count.value()),
            (Accumulator::Distinct(distinct), _) => int(distinct.value()),
            (Accumulator::Sum(sum), AggregateFunction::Avg) => sum.average(),
            (Accumulator::Sum(sum), _) => sum.total(),
            (Accumulator::Extreme(extreme), _) => extreme.value(),
            (Accumulator::Funnel(funnel), _) => int(funnel.value().into()),
            (Accumulator::NewestK(_), _) => unreachable!("only thresholds read the newest k"),
        }
    }

    fn segment(&mut self, index: usize) -> bool {
        self.user.is_member(self.formula.segments[index])
    }

    fn time_compare(&mut self, compare: &TimeCompare, x: &Value) -> Value {
        self.valid_until = self.valid_until.min(compare.next_flip(x, self.now));
        compare.truth(x, self.now)
    }
}

fn empty_value(function: AggregateFunction) -> Value {
    match function {
        AggregateFunction::Count | AggregateFunction::CountDistinct | AggregateFunction::Funnel { .. } => Value::Int(0),
        _ => Value::Null,
    }
}

fn int(count: u64) -> Value {
    Value::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

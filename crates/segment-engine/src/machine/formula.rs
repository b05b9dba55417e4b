//! A segment's condition over one user's stores: is it true now, and until when at least?

use super::store::StoreId;
use super::user::User;
use crate::eval::{Scope, bucket, chosen_case, evaluate};
use crate::leaf::State;
use crate::plan::{AggregateFunction, EventColumn, Expr, JsonPath, TimeCompare, UserColumn};
use crate::time::Timestamp;
use crate::value::Value;

/// A lowered plan.
#[derive(Clone, Debug)]
pub struct Formula {
    /// The condition.
    pub root: Node,
    /// How the plan's aggregates are read, where [`Node::Test`]s read them.
    pub readings: Vec<Option<Reading>>,
    /// The machine's indexes of the plan's segments.
    pub segments: Vec<u32>,
}

/// How an aggregate's value is read.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// From where.
    pub store: StoreId,
    /// As what.
    pub function: AggregateFunction,
}

/// A node of a condition; three-valued, `None` is NULL.
#[derive(Clone, Debug)]
pub enum Node {
    /// Always the same.
    Constant(Option<bool>),
    /// All are true.
    And(Vec<Node>),
    /// Any is true.
    Or(Vec<Node>),
    /// Not.
    Not(Box<Node>),
    /// At least `k` count. With a window, of a ring: those created less than `window` microseconds ago.
    AtLeast { store: StoreId, k: u64, window: i64 },
    /// One of `cases`, by the truth of the terms: TRUE 0, FALSE 1, NULL 2, the first term most significant.
    Switch { terms: Vec<Node>, cases: Vec<Node> },
    /// Membership of the segment of this index.
    Segment(u32),
    /// Anything else.
    Test(Expr),
}

/// A condition's truth, and the first instant at which it could be another if nothing but time happens. Never later than
/// the true one; an earlier one costs a look in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// TRUE, and not NULL.
    pub holds: bool,
    /// [`Timestamp::MAX`] for never.
    pub valid_until: Timestamp,
}

impl Formula {
    /// Evaluates over a user.
    pub fn evaluate(&self, user: &mut User, now: Timestamp) -> Verdict {
        let mut evaluation = Evaluation { formula: self, user, now, valid_until: Timestamp::MAX };
        let holds = evaluation.node(&self.root) == Some(true);
        Verdict { holds, valid_until: evaluation.valid_until }
    }

    /// The truth of one of its nodes (`None` is NULL), and until when it holds at least.
    pub fn truth_until(&self, node: &Node, user: &mut User, now: Timestamp) -> (Option<bool>, Timestamp) {
        let mut evaluation = Evaluation { formula: self, user, now, valid_until: Timestamp::MAX };
        (evaluation.node(node), evaluation.valid_until)
    }

    /// The value of an expression over the user; of aggregates, those that tests read.
    pub fn value_of(&self, expr: &Expr, user: &mut User, now: Timestamp) -> Value {
        evaluate(expr, &mut Evaluation { formula: self, user, now, valid_until: Timestamp::MAX })
    }

    /// Which case of an [`Expr::AggregateBy`] counts for the user.
    pub fn case_of(&self, terms: &[Expr], user: &mut User, now: Timestamp) -> usize {
        chosen_case(terms, &mut Evaluation { formula: self, user, now, valid_until: Timestamp::MAX })
    }

    /// Calls `visit` with each threshold: store, k, window.
    pub fn thresholds(&self, visit: &mut dyn FnMut(StoreId, u64, i64)) {
        self.root.visit(&mut |node| {
            if let Node::AtLeast { store, k, window } = node {
                visit(*store, *k, *window);
            }
        });
    }

    /// The stores that one of its nodes reads.
    pub fn stores_of(&self, node: &Node) -> Vec<StoreId> {
        let mut stores = Vec::new();
        node.visit(&mut |part| match part {
            Node::AtLeast { store, .. } => stores.push(*store),
            Node::Test(expr) => expr.walk(&mut |part| {
                let of = |index: &usize| self.readings[*index].map(|reading| reading.store);
                match part {
                    Expr::Aggregate(index, _) => stores.extend(of(index)),
                    Expr::AggregateBy { cases, .. } => stores.extend(cases.iter().filter_map(of)),
                    _ => {}
                }
            }),
            _ => {}
        });
        stores
    }

    /// The expressions that are evaluated as they stand.
    pub fn tests(&self) -> Vec<&Expr> {
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
    /// The earliest flip of what was looked at and decided.
    valid_until: Timestamp,
}

impl Evaluation<'_> {
    fn node(&mut self, node: &Node) -> Option<bool> {
        match node {
            Node::Constant(truth) => *truth,
            Node::And(items) => self.until_decided(items, false),
            Node::Or(items) => self.until_decided(items, true),
            Node::Not(inner) => self.node(inner).map(|truth| !truth),
            Node::AtLeast { store, k, window } => Some(self.at_least(*store, *k, *window)),
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

    /// AND is decided by the first FALSE, OR by the first TRUE; then only that operand's flip matters.
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

    fn at_least(&mut self, store: StoreId, k: u64, window: i64) -> bool {
        let now = self.now;
        let Some(state) = self.user.state_mut(store) else { return false };
        state.settle(now);
        let (until, next) = match state {
            State::Ring(ring) => (ring.at_least_until(k as u32, window).map(Timestamp), Timestamp::MAX),
            State::Count(count) => (count.at_least_until(k), count.next_begin()),
            State::Distinct(distinct) => {
                let next = distinct.next_change();
                ((distinct.value() >= k).then_some(next), next)
            }
            State::Sum(_) | State::Extreme(_) | State::Funnel(_) => unreachable!("thresholds are over counts"),
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
        self.user.profile.column(column)
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
        let Some(state) = self.user.state_mut(reading.store) else { return empty_value(reading.function) };
        state.settle(self.now);
        self.valid_until = self.valid_until.min(state.next_change());
        match (state, reading.function) {
            (State::Count(count), _) => int(count.value()),
            (State::Distinct(distinct), _) => int(distinct.value()),
            (State::Sum(sum), AggregateFunction::Avg) => sum.average(),
            (State::Sum(sum), _) => sum.total(),
            (State::Extreme(extreme), _) => extreme.value(),
            (State::Funnel(funnel), _) => int(funnel.value().into()),
            (State::Ring(_), _) => unreachable!("rings answer thresholds only"),
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

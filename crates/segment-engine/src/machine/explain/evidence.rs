//! The values that a condition reads, and the events behind them as far as accumulators keep them.

use super::{Evidence, ValueReport};
use crate::accumulator::{Breakdown, Contributor};
use crate::language::{Names, print_expression};
use crate::machine::Machine;
use crate::machine::accumulator_key::{AccumulatorId, AccumulatorKey};
use crate::machine::formula::{Formula, Node};
use crate::machine::lower::ALL_TIME;
use crate::machine::user::User;
use crate::plan::{Expr, Plan};
use crate::time::Timestamp;
use crate::value::Value;

/// How many events are returned for one value at most.
const EVIDENCE_MAX: usize = 10;

impl Machine {
    /// Returns the values and the evidence of one condition, `expr`, which was lowered to `node`.
    pub(super) fn evidence(
        &self,
        plan: &Plan,
        formula: &Formula,
        expr: &Expr,
        node: &Node,
        user: &mut User,
    ) -> (Vec<ValueReport>, Vec<Evidence>) {
        let names = Names { aggregates: &plan.aggregates, segments: &plan.segments };
        let (mut values, mut evidence): (Vec<ValueReport>, Vec<Evidence>) = (Vec::new(), Vec::new());
        expr.walk(&mut |part| {
            let read = match part {
                Expr::Aggregate(..) | Expr::AggregateBy { .. } => self.aggregate(formula, part, node, user),
                Expr::Trait(_) | Expr::User(_) | Expr::Segment(_) => Some(of_user(formula, part, user, self.now)),
                _ => None,
            };
            let Some((value, breakdown)) = read else { return };
            let expression = print_expression(part, &names);
            if values.iter().any(|known| known.expression == expression) {
                return;
            }
            let of = values.len();
            values.push(ValueReport { expression, value, counted: breakdown.counted });
            let contributors = breakdown.contributors.into_iter();
            evidence.extend(contributors.map(|Contributor { created_at, value, until }| Evidence {
                of,
                created_at,
                value,
                until,
            }));
        });
        (values, evidence)
    }

    /// Returns an aggregate's value, and the contributions to it.
    fn aggregate(&self, formula: &Formula, part: &Expr, node: &Node, user: &mut User) -> Option<(Value, Breakdown)> {
        let (aggregate, node) = match part {
            Expr::Aggregate(index, _) => (*index, node),
            Expr::AggregateBy { terms, cases, .. } => {
                let case = formula.case_of(terms, user, self.now);
                match node {
                    Node::Switch { cases: nodes, .. } => (cases[case], &nodes[case]),
                    _ => (cases[case], node),
                }
            }
            _ => return None,
        };
        match formula.readings[aggregate] {
            Some(reading) => {
                let value = formula.value_of(part, user, self.now);
                Some((value, self.breakdown(reading.accumulator, ALL_TIME, user)))
            }
            None => {
                let (accumulator, window) = greatest_threshold(node)?;
                let breakdown = self.breakdown(accumulator, window, user);
                let count = i64::try_from(breakdown.counted?).unwrap_or(i64::MAX);
                Some((Value::Int(count), breakdown))
            }
        }
    }

    fn breakdown(&self, accumulator: AccumulatorId, window: i64, user: &mut User) -> Breakdown {
        let key = &self.catalog.accumulator(accumulator).key;
        let mut empty = key.empty();
        let accumulator = user.accumulator_mut(accumulator).unwrap_or(&mut empty);
        accumulator.settle(self.now);
        let mut breakdown = accumulator.breakdown(window, self.now, EVIDENCE_MAX);
        for contributor in &mut breakdown.contributors {
            contributor.created_at = contributor.created_at.or_else(|| created_at(key, contributor.until));
        }
        breakdown
    }
}

/// Returns the accumulator and window of the greatest threshold: `= k` has two.
fn greatest_threshold(node: &Node) -> Option<(AccumulatorId, i64)> {
    let mut greatest = None;
    node.visit(&mut |part| {
        if let Node::AtLeast { accumulator, k, window } = part
            && greatest.is_none_or(|(other, _, _)| other < *k)
        {
            greatest = Some((*k, *accumulator, *window));
        }
    });
    greatest.map(|(_, accumulator, window)| (accumulator, window))
}

/// Returns when the event was created whose contribution ends at `until`. That is known if it ends
/// by leaving a window of `created_at`, and for no other reason.
fn created_at(key: &AccumulatorKey, until: Timestamp) -> Option<Timestamp> {
    if until == Timestamp::MAX || key.argument.as_ref().is_some_and(Expr::reads_now) {
        return None;
    }
    let conjuncts = match key.timed.as_ref()? {
        Expr::And(conjuncts) => conjuncts,
        conjunct => std::slice::from_ref(conjunct),
    };
    let mut shortest: Option<i64> = None;
    for conjunct in conjuncts {
        let Expr::TimeCompare(compare) = conjunct else { return None };
        match compare.created_at_window() {
            Some(window) => shortest = Some(shortest.map_or(window, |other| other.min(window))),
            // A delay only decides when the event begins to count.
            None => drop(compare.created_at_delay()?),
        }
    }
    until.0.checked_sub(shortest?).map(Timestamp)
}

/// Returns the value of a trait, a column of the user or a membership; of a trait also since when.
fn of_user(formula: &Formula, part: &Expr, user: &mut User, now: Timestamp) -> (Value, Breakdown) {
    let value = formula.value_of(part, user, now);
    let since = match part {
        Expr::Trait(path) => user.traits.since(path),
        _ => None,
    };
    let contributor =
        since.map(|since| Contributor { created_at: Some(since), value: Some(value.clone()), until: Timestamp::MAX });
    (value, Breakdown { counted: None, contributors: contributor.into_iter().collect() })
}

//! The values that a condition reads, and what is behind them as far as the states keep it.

use super::{Evidence, ValueReport};
use crate::language::{Names, print_expression};
use crate::leaf::{Kept, Shown};
use crate::machine::Machine;
use crate::machine::formula::{Formula, Node};
use crate::machine::lower::ALL_TIME;
use crate::machine::store::{StoreId, StoreKey};
use crate::machine::user::User;
use crate::plan::{Expr, Plan};
use crate::time::Timestamp;
use crate::value::Value;

/// At most so many events are shown behind one value.
const EVIDENCE_MAX: usize = 10;

impl Machine {
    /// Of one condition, `expr`, which was lowered to `node`.
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
            let Some((value, shown)) = read else { return };
            let expression = print_expression(part, &names);
            if values.iter().any(|known| known.expression == expression) {
                return;
            }
            let of = values.len();
            values.push(ValueReport { expression, value, counted: shown.counted });
            let kept = shown.kept.into_iter();
            evidence.extend(kept.map(|Kept { created_at, value, until }| Evidence { of, created_at, value, until }));
        });
        (values, evidence)
    }

    /// An aggregate's value, and the contributions to it.
    fn aggregate(&self, formula: &Formula, part: &Expr, node: &Node, user: &mut User) -> Option<(Value, Shown)> {
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
                Some((value, self.shown(reading.store, ALL_TIME, user)))
            }
            None => {
                let (store, window) = greatest_threshold(node)?;
                let shown = self.shown(store, window, user);
                let count = i64::try_from(shown.counted?).unwrap_or(i64::MAX);
                Some((Value::Int(count), shown))
            }
        }
    }

    fn shown(&self, store: StoreId, window: i64, user: &mut User) -> Shown {
        let key = &self.catalog.store(store).key;
        let mut empty = key.empty();
        let state = user.state_mut(store).unwrap_or(&mut empty);
        state.settle(self.now);
        let mut shown = state.shown(window, self.now, EVIDENCE_MAX);
        for kept in &mut shown.kept {
            kept.created_at = kept.created_at.or_else(|| created_at(key, kept.until));
        }
        shown
    }
}

/// The threshold of a count that is kept furthest: `= k` reads two.
fn greatest_threshold(node: &Node) -> Option<(StoreId, i64)> {
    let mut greatest = None;
    node.visit(&mut |part| {
        if let Node::AtLeast { store, k, window } = part
            && greatest.is_none_or(|(other, _, _)| other < *k)
        {
            greatest = Some((*k, *store, *window));
        }
    });
    greatest.map(|(_, store, window)| (store, window))
}

/// When the event was created whose contribution ends then: where it ends by leaving a window of `created_at`, and for no
/// other reason.
fn created_at(key: &StoreKey, until: Timestamp) -> Option<Timestamp> {
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
            // It only says when the event begins to count.
            None => drop(compare.created_at_delay()?),
        }
    }
    until.0.checked_sub(shortest?).map(Timestamp)
}

/// What stands for itself; of a trait it is known since when.
fn of_user(formula: &Formula, part: &Expr, user: &mut User, now: Timestamp) -> (Value, Shown) {
    let value = formula.value_of(part, user, now);
    let since = match part {
        Expr::Trait(path) => user.traits.since(path),
        _ => None,
    };
    let kept = since.map(|since| Kept { created_at: Some(since), value: Some(value.clone()), until: Timestamp::MAX });
    (value, Shown { counted: None, kept: kept.into_iter().collect() })
}

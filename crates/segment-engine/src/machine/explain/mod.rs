//! Why a user is in a segment or not, and when that will change: from the machine's state alone.

mod evidence;
#[cfg(test)]
mod tests;

use super::formula::{Formula, Node};
use super::index::SegmentIndex;
use super::user::User;
use super::{Machine, Rule};
use crate::ids::{SegmentVersion, UserId};
use crate::language::{Names, print_expression};
use crate::plan::{Expr, Plan};
use crate::time::Timestamp;
use crate::value::Value;

/// After so many evaluations a forecast gives up and returns `None`.
const FORECAST_STEPS_MAX: usize = 10_000;

/// Why a user is in a segment or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Whether the user is a member.
    pub member: bool,
    /// The instant at which all this holds.
    pub at: Timestamp,
    /// The version of the segment that is in force for the user.
    pub version: SegmentVersion,
    /// The clause in its normal form; `None` for a manual segment.
    pub normal_form: Option<String>,
    /// The conditions that AND, OR and NOT join, in the order of the clause.
    pub conditions: Vec<ConditionReport>,
    /// When the membership will change if nothing more happens; `None` for never.
    pub next_change: Option<Timestamp>,
}

/// One condition of a clause.
#[derive(Clone, Debug, PartialEq)]
pub struct ConditionReport {
    /// The condition as the normal form has it.
    pub condition: String,
    /// `None` is NULL.
    pub truth: Option<bool>,
    /// What it reads of the user.
    pub values: Vec<ValueReport>,
    /// The events behind the values, as far as they are kept: for each value the longest-lasting
    /// first.
    pub evidence: Vec<Evidence>,
    /// When the truth will change if nothing more happens; `None` for never.
    pub next_change: Option<Timestamp>,
    /// Whether the user has more events than are kept: the others are left out, and the condition
    /// may be wrong.
    pub limited: bool,
}

/// The value of an aggregate, a trait, a column of the user or a membership.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueReport {
    /// The expression as the normal form has it.
    pub expression: String,
    /// A count that is kept only up to a threshold is at most that.
    pub value: Value,
    /// How many events the aggregate is over (for `count(DISTINCT …)`: how many values). `None` if
    /// that is not kept, as for `max` and `last`, or if the value is not an aggregate.
    pub counted: Option<u64>,
}

/// An event that counts, or the setting of a trait.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// The index of its value in [`ConditionReport::values`].
    pub of: usize,
    /// When the event was created, if that is kept or follows from its end. For a trait: since when
    /// it has its value.
    pub created_at: Option<Timestamp>,
    /// The event's value for the aggregate, if it has one and that is kept.
    pub value: Option<Value>,
    /// The first instant at which it no longer counts; [`Timestamp::MAX`] for never.
    pub until: Timestamp,
}

impl Machine {
    /// Explains a user's membership at the machine's instant. `None` for an unknown user or
    /// segment.
    pub fn explain(&self, user: UserId, tag: &str) -> Option<Explanation> {
        let index = self.catalog.index_of_tag(tag)?;
        let compiled = self.catalog.in_force(index)?;
        let slot = *self.by_id.get(&user)?;
        let mut user = self.users[slot.0 as usize].clone()?;
        let member = user.is_member(index);
        let (normal_form, conditions) = match (&compiled.definition.rule, &compiled.formula) {
            (Rule::Where(plan), Some(formula)) => {
                (Some(plan.normal_form.clone()), self.conditions(plan, formula, &mut user))
            }
            _ => (None, Vec::new()),
        };
        let next_change = self.forecast(index, user);
        let version = compiled.definition.version;
        Some(Explanation { member, at: self.now, version, normal_form, conditions, next_change })
    }

    fn conditions(&self, plan: &Plan, formula: &Formula, user: &mut User) -> Vec<ConditionReport> {
        let names = Names { aggregates: &plan.aggregates, segments: &plan.segments };
        let mut reports = Vec::new();
        atoms(&plan.formula, &formula.root, &mut |expr, node| {
            let (truth, _) = formula.truth_until(node, user, self.now);
            let (values, evidence) = self.evidence(plan, formula, expr, node, user);
            reports.push(ConditionReport {
                condition: print_expression(expr, &names),
                truth,
                values,
                evidence,
                next_change: condition_change(formula, node, user, self.now),
                limited: self.is_limited(user, &formula.accumulators_of(node)),
            });
        });
        reports
    }

    /// Returns the first instant after now at which the membership changes if nothing more happens.
    fn forecast(&self, index: SegmentIndex, mut user: User) -> Option<Timestamp> {
        let before = user.is_member(index);
        let mut involved = vec![index];
        let mut at = 0;
        while at < involved.len() {
            let formula = self.catalog.in_force(involved[at]).and_then(|compiled| compiled.formula.as_ref());
            for named in formula.iter().flat_map(|formula| &formula.segments) {
                if !involved.contains(named) {
                    involved.push(*named);
                }
            }
            at += 1;
        }
        involved.sort_unstable_by_key(|index| (self.catalog.slots[index.0 as usize].rank, *index));
        let mut now = self.now;
        for _ in 0..FORECAST_STEPS_MAX {
            let mut next = Timestamp::MAX;
            for &index in &involved {
                let (holds, valid_until) = self.verdict_at(index, &mut user, now);
                user.set_member(index, holds);
                next = next.min(valid_until);
            }
            if user.is_member(index) != before {
                return Some(now);
            }
            if next == Timestamp::MAX {
                return None;
            }
            now = next;
        }
        None
    }
}

/// Visits the conditions below AND, OR and NOT, each with its lowered form. Lowering keeps those
/// three as they are.
fn atoms(expr: &Expr, node: &Node, visit: &mut dyn FnMut(&Expr, &Node)) {
    match (expr, node) {
        (Expr::And(exprs), Node::And(nodes)) | (Expr::Or(exprs), Node::Or(nodes)) => {
            exprs.iter().zip(nodes).for_each(|(expr, node)| atoms(expr, node, visit));
        }
        (Expr::Not(expr), Node::Not(node)) => atoms(expr, node, visit),
        _ => visit(expr, node),
    }
}

/// Returns the first instant after now at which a condition's truth changes if nothing more happens
/// and the memberships of other segments stay as they are.
fn condition_change(formula: &Formula, node: &Node, user: &User, now: Timestamp) -> Option<Timestamp> {
    let mut user = user.clone();
    let (before, mut next) = formula.truth_until(node, &mut user, now);
    for _ in 0..FORECAST_STEPS_MAX {
        if next == Timestamp::MAX {
            return None;
        }
        let (truth, valid_until) = formula.truth_until(node, &mut user, next);
        if truth != before {
            return Some(next);
        }
        next = valid_until;
    }
    None
}

//! From the clause's formula to the plan: takes conditions on the user out of the aggregates, and
//! numbers aggregates and segments in the order in which the formula reads them.
//!
//! `count(*) FILTER (WHERE traits->>'plan' = 'pro' AND region = 'X')` becomes one aggregate per
//! truth of the condition on the user (TRUE, FALSE, NULL), each over the event alone. The formula
//! chooses among them when it is evaluated.

use super::canonical;
use super::error::{CompileError, Pos, code};
use super::limits::{PLAN_AGGREGATES_MAX, USER_TERMS_MAX};
use super::print::{Names, expression};
use crate::plan::{Aggregate, Expr};
use crate::value::{Type, Value};

/// Returns the formula over pure aggregates, these aggregates, and the tags of the segments that it
/// reads.
pub(super) fn split(
    formula: Expr,
    names: &Names<'_>,
    positions: &[Pos],
) -> Result<(Expr, Vec<Aggregate>, Vec<String>), CompileError> {
    let mut plan = Numbering { names: *names, positions, aggregates: Vec::new(), segments: Vec::new() };
    let formula = plan.renumbered(formula)?;
    Ok((formula, plan.aggregates, plan.segments))
}

struct Numbering<'a> {
    names: Names<'a>,
    positions: &'a [Pos],
    aggregates: Vec<Aggregate>,
    segments: Vec<String>,
}

impl Numbering<'_> {
    fn renumbered(&mut self, expr: Expr) -> Result<Expr, CompileError> {
        match expr {
            Expr::Aggregate(index, ty) => {
                let aggregates = self.names.aggregates;
                self.aggregate(&aggregates[index], ty, self.positions[index])
            }
            Expr::Segment(index) => {
                let tag = &self.names.segments[index];
                let known = self.segments.iter().position(|known| known == tag);
                Ok(Expr::Segment(known.unwrap_or_else(|| {
                    self.segments.push(tag.clone());
                    self.segments.len() - 1
                })))
            }
            other => {
                let mut failure = None;
                let renumbered = other.map_children(&mut |child| match self.renumbered(child) {
                    Ok(child) => child,
                    Err(error) => {
                        failure.get_or_insert(error);
                        canonical::bool_literal(false)
                    }
                });
                failure.map_or(Ok(renumbered), Err)
            }
        }
    }

    fn aggregate(&mut self, aggregate: &Aggregate, ty: Type, pos: Pos) -> Result<Expr, CompileError> {
        let mut terms = Vec::new();
        for part in [&aggregate.argument, &aggregate.filter].into_iter().flatten() {
            collect_terms(part, &mut terms);
        }
        terms.sort_by_cached_key(|term| expression(term, &self.names));
        terms.dedup();
        if terms.is_empty() {
            return Ok(Expr::Aggregate(self.index_of(aggregate.clone(), pos)?, ty));
        }
        if terms.len() > USER_TERMS_MAX {
            let message = format!(
                "an aggregate may have at most {USER_TERMS_MAX} separate conditions on the user inside, but this one has {}",
                terms.len()
            );
            return Err(CompileError::new(code::TOO_MANY_TERMS, pos, message).suggest(
                "Join them in parentheses, or put them beside the aggregate: count(*) FILTER (WHERE …) > 0 AND …",
            ));
        }
        let assignments = 3_usize.pow(terms.len() as u32);
        let cases = (0..assignments)
            .map(|assignment| self.index_of(assigned(aggregate, &terms, assignment, &self.names), pos))
            .collect::<Result<Vec<_>, _>>()?;
        let terms = terms.into_iter().map(|term| self.renumbered(term)).collect::<Result<Vec<_>, _>>()?;
        Ok(Expr::AggregateBy { terms, cases, ty })
    }

    fn index_of(&mut self, aggregate: Aggregate, pos: Pos) -> Result<usize, CompileError> {
        if let Some(index) = self.aggregates.iter().position(|known| *known == aggregate) {
            return Ok(index);
        }
        if self.aggregates.len() == PLAN_AGGREGATES_MAX {
            let message =
                format!("conditions on the user inside aggregates make more than {PLAN_AGGREGATES_MAX} aggregates");
            return Err(CompileError::new(code::TOO_MANY_AGGREGATES, pos, message)
                .suggest("Put them beside the aggregates: count(*) FILTER (WHERE …) > 0 AND traits->>'plan' = 'pro'"));
        }
        self.aggregates.push(aggregate);
        Ok(self.aggregates.len() - 1)
    }
}

/// Whether this is a whole condition on the user.
fn is_term(expr: &Expr) -> bool {
    expr.value_type() == Type::Bool && expr.reads_user() && !expr.reads_event()
}

/// Collects the largest conditions on the user. Those under one AND or OR count as one.
fn collect_terms(expr: &Expr, terms: &mut Vec<Expr>) {
    if is_term(expr) {
        terms.push(expr.clone());
        return;
    }
    if let Some(term) = joint_term(expr) {
        terms.push(term);
        expr.children().into_iter().filter(|child| !is_term(child)).for_each(|child| collect_terms(child, terms));
        return;
    }
    expr.children().into_iter().for_each(|child| collect_terms(child, terms));
}

/// Returns the conditions on the user among the operands of one AND or OR, joined, if there are
/// several.
fn joint_term(expr: &Expr) -> Option<Expr> {
    let of_user = |items: &[Expr]| -> Option<Vec<Expr>> {
        let found: Vec<Expr> = items.iter().filter(|item| is_term(item)).cloned().collect();
        (found.len() > 1).then_some(found)
    };
    match expr {
        Expr::And(items) => of_user(items).map(Expr::And),
        Expr::Or(items) => of_user(items).map(Expr::Or),
        _ => None,
    }
}

/// Returns the aggregate in which each term has the truth of its digit in `assignment`.
fn assigned(aggregate: &Aggregate, terms: &[Expr], assignment: usize, names: &Names<'_>) -> Aggregate {
    let truths: Vec<(&Expr, Expr)> = terms
        .iter()
        .enumerate()
        .map(|(index, term)| {
            let digit = assignment / 3_usize.pow((terms.len() - 1 - index) as u32) % 3;
            let truth = [Value::Bool(true), Value::Bool(false), Value::Null][digit].clone();
            (term, Expr::Literal(truth, Type::Bool))
        })
        .collect();
    let assign = |part: &Option<Expr>| part.clone().map(|part| replaced(part, &truths));
    canonical::aggregate(
        Aggregate {
            function: aggregate.function,
            argument: assign(&aggregate.argument),
            filter: assign(&aggregate.filter),
        },
        names,
    )
}

fn replaced(expr: Expr, truths: &[(&Expr, Expr)]) -> Expr {
    if let Some((_, truth)) = truths.iter().find(|(term, _)| **term == expr) {
        return truth.clone();
    }
    match joint_term(&expr).and_then(|joint| truths.iter().find(|(term, _)| **term == joint)) {
        Some((_, truth)) => with_joint(expr, truth, truths),
        None => expr.map_children(&mut |child| replaced(child, truths)),
    }
}

/// Replaces the operands on the user of an AND or OR by their joint truth.
fn with_joint(expr: Expr, truth: &Expr, truths: &[(&Expr, Expr)]) -> Expr {
    let rest = |items: Vec<Expr>| -> Vec<Expr> {
        let rest = items.into_iter().filter(|item| !is_term(item)).map(|item| replaced(item, truths));
        std::iter::once(truth.clone()).chain(rest).collect()
    };
    match expr {
        Expr::And(items) => Expr::And(rest(items)),
        Expr::Or(items) => Expr::Or(rest(items)),
        other => other,
    }
}

//! Refusing clauses that ask for more than accumulators keep.
//!
//! An aggregate has a value in a range: a count in a window is at most what is kept per user.
//! Arithmetic on ranges says what a condition can see. If a condition has one result in these
//! ranges, but not in those that the aggregates would have without bounds, then a bound decides it.

use super::accumulator_key::{AccumulatorKey, AccumulatorKind};
use super::lower::value_key;
use crate::accumulator::ENTRIES_MAX;
use crate::decimal::Decimal;
use crate::language::{CompileError, Names, code, print_expression};
use crate::plan::{AggregateFunction, ArithmeticOp, CompareOp, Expr, Function, Plan};
use crate::value::{Type, Value};

/// Refuses a clause that compares a count, in a window or of distinct values, with more than an
/// accumulator keeps per user, or the value of a funnel with more steps than it has. Where it
/// cannot be decided, the clause is accepted.
///
/// This is checked when a clause is saved. Clauses that earlier builds saved still compile, and
/// each user beyond the bound is reported.
///
/// # Errors
/// `WHERE_THRESHOLD`, with the largest number that can be asked for.
pub fn check_thresholds(plan: &Plan) -> Result<(), CompileError> {
    let mut beyond = None;
    plan.formula.walk(&mut |condition| {
        if beyond.is_none() && is_beyond_a_bound(plan, condition) {
            beyond = Some(condition);
        }
    });
    beyond.map_or(Ok(()), |condition| Err(refusal(plan, condition)))
}

fn refusal(plan: &Plan, condition: &Expr) -> CompileError {
    let names = Names { aggregates: &plan.aggregates, segments: &plan.segments };
    let bounds = bounds_of(plan, condition);
    let most = match bounds.first() {
        Some(Bound::Steps(steps)) => u64::from(*steps),
        _ => ENTRIES_MAX as u64,
    };
    let (kept, instead) = match bounds.first() {
        Some(Bound::Steps(_)) => (format!("the funnel has {most} steps"), String::new()),
        Some(Bound::Values) => {
            (format!("at most {most} distinct values are kept per user"), ", or count fewer values".to_owned())
        }
        _ => (format!("at most {most} events in a window are kept per user"), ", or count without a window".to_owned()),
    };
    CompileError {
        code: code::THRESHOLD,
        message: format!("`{}` asks for more than there can be: {kept}", print_expression(condition, &names)),
        suggestion: Some(format!("Compare with at most `>= {most}`{instead}")),
        line: 1,
        column: 1,
    }
}

/// What limits an aggregate's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    /// The events in a window that are kept.
    Events,
    /// The distinct values that are kept.
    Values,
    /// The steps of a funnel.
    Steps(u8),
}

impl Bound {
    fn of(key: &AccumulatorKey) -> Option<Bound> {
        match key.kind {
            AccumulatorKind::Distinct(_) => Some(Bound::Values),
            AccumulatorKind::Funnel { steps, .. } => Some(Bound::Steps(steps)),
            // Events that count for ever are only a number, which has no bound.
            AccumulatorKind::Count(_) => key.timed.as_ref().is_some_and(ends).then_some(Bound::Events),
            _ => None,
        }
    }

    fn most(self) -> Decimal {
        Decimal::from_int(match self {
            Bound::Events | Bound::Values => ENTRIES_MAX as i64,
            Bound::Steps(steps) => steps.into(),
        })
    }
}

/// Returns the bounds of the aggregates in a condition, those of funnels last.
fn bounds_of(plan: &Plan, condition: &Expr) -> Vec<Bound> {
    let mut bounds = Vec::new();
    condition.walk(&mut |part| {
        let indexes = match part {
            Expr::Aggregate(index, _) => std::slice::from_ref(index),
            Expr::AggregateBy { cases, .. } => cases,
            _ => &[],
        };
        bounds.extend(indexes.iter().filter_map(|index| Bound::of(&value_key(&plan.aggregates[*index]))));
    });
    bounds.sort_by_key(|bound| matches!(bound, Bound::Steps(_)));
    bounds
}

/// Whether a comparison has its result only because of a bound.
///
/// A count beyond the bound is not known, so a result that is always TRUE is as wrong as one that
/// never is, and `= 100000` could not tell 100,000 events from more. But a funnel has no more steps
/// than it has: `<= 2` of a funnel of two steps is right.
fn is_beyond_a_bound(plan: &Plan, condition: &Expr) -> bool {
    let pairs: Vec<(CompareOp, &Expr, &Expr)> = match condition {
        Expr::Compare(CompareOp::Eq | CompareOp::NotEq, left, right) | Expr::NotDistinct(left, right) => {
            both_ways(left, right).into()
        }
        Expr::Compare(op, left, right) => vec![(*op, left, right)],
        Expr::InList(left, list) => list.iter().flat_map(|right| both_ways(left, right)).collect(),
        _ => return false,
    };
    let bounds = bounds_of(plan, condition);
    let only_funnels = bounds.iter().all(|bound| matches!(bound, Bound::Steps(_)));
    let cases = |expr: &Expr| match expr {
        Expr::AggregateBy { cases, .. } => cases.len(),
        _ => 1,
    };
    let mut cases_max = 1;
    condition.walk(&mut |part| cases_max = cases_max.max(cases(part)));
    let decides = |op, left, right, case| {
        let result = |is_bounded| {
            let ranges = Ranges { plan, is_bounded, case };
            decided(op, ranges.of(left), ranges.of(right))
        };
        result(false).is_none() && result(true).is_some_and(|truth| !truth || !only_funnels)
    };
    !bounds.is_empty()
        && pairs.into_iter().any(|(op, left, right)| (0..cases_max).any(|case| decides(op, left, right, case)))
}

fn both_ways<'a>(left: &'a Expr, right: &'a Expr) -> [(CompareOp, &'a Expr, &'a Expr); 2] {
    [(CompareOp::LtEq, left, right), (CompareOp::GtEq, left, right)]
}

/// The numbers from `low` to `high`. `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Range {
    low: Option<Decimal>,
    high: Option<Decimal>,
}

/// Returns the result of a comparison that all numbers of both ranges have.
fn decided(op: CompareOp, left: Range, right: Range) -> Option<bool> {
    let is_below = |a: Option<Decimal>, b: Option<Decimal>| matches!((a, b), (Some(a), Some(b)) if a < b);
    let is_at_most = |a: Option<Decimal>, b: Option<Decimal>| matches!((a, b), (Some(a), Some(b)) if a <= b);
    match op {
        CompareOp::Lt if is_below(left.high, right.low) => Some(true),
        CompareOp::Lt if is_at_most(right.high, left.low) => Some(false),
        CompareOp::LtEq if is_at_most(left.high, right.low) => Some(true),
        CompareOp::LtEq if is_below(right.high, left.low) => Some(false),
        CompareOp::Gt => decided(CompareOp::Lt, right, left),
        CompareOp::GtEq => decided(CompareOp::LtEq, right, left),
        _ => None,
    }
}

impl Range {
    const ALL: Range = Range { low: None, high: None };

    fn only(number: Decimal) -> Range {
        Range { low: Some(number), high: Some(number) }
    }

    /// The range of what a function that never falls makes of this one.
    fn map(self, f: impl Fn(Decimal) -> Option<Decimal>) -> Range {
        Range { low: self.low.and_then(&f), high: self.high.and_then(&f) }
    }

    fn or(self, other: Range) -> Range {
        Range {
            low: self.low.zip(other.low).map(|(a, b)| a.min(b)),
            high: self.high.zip(other.high).map(|(a, b)| a.max(b)),
        }
    }

    fn negated(self) -> Range {
        Range { low: self.high.and_then(Decimal::checked_neg), high: self.low.and_then(Decimal::checked_neg) }
    }

    fn is_positive_or_zero(self) -> bool {
        self.low.is_some_and(|low| low >= Decimal::ZERO)
    }

    fn is_negative_or_zero(self) -> bool {
        self.high.is_some_and(|high| high <= Decimal::ZERO)
    }

    fn plus(self, other: Range) -> Range {
        let sum = |a: Option<Decimal>, b: Option<Decimal>| a?.checked_add(b?);
        Range { low: sum(self.low, other.low), high: sum(self.high, other.high) }
    }

    /// Returns the range of products or quotients, if neither range has numbers of both signs.
    fn scaled(self, op: ArithmeticOp, other: Range) -> Range {
        match (self.is_positive_or_zero(), other.is_positive_or_zero()) {
            (true, true) if op == ArithmeticOp::Mul => {
                let product = |a: Option<Decimal>, b: Option<Decimal>| match (a, b) {
                    (Some(zero), _) | (_, Some(zero)) if zero == Decimal::ZERO => Some(zero),
                    _ => a?.checked_mul(b?),
                };
                Range { low: product(self.low, other.low), high: product(self.high, other.high) }
            }
            (true, true) => {
                let quotient = |a: Option<Decimal>, b: Option<Decimal>| a?.checked_div(b?);
                let low = if other.high.is_some() { quotient(self.low, other.high) } else { Some(Decimal::ZERO) };
                Range { low, high: quotient(self.high, other.low) }
            }
            (false, _) if self.is_negative_or_zero() => self.negated().scaled(op, other).negated(),
            (true, false) if other.is_negative_or_zero() => self.scaled(op, other.negated()).negated(),
            _ => Range::ALL,
        }
    }
}

/// The ranges of expressions, over all users.
struct Ranges<'a> {
    plan: &'a Plan,
    /// Whether bounds limit the aggregates.
    is_bounded: bool,
    /// Which case of each [`Expr::AggregateBy`] counts.
    case: usize,
}

impl Ranges<'_> {
    /// Returns the range of an expression's value, whenever that is not NULL.
    fn of(&self, expr: &Expr) -> Range {
        match expr {
            Expr::Literal(Value::Int(number), _) => Range::only(Decimal::from_int(*number)),
            Expr::Literal(Value::Decimal(number), _) => Range::only(*number),
            Expr::Aggregate(index, Type::Int) => self.of_aggregate(*index),
            Expr::AggregateBy { cases, ty: Type::Int, .. } => self.of_aggregate(cases[self.case % cases.len()]),
            Expr::Negate(inner) => self.of(inner).negated(),
            Expr::Arithmetic(op, left, right) => {
                let (left, right) = (self.of(left), self.of(right));
                match op {
                    ArithmeticOp::Add => left.plus(right),
                    ArithmeticOp::Sub => left.plus(right.negated()),
                    ArithmeticOp::Mul | ArithmeticOp::Div => left.scaled(*op, right),
                }
            }
            Expr::Coalesce(items) => self.of_any(items),
            Expr::Case { branches, otherwise } => {
                self.of_any(branches.iter().map(|(_, value)| value).chain([&**otherwise]))
            }
            Expr::Cast(inner, Type::Int) => self.of(inner).map(|number| number.round(0)),
            Expr::Cast(inner, Type::Decimal) | Expr::CastInt(inner, _) => self.of(inner),
            Expr::Call(Function::Round(places), items) => self.of(&items[0]).map(|number| number.round(*places)),
            Expr::Call(Function::NullIf, items) => self.of(&items[0]),
            Expr::Call(Function::Abs, items) => match self.of(&items[0]) {
                range if range.is_positive_or_zero() => range,
                range if range.is_negative_or_zero() => range.negated(),
                _ => Range { low: Some(Decimal::ZERO), high: None },
            },
            _ => Range::ALL,
        }
    }

    /// Returns the range of several values; constants that are NULL are none.
    fn of_any<'a>(&self, items: impl IntoIterator<Item = &'a Expr>) -> Range {
        let values = items.into_iter().filter(|item| !matches!(item, Expr::Literal(Value::Null, _)));
        values.map(|value| self.of(value)).reduce(Range::or).unwrap_or(Range::ALL)
    }

    /// Counts and funnels are never negative.
    fn of_aggregate(&self, index: usize) -> Range {
        let aggregate = &self.plan.aggregates[index];
        use AggregateFunction::{Count, CountDistinct, Funnel};
        if !matches!(aggregate.function, Count | CountDistinct | Funnel { .. }) {
            return Range::ALL;
        }
        let bound = Bound::of(&value_key(aggregate)).filter(|_| self.is_bounded);
        Range { low: Some(Decimal::ZERO), high: bound.map(Bound::most) }
    }
}

/// Whether the condition becomes FALSE of every event at some time, and stays so.
fn ends(condition: &Expr) -> bool {
    match condition {
        Expr::And(items) => items.iter().any(ends),
        Expr::Or(items) => items.iter().all(ends),
        Expr::TimeCompare(compare) => {
            matches!(compare.op, CompareOp::Gt | CompareOp::GtEq | CompareOp::Eq) && compare.bound.field().is_none()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;

//! Evaluates aggregates over a user's events, and lists the children of a tree.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use segment_engine::decimal::Decimal;
use segment_engine::event::Event;
use segment_engine::value::{Type, Value};
use sqlparser::ast::{Expr as Ast, Function};

use super::functions::{arguments, is_distinct, name};
use super::kinds::visit;
use super::values::compare;
use super::{Answer, Scope};

const NAMES: [&str; 10] = ["count", "sum", "avg", "min", "max", "bool_or", "bool_and", "first", "last", "funnel"];

pub(super) fn is_aggregate(function: &Function) -> bool {
    NAMES.contains(&name(function).as_str())
}

pub(super) fn contains_aggregate(tree: &Ast) -> bool {
    visit(tree, &mut |node| match node {
        Ast::Function(function) if is_aggregate(function) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    })
    .is_break()
}

/// Returns the direct children of a node, if the language has it.
pub(super) fn children(tree: &Ast) -> Vec<&Ast> {
    match tree {
        Ast::Nested(x) | Ast::UnaryOp { expr: x, .. } | Ast::Cast { expr: x, .. } | Ast::Extract { expr: x, .. } => {
            vec![x]
        }
        Ast::IsNull(x) | Ast::IsNotNull(x) | Ast::IsTrue(x) | Ast::IsNotTrue(x) | Ast::IsFalse(x) => vec![x],
        Ast::IsNotFalse(x) | Ast::IsUnknown(x) | Ast::IsNotUnknown(x) => vec![x],
        Ast::BinaryOp { left, right, .. } => vec![left, right],
        Ast::IsDistinctFrom(left, right) | Ast::IsNotDistinctFrom(left, right) => vec![left, right],
        Ast::InList { expr, list, .. } => std::iter::once(&**expr).chain(list).collect(),
        Ast::Between { expr, low, high, .. } => vec![expr, low, high],
        Ast::Like { expr, pattern, .. } | Ast::ILike { expr, pattern, .. } => vec![expr, pattern],
        Ast::Trim { expr, trim_what, .. } => std::iter::once(&**expr).chain(trim_what.as_deref()).collect(),
        Ast::Substring { expr, substring_from, substring_for, .. } => {
            [Some(&**expr), substring_from.as_deref(), substring_for.as_deref()].into_iter().flatten().collect()
        }
        Ast::Position { expr, r#in } => vec![expr, r#in],
        Ast::AtTimeZone { timestamp, time_zone } => vec![timestamp, time_zone],
        Ast::Case { operand, conditions, else_result, .. } => {
            let whens = conditions.iter().flat_map(|when| [&when.condition, &when.result]);
            operand.as_deref().into_iter().chain(whens).chain(else_result.as_deref()).collect()
        }
        Ast::Function(function) => arguments(function).into_iter().chain(function.filter.as_deref()).collect(),
        _ => Vec::new(),
    }
}

impl Scope<'_> {
    /// `function(argument) FILTER (WHERE condition)`.
    pub(super) fn aggregate(&self, function: &Function) -> Answer {
        let mut rows: Vec<&Event> = Vec::new();
        for event in &self.user.events {
            let row = Scope { event: Some(event), ..*self };
            let counts = match &function.filter {
                Some(condition) => row.truth(condition)? == Some(true),
                None => true,
            };
            if counts {
                rows.push(event);
            }
        }
        rows.sort_by_key(|event| (event.created_at, event.processed_at, event.position));
        if name(function) == "funnel" {
            return self.funnel(&rows, &arguments(function));
        }
        let Some(argument) = arguments(function).first().copied() else {
            return Ok(Value::Int(rows.len() as i64));
        };
        let values: Vec<Value> =
            rows.iter().map(|event| Scope { event: Some(event), ..*self }.any(argument)).collect::<Result<_, _>>()?;
        let name = name(function);
        match name.as_str() {
            "first" => return Ok(values.first().cloned().unwrap_or(Value::Null)),
            "last" => return Ok(values.last().cloned().unwrap_or(Value::Null)),
            _ => {}
        }
        let values: Vec<Value> = values.into_iter().filter(|value| *value != Value::Null).collect();
        match name.as_str() {
            "count" if is_distinct(function) => Ok(Value::Int(distinct(values)?.len() as i64)),
            "count" => Ok(Value::Int(values.len() as i64)),
            "sum" => Ok(Total::of(&values)?.sum()),
            "avg" => Ok(Total::of(&values)?.average()),
            "min" => extreme(values, Ordering::Less),
            "max" => extreme(values, Ordering::Greater),
            "bool_or" if values.is_empty() => Ok(Value::Null),
            "bool_or" => Ok(Value::Bool(values.contains(&Value::Bool(true)))),
            "bool_and" if values.is_empty() => Ok(Value::Null),
            "bool_and" => Ok(Value::Bool(!values.contains(&Value::Bool(false)))),
            other => Err(format!("the naive interpreter does not know the aggregate {other}")),
        }
    }
}

impl Scope<'_> {
    /// Returns the most steps that a chain of events takes, by trying every chain.
    fn funnel(&self, rows: &[&Event], arguments: &[&Ast]) -> Answer {
        let [within, steps @ ..] = arguments else { return Err("a funnel without an interval".to_owned()) };
        let Value::Interval(within) = self.value(within, Some(Type::Interval))? else {
            return Err("a funnel within no interval".to_owned());
        };
        let mut matches: Vec<(i128, Vec<bool>)> = Vec::new();
        for event in rows {
            let row = Scope { event: Some(event), ..*self };
            let of_event = steps.iter().map(|step| Ok(row.truth(step)? == Some(true)));
            matches.push((event.created_at.0.into(), of_event.collect::<Result<_, String>>()?));
        }
        let most = matches.iter().map(|(start, _)| steps_from(&matches, 0, start - 1, start + within.fixed_micros()));
        Ok(Value::Int(most.max().unwrap_or(0)))
    }
}

/// Returns the most steps from `step` on that events after one instant and up to another take.
fn steps_from(matches: &[(i128, Vec<bool>)], step: usize, after: i128, up_to: i128) -> i64 {
    let next = matches.iter().filter(|(created_at, matched)| {
        *created_at > after && *created_at <= up_to && matched.get(step) == Some(&true)
    });
    next.map(|(created_at, _)| 1 + steps_from(matches, step + 1, *created_at, up_to)).max().unwrap_or(0)
}

fn distinct(values: Vec<Value>) -> Result<Vec<Value>, String> {
    let mut found: Vec<Value> = Vec::new();
    'values: for value in values {
        for known in &found {
            if compare(known, &value)? == Some(Ordering::Equal) {
                continue 'values;
            }
        }
        found.push(value);
    }
    Ok(found)
}

fn extreme(values: Vec<Value>, wanted: Ordering) -> Answer {
    let mut values = values.into_iter();
    let Some(mut best) = values.next() else { return Ok(Value::Null) };
    for value in values {
        if compare(&value, &best)? == Some(wanted) {
            best = value;
        }
    }
    Ok(best)
}

/// The sum of numbers of 38 digits, in two parts that cannot overflow: whole × 10⁹ + nanos, 0 ≤
/// nanos < 10⁹ × count.
struct Total {
    whole: i128,
    nanos: i128,
    count: i128,
}

const UNIT: i128 = 1_000_000_000;

impl Total {
    fn of(values: &[Value]) -> Result<Total, String> {
        let mut total = Total { whole: 0, nanos: 0, count: values.len() as i128 };
        for value in values {
            let scaled = match value {
                Value::Int(number) => Decimal::from_int(*number).scaled(),
                Value::Decimal(number) => number.scaled(),
                other => return Err(format!("{other:?} cannot be added up")),
            };
            total.whole += scaled.div_euclid(UNIT);
            total.nanos += scaled.rem_euclid(UNIT);
        }
        total.whole += total.nanos.div_euclid(UNIT);
        total.nanos = total.nanos.rem_euclid(UNIT);
        Ok(total)
    }

    fn sum(&self) -> Value {
        let scaled = self.whole.checked_mul(UNIT).and_then(|scaled| scaled.checked_add(self.nanos));
        number(scaled.filter(|_| self.count > 0))
    }

    /// Divides by long division. A result halfway between two numbers is rounded away from zero.
    fn average(&self) -> Value {
        if self.count == 0 {
            return Value::Null;
        }
        let rest = self.whole.rem_euclid(self.count) * UNIT + self.nanos;
        let below = self.whole.div_euclid(self.count).checked_mul(UNIT).map(|scaled| scaled + rest / self.count);
        let twice = 2 * (rest % self.count);
        let up = twice > self.count || (twice == self.count && self.whole >= 0);
        number(below.map(|scaled| scaled + i128::from(up)))
    }
}

fn number(scaled: Option<i128>) -> Value {
    scaled.and_then(Decimal::from_scaled).map_or(Value::Null, Value::Decimal)
}

//! Evaluating expressions as SQL does, in three-valued logic.

mod bucket;
mod functions;
mod json;
mod jsonb;
mod letters;
mod text;

use crate::event::{ColumnValue, Event};
use crate::plan::{CompareOp, EventColumn, Expr, JsonPath, TimeCompare, UserColumn};
use crate::time::Timestamp;
use crate::value::Value;
use serde_json::Value as Json;

pub use bucket::bucket;
pub(crate) use json::find;
pub use json::{read_path, read_steps};
pub use jsonb::{jsonb_ordered, jsonb_text};

#[cfg(test)]
mod tests;

/// What an expression is evaluated over. By default a value is NULL, and the user is in no segment.
pub trait Scope {
    /// Returns the value of a column of the event.
    fn event(&self, _: EventColumn) -> Value {
        Value::Null
    }
    /// Returns the event's payload at a path.
    fn payload(&self, _: &JsonPath) -> Value {
        Value::Null
    }
    /// Returns the text that an expression reads from the event, if that needs no copy: filters
    /// mostly compare text with constants. `None` if it is NULL or not a text, or if it must be
    /// evaluated.
    fn borrowed_text(&self, _: &Expr) -> Option<&str> {
        None
    }
    /// Returns the JSON at the path that an expression reads; `None` if there is none.
    fn borrowed_json(&self, _: &Expr) -> Option<&Json> {
        None
    }
    /// Returns the user's traits at a path.
    fn user_trait(&self, _: &JsonPath) -> Value {
        Value::Null
    }
    /// Returns the value of a column of the user.
    fn user(&self, _: UserColumn) -> Value {
        Value::Null
    }
    /// Returns the value of the plan's aggregate of this index.
    fn aggregate(&mut self, _: usize) -> Value {
        Value::Null
    }
    /// Returns the user's bucket of this name.
    fn bucket(&self, _: &str) -> Value {
        Value::Null
    }
    /// Whether the user is a member of the plan's segment of this index.
    fn segment(&mut self, _: usize) -> bool {
        false
    }
    /// Returns the truth of a comparison with now, given the value of its `x`.
    fn time_compare(&mut self, compare: &TimeCompare, x: &Value) -> Value;
}

/// Returns the value of an expression. Operands that cannot change the result are not evaluated.
pub fn evaluate<S: Scope>(expr: &Expr, scope: &mut S) -> Value {
    match expr {
        Expr::Literal(value, _) => value.clone(),
        Expr::Event(column) => scope.event(*column),
        Expr::Payload(path) => scope.payload(path),
        Expr::Trait(path) => scope.user_trait(path),
        Expr::User(column) => scope.user(*column),
        Expr::Aggregate(index, _) => scope.aggregate(*index),
        Expr::AggregateBy { terms, cases, .. } => {
            let case = chosen_case(terms, scope);
            scope.aggregate(cases[case])
        }
        Expr::Segment(index) => Value::Bool(scope.segment(*index)),
        Expr::Bucket(name) => scope.bucket(name),
        Expr::TimeCompare(compare) => {
            let x = evaluate(&compare.x, scope);
            scope.time_compare(compare, &x)
        }
        Expr::Arithmetic(op, left, right) => match evaluate(left, scope) {
            Value::Null => Value::Null,
            left => Value::arithmetic(*op, &left, &evaluate(right, scope)),
        },
        Expr::Negate(inner) => evaluate(inner, scope).negate(),
        Expr::Case { branches, otherwise } => {
            let branch = branches.iter().find(|(condition, _)| evaluate(condition, scope).is_true());
            evaluate(branch.map_or(otherwise, |(_, value)| value), scope)
        }
        Expr::Coalesce(items) => {
            items.iter().map(|item| evaluate(item, scope)).find(|value| !value.is_null()).unwrap_or(Value::Null)
        }
        Expr::Call(function, arguments) => functions::call(function, arguments, scope),
        Expr::Cast(inner, ty) => evaluate(inner, scope).cast(*ty),
        Expr::CastInt(inner, bytes) => evaluate(inner, scope).cast_int(*bytes),
        Expr::Steps(conditions) => steps(conditions, scope),
        condition => match text_truth(condition, scope) {
            Some(truth) => Value::Bool(truth),
            None => truth(condition, scope),
        },
    }
}

/// Returns the truth of a condition that compares borrowed text with constants; `None` for other
/// conditions.
fn text_truth<S: Scope>(condition: &Expr, scope: &S) -> Option<bool> {
    match condition {
        Expr::Compare(op, left, right) => match &**right {
            Expr::Literal(Value::Text(constant), _) => Some(op.holds(scope.borrowed_text(left)?.cmp(constant))),
            _ => None,
        },
        Expr::InList(x, items) => {
            let text = scope.borrowed_text(x)?;
            items.holds_text(text)
        }
        Expr::Match(inner, pattern) => Some(pattern.matches(scope.borrowed_text(inner)?)),
        _ => None,
    }
}

/// Returns the truth of a condition.
fn truth<S: Scope>(condition: &Expr, scope: &mut S) -> Value {
    match condition {
        Expr::Compare(op, left, right) => match evaluate(left, scope) {
            Value::Null => Value::Null,
            left => left.compare(*op, &evaluate(right, scope)),
        },
        Expr::NotDistinct(left, right) => Value::Bool(evaluate(left, scope).not_distinct(&evaluate(right, scope))),
        Expr::And(operands) => fold_until(operands.iter(), false, |operand| evaluate(operand, scope)),
        Expr::Or(operands) => fold_until(operands.iter(), true, |operand| evaluate(operand, scope)),
        Expr::Not(inner) => evaluate(inner, scope).negation(),
        Expr::IsNull(inner) => Value::Bool(evaluate(inner, scope).is_null()),
        Expr::IsTrue(inner) => Value::Bool(evaluate(inner, scope).is_true()),
        Expr::InList(x, items) => match evaluate(x, scope) {
            Value::Null => Value::Null,
            x => match items.find(&x) {
                Some(truth) => truth,
                None => fold_until(items.iter(), true, |item| x.compare(CompareOp::Eq, &evaluate(item, scope))),
            },
        },
        Expr::Match(inner, pattern) => match evaluate(inner, scope) {
            Value::Text(text) => Value::Bool(pattern.matches(&text)),
            _ => Value::Null,
        },
        Expr::JsonTest(inner, test) => json::tested(scope.borrowed_json(inner), test),
        other => unreachable!("`evaluate` handles every expression that is not a condition: {other:?}"),
    }
}

/// Returns the sum of 2^index of the conditions that are TRUE; NULL if none is.
fn steps<S: Scope>(conditions: &[Expr], scope: &mut S) -> Value {
    let mask = conditions.iter().enumerate().fold(0, |mask, (index, condition)| {
        if evaluate(condition, scope).is_true() { mask | 1 << index } else { mask }
    });
    if mask == 0 { Value::Null } else { Value::Int(mask) }
}

/// `OR` for `decisive = true`, `AND` for `false`. The first decisive operand is the result; without
/// one it is NULL if any operand is.
fn fold_until<'a>(
    operands: impl Iterator<Item = &'a Expr>,
    decisive: bool,
    mut evaluate: impl FnMut(&'a Expr) -> Value,
) -> Value {
    let mut any_null = false;
    for operand in operands {
        match evaluate(operand).as_bool() {
            Some(truth) if truth == decisive => return Value::Bool(decisive),
            Some(_) => {}
            None => any_null = true,
        }
    }
    if any_null { Value::Null } else { Value::Bool(!decisive) }
}

/// Returns the index of the case of an `AggregateBy`: a number with a digit per term, TRUE 0, FALSE
/// 1, NULL 2.
pub(crate) fn chosen_case<S: Scope>(terms: &[Expr], scope: &mut S) -> usize {
    terms.iter().fold(0, |index, term| {
        let digit = match evaluate(term, scope).as_bool() {
            Some(true) => 0,
            Some(false) => 1,
            None => 2,
        };
        index * 3 + digit
    })
}

/// One event and now: the scope of an aggregate's filter and argument.
///
/// It has no traits, user columns, segments or aggregates, because accumulators must not depend on
/// anything that can change without an event.
#[derive(Clone, Copy, Debug)]
pub struct EventScope<'a> {
    #[expect(missing_docs, reason = "the name says it")]
    pub event: &'a Event,
    /// The value of `now()`.
    pub now: Timestamp,
}

impl Scope for EventScope<'_> {
    fn event(&self, column: EventColumn) -> Value {
        self.event.column(column)
    }

    fn payload(&self, path: &JsonPath) -> Value {
        read_path(&self.event.payload, path)
    }

    fn borrowed_text(&self, expr: &Expr) -> Option<&str> {
        match expr {
            Expr::Event(column) => self.event.text(*column),
            Expr::Payload(path) if path.as_text => find(&self.event.payload, &path.keys)?.as_str(),
            _ => None,
        }
    }

    fn borrowed_json(&self, expr: &Expr) -> Option<&Json> {
        match expr {
            Expr::Payload(path) => find(&self.event.payload, &path.keys),
            _ => None,
        }
    }

    fn time_compare(&mut self, compare: &TimeCompare, x: &Value) -> Value {
        compare.truth(x, self.now)
    }
}

impl Event {
    /// Returns the value of a column as clauses read it.
    pub fn column(&self, column: EventColumn) -> Value {
        match self.value(column) {
            ColumnValue::UserId(user) => Value::Int(user.0),
            ColumnValue::Text(text) => text.into(),
            ColumnValue::Decimal(number) => number.into(),
            ColumnValue::Timestamp(at) => Value::Timestamp(at),
        }
    }

    /// Returns the value of a column of type text; `None` if it is NULL or of another type.
    pub fn text(&self, column: EventColumn) -> Option<&str> {
        match self.value(column) {
            ColumnValue::Text(text) => text,
            ColumnValue::UserId(_) | ColumnValue::Decimal(_) | ColumnValue::Timestamp(_) => None,
        }
    }
}

//! One form for expressions that differ only in form: constants are folded, NOT is pushed down,
//! operands are sorted.
//!
//! Every rewrite keeps SQL's three-valued truth. Only [`as_filter`] may treat NULL as FALSE,
//! because a filter does.

use super::fold;
use super::print::{Names, expression};
use crate::plan::{Aggregate, AggregateFunction, CompareOp, Expr, JsonTest, List, TimeCompare};
use crate::value::{Type, Value};

/// Returns the canonical form of an expression.
pub(super) fn canonical(expr: Expr, names: &Names<'_>) -> Expr {
    let expr = expr.map_children(&mut |child| canonical(child, names));
    node(expr, names)
}

/// Returns the canonical form of an aggregate.
pub(super) fn aggregate(aggregate: Aggregate, names: &Names<'_>) -> Aggregate {
    let Aggregate { function, argument, filter } = aggregate;
    let argument = argument.map(|argument| canonical(argument, names));
    let filter = filter.map(|filter| as_filter(canonical(filter, names), names));
    Aggregate {
        function,
        // count(x) of an x that is never NULL counts events.
        argument: argument.filter(|x| function != AggregateFunction::Count || !is_never_null(x)),
        filter: filter.filter(|filter| !is_literal(filter, &Value::Bool(true))),
    }
}

fn is_never_null(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, _) => *value != Value::Null,
        Expr::Event(column) => !column.is_nullable(),
        _ => false,
    }
}

/// Simplifies a canonical condition for a place where NULL counts as FALSE.
pub(super) fn as_filter(condition: Expr, names: &Names<'_>) -> Expr {
    match condition {
        Expr::Literal(Value::Null, Type::Bool) => bool_literal(false),
        Expr::And(items) => junction(items.into_iter().map(|item| as_filter(item, names)).collect(), true, names),
        Expr::Or(items) => junction(items.into_iter().map(|item| as_filter(item, names)).collect(), false, names),
        other => other,
    }
}

/// Returns the canonical form of a node over canonical operands.
fn node(expr: Expr, names: &Names<'_>) -> Expr {
    match expr {
        Expr::And(items) => junction(items, true, names),
        Expr::Or(items) => junction(items, false, names),
        Expr::Not(inner) => negate(*inner, names),
        Expr::Compare(op, left, right) => compare(op, *left, *right, names),
        Expr::NotDistinct(left, right) => not_distinct(*left, *right, names),
        Expr::InList(x, items) if items.is_sorted_constants() && !is_null(&x) => fold::folded(Expr::InList(x, items)),
        Expr::InList(x, items) => in_list(*x, items.into_vec(), names),
        Expr::Case { branches, otherwise } => case(branches, *otherwise),
        Expr::Coalesce(items) => coalesce(items),
        Expr::Cast(inner, ty) if inner.value_type() == ty => *inner,
        Expr::TimeCompare(compare) if is_null(&compare.x) => null_condition(),
        // Like a filter, a step takes the events for which its condition is TRUE. It stays a
        // condition, even if constant.
        Expr::Steps(items) => Expr::Steps(items.into_iter().map(|item| as_filter(item, names)).collect()),
        // With one string, any of them is all of them.
        Expr::JsonTest(x, JsonTest::HasAll(texts)) if texts.len() == 1 => Expr::JsonTest(x, JsonTest::HasAny(texts)),
        other => fold::folded(other),
    }
}

/// Makes an AND or OR: flat, without repetitions and neutral constants, sorted by the operands'
/// texts.
fn junction(items: Vec<Expr>, is_and: bool, names: &Names<'_>) -> Expr {
    let mut flat = Vec::with_capacity(items.len());
    for item in items {
        match item {
            Expr::And(inner) if is_and => flat.extend(inner),
            Expr::Or(inner) if !is_and => flat.extend(inner),
            other => flat.push(other),
        }
    }
    if flat.iter().any(|item| is_literal(item, &Value::Bool(!is_and))) {
        return bool_literal(!is_and);
    }
    flat.retain(|item| !is_literal(item, &Value::Bool(is_and)));
    let mut items = sorted(alternatives_joined(flat, is_and, names), names);
    match items.len() {
        0 => bool_literal(is_and),
        1 => items.remove(0),
        _ if is_and => Expr::And(items),
        _ => Expr::Or(items),
    }
}

/// Turns `x = a OR x = b` into `x IN (a, b)`, and `x <> a AND x <> b` into `x NOT IN (a, b)`.
fn alternatives_joined(items: Vec<Expr>, is_and: bool, names: &Names<'_>) -> Vec<Expr> {
    let mut lists: Vec<(Expr, Vec<Expr>)> = Vec::new();
    let mut joined = Vec::with_capacity(items.len());
    for item in items {
        match alternatives(item, is_and) {
            Ok((x, values)) => match lists.iter_mut().find(|(known, _)| *known == x) {
                Some((_, list)) => list.extend(values),
                None => lists.push((x, values)),
            },
            Err(other) => joined.push(other),
        }
    }
    joined.extend(lists.into_iter().map(|(x, values)| {
        let list = in_list(x, values, names);
        if is_and { negate(list, names) } else { list }
    }));
    joined
}

/// Returns what a condition compares with which constants for equality (for inequality under AND),
/// or the condition itself.
fn alternatives(condition: Expr, is_and: bool) -> Result<(Expr, Vec<Expr>), Expr> {
    match condition {
        Expr::Compare(CompareOp::Eq, x, value) if !is_and && is_constant(&value) => Ok((*x, vec![*value])),
        Expr::Compare(CompareOp::NotEq, x, value) if is_and && is_constant(&value) => Ok((*x, vec![*value])),
        Expr::InList(x, values) if !is_and && values.iter().all(is_constant) => Ok((*x, values.into_vec())),
        Expr::Not(inner) if is_and => match *inner {
            Expr::InList(x, values) if values.iter().all(is_constant) => Ok((*x, values.into_vec())),
            other => Err(Expr::Not(Box::new(other))),
        },
        other => Err(other),
    }
}

fn sorted(mut items: Vec<Expr>, names: &Names<'_>) -> Vec<Expr> {
    items.sort_by_cached_key(|item| expression(item, names));
    items.dedup();
    items
}

fn negate(inner: Expr, names: &Names<'_>) -> Expr {
    match inner {
        Expr::Literal(Value::Bool(truth), _) => bool_literal(!truth),
        Expr::Literal(Value::Null, _) => null_condition(),
        Expr::Not(inner) => *inner,
        Expr::Compare(op, left, right) => Expr::Compare(op.negated(), left, right),
        Expr::TimeCompare(compare) => {
            let TimeCompare { x, op, bound } = *compare;
            Expr::TimeCompare(Box::new(TimeCompare { x, op: op.negated(), bound }))
        }
        Expr::And(items) => junction(items.into_iter().map(|item| negate(item, names)).collect(), false, names),
        Expr::Or(items) => junction(items.into_iter().map(|item| negate(item, names)).collect(), true, names),
        other => Expr::Not(Box::new(other)),
    }
}

/// Puts a constant on the right; without one, the operand with the lesser text on the left.
fn compare(op: CompareOp, left: Expr, right: Expr, names: &Names<'_>) -> Expr {
    if is_null(&left) || is_null(&right) {
        return null_condition();
    }
    let flip = match (is_constant(&left), is_constant(&right)) {
        (true, true) => return fold::folded(Expr::Compare(op, Box::new(left), Box::new(right))),
        (true, false) => true,
        (false, true) => false,
        (false, false) => expression(&left, names) > expression(&right, names),
    };
    let (op, left, right) = if flip { (op.flipped(), right, left) } else { (op, left, right) };
    match (&left, &right, op) {
        (_, Expr::Literal(Value::Bool(truth), _), CompareOp::Eq | CompareOp::NotEq) => {
            if *truth == (op == CompareOp::Eq) { left } else { negate(left, names) }
        }
        // A count compared with 5.0 is compared with 5.
        (Expr::Cast(inner, Type::Decimal), Expr::Literal(Value::Decimal(number), _), _)
            if inner.value_type() == Type::Int =>
        {
            match fold::whole(*number) {
                Some(whole) => Expr::Compare(op, inner.clone(), Box::new(Expr::Literal(Value::Int(whole), Type::Int))),
                None => Expr::Compare(op, Box::new(left), Box::new(right)),
            }
        }
        _ => Expr::Compare(op, Box::new(left), Box::new(right)),
    }
}

fn not_distinct(left: Expr, right: Expr, names: &Names<'_>) -> Expr {
    let flip = match (is_constant(&left), is_constant(&right)) {
        (true, true) => return fold::folded(Expr::NotDistinct(Box::new(left), Box::new(right))),
        (left_constant, false) => left_constant || expression(&left, names) > expression(&right, names),
        (false, true) => false,
    };
    let (left, right) = if flip { (right, left) } else { (left, right) };
    if is_null(&right) {
        return fold::folded(Expr::IsNull(Box::new(left)));
    }
    Expr::NotDistinct(Box::new(left), Box::new(right))
}

fn in_list(x: Expr, items: Vec<Expr>, names: &Names<'_>) -> Expr {
    if is_null(&x) {
        return null_condition();
    }
    let mut items = sorted(items, names);
    if items.len() == 1 {
        return compare(CompareOp::Eq, x, items.remove(0), names);
    }
    fold::folded(Expr::InList(Box::new(x), List::sorted(items)))
}

fn case(branches: Vec<(Expr, Expr)>, otherwise: Expr) -> Expr {
    let mut kept = Vec::with_capacity(branches.len());
    let mut otherwise = otherwise;
    for (when, then) in branches {
        match when {
            Expr::Literal(Value::Bool(true), _) => {
                otherwise = then;
                break;
            }
            Expr::Literal(..) => {}
            when => kept.push((when, then)),
        }
    }
    if kept.is_empty() { otherwise } else { Expr::Case { branches: kept, otherwise: Box::new(otherwise) } }
}

fn coalesce(items: Vec<Expr>) -> Expr {
    let ty = items.first().map_or(Type::Text, Expr::value_type);
    let mut kept = Vec::with_capacity(items.len());
    for item in items {
        if is_null(&item) {
            continue;
        }
        let is_last = is_constant(&item);
        kept.push(item);
        if is_last {
            break;
        }
    }
    match kept.len() {
        0 => Expr::Literal(Value::Null, ty),
        1 => kept.remove(0),
        _ => Expr::Coalesce(kept),
    }
}

fn is_constant(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(..))
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(Value::Null, _))
}

fn is_literal(expr: &Expr, value: &Value) -> bool {
    matches!(expr, Expr::Literal(found, _) if found == value)
}

pub(super) fn bool_literal(truth: bool) -> Expr {
    Expr::Literal(Value::Bool(truth), Type::Bool)
}

fn null_condition() -> Expr {
    Expr::Literal(Value::Null, Type::Bool)
}

#[cfg(test)]
mod tests;

//! Constants, and the types of expressions, as far as constants without a type need them.

use std::ops::ControlFlow;

use segment_engine::decimal::Decimal;
use segment_engine::time::Interval;
use segment_engine::value::{Type, Value};
use sqlparser::ast::{BinaryOperator, DataType, Expr as Ast, Interval as IntervalAst, TimezoneInfo, Value as Constant};

use super::Answer;
use super::functions::{self, arguments};
use super::values::cast;
use crate::naive::aggregates;

/// Returns the type of an expression; `None` for a string constant or NULL, which take the type
/// that is needed.
pub(super) fn kind(tree: &Ast) -> Option<Type> {
    match tree {
        Ast::Nested(inner) => kind(inner),
        Ast::Value(constant) => match &constant.value {
            Constant::Number(digits, _) if digits.parse::<i64>().is_ok() => Some(Type::Int),
            Constant::Number(..) => Some(Type::Decimal),
            Constant::Boolean(_) => Some(Type::Bool),
            _ => None,
        },
        Ast::TypedString(typed) => of_data_type(&typed.data_type).ok(),
        Ast::Interval(_) => Some(Type::Interval),
        Ast::Identifier(name) => event_column_kind(&name.value),
        Ast::CompoundIdentifier(parts) if parts.last().is_some_and(|name| name.value == "created_at") => {
            Some(Type::Timestamp)
        }
        Ast::CompoundIdentifier(_) => Some(Type::Text),
        Ast::UnaryOp { op: sqlparser::ast::UnaryOperator::Not, .. } => Some(Type::Bool),
        Ast::UnaryOp { expr, .. } => kind(expr),
        Ast::BinaryOp { left, op, right } => binary_kind(left, op, right),
        Ast::Cast { data_type, .. } => of_data_type(data_type).ok(),
        Ast::AtTimeZone { timestamp, .. } => match kind(timestamp) {
            Some(Type::LocalTimestamp) => Some(Type::Timestamp),
            _ => Some(Type::LocalTimestamp),
        },
        Ast::Extract { .. } => Some(Type::Decimal),
        Ast::Trim { .. } | Ast::Substring { .. } => Some(Type::Text),
        Ast::Position { .. } => Some(Type::Int),
        Ast::Case { conditions, else_result, .. } => {
            let results = conditions.iter().map(|when| &when.result).chain(else_result.as_deref());
            common_kind(results)
        }
        Ast::Function(function) => functions::kind(&functions::name(function), &arguments(function)),
        // All other nodes are conditions.
        _ => Some(Type::Bool),
    }
}

fn binary_kind(left: &Ast, op: &BinaryOperator, right: &Ast) -> Option<Type> {
    use Type::{Date, Decimal, Int, Interval, LocalTimestamp, Timestamp};
    match op {
        BinaryOperator::Arrow => Some(Type::Json),
        BinaryOperator::LongArrow | BinaryOperator::StringConcat => Some(Type::Text),
        BinaryOperator::Plus | BinaryOperator::Minus | BinaryOperator::Multiply | BinaryOperator::Divide => {
            let (l, r) = operand_types(left, right);
            match (op, l?, r?) {
                (BinaryOperator::Divide, Int | Decimal, Int | Decimal) => Some(Decimal),
                (_, Decimal, Int) | (_, Int, Decimal) => Some(Decimal),
                (BinaryOperator::Minus, Date, Date) => Some(Int),
                (BinaryOperator::Minus, Timestamp | LocalTimestamp | Date, Timestamp | LocalTimestamp | Date) => {
                    Some(Interval)
                }
                (_, Date, Interval) | (_, Interval, Date) => Some(LocalTimestamp),
                (_, Interval, time @ (Timestamp | LocalTimestamp)) => Some(time),
                (_, Int, Date) => Some(Date),
                (_, first, _) => Some(first),
            }
        }
        _ => Some(Type::Bool),
    }
}

/// Returns the types of the operands of arithmetic. An operand without a type takes the other's
/// type.
pub(super) fn operand_types(left: &Ast, right: &Ast) -> (Option<Type>, Option<Type>) {
    let (l, r) = (kind(left), kind(right));
    (l.or(r), r.or(l))
}

/// Returns the type in which several values are compared or chosen: text if none of them has a
/// type.
pub(super) fn common<'a>(trees: impl IntoIterator<Item = &'a Ast>) -> Type {
    common_kind(trees).unwrap_or(Type::Text)
}

pub(super) fn common_kind<'a>(trees: impl IntoIterator<Item = &'a Ast>) -> Option<Type> {
    trees.into_iter().filter_map(kind).reduce(|a, b| match (a, b) {
        (Type::Int, Type::Decimal) => Type::Decimal,
        _ => a,
    })
}

/// Returns the value of a constant.
pub(super) fn constant(constant: &Constant, wanted: Option<Type>) -> Answer {
    match constant {
        Constant::Null => Ok(Value::Null),
        Constant::Boolean(truth) => Ok(Value::Bool(*truth)),
        Constant::Number(digits, _) => match digits.parse() {
            Ok(number) => Ok(Value::Int(number)),
            Err(_) => Decimal::parse(digits).map(Value::Decimal).ok_or_else(|| format!("{digits} is too long")),
        },
        Constant::SingleQuotedString(text) => Ok(cast(Value::Text(text.as_str().into()), wanted.unwrap_or(Type::Text))),
        other => Err(format!("the naive interpreter does not know the constant {other}")),
    }
}

/// Returns the value of `INTERVAL '7 days'`, `INTERVAL '7' DAY` or `INTERVAL 7 DAY`.
pub(super) fn interval(interval: &IntervalAst) -> Answer {
    let number = match interval.value.as_ref() {
        Ast::Value(constant) => match &constant.value {
            Constant::SingleQuotedString(text) | Constant::Number(text, _) => text.clone(),
            other => return Err(format!("INTERVAL {other}")),
        },
        other => return Err(format!("INTERVAL {other}")),
    };
    let text = match &interval.leading_field {
        Some(unit) => format!("{number} {unit}"),
        None => number,
    };
    Interval::parse(&text).map(Value::Interval).ok_or_else(|| format!("INTERVAL '{text}'"))
}

pub(super) fn of_data_type(data_type: &DataType) -> Result<Type, String> {
    Ok(match data_type {
        DataType::Boolean | DataType::Bool => Type::Bool,
        DataType::Int(_) | DataType::Integer(_) | DataType::BigInt(_) | DataType::SmallInt(_) | DataType::Int8(_) => {
            Type::Int
        }
        DataType::Numeric(_) | DataType::Decimal(_) | DataType::Float8 | DataType::DoublePrecision => Type::Decimal,
        DataType::Text | DataType::Varchar(_) => Type::Text,
        DataType::Date => Type::Date,
        DataType::Timestamp(_, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone) => Type::Timestamp,
        DataType::Timestamp(..) => Type::LocalTimestamp,
        DataType::Interval { .. } => Type::Interval,
        other => return Err(format!("the naive interpreter does not know the type {other}")),
    })
}

/// Returns the type of an event column; `None` for other names. `payload` and `traits` are JSON.
pub(super) fn event_column_kind(name: &str) -> Option<Type> {
    Some(match name {
        "user_id" => Type::Int,
        "order_total" | "payload_order_total" => Type::Decimal,
        "created_at" | "processed_at" => Type::Timestamp,
        "payload" | "traits" => Type::Json,
        _ => Type::Text,
    })
}

/// Returns whether a tree has an event column or the payload outside of aggregates.
pub(super) fn contains_event_column(tree: &Ast) -> bool {
    visit(tree, &mut |node| match node {
        Ast::Identifier(name) if name.value != "traits" => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    })
    .is_break()
}

/// Walks a tree, nodes before their children.
pub(super) fn visit(tree: &Ast, on: &mut impl FnMut(&Ast) -> ControlFlow<()>) -> ControlFlow<()> {
    on(tree)?;
    for child in aggregates::children(tree) {
        visit(child, on)?;
    }
    ControlFlow::Continue(())
}

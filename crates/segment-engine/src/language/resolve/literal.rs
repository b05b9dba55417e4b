//! Literals: numbers, text, typed text (`DATE '…'`), intervals.

use sqlparser::ast::{DateTimeField, Expr as Ast, Interval as AstInterval, TypedString, Value as AstValue};

use super::cast::{Target, target};
use super::operand::{Operand, parse_literal};
use super::{CompileError, Expr, Pos, Resolved, Resolver, Type, Value, code};
use crate::decimal::Decimal;

/// Resolves a plain literal.
pub(super) fn literal(value: &AstValue, pos: Pos) -> Resolved {
    Ok(match value {
        AstValue::Number(digits, _) => Operand::Typed(number(digits, pos)?),
        AstValue::SingleQuotedString(text) => Operand::Text(text.clone()),
        AstValue::Boolean(truth) => Operand::Typed(Expr::Literal(Value::Bool(*truth), Type::Bool)),
        AstValue::Null => Operand::Null,
        other => {
            return Err(CompileError::new(code::UNSUPPORTED, pos, format!("{other} is not a literal of the language"))
                .suggest("Put text in single quotes: 'text'"));
        }
    })
}

/// Reads a number: whole if it has no point and fits 64 bits, else decimal.
fn number(digits: &str, pos: Pos) -> Result<Expr, CompileError> {
    if let Ok(whole) = digits.parse::<i64>() {
        return Ok(Expr::Literal(Value::Int(whole), Type::Int));
    }
    match Decimal::parse(digits) {
        Some(decimal) => Ok(Expr::Literal(Value::Decimal(decimal), Type::Decimal)),
        None => {
            let message = format!("{digits} is not a number of at most 29 digits before the point");
            Err(CompileError::new(code::BAD_LITERAL, pos, message))
        }
    }
}

impl Resolver {
    /// Resolves `DATE '…'`, `TIMESTAMP '…'` or `TIMESTAMPTZ '…'`. Unlike a cast, a literal that
    /// cannot be read is an error.
    pub(super) fn typed_string(&self, typed: &TypedString, pos: Pos) -> Resolved {
        let Target::Plain(ty) = target(&typed.data_type, pos)? else {
            return Err(CompileError::new(code::UNSUPPORTED, pos, format!("{typed} is not a literal of the language"))
                .suggest("Write the number itself"));
        };
        match &typed.value.value {
            AstValue::SingleQuotedString(text) => Ok(Operand::Typed(parse_literal(text, ty, pos)?)),
            other => {
                Err(CompileError::new(code::UNSUPPORTED, pos, format!("{other} is not a literal of the language"))
                    .suggest("Put text in single quotes: 'text'"))
            }
        }
    }
}

/// Resolves `INTERVAL '7 days'`, `INTERVAL '7' DAY` or `INTERVAL 7 DAY`.
pub(super) fn interval(interval: &AstInterval, pos: Pos) -> Result<Expr, CompileError> {
    let AstInterval { value, leading_field, leading_precision, last_field, fractional_seconds_precision } = interval;
    if leading_precision.is_some() || last_field.is_some() || fractional_seconds_precision.is_some() {
        return Err(not_an_interval(pos));
    }
    let (text, is_number) = match &**value {
        Ast::Value(value) => match &value.value {
            AstValue::SingleQuotedString(text) => (text.clone(), false),
            AstValue::Number(digits, _) => (digits.clone(), true),
            _ => return Err(not_an_interval(pos)),
        },
        _ => return Err(not_an_interval(pos)),
    };
    let text = match leading_field {
        Some(field) if Decimal::parse(&text).is_some() => format!("{text} {}", unit(field)),
        None if !is_number => text,
        _ => return Err(not_an_interval(pos)),
    };
    parse_literal(&text, Type::Interval, pos)
}

fn unit(field: &DateTimeField) -> String {
    field.to_string().to_lowercase()
}

fn not_an_interval(pos: Pos) -> CompileError {
    CompileError::new(code::BAD_LITERAL, pos, "this is not a constant interval")
        .suggest("Write INTERVAL '7 days', INTERVAL '1 month 12 hours' or INTERVAL 7 DAY")
}

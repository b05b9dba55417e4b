//! `+ - * /` and signs.

use sqlparser::ast::{BinaryOperator, Expr as Ast, UnaryOperator};

use super::operand::{Operand, cast_to, describe, now_misplaced, parse_literal};
use super::{CompileError, Expr, Pos, Resolved, Resolver, Type, code, null, start_of};
use crate::plan::ArithmeticOp;

impl Resolver {
    pub(super) fn arithmetic(&mut self, left: &Ast, op: &BinaryOperator, right: &Ast, pos: Pos) -> Resolved {
        let op = match op {
            BinaryOperator::Plus => ArithmeticOp::Add,
            BinaryOperator::Minus => ArithmeticOp::Sub,
            BinaryOperator::Multiply => ArithmeticOp::Mul,
            _ => ArithmeticOp::Div,
        };
        let (left_pos, right_pos) = (start_of(left, pos), start_of(right, pos));
        let left = self.resolve(left, left_pos)?;
        let right = self.resolve(right, right_pos)?;
        if left.is_now() || right.is_now() {
            return self.now_arithmetic(op, (left, left_pos), (right, right_pos));
        }
        let left_type = known_type(&left);
        let right_type = known_type(&right);
        let left = adapt(left, right_type, op, left_pos)?;
        let right = adapt(right, left_type, op, right_pos)?;
        let arithmetic = typed_arithmetic(op, left, right, pos)?;
        Ok(Operand::Typed(self.canonical(arithmetic)))
    }

    /// Resolves `-x` and `+x`.
    pub(super) fn sign(&mut self, op: UnaryOperator, inner: &Ast, pos: Pos) -> Resolved {
        let inner = match self.resolve(inner, pos)? {
            Operand::Text(text) => parse_literal(&text, Type::Decimal, pos)?,
            Operand::Null => null(Type::Decimal),
            operand => self.typed(operand, pos)?,
        };
        match (op, inner.value_type()) {
            (UnaryOperator::Minus, Type::Int | Type::Decimal | Type::Interval) => {
                Ok(Operand::Typed(self.canonical(Expr::Negate(Box::new(inner)))))
            }
            (UnaryOperator::Plus, Type::Int | Type::Decimal) => Ok(Operand::Typed(inner)),
            (UnaryOperator::Minus | UnaryOperator::Plus, other) => {
                Err(CompileError::new(code::TYPE, pos, format!("{} has no sign", describe(other))))
            }
            (other, _) => Err(CompileError::new(code::UNSUPPORTED, pos, format!("there is no operator {other}"))),
        }
    }
}

fn known_type(operand: &Operand) -> Option<Type> {
    match operand {
        Operand::Typed(expr) => Some(expr.value_type()),
        _ => None,
    }
}

/// Gives an untyped literal the type of the other side. With a time it can only be an interval.
fn adapt(operand: Operand, other: Option<Type>, op: ArithmeticOp, pos: Pos) -> Result<Expr, CompileError> {
    let ty = match other {
        Some(ty) if ty.is_time() => Type::Interval,
        Some(ty @ (Type::Int | Type::Decimal | Type::Interval)) => ty,
        _ => Type::Decimal,
    };
    match operand {
        Operand::Typed(expr) => Ok(expr),
        Operand::Null => Ok(null(ty)),
        // Postgres reads `time - 'text'` as a difference of times, but mostly an interval is meant.
        Operand::Text(text) if op == ArithmeticOp::Sub && other.is_some_and(Type::is_time) => {
            Err(CompileError::new(code::TYPE, pos, format!("'{text}' may be a time or an interval"))
                .suggest(format!("Write INTERVAL '{text}' or TIMESTAMPTZ '{text}'")))
        }
        Operand::Text(text) => parse_literal(&text, ty, pos),
        Operand::Now(_) | Operand::Age(_) => Err(now_misplaced(pos)),
    }
}

fn typed_arithmetic(op: ArithmeticOp, left: Expr, right: Expr, pos: Pos) -> Result<Expr, CompileError> {
    use ArithmeticOp::{Add, Sub};
    let (left, right) = match (op, left.value_type(), right.value_type()) {
        (_, Type::Int, Type::Int) | (_, Type::Decimal, Type::Decimal) => (left, right),
        (_, Type::Int, Type::Decimal) => (cast_to(left, Type::Decimal), right),
        (_, Type::Decimal, Type::Int) => (left, cast_to(right, Type::Decimal)),
        (Add | Sub, Type::Interval, Type::Interval) => (left, right),
        (Add | Sub, time, Type::Interval) if time.is_time() => (left, right),
        (Add, Type::Interval, time) if time.is_time() => (right, left),
        (Add | Sub, Type::Date, Type::Int) => (left, right),
        (Add, Type::Int, Type::Date) => (right, left),
        (Sub, a, b) if a.is_time() && b.is_time() => {
            let wider = if a == Type::Timestamp || b == Type::Date { a } else { b };
            (cast_to(left, wider), cast_to(right, wider))
        }
        (_, a, b) => return Err(no_arithmetic(op, a, b, pos)),
    };
    Ok(Expr::Arithmetic(op, Box::new(left), Box::new(right)))
}

fn no_arithmetic(op: ArithmeticOp, a: Type, b: Type, pos: Pos) -> CompileError {
    let suggestion = match (a, b) {
        (Type::Text, _) | (_, Type::Text) => Some("Cast the text, e.g. (payload->>'price')::numeric"),
        (Type::Json, _) | (_, Type::Json) => Some("End the path with ->> and cast it: (payload->>'price')::numeric"),
        (time, Type::Int | Type::Decimal) | (Type::Int | Type::Decimal, time) if time.is_time() => {
            Some("Add an interval: x + INTERVAL '1 day'")
        }
        (Type::Interval, _) | (_, Type::Interval) => Some("Write the interval in full: INTERVAL '14 days'"),
        _ => None,
    };
    CompileError::new(code::TYPE, pos, format!("{} {} {} has no meaning", describe(a), op.symbol(), describe(b)))
        .suggest_maybe(suggestion.map(str::to_owned))
}

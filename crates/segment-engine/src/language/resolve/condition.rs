//! Places that need a condition, and suggestions for what was meant if it is something else.

use sqlparser::ast::{BinaryOperator, Expr as Ast, UnaryOperator, Value as AstValue};

use super::operand::{Operand, describe};
use super::{CompileError, Expr, Pos, Resolved, Resolver, Type, code, start_of};
use crate::language::quote::quoted;

impl Resolver {
    /// Resolves an expression that must be boolean.
    pub(crate) fn condition(&mut self, tree: &Ast, outer: Pos) -> Result<Expr, CompileError> {
        let pos = start_of(tree, outer);
        let operand = self.resolve(tree, pos)?;
        if let Operand::Text(text) = &operand
            && !self.saved
        {
            // Postgres reads 'NO' as FALSE and 'Y' as TRUE here, which is never meant.
            let message = format!("a condition is needed here, but this is the text {}", quoted(text));
            return Err(CompileError::new(code::NOT_BOOLEAN, pos, message)
                .suggest("Compare it with something: country = 'DE'; alternatives are country IN ('DE', 'NO')"));
        }
        let condition = self.of_type(operand, Type::Bool, pos)?;
        match condition.value_type() {
            Type::Bool => Ok(condition),
            other => Err(CompileError::new(
                code::NOT_BOOLEAN,
                pos,
                format!("a condition is needed here, but this is {}", describe(other)),
            )
            .suggest("Compare it with something: … = 'value', … > 0, … IS NOT NULL")),
        }
    }

    /// Resolves a chain of AND or OR. It loops down the left spine instead of recursing, so that a
    /// long clause is not a deep one.
    pub(super) fn chain(&mut self, left: &Ast, op: &BinaryOperator, right: &Ast, pos: Pos) -> Resolved {
        let mut operands = vec![right];
        let mut spine = left;
        while let Ast::BinaryOp { left, op: inner, right } = spine
            && inner == op
        {
            operands.push(right);
            spine = left;
        }
        operands.push(spine);
        operands.reverse();
        let mut conditions = Vec::with_capacity(operands.len());
        for (place, tree) in operands.iter().enumerate() {
            conditions.push(self.condition(tree, pos).map_err(|error| match meant(&operands, place, op) {
                Some(meant) if error.code == code::NOT_BOOLEAN => error.suggest(format!("Write {meant}")),
                _ => error,
            })?);
        }
        Ok(Operand::Typed(if *op == BinaryOperator::And { Expr::And(conditions) } else { Expr::Or(conditions) }))
    }
}

/// How many constants a suggestion repeats at most.
const SUGGESTED_MAX: usize = 5;

/// For `x = 'a' OR 'b'`, where the constant at `place` is a condition by itself, returns `x IN
/// ('a', 'b')`.
fn meant(operands: &[&Ast], place: usize, op: &BinaryOperator) -> Option<String> {
    let constants: Vec<String> =
        operands[place..].iter().map_while(|tree| constant(tree)).take(SUGGESTED_MAX).collect();
    let (x, compared, first) = match plain(operands.get(place.checked_sub(1)?)?) {
        Ast::BinaryOp { left, op, right } => (&**left, op.to_string(), constant(right)?),
        Ast::Like { negated, expr, pattern, .. } => {
            (&**expr, if *negated { "NOT LIKE" } else { "LIKE" }.to_owned(), constant(pattern)?)
        }
        Ast::InList { expr, list, negated } => {
            let before = list.iter().map_while(constant).take(SUGGESTED_MAX).collect::<Vec<_>>().join(", ");
            (&**expr, if *negated { "<>" } else { "=" }.to_owned(), before)
        }
        _ => return None,
    };
    let x = column(x)?;
    let all = || std::iter::once(first.clone()).chain(constants.iter().cloned());
    let last = constants.first()?;
    Some(match compared.as_str() {
        "=" => format!("{x} IN ({})", all().collect::<Vec<_>>().join(", ")),
        "<>" | "!=" => format!("{x} NOT IN ({})", all().collect::<Vec<_>>().join(", ")),
        other => format!("{x} {other} {first} {op} {x} {other} {last}"),
    })
}

fn plain(tree: &Ast) -> &Ast {
    match tree {
        Ast::Nested(inner) => plain(inner),
        other => other,
    }
}

/// Returns a text or a number as written.
fn constant(tree: &Ast) -> Option<String> {
    match plain(tree) {
        Ast::Value(value) => match &value.value {
            AstValue::SingleQuotedString(text) => Some(quoted(text)),
            AstValue::Number(digits, _) => Some(digits.clone()),
            _ => None,
        },
        Ast::UnaryOp { op: UnaryOperator::Minus, expr } => Some(format!("-{}", constant(expr)?)),
        _ => None,
    }
}

/// Returns a column or a property as written; `None` for other expressions, which may be long.
fn column(tree: &Ast) -> Option<String> {
    match tree {
        Ast::Identifier(_) | Ast::CompoundIdentifier(_) => Some(tree.to_string()),
        Ast::BinaryOp { left, op: op @ (BinaryOperator::Arrow | BinaryOperator::LongArrow), right } => {
            Some(format!("{}{op}{}", column(left)?, constant(right)?))
        }
        _ => None,
    }
}

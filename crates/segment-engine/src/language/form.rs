//! The two forms of a clause: the row form is turned into the aggregate form.

use sqlparser::ast::{BinaryOperator, Expr as Ast};

use super::canonical::{self, canonical};
use super::error::{CompileError, Pos, code};
use super::resolve::{Resolver, clock_inside_aggregate};
use super::syntax::start_of;
use crate::plan::{Aggregate, AggregateFunction, CompareOp, Expr};
use crate::value::{Type, Value};

/// Returns the canonical formula over one user.
///
/// * A bare event column and no aggregate: the row form, true if any event satisfies the clause.
/// * An aggregate and no bare event column: the clause itself.
/// * Neither: decided from the user alone.
///
/// Errors repeat parts of `tree`, if it is given.
pub(super) fn formula(condition: Expr, tree: Option<&Ast>, resolver: &mut Resolver) -> Result<Expr, CompileError> {
    let condition = canonical(condition, &resolver.names());
    let Some((pos, column)) = resolver.bare_column.clone() else { return Ok(condition) };
    if !resolver.aggregates.is_empty() {
        return Err(mixed_forms(&column, pos, tree));
    }
    row_form(condition, pos, resolver)
}

/// Turns "some event satisfies `e AND u`", where `u` does not read the event, into "some event
/// satisfies `e`, and `u`".
fn row_form(condition: Expr, pos: Pos, resolver: &mut Resolver) -> Result<Expr, CompileError> {
    let operands = match condition {
        Expr::And(operands) => operands,
        single => vec![single],
    };
    let (of_event, of_user): (Vec<Expr>, Vec<Expr>) = operands.into_iter().partition(Expr::reads_event);
    if let Some(clock_pos) = resolver.clock_reading
        && of_event.iter().any(reads_clock)
    {
        return Err(clock_inside_aggregate(clock_pos));
    }
    let filter = Some(Expr::And(of_event));
    let aggregate = Aggregate { function: AggregateFunction::Count, argument: None, filter };
    let aggregate = canonical::aggregate(aggregate, &resolver.names());
    let count = resolver.intern(aggregate, pos)?;
    let zero = Expr::Literal(Value::Int(0), Type::Int);
    let exists = Expr::Compare(CompareOp::Gt, Box::new(count), Box::new(zero));
    let formula = canonical(Expr::And(std::iter::once(exists).chain(of_user).collect()), &resolver.names());
    Ok(canonical::as_filter(formula, &resolver.names()))
}

fn reads_clock(expr: &Expr) -> bool {
    expr.any(&|e| matches!(e, Expr::TimeCompare(compare) if compare.bound.value_type() == Type::Decimal))
}

/// The error for an event column outside the aggregates of a clause that has some.
fn mixed_forms(column: &str, pos: Pos, tree: Option<&Ast>) -> CompileError {
    let condition = tree.map_or_else(|| format!("{column} …"), |tree| operand_at(tree, pos).to_string());
    let message = format!(
        "{column} is outside an aggregate, but the clause has aggregates, so it is not clear which event it belongs to"
    );
    CompileError::new(code::MIXED_FORMS, pos, message).suggest(format!(
        "To ask for any such event, write count(*) FILTER (WHERE {condition}) > 0, or put the condition into the FILTER of \
         the aggregate that it belongs to"
    ))
}

/// Returns the operand of the outermost AND and OR that is at a position.
fn operand_at(tree: &Ast, pos: Pos) -> &Ast {
    match tree {
        Ast::BinaryOp { left, op: BinaryOperator::And | BinaryOperator::Or, right } => {
            let start = start_of(right, Pos::START);
            let side = if (start.line, start.column) <= (pos.line, pos.column) { right } else { left };
            operand_at(side, pos)
        }
        Ast::Nested(inner) => operand_at(inner, pos),
        other => other,
    }
}

//! A comparison may not mix values of the event with values of the user.
//!
//! What an aggregate keeps per user must not depend on traits, or every change of a trait would
//! need the history. A whole condition on the user inside an aggregate is allowed:
//! [`split`](super::split) takes it out.

use super::error::{CompileError, Pos, code};
use super::print::{Names, expression};
use crate::plan::Expr;
use crate::value::Type;

/// Refuses a condition that compares a value of the user with the event.
pub(super) fn check(condition: &Expr, pos: Pos) -> Result<(), CompileError> {
    if !condition.reads_event() {
        return Ok(());
    }
    match stray(condition) {
        Some(user_value) => Err(mixed(condition, user_value, pos)),
        None => Ok(()),
    }
}

/// Refuses an aggregate's argument that is made from values of the user.
pub(super) fn check_argument(argument: &Expr, pos: Pos) -> Result<(), CompileError> {
    let Some(user_value) = stray(argument) else { return Ok(()) };
    if argument.reads_event() {
        return Err(mixed(argument, user_value, pos));
    }
    let message = format!("{} is a value of the user, but an aggregate is over events", print(user_value));
    Err(CompileError::new(code::MIXED_SCOPES, pos, message).suggest("Compare it outside the aggregate"))
}

/// Finds a value of the user that is not part of a whole condition on the user.
fn stray(expr: &Expr) -> Option<&Expr> {
    if expr.value_type() == Type::Bool && !expr.reads_event() {
        return None;
    }
    match expr {
        Expr::Trait(_) | Expr::User(_) | Expr::Bucket(_) => Some(expr),
        _ => expr.children().into_iter().find_map(stray),
    }
}

fn mixed(whole: &Expr, user_value: &Expr, pos: Pos) -> CompileError {
    let column = event_value(whole).map_or_else(|| "the event".to_owned(), print);
    let message = format!(
        "a comparison may not mix {} (of the event) and {} (of the user): what is counted must not depend on traits",
        column,
        print(user_value)
    );
    CompileError::new(code::MIXED_SCOPES, pos, message).suggest(format!(
        "Compare each with constants, or compare an aggregate with the user's value: last({column}) = {user}",
        user = print(user_value)
    ))
}

fn event_value(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::Event(_) | Expr::Payload(_) => Some(expr),
        _ => expr.children().into_iter().find_map(event_value),
    }
}

fn print(expr: &Expr) -> String {
    match expr {
        Expr::Event(column) => column.name().to_owned(),
        other => expression(other, &Names { aggregates: &[], segments: &[] }),
    }
}

//! From parse tree to typed expression: resolves names, checks types, and allows `now()` only in
//! comparisons.

mod aggregate;
mod arithmetic;
mod call;
mod cast;
mod compare;
mod condition;
mod funnel;
mod json;
mod literal;
mod operand;
mod path;
mod pattern;
mod text;
mod time;
mod time_function;
mod zone;

pub(super) use time::clock_inside_aggregate;

use sqlparser::ast::{BinaryOperator, Expr as Ast, Ident, UnaryOperator};

use super::canonical;
use super::error::{CompileError, Pos, code};
use super::limits::{DEPTH_MAX, SEGMENTS_MAX};
use super::names;
use super::print::Names;
use super::quote::quoted;
use super::scope;
use super::syntax::start_of;
use crate::plan::{Aggregate, CompareOp, Expr, PatternKind, UserColumn};
use crate::value::{Type, Value};
use operand::Operand;
use pattern::Patterns;

type Resolved = Result<Operand, CompileError>;

/// The state while resolving a clause.
#[derive(Default)]
pub(super) struct Resolver {
    /// The aggregates as written, without repetitions. Their filters may still have conditions on
    /// the user.
    pub aggregates: Vec<Aggregate>,
    /// Where each aggregate was found first.
    pub aggregate_positions: Vec<Pos>,
    /// The tags in `segment('…')`.
    pub segments: Vec<String>,
    /// The first event column outside any aggregate.
    pub bare_column: Option<(Pos, String)>,
    /// The first `extract(… FROM now())` outside any aggregate.
    pub clock_reading: Option<Pos>,
    /// Whether the clause was saved already. Then checks that were added since do not apply.
    saved: bool,
    patterns: Patterns,
    depth: usize,
    inside_aggregate: bool,
}

impl Resolver {
    pub(super) fn new(saved: bool) -> Resolver {
        Resolver { saved, ..Resolver::default() }
    }

    /// Resolves an expression that does not depend on `now()`. Untyped literals become text.
    fn value(&mut self, tree: &Ast, outer: Pos) -> Result<Expr, CompileError> {
        let pos = start_of(tree, outer);
        let operand = self.resolve(tree, pos)?;
        self.typed(operand, pos)
    }

    fn resolve(&mut self, tree: &Ast, outer: Pos) -> Resolved {
        if self.depth == DEPTH_MAX {
            return Err(CompileError::new(code::TOO_DEEP, outer, format!("more than {DEPTH_MAX} levels of operators"))
                .suggest("Write it in fewer steps, or split the clause with segment('tag')"));
        }
        self.depth += 1;
        let resolved = self.resolve_node(tree, start_of(tree, outer));
        self.depth -= 1;
        resolved
    }

    fn resolve_node(&mut self, tree: &Ast, pos: Pos) -> Resolved {
        match tree {
            Ast::Nested(inner) => self.resolve(inner, pos),
            Ast::Value(value) => literal::literal(&value.value, pos),
            Ast::TypedString(typed) => self.typed_string(typed, pos),
            Ast::Interval(interval) => literal::interval(interval, pos).map(Operand::Typed),
            Ast::Identifier(name) => {
                self.column(std::slice::from_ref(name), pos).map_err(|error| match name.quote_style {
                    Some(_) => error.suggest(format!("Put text in single quotes: {}", quoted(&name.value))),
                    None => error,
                })
            }
            Ast::CompoundIdentifier(parts) => self.column(parts, pos),
            Ast::BinaryOp { left, op: op @ (BinaryOperator::And | BinaryOperator::Or), right } => {
                self.chain(left, op, right, pos)
            }
            Ast::UnaryOp { op: UnaryOperator::Not, expr } => {
                Ok(Operand::Typed(Expr::Not(Box::new(self.condition(expr, pos)?))))
            }
            Ast::Cast { kind, expr, data_type, format } => self.cast(kind, expr, data_type, format.is_some(), pos),
            Ast::AtTimeZone { timestamp, time_zone } => self.at_time_zone(timestamp, time_zone, pos),
            Ast::Extract { field, expr, .. } => self.extract(field, expr, pos),
            Ast::Function(function) => self.function(function, pos),
            Ast::UnaryOp { op, expr } => self.sign(*op, expr, pos),
            Ast::BinaryOp { op: BinaryOperator::Arrow | BinaryOperator::LongArrow, .. } => {
                self.path(tree, pos).map(Operand::Typed)
            }
            Ast::BinaryOp { left, op, right } if is_arithmetic(op) => self.arithmetic(left, op, right, pos),
            Ast::BinaryOp { left, op: BinaryOperator::StringConcat, right } => self.concat(left, right, pos),
            Ast::Trim { .. } | Ast::Substring { .. } | Ast::Position { .. } => self.spelled_out(tree, pos),
            Ast::Case { operand, conditions, else_result, .. } => {
                let case = self.case(operand.as_deref(), conditions, else_result.as_deref(), pos)?;
                scope::check(&case, pos)?;
                Ok(Operand::Typed(case))
            }
            other => {
                let condition = self.predicate(other, pos)?;
                scope::check(&condition, pos)?;
                Ok(Operand::Typed(condition))
            }
        }
    }

    /// Resolves a comparison or test. One of these must not read both the event and the user.
    fn predicate(&mut self, tree: &Ast, pos: Pos) -> Result<Expr, CompileError> {
        match tree {
            Ast::BinaryOp { left, op, right } => match comparison(op) {
                Some(op) => self.comparison(left, op, right, pos),
                None if json::is_json_test(op) => self.json_test(left, op, right, pos),
                None => match pattern::regex_operator(op) {
                    Some((not, ignore_case)) => {
                        Ok(negated_if(not, self.matched(left, right, PatternKind::Regex, ignore_case, pos)?))
                    }
                    None => Err(unsupported(tree, pos)),
                },
            },
            Ast::IsNull(x) => self.is_null(x, pos),
            Ast::IsNotNull(x) => Ok(negated(self.is_null(x, pos)?)),
            Ast::IsTrue(x) => Ok(Expr::IsTrue(Box::new(self.condition(x, pos)?))),
            Ast::IsNotTrue(x) => Ok(negated(Expr::IsTrue(Box::new(self.condition(x, pos)?)))),
            Ast::IsFalse(x) => Ok(Expr::IsTrue(Box::new(negated(self.condition(x, pos)?)))),
            Ast::IsNotFalse(x) => Ok(negated(Expr::IsTrue(Box::new(negated(self.condition(x, pos)?))))),
            Ast::IsUnknown(x) => Ok(Expr::IsNull(Box::new(self.condition(x, pos)?))),
            Ast::IsNotUnknown(x) => Ok(negated(Expr::IsNull(Box::new(self.condition(x, pos)?)))),
            Ast::IsNotDistinctFrom(left, right) => self.not_distinct(left, right, pos),
            Ast::IsDistinctFrom(left, right) => Ok(negated(self.not_distinct(left, right, pos)?)),
            Ast::InList { expr, list, negated: not } => Ok(negated_if(*not, self.in_list(expr, list, pos)?)),
            Ast::Between { expr, negated: not, low, high } => Ok(negated_if(*not, self.between(expr, low, high, pos)?)),
            Ast::Like { negated: not, any, expr, pattern, escape_char } => {
                Ok(negated_if(*not, self.like(expr, pattern, escape_char.as_deref(), *any, false, pos)?))
            }
            Ast::ILike { negated: not, any, expr, pattern, escape_char } => {
                Ok(negated_if(*not, self.like(expr, pattern, escape_char.as_deref(), *any, true, pos)?))
            }
            other => Err(unsupported(other, pos)),
        }
    }

    fn column(&mut self, parts: &[Ident], pos: Pos) -> Resolved {
        let name = &*parts.iter().map(folded_name).collect::<Vec<_>>().join(".");
        if let Some(column) = names::event_column(name) {
            self.note_bare_column(name, pos);
            return Ok(Operand::Typed(Expr::Event(column)));
        }
        let user_column: Option<UserColumn> = name
            .strip_prefix("users.")
            .and_then(|name| names::USER_COLUMNS.iter().find(|(known, _)| *known == name))
            .map(|(_, column)| *column);
        match user_column {
            Some(column) => Ok(Operand::Typed(Expr::User(column))),
            None => Err(unknown_column(parts, pos)),
        }
    }

    fn note_bare_column(&mut self, name: &str, pos: Pos) {
        if !self.inside_aggregate && self.bare_column.is_none() {
            self.bare_column = Some((pos, name.to_owned()));
        }
    }

    fn segment_index(&mut self, tag: String, pos: Pos) -> Result<usize, CompileError> {
        if let Some(index) = self.segments.iter().position(|known| *known == tag) {
            return Ok(index);
        }
        if self.segments.len() == SEGMENTS_MAX {
            return Err(CompileError::new(
                code::UNSUPPORTED,
                pos,
                format!("a clause may name at most {SEGMENTS_MAX} segments"),
            ));
        }
        self.segments.push(tag);
        Ok(self.segments.len() - 1)
    }

    /// Returns the canonical form of an expression, with the names found so far.
    fn canonical(&self, expr: Expr) -> Expr {
        canonical::canonical(expr, &self.names())
    }

    pub(super) fn names(&self) -> Names<'_> {
        Names { aggregates: &self.aggregates, segments: &self.segments }
    }
}

/// Returns a name as Postgres reads it: lower case unless quoted.
fn folded_name(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

fn unknown_column(parts: &[Ident], pos: Pos) -> CompileError {
    let folded = parts.iter().map(folded_name).collect::<Vec<_>>().join(".");
    // Names of properties keep their case, so suggestions need it as written.
    let written: Vec<&str> = parts.iter().map(|part| part.value.as_str()).collect();
    CompileError::new(code::UNKNOWN_COLUMN, pos, format!("there is no column {folded}"))
        .suggest(names::suggest_column(&written))
}

fn is_arithmetic(op: &BinaryOperator) -> bool {
    matches!(op, BinaryOperator::Plus | BinaryOperator::Minus | BinaryOperator::Multiply | BinaryOperator::Divide)
}

fn comparison(op: &BinaryOperator) -> Option<CompareOp> {
    Some(match op {
        BinaryOperator::Eq => CompareOp::Eq,
        BinaryOperator::NotEq => CompareOp::NotEq,
        BinaryOperator::Lt => CompareOp::Lt,
        BinaryOperator::LtEq => CompareOp::LtEq,
        BinaryOperator::Gt => CompareOp::Gt,
        BinaryOperator::GtEq => CompareOp::GtEq,
        _ => return None,
    })
}

fn negated(condition: Expr) -> Expr {
    Expr::Not(Box::new(condition))
}

fn negated_if(not: bool, condition: Expr) -> Expr {
    if not { negated(condition) } else { condition }
}

fn null(ty: Type) -> Expr {
    Expr::Literal(Value::Null, ty)
}

fn unsupported(tree: &Ast, pos: Pos) -> CompileError {
    let (code, what, suggestion) = match tree {
        Ast::Subquery(_) | Ast::InSubquery { .. } | Ast::Exists { .. } => (
            code::SUBQUERY,
            "a clause has no sub-selects".to_owned(),
            "Ask about the user's events with count(*) FILTER (WHERE …)",
        ),
        Ast::SimilarTo { .. } => (code::UNSUPPORTED, "there is no SIMILAR TO".to_owned(), "Write LIKE or ~"),
        Ast::RLike { .. } => (code::UNSUPPORTED, "there is no RLIKE".to_owned(), "Write ~"),
        Ast::AnyOp { .. } | Ast::AllOp { .. } => {
            (code::UNSUPPORTED, "there is no ANY or ALL".to_owned(), "Write IN (…)")
        }
        Ast::Tuple(_) => (code::UNSUPPORTED, "there are no rows of values".to_owned(), "Compare one value at a time"),
        Ast::Collate { .. } => (code::UNSUPPORTED, "text compares by bytes".to_owned(), "Leave COLLATE out"),
        Ast::Wildcard(_) | Ast::QualifiedWildcard(..) => {
            (code::UNSUPPORTED, "* is allowed only in count(*)".to_owned(), "Name a column")
        }
        Ast::CompoundFieldAccess { .. } => (
            code::UNKNOWN_COLUMN,
            "this is not a name".to_owned(),
            "Properties are payload->>'name' and traits->>'name', the user's columns users.email, users.name, users.created_at",
        ),
        Ast::Ceil { .. } => return unknown_function("ceil", pos),
        Ast::Floor { .. } => return unknown_function("floor", pos),
        Ast::Overlay { .. } => return unknown_function("overlay", pos),
        _ => (
            code::UNSUPPORTED,
            "this is not part of the language".to_owned(),
            "See the language reference for what a clause may contain",
        ),
    };
    CompileError::new(code, pos, what).suggest(suggestion)
}

fn unknown_function(name: &str, pos: Pos) -> CompileError {
    CompileError::new(code::UNKNOWN_FUNCTION, pos, format!("there is no function {name}"))
        .suggest(names::suggest_function(name))
}

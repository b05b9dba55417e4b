//! What a sub-expression resolves to before its context gives it a type.

use super::{CompileError, Expr, Pos, Resolver, Type, Value, code, null};
use crate::language::fold;
use crate::plan::NowExpr;

/// A resolved sub-expression.
#[derive(Clone)]
pub(super) enum Operand {
    /// An expression with a type. It has `now()` only in complete comparisons.
    Typed(Expr),
    /// A text literal without a type: it takes the type that its context needs.
    Text(String),
    /// NULL without a type.
    Null,
    /// `g(now())`.
    Now(NowExpr),
    /// A difference between a time and `g(now())`.
    Age(Box<Age>),
}

/// `x - g(now())` or `g(now()) - x`. Both times have one type.
#[derive(Clone)]
pub(super) struct Age {
    pub x: Expr,
    pub now: NowExpr,
    pub x_first: bool,
}

impl Operand {
    /// Whether it depends on now, and so must be compared.
    pub(super) fn is_now(&self) -> bool {
        matches!(self, Operand::Now(_) | Operand::Age(_))
    }
}

impl Resolver {
    /// Returns the expression of an operand that must not depend on now. Untyped literals become
    /// text.
    pub(super) fn typed(&self, operand: Operand, pos: Pos) -> Result<Expr, CompileError> {
        match operand {
            Operand::Typed(expr) => Ok(expr),
            Operand::Text(text) => Ok(text_literal(&text)),
            Operand::Null => Ok(null(Type::Text)),
            Operand::Now(_) | Operand::Age(_) => Err(now_misplaced(pos)),
        }
    }

    /// Like [`Resolver::typed`], but an untyped literal takes the given type. A typed operand stays
    /// as it is.
    pub(super) fn of_type(&self, operand: Operand, ty: Type, pos: Pos) -> Result<Expr, CompileError> {
        match operand {
            Operand::Null => Ok(null(ty)),
            Operand::Text(text) => parse_literal(&text, ty, pos),
            other => self.typed(other, pos),
        }
    }

    /// Brings operands to one type: untyped literals adapt, whole numbers widen, dates and local
    /// times become times.
    pub(super) fn unify(&self, operands: Vec<(Operand, Pos)>) -> Result<Vec<Expr>, CompileError> {
        let mut common: Option<Type> = None;
        for (operand, pos) in &operands {
            if let Operand::Typed(expr) = operand {
                let ty = expr.value_type();
                if ty == Type::Json {
                    return Err(json_value(*pos));
                }
                common = match common {
                    None => Some(ty),
                    Some(before) => Some(common_type(before, ty).ok_or_else(|| mismatch(before, ty, *pos))?),
                };
            }
        }
        let ty = common.unwrap_or(Type::Text);
        operands.into_iter().map(|(operand, pos)| Ok(cast_to(self.of_type(operand, ty, pos)?, ty))).collect()
    }
}

/// Returns a text literal as a value.
pub(super) fn text_literal(text: &str) -> Expr {
    Expr::Literal(Value::Text(text.into()), Type::Text)
}

/// Reads a text literal as a type.
pub(super) fn parse_literal(text: &str, ty: Type, pos: Pos) -> Result<Expr, CompileError> {
    match fold::cast(Value::Text(text.into()), ty) {
        Value::Null => {
            Err(CompileError::new(code::BAD_LITERAL, pos, format!("'{text}' cannot be read as {}", describe(ty)))
                .suggest_maybe(example(ty).map(|example| format!("Write it as {example}"))))
        }
        value if !fold::is_writable(&value) => Err(CompileError::new(
            code::BAD_LITERAL,
            pos,
            format!("'{text}' is outside the years 0001 to 9999, in UTC"),
        )
        .suggest("Leave the comparison out, or write a time in these years")),
        value => Ok(Expr::Literal(value, ty)),
    }
}

/// Casts if the type differs. For widening only.
pub(super) fn cast_to(expr: Expr, ty: Type) -> Expr {
    if expr.value_type() == ty { expr } else { Expr::Cast(Box::new(expr), ty) }
}

/// Returns the type that both widen to without loss.
fn common_type(a: Type, b: Type) -> Option<Type> {
    let time_rank = |ty| match ty {
        Type::Date => Some(0),
        Type::LocalTimestamp => Some(1),
        Type::Timestamp => Some(2),
        _ => None,
    };
    match (a, b) {
        _ if a == b => Some(a),
        (Type::Int, Type::Decimal) | (Type::Decimal, Type::Int) => Some(Type::Decimal),
        _ => match (time_rank(a)?, time_rank(b)?) {
            (rank_a, rank_b) if rank_a > rank_b => Some(a),
            _ => Some(b),
        },
    }
}

/// Returns the name of a type for error messages.
pub(in crate::language) fn describe(ty: Type) -> &'static str {
    match ty {
        Type::Bool => "a condition",
        Type::Int => "a whole number",
        Type::Decimal => "a number",
        Type::Text => "text",
        Type::Timestamp => "a time (timestamptz)",
        Type::LocalTimestamp => "a local time (timestamp)",
        Type::Date => "a date",
        Type::Interval => "an interval",
        Type::Json => "a JSON value",
    }
}

fn example(ty: Type) -> Option<&'static str> {
    match ty {
        Type::Bool => Some("true or false"),
        Type::Int => Some("12"),
        Type::Decimal => Some("12.5"),
        Type::Timestamp | Type::LocalTimestamp => Some("'2026-01-31 18:00:00'"),
        Type::Date => Some("'2026-01-31'"),
        Type::Interval => Some("'7 days'"),
        Type::Text | Type::Json => None,
    }
}

/// The error for two types that do not compare.
pub(super) fn mismatch(a: Type, b: Type, pos: Pos) -> CompileError {
    let of_text = if a == Type::Text { Some(b) } else { (b == Type::Text).then_some(a) };
    let suggestion = match of_text {
        Some(Type::Int | Type::Decimal) => Some("Cast the text, e.g. (payload->>'price')::numeric"),
        Some(Type::Timestamp | Type::LocalTimestamp) => Some("Cast the text, e.g. (payload->>'due')::timestamptz"),
        Some(Type::Date) => Some("Cast the text, e.g. (payload->>'due')::date"),
        Some(Type::Interval) => Some("Cast the text, e.g. (payload->>'period')::interval"),
        Some(Type::Bool) => Some("Cast the text, e.g. (payload->>'vip')::boolean"),
        _ if a == Type::Interval || b == Type::Interval => Some("Compare an interval with INTERVAL '7 days'"),
        _ => None,
    };
    CompileError::new(
        code::TYPE,
        pos,
        format!("{} and {} differ in type: both must have one type", describe(a), describe(b)),
    )
    .suggest_maybe(suggestion.map(str::to_owned))
}

/// The error for `->` where a value is needed.
pub(super) fn json_value(pos: Pos) -> CompileError {
    CompileError::new(
        code::TYPE,
        pos,
        "-> gives JSON, which allows only further steps, ?, @>, jsonb_array_length and IS [NOT] NULL",
    )
    .suggest("End the path with ->> to get text: payload->'cart'->>'size'")
}

/// The error for `now()` outside a comparison.
pub(super) fn now_misplaced(pos: Pos) -> CompileError {
    CompileError::new(
        code::NOW_MISPLACED,
        pos,
        "now() is allowed only on one side of a comparison of times, so that the instant at which it flips is known",
    )
    .suggest(
        "Write it as created_at >= now() - INTERVAL '7 days', created_at >= date_trunc('day', now()), or now() - \
         created_at < INTERVAL '7 days'",
    )
}

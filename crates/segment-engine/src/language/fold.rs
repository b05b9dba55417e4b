//! Constants: evaluated here, once, by the same evaluation that runs the plan.

use crate::decimal::Decimal;
use crate::eval::{Scope, evaluate};
use crate::plan::{Expr, TimeCompare};
use crate::time::is_within_written_years;
use crate::value::{Type, Value};

/// Returns the node itself, or the constant it is worth if all its operands are constants and it can be written as one.
pub(super) fn folded(expr: Expr) -> Expr {
    if matches!(expr, Expr::TimeCompare(_)) {
        return expr;
    }
    let operands = expr.children();
    if operands.is_empty() || !operands.iter().all(|operand| matches!(operand, Expr::Literal(..))) {
        return expr;
    }
    let ty = expr.value_type();
    match evaluate(&expr, &mut Nothing) {
        value if is_writable(&value) => Expr::Literal(value, ty),
        _ => expr,
    }
}

/// Whether a constant has a spelling that is read as the same again: of times, those of the years 0001 to 9999 do.
pub(super) fn is_writable(value: &Value) -> bool {
    let is_time = matches!(value, Value::Timestamp(_) | Value::LocalTimestamp(_) | Value::Date(_));
    !is_time || value.calendar_micros().is_some_and(is_within_written_years)
}

/// Returns a cast of a constant; NULL if it fails.
pub(super) fn cast(value: Value, ty: Type) -> Value {
    value.cast(ty)
}

/// Returns a number without a fraction that fits 64 bits.
pub(super) fn whole(number: Decimal) -> Option<i64> {
    number.to_int().filter(|whole| Decimal::from(*whole) == number)
}

/// The scope of expressions that read nothing.
struct Nothing;

impl Scope for Nothing {
    fn time_compare(&mut self, _: &TimeCompare, _: &Value) -> Value {
        Value::Null
    }
}

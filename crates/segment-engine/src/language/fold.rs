//! Constant folding, by the evaluation that also runs the plan.

use crate::decimal::Decimal;
use crate::eval::{Scope, evaluate};
use crate::plan::{Expr, TimeCompare};
use crate::time::is_within_written_years;
use crate::value::{Type, Value};

/// Returns the node, or its value if all its operands are constants and the value can be written as
/// a constant.
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

/// Whether a constant has a spelling that is read as the same constant again. Of times, only those
/// in the years 0001 to 9999 have.
pub(super) fn is_writable(value: &Value) -> bool {
    let is_time = matches!(value, Value::Timestamp(_) | Value::LocalTimestamp(_) | Value::Date(_));
    !is_time || value.calendar_micros().is_some_and(is_within_written_years)
}

/// Casts a constant; NULL if that fails.
pub(super) fn cast(value: Value, ty: Type) -> Value {
    value.cast(ty)
}

/// Returns a number as a whole number; `None` if it has a fraction or more than 64 bits.
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

//! Where `now()` is allowed: comparisons, differences, shifts.

use super::operand::{Age, Operand, cast_to, describe, mismatch, now_misplaced};
use super::{CompareOp, CompileError, Expr, Pos, Resolved, Resolver, Type, Value, code};
use crate::plan::{ArithmeticOp, NowExpr, NowStep, TimeCompare};
use crate::time::Interval;

impl Resolver {
    /// Resolves `x op g(now())`.
    pub(super) fn time_compare(
        &mut self,
        (x, x_pos): (Operand, Pos),
        op: CompareOp,
        mut bound: NowExpr,
        pos: Pos,
    ) -> Result<Expr, CompileError> {
        let bound_type = bound.value_type();
        let x = self.of_type(x, bound_type, x_pos)?;
        let x = match (x.value_type(), bound_type) {
            (_, Type::Decimal) => return self.clock_compare(x, op, bound, x_pos, pos),
            (x_type, _) if !x_type.is_time() => return Err(mismatch(x_type, bound_type, x_pos)),
            (x_type, _) if x_type == bound_type => x,
            (Type::Timestamp, _) => {
                bound.push(NowStep::ToTimestamp);
                x
            }
            (Type::LocalTimestamp, Type::Date) => {
                bound.push(NowStep::ToLocal);
                x
            }
            _ => cast_to(x, bound_type),
        };
        let (x, bound) = moved(self.canonical(x), bound);
        Ok(Expr::TimeCompare(Box::new(TimeCompare { x, op, bound })))
    }

    /// Resolves a comparison with `extract(… FROM g(now()))`.
    fn clock_compare(
        &mut self,
        x: Expr,
        op: CompareOp,
        bound: NowExpr,
        x_pos: Pos,
        pos: Pos,
    ) -> Result<Expr, CompileError> {
        if !matches!(x.value_type(), Type::Int | Type::Decimal) {
            return Err(mismatch(x.value_type(), Type::Decimal, x_pos));
        }
        if x.reads_event() || x.reads_aggregate() {
            let message = "a field of now() can be compared only with constants and with values of the user";
            return Err(CompileError::new(code::NOW_MISPLACED, x_pos, message)
                .suggest("Compare times instead: date_trunc('day', created_at) = date_trunc('day', now())"));
        }
        if self.inside_aggregate {
            return Err(clock_inside_aggregate(pos));
        }
        self.clock_reading.get_or_insert(pos);
        let x = self.canonical(cast_to(x, Type::Decimal));
        Ok(Expr::TimeCompare(Box::new(TimeCompare { x, op, bound })))
    }

    /// Resolves `now() - x op limit`: the length becomes part of the bound.
    pub(super) fn age_compare(
        &mut self,
        age: Age,
        op: CompareOp,
        (limit, limit_pos): (Operand, Pos),
        pos: Pos,
    ) -> Result<Expr, CompileError> {
        let Age { x, mut now, x_first } = age;
        let of_dates = now.value_type() == Type::Date;
        let limit = self.of_type(limit, if of_dates { Type::Int } else { Type::Interval }, limit_pos)?;
        let length = match self.canonical(limit) {
            Expr::Literal(Value::Int(days), _) if of_dates => {
                i32::try_from(days).ok().map(|days| Interval { months: 0, days, micros: 0 })
            }
            Expr::Literal(Value::Interval(interval), _) if !of_dates => {
                Interval::from_difference(interval.comparable_micros())
            }
            other => {
                let constant = if of_dates { "a whole number of days" } else { "a constant like INTERVAL '3 days'" };
                let message = format!(
                    "a difference with now() can be compared with {constant}, not with {}",
                    describe(other.value_type())
                );
                return Err(CompileError::new(code::NOW_MISPLACED, limit_pos, message)
                    .suggest("Write now() - created_at < INTERVAL '3 days'"));
            }
        };
        let too_long =
            || CompileError::new(code::BAD_LITERAL, limit_pos, "this interval is longer than the range of time");
        let length = length.ok_or_else(too_long)?;
        // x - g op length  ⇔  x op g + length;   g - x op length  ⇔  x flipped-op g - length.
        let (op, shift) =
            if x_first { (op, length) } else { (op.flipped(), length.checked_neg().ok_or_else(too_long)?) };
        now.push(NowStep::Add(shift));
        if of_dates {
            now.push(NowStep::ToDate);
        }
        self.time_compare((Operand::Typed(x), pos), op, now, pos)
    }

    /// Resolves `now ± interval`, `now - x` or `x - now`.
    pub(super) fn now_arithmetic(
        &mut self,
        op: ArithmeticOp,
        (left, left_pos): (Operand, Pos),
        (right, right_pos): (Operand, Pos),
    ) -> Resolved {
        match (op, left, right) {
            (ArithmeticOp::Add, Operand::Now(now), length) | (ArithmeticOp::Add, length, Operand::Now(now)) => {
                self.shifted_now(now, length, false, left_pos)
            }
            (ArithmeticOp::Sub, Operand::Now(now), Operand::Typed(x)) if x.value_type().is_time() => {
                age(x, now, false, left_pos)
            }
            (ArithmeticOp::Sub, Operand::Typed(x), Operand::Now(now)) if x.value_type().is_time() => {
                age(x, now, true, right_pos)
            }
            (ArithmeticOp::Sub, Operand::Now(now), length) => self.shifted_now(now, length, true, right_pos),
            _ => Err(now_misplaced(left_pos)),
        }
    }

    fn shifted_now(&self, mut now: NowExpr, length: Operand, backwards: bool, pos: Pos) -> Resolved {
        let length = match length {
            Operand::Typed(length) => self.canonical(length),
            _ => return Err(now_needs_interval(pos)),
        };
        if !now.value_type().is_time() {
            return Err(now_misplaced(pos));
        }
        // A date and a whole number give a date; a date and an interval give a time.
        let (interval, stays_date) = match length {
            Expr::Literal(Value::Interval(interval), _) => (Some(interval), false),
            Expr::Literal(Value::Int(0), _) if now.value_type() == Type::Date => return Ok(Operand::Now(now)),
            Expr::Literal(Value::Int(days), _) if now.value_type() == Type::Date => {
                (i32::try_from(days).ok().map(|days| Interval { months: 0, days, micros: 0 }), true)
            }
            _ => (None, false),
        };
        let shift = interval.and_then(|interval| if backwards { interval.checked_neg() } else { Some(interval) });
        now.push(NowStep::Add(shift.ok_or_else(|| now_needs_interval(pos))?));
        if stays_date {
            now.push(NowStep::ToDate);
        }
        Ok(Operand::Now(now))
    }
}

/// Moves `± INTERVAL` of fixed length from x to the bound, so that equal windows become equal
/// expressions.
fn moved(mut x: Expr, mut bound: NowExpr) -> (Expr, NowExpr) {
    loop {
        match x {
            Expr::Arithmetic(op @ (ArithmeticOp::Add | ArithmeticOp::Sub), time, length)
                if time.value_type() == bound.value_type() =>
            {
                let shift = match &*length {
                    Expr::Literal(Value::Interval(interval), _) if interval.months == 0 => match op {
                        ArithmeticOp::Add => interval.checked_neg(),
                        _ => Some(*interval),
                    },
                    _ => None,
                };
                let Some(shift) = shift else { return (Expr::Arithmetic(op, time, length), bound) };
                bound.push(NowStep::Add(shift));
                x = *time;
            }
            _ => return (x, bound),
        }
    }
}

fn age(x: Expr, mut now: NowExpr, x_first: bool, pos: Pos) -> Resolved {
    if !now.value_type().is_time() {
        return Err(now_misplaced(pos));
    }
    let x = match (x.value_type(), now.value_type()) {
        (a, b) if a == b => x,
        (Type::Timestamp, _) => {
            now.push(NowStep::ToTimestamp);
            x
        }
        (Type::LocalTimestamp, Type::Date) => {
            now.push(NowStep::ToLocal);
            x
        }
        (_, wider) => cast_to(x, wider),
    };
    Ok(Operand::Age(Box::new(Age { x, now, x_first })))
}

fn now_needs_interval(pos: Pos) -> CompileError {
    CompileError::new(code::NOW_MISPLACED, pos, "only a constant interval can be added to now() or subtracted from it")
        .suggest("Write now() - INTERVAL '7 days', or now()::date - 7")
}

/// The error for `extract(… FROM now())` in a condition on events: every event would flip again and
/// again.
pub(in crate::language) fn clock_inside_aggregate(pos: Pos) -> CompileError {
    CompileError::new(code::NOW_MISPLACED, pos, "extract(… FROM now()) is not allowed in a condition on an event")
        .suggest("Put it beside the aggregate: count(*) FILTER (WHERE …) > 0 AND extract(hour FROM now()) >= 9")
}

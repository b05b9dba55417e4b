//! Everything about `now()` and about functions of time.

use sqlparser::ast::{DateTimeField, Expr as Ast, Value as AstValue};

use super::operand::{Age, Operand, cast_to, describe, mismatch, now_misplaced};
use super::{CompareOp, CompileError, Expr, Pos, Resolved, Resolver, Type, Value, code};
use crate::language::print;
use crate::plan::{ArithmeticOp, Field, Function, NowExpr, NowStep, TimeCompare, Unit, Zone};
use crate::time::Interval;

impl Resolver {
    /// `x op g(now())`.
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
        let (x, bound) = moved(x, bound);
        Ok(Expr::TimeCompare(Box::new(TimeCompare { x: self.canonical(x), op, bound })))
    }

    /// A comparison with `extract(… FROM g(now()))`: what the clock shows.
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
            let message = "what the clock shows compares with constants and with values of the user only";
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

    /// `now() - x op limit`: the length becomes part of the bound.
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
                    "a difference with now() compares with {constant}, not with {}",
                    describe(other.value_type())
                );
                return Err(CompileError::new(code::NOW_MISPLACED, limit_pos, message)
                    .suggest("Write now() - created_at < INTERVAL '3 days'"));
            }
        };
        let too_long = || CompileError::new(code::BAD_LITERAL, limit_pos, "this is longer than time");
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

    /// `now ± interval`, `now - x`, `x - now`.
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
        let Expr::Literal(Value::Interval(interval), _) = length else { return Err(now_needs_interval(pos)) };
        if !now.value_type().is_time() {
            return Err(now_misplaced(pos));
        }
        let shift = if backwards { interval.checked_neg() } else { Some(interval) };
        now.push(NowStep::Add(shift.ok_or_else(|| now_needs_interval(pos))?));
        Ok(Operand::Now(now))
    }

    pub(super) fn at_time_zone(&mut self, time: &Ast, zone: &Ast, pos: Pos) -> Resolved {
        let zone = zone_of(zone, pos)?;
        match self.resolve(time, pos)? {
            Operand::Now(mut now) if now.value_type().is_time() => {
                if now.value_type() == Type::Date {
                    now.push(NowStep::ToTimestamp);
                }
                now.push(NowStep::AtTimeZone(zone));
                Ok(Operand::Now(now))
            }
            operand => {
                let time = self.time_argument(operand, "AT TIME ZONE", pos)?;
                Ok(Operand::Typed(Expr::Call(Function::AtTimeZone(zone), vec![time])))
            }
        }
    }

    /// `date_trunc(unit, time)` and `date_trunc(unit, time, zone)`.
    pub(super) fn date_trunc(&mut self, arguments: &[&Ast], pos: Pos) -> Resolved {
        let (unit, time, zone) = match arguments {
            [unit, time] => (unit, time, None),
            [unit, time, zone] => (unit, time, Some(zone_of(zone, pos)?)),
            _ => {
                return Err(CompileError::new(
                    code::ARGUMENTS,
                    pos,
                    "date_trunc takes a unit, a time, and perhaps a zone",
                )
                .suggest("Write date_trunc('day', created_at) or date_trunc('day', now(), 'Europe/Berlin')"));
            }
        };
        let unit = unit_of(unit, pos)?;
        match self.resolve(time, pos)? {
            Operand::Now(mut now) if now.value_type().is_time() => {
                if now.value_type() == Type::Date {
                    now.push(NowStep::ToTimestamp);
                }
                if zone.is_some() && now.value_type() != Type::Timestamp {
                    return Err(zone_needs_timestamp(pos));
                }
                now.steps.extend(zone.iter().cloned().map(NowStep::AtTimeZone));
                now.push(NowStep::Trunc(unit));
                now.steps.extend(zone.map(NowStep::AtTimeZone));
                Ok(Operand::Now(now))
            }
            operand => {
                let time = self.time_argument(operand, "date_trunc", pos)?;
                if zone.is_some() && time.value_type() != Type::Timestamp {
                    return Err(zone_needs_timestamp(pos));
                }
                let call = |function: Function, argument: Expr| Expr::Call(function, vec![argument]);
                let time = zone.iter().cloned().fold(time, |time, zone| call(Function::AtTimeZone(zone), time));
                let time = call(Function::DateTrunc(unit), time);
                Ok(Operand::Typed(zone.into_iter().fold(time, |time, zone| call(Function::AtTimeZone(zone), time))))
            }
        }
    }

    /// `extract(field FROM x)`.
    pub(super) fn extract(&mut self, field: &DateTimeField, x: &Ast, pos: Pos) -> Resolved {
        let field = field_of(field, pos)?;
        match self.resolve(x, pos)? {
            Operand::Now(mut now) if now.value_type().is_time() => {
                if matches!(field, Field::Epoch | Field::Second | Field::Millisecond | Field::Microsecond) {
                    let message = "of now(), only what changes at most once a minute can be extracted";
                    return Err(CompileError::new(code::NOW_MISPLACED, pos, message)
                        .suggest("Compare times instead: created_at >= now() - INTERVAL '30 seconds'"));
                }
                if now.value_type() == Type::Date {
                    now.push(NowStep::ToLocal);
                }
                now.push(NowStep::Extract(field));
                Ok(Operand::Now(now))
            }
            Operand::Age(_) => Err(CompileError::new(code::NOW_MISPLACED, pos, "extract of a difference with now()")
                .suggest("Compare the difference itself: now() - created_at < INTERVAL '3 days'")),
            operand => {
                let x = self.typed(operand, pos)?;
                let x = match x.value_type() {
                    Type::Date if is_shorter_than_day(field) => return Err(no_such_field(field, "a date", pos)),
                    Type::Date => cast_to(x, Type::LocalTimestamp),
                    Type::Interval if field.of_interval(Interval::default()).is_none() => {
                        return Err(no_such_field(field, "an interval", pos));
                    }
                    Type::Timestamp | Type::LocalTimestamp | Type::Interval => x,
                    other => return Err(needs_time("extract", other, pos)),
                };
                Ok(Operand::Typed(Expr::Call(Function::Extract(field), vec![x])))
            }
        }
    }

    /// The argument of a function of time; a date is taken as its midnight in UTC, as Postgres does.
    fn time_argument(&self, operand: Operand, function: &str, pos: Pos) -> Result<Expr, CompileError> {
        let time = self.typed(operand, pos)?;
        match time.value_type() {
            Type::Timestamp | Type::LocalTimestamp => Ok(time),
            Type::Date => Ok(cast_to(time, Type::Timestamp)),
            other => Err(needs_time(function, other, pos)),
        }
    }
}

/// Moves `± INTERVAL` of fixed length from x to the bound, so that equal windows become equal expressions.
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

fn constant_text(tree: &Ast) -> Option<&str> {
    match tree {
        Ast::Value(value) => match &value.value {
            AstValue::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        Ast::Nested(inner) => constant_text(inner),
        _ => None,
    }
}

fn zone_of(tree: &Ast, pos: Pos) -> Result<Zone, CompileError> {
    let refuse = |what: String| {
        CompileError::new(code::BAD_LITERAL, pos, what)
            .suggest("Write a name of the IANA database: 'Europe/Berlin', 'America/Los_Angeles', 'UTC'")
    };
    let Some(name) = constant_text(tree) else { return Err(refuse("a time zone is a constant text".to_owned())) };
    Zone::parse(name).ok_or_else(|| refuse(format!("there is no time zone '{name}'")))
}

fn unit_of(tree: &Ast, pos: Pos) -> Result<Unit, CompileError> {
    let name = constant_text(tree).unwrap_or_default().to_lowercase();
    Ok(match name.strip_suffix('s').unwrap_or(&name) {
        "microsecond" => Unit::Microsecond,
        "millisecond" => Unit::Millisecond,
        "second" => Unit::Second,
        "minute" => Unit::Minute,
        "hour" => Unit::Hour,
        "day" => Unit::Day,
        "week" => Unit::Week,
        "month" => Unit::Month,
        "quarter" => Unit::Quarter,
        "year" => Unit::Year,
        _ => {
            return Err(CompileError::new(code::ARGUMENTS, pos, "the first argument of date_trunc is a constant unit")
                .suggest("Write one of 'minute', 'hour', 'day', 'week', 'month', 'quarter', 'year'"));
        }
    })
}

fn field_of(field: &DateTimeField, pos: Pos) -> Result<Field, CompileError> {
    let name = field.to_string().to_lowercase();
    let name = name.trim_matches('\'');
    Ok(match name.strip_suffix('s').unwrap_or(name) {
        "epoch" => Field::Epoch,
        "microsecond" => Field::Microsecond,
        "millisecond" => Field::Millisecond,
        "second" => Field::Second,
        "minute" => Field::Minute,
        "hour" => Field::Hour,
        "day" => Field::Day,
        "dow" => Field::DayOfWeek,
        "isodow" => Field::IsoDayOfWeek,
        "doy" => Field::DayOfYear,
        "week" => Field::IsoWeek,
        "isoyear" => Field::IsoYear,
        "month" => Field::Month,
        "quarter" => Field::Quarter,
        "year" => Field::Year,
        _ => {
            return Err(CompileError::new(code::ARGUMENTS, pos, format!("extract knows no field {field}")).suggest(
                "The fields are minute, hour, day, dow, isodow, doy, week, month, quarter, year, isoyear, epoch, second",
            ));
        }
    })
}

fn is_shorter_than_day(field: Field) -> bool {
    matches!(field, Field::Hour | Field::Minute | Field::Second | Field::Millisecond | Field::Microsecond)
}

fn no_such_field(field: Field, of: &str, pos: Pos) -> CompileError {
    CompileError::new(code::ARGUMENTS, pos, format!("{of} has no {}", print::field_name(field)))
}

fn needs_time(function: &str, ty: Type, pos: Pos) -> CompileError {
    CompileError::new(code::TYPE, pos, format!("{function} takes a time, not {}", describe(ty)))
        .suggest("Cast it, e.g. (payload->>'due')::timestamptz")
}

fn zone_needs_timestamp(pos: Pos) -> CompileError {
    CompileError::new(code::TYPE, pos, "date_trunc with a zone takes a timestamptz")
        .suggest("Leave the zone out: a local time is in its zone already")
}

fn now_needs_interval(pos: Pos) -> CompileError {
    CompileError::new(code::NOW_MISPLACED, pos, "only a constant interval can be added to now() or taken from it")
        .suggest("Write now() - INTERVAL '7 days'")
}

/// `extract(… FROM now())` where it would make every event's counting depend on the clock.
pub(in crate::language) fn clock_inside_aggregate(pos: Pos) -> CompileError {
    CompileError::new(code::NOW_MISPLACED, pos, "extract(… FROM now()) may not stand in the condition on an event")
        .suggest("Put it beside the aggregate: count(*) FILTER (WHERE …) > 0 AND extract(hour FROM now()) >= 9")
}

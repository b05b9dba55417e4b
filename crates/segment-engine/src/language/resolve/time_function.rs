//! `AT TIME ZONE`, `date_trunc` and `extract` of times and of `now()`.

use sqlparser::ast::{DateTimeField, Expr as Ast, Value as AstValue};

use super::operand::{Operand, cast_to, describe};
use super::{CompileError, Expr, Pos, Resolved, Resolver, Type, code};
use crate::plan::{Field, Function, NowStep, Unit};
use crate::time::Interval;

impl Resolver {
    pub(super) fn at_time_zone(&mut self, time: &Ast, zone: &Ast, pos: Pos) -> Resolved {
        let zone = self.zone_of(zone, pos)?;
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

    /// Resolves `date_trunc(unit, time)` and `date_trunc(unit, time, zone)`.
    pub(super) fn date_trunc(&mut self, arguments: &[&Ast], pos: Pos) -> Resolved {
        let (unit, time, zone) = match arguments {
            [unit, time] => (unit, time, None),
            [unit, time, zone] => (unit, time, Some(self.zone_of(zone, pos)?)),
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

    /// Resolves `extract(field FROM x)`.
    pub(super) fn extract(&mut self, field: &DateTimeField, x: &Ast, pos: Pos) -> Resolved {
        let field = field_of(field, pos)?;
        match self.resolve(x, pos)? {
            Operand::Now(mut now) if now.value_type().is_time() => {
                if matches!(field, Field::Second | Field::Millisecond | Field::Microsecond) {
                    let message =
                        "from now(), only the epoch and fields that change at most once a minute can be extracted";
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

    /// Returns the argument of a function of time. A date becomes its midnight in UTC, as in
    /// Postgres.
    fn time_argument(&self, operand: Operand, function: &str, pos: Pos) -> Result<Expr, CompileError> {
        let time = self.typed(operand, pos)?;
        match time.value_type() {
            Type::Timestamp | Type::LocalTimestamp => Ok(time),
            Type::Date => Ok(cast_to(time, Type::Timestamp)),
            other => Err(needs_time(function, other, pos)),
        }
    }
}

pub(super) fn constant_text(tree: &Ast) -> Option<&str> {
    match tree {
        Ast::Value(value) => match &value.value {
            AstValue::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        Ast::Nested(inner) => constant_text(inner),
        _ => None,
    }
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
            return Err(CompileError::new(code::ARGUMENTS, pos, format!("extract has no field {field}")).suggest(
                "The fields are microsecond, millisecond, second, minute, hour, day, dow, isodow, doy, week, month, quarter, \
                 year, isoyear and epoch",
            ));
        }
    })
}

fn is_shorter_than_day(field: Field) -> bool {
    matches!(field, Field::Hour | Field::Minute | Field::Second | Field::Millisecond | Field::Microsecond)
}

fn no_such_field(field: Field, of: &str, pos: Pos) -> CompileError {
    CompileError::new(code::ARGUMENTS, pos, format!("{of} has no {}", field.name()))
}

fn needs_time(function: &str, ty: Type, pos: Pos) -> CompileError {
    CompileError::new(code::TYPE, pos, format!("{function} takes a time, not {}", describe(ty)))
        .suggest("Cast it, e.g. (payload->>'due')::timestamptz")
}

fn zone_needs_timestamp(pos: Pos) -> CompileError {
    CompileError::new(code::TYPE, pos, "date_trunc with a zone takes a timestamptz")
        .suggest("Leave the zone out: a local time is in its zone already")
}

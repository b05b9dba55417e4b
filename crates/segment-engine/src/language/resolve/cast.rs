//! Casts, and the types that a clause may name.

use sqlparser::ast::{CastKind, DataType, ExactNumberInfo, Expr as Ast, TimezoneInfo};

use super::operand::{Operand, describe, json_value, now_misplaced};
use super::{CompileError, Expr, Pos, Resolved, Resolver, Type, code};
use crate::plan::NowStep;

/// The target of a cast.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Target {
    Plain(Type),
    /// An integer of this many bytes: 4 or 2.
    Int(u8),
}

/// Returns the type with this name.
pub(super) fn target(data_type: &DataType, pos: Pos) -> Result<Target, CompileError> {
    use DataType as D;
    Ok(match data_type {
        D::Text | D::Varchar(None) | D::CharacterVarying(None) | D::String(None) => Target::Plain(Type::Text),
        D::Int(None) | D::Int4(None) | D::Integer(None) => Target::Int(4),
        D::SmallInt(None) | D::Int2(None) => Target::Int(2),
        D::BigInt(None) | D::Int8(None) => Target::Plain(Type::Int),
        D::Numeric(ExactNumberInfo::None | ExactNumberInfo::PrecisionAndScale(38, 9))
        | D::Decimal(ExactNumberInfo::None | ExactNumberInfo::PrecisionAndScale(38, 9))
        | D::Dec(ExactNumberInfo::None)
        | D::Float(ExactNumberInfo::None)
        | D::Double(ExactNumberInfo::None)
        | D::Float4
        | D::Float8
        | D::Real
        | D::DoublePrecision => Target::Plain(Type::Decimal),
        D::Bool | D::Boolean => Target::Plain(Type::Bool),
        D::Date => Target::Plain(Type::Date),
        D::Timestamp(None, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone) => Target::Plain(Type::Timestamp),
        D::Timestamp(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => Target::Plain(Type::LocalTimestamp),
        D::Interval { fields: None, precision: None } => Target::Plain(Type::Interval),
        other => {
            return Err(CompileError::new(code::UNSUPPORTED, pos, format!("the language has no type {other}"))
                .suggest(suggest_type(other)));
        }
    })
}

fn suggest_type(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Numeric(_) | DataType::Decimal(_) | DataType::Float(_) | DataType::Double(_) => {
            "All fractional numbers are numeric with 9 decimals: write x::numeric, and round(x, 2) to round"
        }
        DataType::Timestamp(..) => "Write ::timestamptz or ::timestamp, without a precision",
        _ => "The types are text, bigint, int, smallint, numeric, boolean, timestamptz, timestamp, date and interval",
    }
}

impl Resolver {
    pub(super) fn cast(
        &mut self,
        kind: &CastKind,
        inner: &Ast,
        data_type: &DataType,
        with_format: bool,
        pos: Pos,
    ) -> Resolved {
        if with_format || !matches!(kind, CastKind::Cast | CastKind::DoubleColon) {
            return Err(CompileError::new(code::UNSUPPORTED, pos, "only CAST(x AS type) and x::type are known")
                .suggest("A cast that fails gives NULL anyway"));
        }
        let target = target(data_type, pos)?;
        let wanted = match target {
            Target::Plain(ty) => ty,
            Target::Int(_) => Type::Int,
        };
        let inner = match self.resolve(inner, pos)? {
            Operand::Now(mut now) => {
                let step = match wanted {
                    Type::Date => NowStep::ToDate,
                    Type::LocalTimestamp => NowStep::ToLocal,
                    Type::Timestamp => NowStep::ToTimestamp,
                    _ => return Err(now_misplaced(pos)),
                };
                if !now.value_type().is_time() {
                    return Err(now_misplaced(pos));
                }
                now.push(step);
                return Ok(Operand::Now(now));
            }
            Operand::Null => return Ok(Operand::Typed(super::null(wanted))),
            operand => self.typed(operand, pos)?,
        };
        let from = inner.value_type();
        if from == Type::Json {
            return Err(json_value(pos));
        }
        if !castable(from, wanted) || (from == Type::Bool && target == Target::Plain(Type::Int)) {
            return Err(CompileError::new(
                code::TYPE,
                pos,
                format!("{} cannot be cast to {}", describe(from), describe(wanted)),
            ));
        }
        let inner = Box::new(inner);
        let cast = match target {
            Target::Int(bytes) => Expr::CastInt(inner, bytes),
            Target::Plain(ty) if ty == from => *inner,
            Target::Plain(ty) => Expr::Cast(inner, ty),
        };
        Ok(Operand::Typed(self.canonical(cast)))
    }
}

/// Whether Postgres has this cast.
fn castable(from: Type, to: Type) -> bool {
    from == to
        || from == Type::Text
        || to == Type::Text
        || matches!((from, to), (Type::Int, Type::Decimal | Type::Bool) | (Type::Decimal | Type::Bool, Type::Int))
        || (from.is_time() && to.is_time())
}

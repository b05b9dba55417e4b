//! Evaluates columns, JSON paths and scalar functions.

use segment_engine::time::{Field, Timestamp, Unit, Zone};
use segment_engine::value::{Type, Value};
use serde_json::Value as Json;
use sqlparser::ast::{
    CaseWhen, DataType, DuplicateTreatment, Expr as Ast, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    Ident, Value as Constant,
};

use super::kinds::{common, common_kind, of_data_type};
use super::lists::{self, step};
use super::values::{cast, cast_int, compare, fold_case, text_of_json};
use super::{Answer, Scope, aggregates, kinds, texts};

pub(super) fn name(function: &Function) -> String {
    function.name.to_string().to_ascii_lowercase()
}

/// Returns the arguments; none for `*`.
pub(super) fn arguments(function: &Function) -> Vec<&Ast> {
    let FunctionArguments::List(list) = &function.args else { return Vec::new() };
    let arguments = list.args.iter().filter_map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(tree)) => Some(tree),
        _ => None,
    });
    arguments.collect()
}

pub(super) fn is_distinct(function: &Function) -> bool {
    matches!(&function.args, FunctionArguments::List(list) if list.duplicate_treatment == Some(DuplicateTreatment::Distinct))
}

/// Returns the type of a function's value.
pub(super) fn kind(name: &str, arguments: &[&Ast]) -> Option<Type> {
    let first = arguments.first().and_then(|tree| kinds::kind(tree));
    match name {
        "count" | "funnel" | "length" | "strpos" | "jsonb_array_length" => Some(Type::Int),
        "sum" | "avg" | "bucket" => Some(Type::Decimal),
        "bool_or" | "bool_and" | "starts_with" | "segment" => Some(Type::Bool),
        "lower" | "upper" | "btrim" | "ltrim" | "rtrim" | "left" | "right" | "split_part" | "replace" => {
            Some(Type::Text)
        }
        "to_timestamp" => Some(Type::Timestamp),
        "now" | "current_timestamp" => Some(Type::Timestamp),
        "date_trunc" => arguments.get(1).and_then(|tree| kinds::kind(tree)),
        "coalesce" | "nullif" => common_kind(arguments.iter().copied()),
        "first" | "last" | "min" | "max" => first.or(Some(Type::Text)),
        _ => first,
    }
}

impl Scope<'_> {
    pub(super) fn event_column(&self, name: &str) -> Answer {
        let event = self.event.ok_or_else(|| format!("{name} without an event"))?;
        let text = |text: &Option<Box<str>>| text.as_deref().map_or(Value::Null, |text| Value::Text(text.into()));
        Ok(match name.strip_prefix("payload_").unwrap_or(name) {
            "event_id" | "id" => text(&event.event_id),
            "user_id" => Value::Int(self.id.0),
            "client_ref_id" => Value::Text((&*event.client_ref_id).into()),
            "id_type" => text(&event.id_type),
            "region" => text(&event.region),
            "device_type" => text(&event.device_type),
            "country" => text(&event.country),
            "activity_type" => text(&event.activity_type),
            "url" => text(&event.url),
            "order_total" => event.order_total.map_or(Value::Null, Value::Decimal),
            "order_id" => text(&event.order_id),
            "element_id" => text(&event.element_id),
            "created_at" => Value::Timestamp(event.created_at),
            "processed_at" => Value::Timestamp(event.processed_at),
            other => return Err(format!("there is no column {other}")),
        })
    }

    pub(super) fn user_column(&self, parts: &[Ident]) -> Answer {
        let text = |text: &Option<String>| text.as_deref().map_or(Value::Null, |text| Value::Text(text.into()));
        match parts.iter().map(|part| part.value.as_str()).collect::<Vec<_>>()[..] {
            ["users", "email"] => Ok(text(&self.user.email)),
            ["users", "name"] => Ok(text(&self.user.name)),
            ["users", "created_at"] => Ok(Value::Timestamp(self.user.created_at)),
            ref other => Err(format!("there is no column {other:?}")),
        }
    }

    pub(super) fn json(&self, object: &Ast, key: &Ast, as_text: bool) -> Answer {
        let found = self.json_value(object)?.and_then(|object| step(&object, key));
        Ok(match found {
            None => Value::Null,
            Some(Json::Null) if as_text => Value::Null,
            Some(json) if as_text => Value::Text(text_of_json(&json).into()),
            Some(json) => Value::Json(json.to_string().into()),
        })
    }

    /// Casts a value. A whole number of a type with fewer than 8 bytes must fit its range.
    pub(super) fn cast(&self, tree: &Ast, data_type: &DataType) -> Answer {
        let value = self.value(tree, kinds::kind(tree).or(Some(Type::Text)))?;
        let narrow = match data_type {
            DataType::Int(_) | DataType::Integer(_) | DataType::Int4(_) => i64::from(i32::MAX),
            DataType::SmallInt(_) | DataType::Int2(_) => i64::from(i16::MAX),
            _ => i64::MAX,
        };
        let value = cast(value, of_data_type(data_type)?);
        Ok(if narrow == i64::MAX { value } else { cast_int(value, narrow) })
    }

    pub(super) fn at_time_zone(&self, time: &Ast, zone: &Ast) -> Answer {
        let Value::Text(zone) = self.value(zone, Some(Type::Text))? else {
            return Err("a zone must be a string".to_owned());
        };
        let zone = Zone::parse(&zone).ok_or_else(|| format!("there is no zone {zone}"))?;
        Ok(match self.value(time, Some(Type::Timestamp))? {
            Value::Timestamp(instant) => Value::LocalTimestamp(zone.to_local(instant.0)),
            Value::LocalTimestamp(local) => Value::Timestamp(Timestamp(zone.to_instant(local))),
            Value::Date(_) => return Err("a date AT TIME ZONE".to_owned()),
            _ => Value::Null,
        })
    }

    pub(super) fn extract(&self, field: &str, tree: &Ast) -> Answer {
        let field = match field.to_ascii_lowercase().as_str() {
            "epoch" => Field::Epoch,
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
            other => return Err(format!("the naive interpreter does not know the field {other}")),
        };
        Ok(match self.value(tree, Some(Type::Timestamp))? {
            Value::Interval(length) => field.of_interval(length).map_or(Value::Null, Value::Decimal),
            time => match cast(time, Type::LocalTimestamp) {
                Value::LocalTimestamp(local) => Value::Decimal(field.of_time(local)),
                _ => Value::Null,
            },
        })
    }

    pub(super) fn case(
        &self,
        operand: Option<&Ast>,
        conditions: &[CaseWhen],
        otherwise: Option<&Ast>,
        wanted: Option<Type>,
    ) -> Answer {
        let results = conditions.iter().map(|when| &when.result).chain(otherwise);
        let ty = common_kind(results).or(wanted).unwrap_or(Type::Text);
        for when in conditions {
            let holds = match operand {
                None => self.truth(&when.condition)?,
                Some(operand) => {
                    let (l, r) = self.pair(operand, &when.condition)?;
                    compare(&l, &r)?.map(std::cmp::Ordering::is_eq)
                }
            };
            if holds == Some(true) {
                return self.value_as(&when.result, ty);
            }
        }
        otherwise.map_or(Ok(Value::Null), |tree| self.value_as(tree, ty))
    }

    pub(super) fn function(&self, function: &Function, wanted: Option<Type>) -> Answer {
        if aggregates::is_aggregate(function) {
            return self.aggregate(function);
        }
        let arguments = arguments(function);
        let name = name(function);
        match (name.as_str(), &arguments[..]) {
            ("now" | "current_timestamp", []) => Ok(Value::Timestamp(self.now)),
            ("segment", [Ast::Value(tag)]) => match &tag.value {
                Constant::SingleQuotedString(tag) => Ok(Value::Bool((self.is_member)(tag)?)),
                other => Err(format!("segment({other})")),
            },
            ("bucket", [Ast::Value(name)]) => match &name.value {
                Constant::SingleQuotedString(name) => Ok(lists::bucket(name, self.id)),
                other => Err(format!("bucket({other})")),
            },
            ("jsonb_array_length", [list]) => self.array_length(list),
            ("coalesce", items) => {
                let ty = common_kind(items.iter().copied()).or(wanted).unwrap_or(Type::Text);
                for item in items {
                    let value = self.value_as(item, ty)?;
                    if value != Value::Null {
                        return Ok(value);
                    }
                }
                Ok(Value::Null)
            }
            ("nullif", [a, b]) => {
                let ty = common([*a, *b]);
                let (a, b) = (self.value_as(a, ty)?, self.value_as(b, ty)?);
                Ok(if compare(&a, &b)?.is_some_and(std::cmp::Ordering::is_eq) { Value::Null } else { a })
            }
            ("date_trunc", [unit, time]) => self.date_trunc(unit, time),
            ("btrim" | "ltrim" | "rtrim" | "left" | "right" | "split_part" | "replace" | "strpos", arguments) => {
                self.text_function(&name, arguments)
            }
            ("to_timestamp", [seconds]) => Ok(texts::to_timestamp(cast(self.any(seconds)?, Type::Decimal))),
            (_, [x, rest @ ..]) => {
                let wanted = match name.as_str() {
                    "round" | "abs" => Type::Decimal,
                    _ => Type::Text,
                };
                let x = self.value(x, Some(wanted))?;
                let second = rest.first().map(|tree| self.any(tree)).transpose()?;
                scalar(&name, x, second)
            }
            _ => Err(format!("the naive interpreter does not know {function}")),
        }
    }

    fn date_trunc(&self, unit: &Ast, time: &Ast) -> Answer {
        let Value::Text(unit) = self.value(unit, Some(Type::Text))? else {
            return Err("a unit must be a string".to_owned());
        };
        let unit = match &*unit.to_ascii_lowercase() {
            "second" => Unit::Second,
            "minute" => Unit::Minute,
            "hour" => Unit::Hour,
            "day" => Unit::Day,
            "week" => Unit::Week,
            "month" => Unit::Month,
            "quarter" => Unit::Quarter,
            "year" => Unit::Year,
            other => return Err(format!("the naive interpreter does not know the unit {other}")),
        };
        Ok(match self.value(time, Some(Type::Timestamp))? {
            Value::Timestamp(instant) => {
                unit.floor(instant.0).map_or(Value::Null, |us| Value::Timestamp(Timestamp(us)))
            }
            Value::LocalTimestamp(local) => unit.floor(local).map_or(Value::Null, Value::LocalTimestamp),
            Value::Null => Value::Null,
            other => return Err(format!("date_trunc of {other:?}")),
        })
    }
}

fn scalar(name: &str, x: Value, second: Option<Value>) -> Answer {
    Ok(match (name, x, second) {
        (_, Value::Null, _) | (_, _, Some(Value::Null)) => Value::Null,
        ("lower", Value::Text(x), None) => Value::Text(fold_case(&x, false).into()),
        ("upper", Value::Text(x), None) => Value::Text(fold_case(&x, true).into()),
        ("length", Value::Text(x), None) => Value::Int(x.chars().count() as i64),
        ("starts_with", Value::Text(x), Some(Value::Text(start))) => Value::Bool(x.starts_with(&*start)),
        ("abs", Value::Int(x), None) => x.checked_abs().map_or(Value::Null, Value::Int),
        ("abs", Value::Decimal(x), None) => x.checked_abs().map_or(Value::Null, Value::Decimal),
        ("round", Value::Int(x), _) => Value::Int(x),
        ("round", Value::Decimal(x), None) => x.round(0).map_or(Value::Null, Value::Decimal),
        ("round", Value::Decimal(x), Some(Value::Int(places))) => {
            let places = u8::try_from(places).map_err(|error| error.to_string())?;
            x.round(places).map_or(Value::Null, Value::Decimal)
        }
        (name, x, second) => return Err(format!("the naive interpreter does not know {name}({x:?}, {second:?})")),
    })
}

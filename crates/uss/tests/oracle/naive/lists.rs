//! Evaluates conditions on lists and objects, and shares of users.

use md5::{Digest, Md5};
use segment_engine::decimal::Decimal;
use segment_engine::ids::UserId;
use segment_engine::value::Value;
use serde_json::Value as Json;
use sqlparser::ast::{BinaryOperator, Expr as Ast, UnaryOperator, Value as Constant};

use super::{Answer, Scope};

impl Scope<'_> {
    pub(super) fn json_value(&self, tree: &Ast) -> Result<Option<Json>, String> {
        match tree {
            Ast::Nested(inner) => self.json_value(inner),
            Ast::Identifier(name) if name.value == "traits" => Ok(Some(self.user.traits_json())),
            Ast::Identifier(name) if name.value == "payload" => {
                let event = self.event.ok_or("payload without an event")?;
                Ok(Some((*event.payload).clone()))
            }
            Ast::BinaryOp { left, op: BinaryOperator::Arrow, right } => {
                Ok(self.json_value(left)?.and_then(|object| step(&object, right)))
            }
            other => Err(format!("{other} is no JSON")),
        }
    }

    pub(super) fn array_length(&self, list: &Ast) -> Answer {
        Ok(match self.json_value(list)? {
            Some(Json::Array(items)) => Value::Int(items.len() as i64),
            _ => Value::Null,
        })
    }

    pub(super) fn json_test(&self, left: &Ast, op: &BinaryOperator, right: &Ast) -> Answer {
        let Some(json) = self.json_value(left)? else { return Ok(Value::Null) };
        Ok(Value::Bool(match op {
            BinaryOperator::AtArrow => {
                let constant: Json = serde_json::from_str(&text(right)?).map_err(|error| error.to_string())?;
                contains(&json, &constant)
            }
            BinaryOperator::Question => elements(&json).contains(&text(right)?),
            _ => {
                let Ast::Array(wanted) = right else { return Err(format!("{right} is not an array")) };
                let wanted = wanted.elem.iter().map(text).collect::<Result<Vec<_>, _>>()?;
                let found = wanted.iter().filter(|text| elements(&json).contains(text)).count();
                if *op == BinaryOperator::QuestionPipe { found > 0 } else { found == wanted.len() }
            }
        }))
    }
}

/// Takes one step into JSON: a key of an object, or a place in an array. Another value counts as an
/// array of one.
pub(super) fn step(json: &Json, key: &Ast) -> Option<Json> {
    let (back, constant) = match key {
        Ast::UnaryOp { op: UnaryOperator::Minus, expr } => (true, &**expr),
        other => (false, other),
    };
    let Ast::Value(constant) = constant else { return None };
    match (&constant.value, json) {
        (Constant::SingleQuotedString(key), Json::Object(fields)) => fields.get(key).cloned(),
        (Constant::Number(..), Json::Object(_)) => None,
        (Constant::Number(place, _), json) => {
            let mut items = match json {
                Json::Array(items) => items.clone(),
                alone => vec![alone.clone()],
            };
            let mut place = place.parse::<usize>().ok()?;
            if back {
                items.reverse();
                place = place.checked_sub(1)?;
            }
            items.get(place).cloned()
        }
        _ => None,
    }
}

fn text(tree: &Ast) -> Result<String, String> {
    match tree {
        Ast::Cast { expr, .. } => text(expr),
        Ast::Value(constant) => match &constant.value {
            Constant::SingleQuotedString(text) => Ok(text.clone()),
            other => Err(format!("{other} is not a string")),
        },
        other => Err(format!("{other} is not a string")),
    }
}

/// Returns the strings for which `?` is true.
fn elements(json: &Json) -> Vec<String> {
    match json {
        Json::Object(fields) => fields.keys().cloned().collect(),
        Json::Array(items) => items.iter().filter_map(Json::as_str).map(str::to_owned).collect(),
        alone => alone.as_str().map(str::to_owned).into_iter().collect(),
    }
}

/// By the page "jsonb Containment and Existence": what is contained "must match the containing
/// object as to structure and data contents, possibly after discarding some non-matching array
/// elements or object key/value pairs"; and "an array may contain a primitive value".
fn contains(json: &Json, constant: &Json) -> bool {
    let alone = !constant.is_array() && !constant.is_object();
    matches_after_discarding(json, constant)
        || (alone && matches_after_discarding(json, &Json::Array(vec![constant.clone()])))
}

fn matches_after_discarding(json: &Json, wanted: &Json) -> bool {
    match wanted {
        Json::Object(wanted) => {
            let Json::Object(fields) = json else { return false };
            wanted
                .iter()
                .all(|(key, wanted)| fields.contains_key(key) && matches_after_discarding(&fields[key], wanted))
        }
        Json::Array(wanted) => {
            let Json::Array(items) = json else { return false };
            wanted.iter().all(|wanted| items.iter().any(|item| matches_after_discarding(item, wanted)))
        }
        Json::Number(wanted) => json.is_number() && json.as_f64() == wanted.as_f64(),
        wanted => json == wanted,
    }
}

/// `md5(name || ':' || user_id)`: the first 8 hexadecimal digits, modulo 10,000, over 100.
pub(super) fn bucket(name: &str, user: UserId) -> Value {
    let hex = hex::encode(Md5::digest(format!("{name}:{}", user.0)));
    let number = i64::from_str_radix(&hex[..8], 16).expect("eight hexadecimal digits") % 10_000;
    let text = format!("{}.{:02}", number / 100, number % 100);
    Value::Decimal(Decimal::parse(&text).expect("a number with two decimals"))
}

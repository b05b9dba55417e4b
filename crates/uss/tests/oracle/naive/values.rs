//! Compares and casts values, and evaluates arithmetic and patterns, by semantics §3 "Whose SQL".

use std::cmp::Ordering;

use segment_engine::decimal::Decimal;
use segment_engine::time::{Interval, Timestamp, calendar, date_text, local_text, parse_date, parse_local};
use segment_engine::value::{Type, Value};
use serde_json::Value as Json;
use sqlparser::ast::BinaryOperator;

use super::Answer;

const DAY: i64 = calendar::DAY;

/// Returns the order of two values of one type, `None` if one is NULL. Times of different types are
/// instants in UTC.
pub(super) fn compare(left: &Value, right: &Value) -> Result<Option<Ordering>, String> {
    Ok(Some(match (left, right) {
        (Value::Null, _) | (_, Value::Null) => return Ok(None),
        (Value::Bool(l), Value::Bool(r)) => l.cmp(r),
        (Value::Int(l), Value::Int(r)) => l.cmp(r),
        (Value::Decimal(l), Value::Decimal(r)) => l.cmp(r),
        (Value::Text(l), Value::Text(r)) => l.as_bytes().cmp(r.as_bytes()),
        (Value::Interval(l), Value::Interval(r)) => l.sql_cmp(*r),
        _ => match (utc_micros(left), utc_micros(right)) {
            (Some(l), Some(r)) => l.cmp(&r),
            _ => return Err(format!("{left:?} cannot be compared with {right:?}")),
        },
    }))
}

/// Returns a time of any of the three types as microseconds of an instant.
fn utc_micros(time: &Value) -> Option<i128> {
    match time {
        Value::Timestamp(instant) => Some(instant.0.into()),
        Value::LocalTimestamp(local) => Some((*local).into()),
        Value::Date(days) => Some(i128::from(*days) * i128::from(DAY)),
        _ => None,
    }
}

pub(super) fn negate(value: Value) -> Value {
    let negated = match value {
        Value::Int(x) => x.checked_neg().map(Value::Int),
        Value::Decimal(x) => x.checked_neg().map(Value::Decimal),
        Value::Interval(x) => x.checked_neg().map(Value::Interval),
        _ => None,
    };
    negated.unwrap_or(Value::Null)
}

/// Returns `left op right`; NULL on overflow and division by zero.
pub(super) fn arithmetic(op: &BinaryOperator, left: Value, right: Value) -> Answer {
    use BinaryOperator as Op;
    let result = match (op, left, right) {
        (_, Value::Null, _) | (_, _, Value::Null) => None,
        (Op::Plus, Value::Int(l), Value::Int(r)) => l.checked_add(r).map(Value::Int),
        (Op::Minus, Value::Int(l), Value::Int(r)) => l.checked_sub(r).map(Value::Int),
        (Op::Multiply, Value::Int(l), Value::Int(r)) => l.checked_mul(r).map(Value::Int),
        (_, l @ (Value::Int(_) | Value::Decimal(_)), r @ (Value::Int(_) | Value::Decimal(_))) => {
            let (Value::Decimal(l), Value::Decimal(r)) = (cast(l, Type::Decimal), cast(r, Type::Decimal)) else {
                return Err("a whole number is always a decimal".to_owned());
            };
            let number = match op {
                Op::Plus => l.checked_add(r),
                Op::Minus => l.checked_sub(r),
                Op::Multiply => l.checked_mul(r),
                _ => l.checked_div(r),
            };
            number.map(Value::Decimal)
        }
        (Op::Plus, Value::Interval(l), Value::Interval(r)) => l.checked_add(r).map(Value::Interval),
        (Op::Minus, Value::Interval(l), Value::Interval(r)) => l.checked_sub(r).map(Value::Interval),
        (Op::Plus, time, Value::Interval(length)) | (Op::Plus, Value::Interval(length), time) => shift(time, length),
        (Op::Minus, time, Value::Interval(length)) => length.checked_neg().and_then(|back| shift(time, back)),
        (Op::Minus, Value::Date(l), Value::Date(r)) => Some(Value::Int(i64::from(l) - i64::from(r))),
        (Op::Plus, Value::Date(day), Value::Int(days)) | (Op::Plus, Value::Int(days), Value::Date(day)) => {
            date(i64::from(day).checked_add(days))
        }
        (Op::Minus, Value::Date(day), Value::Int(days)) => date(i64::from(day).checked_sub(days)),
        (Op::Minus, l, r) => match (utc_micros(&l), utc_micros(&r)) {
            (Some(l), Some(r)) => Interval::from_difference(l - r).map(Value::Interval),
            _ => return Err(format!("{l:?} - {r:?}")),
        },
        (op, l, r) => return Err(format!("{l:?} {op} {r:?}")),
    };
    Ok(result.unwrap_or(Value::Null))
}

fn date(days: Option<i64>) -> Option<Value> {
    calendar::within_dates(days?).map(Value::Date)
}

/// Returns a midnight, `None` outside of the range of times.
fn midnight(days: i32) -> Option<i64> {
    i64::from(days).checked_mul(DAY).and_then(calendar::within_time)
}

fn shift(time: Value, length: Interval) -> Option<Value> {
    match time {
        Value::Timestamp(instant) => calendar::add(instant.0, length).map(|us| Value::Timestamp(Timestamp(us))),
        Value::LocalTimestamp(local) => calendar::add(local, length).map(Value::LocalTimestamp),
        Value::Date(days) => calendar::add(midnight(days)?, length).map(Value::LocalTimestamp),
        _ => None,
    }
}

/// Returns `CAST(value AS ty)`; NULL where it fails.
pub(super) fn cast(value: Value, ty: Type) -> Value {
    let cast = match (ty, &value) {
        (Type::Text, _) => text(&value).map(|text| Value::Text(text.into())),
        (_, Value::Text(text)) => from_text(text, ty),
        (Type::Bool, Value::Int(x)) => Some(Value::Bool(*x != 0)),
        (Type::Int, Value::Bool(x)) => Some(Value::Int(i64::from(*x))),
        (Type::Int, Value::Decimal(x)) => x.to_int().map(Value::Int),
        (Type::Decimal, Value::Int(x)) => Some(Value::Decimal(Decimal::from_int(*x))),
        (Type::Timestamp, Value::LocalTimestamp(us)) => Some(Value::Timestamp(Timestamp(*us))),
        (Type::LocalTimestamp, Value::Timestamp(instant)) => Some(Value::LocalTimestamp(instant.0)),
        (Type::Timestamp, Value::Date(days)) => midnight(*days).map(|us| Value::Timestamp(Timestamp(us))),
        (Type::LocalTimestamp, Value::Date(days)) => midnight(*days).map(Value::LocalTimestamp),
        (Type::Date, Value::Timestamp(Timestamp(us)) | Value::LocalTimestamp(us)) => {
            i32::try_from(us.div_euclid(DAY)).ok().map(Value::Date)
        }
        _ => return value,
    };
    cast.unwrap_or(Value::Null)
}

/// Returns a whole number from −`limit` − 1 to `limit`, NULL otherwise.
pub(super) fn cast_int(value: Value, limit: i64) -> Value {
    match value {
        Value::Int(x) if (-limit - 1..=limit).contains(&x) => value,
        _ => Value::Null,
    }
}

fn text(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(x) => x.to_string(),
        Value::Int(x) => x.to_string(),
        Value::Decimal(x) => x.to_string(),
        Value::Text(x) | Value::Json(x) => x.to_string(),
        Value::Timestamp(x) => x.sql_text(),
        Value::LocalTimestamp(x) => local_text(*x),
        Value::Date(x) => date_text(*x),
        Value::Interval(x) => x.to_string(),
    })
}

fn from_text(text: &str, ty: Type) -> Option<Value> {
    let trimmed = text.trim_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    match ty {
        Type::Bool => match trimmed.to_ascii_lowercase().as_str() {
            "t" | "tr" | "tru" | "true" | "y" | "ye" | "yes" | "on" | "1" => Some(Value::Bool(true)),
            "f" | "fa" | "fal" | "fals" | "false" | "n" | "no" | "of" | "off" | "0" => Some(Value::Bool(false)),
            _ => None,
        },
        Type::Int => trimmed.parse().ok().map(Value::Int),
        Type::Decimal => Decimal::parse(text).map(Value::Decimal),
        Type::Timestamp => Timestamp::parse(text).map(Value::Timestamp),
        Type::LocalTimestamp => parse_local(text).map(Value::LocalTimestamp),
        Type::Date => parse_date(text).map(Value::Date),
        Type::Interval => Interval::parse(text).map(Value::Interval),
        Type::Text => Some(Value::Text(text.into())),
        Type::Json => None,
    }
}

/// Returns the result of `->>`: a string without its quotes, a list or an object as PostgreSQL
/// prints a jsonb, other values as JSON.
pub(crate) fn text_of_json(json: &Json) -> String {
    match json {
        Json::String(text) => text.clone(),
        Json::Array(items) => format!("[{}]", items.iter().map(jsonb_item).collect::<Vec<_>>().join(", ")),
        Json::Object(fields) => {
            let mut keys: Vec<&String> = fields.keys().collect();
            keys.sort_by(|a, b| a.len().cmp(&b.len()).then(a.as_bytes().cmp(b.as_bytes())));
            let fields = keys.into_iter().map(|key| format!("{}: {}", Json::from(&**key), jsonb_item(&fields[key])));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// Returns a value inside of a list or an object. A string keeps its quotes.
fn jsonb_item(json: &Json) -> String {
    match json {
        Json::String(_) => json.to_string(),
        other => text_of_json(other),
    }
}

/// Changes the case character by character. A character that would become several stays. The dotted
/// capital I becomes a single small letter.
pub(super) fn fold_case(text: &str, upper: bool) -> String {
    let folded = |letter: char| {
        if letter == 'İ' && !upper {
            return 'i';
        }
        let mut letters: Vec<char> =
            if upper { letter.to_uppercase().collect() } else { letter.to_lowercase().collect() };
        if letters.len() == 1 { letters.remove(0) } else { letter }
    };
    text.chars().map(folded).collect()
}

/// An element of a `LIKE` pattern.
enum Sign {
    Any,
    One,
    Letter(char),
}

/// Evaluates `LIKE` by trying every split.
pub(super) fn like(text: &str, pattern: &str, escape: Option<char>, ignore_case: bool) -> bool {
    let folded = |text: &str| if ignore_case { fold_case(text, false) } else { text.to_owned() };
    let mut signs = Vec::new();
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        let sign = match letter {
            letter if Some(letter) == escape => Sign::Letter(letters.next().unwrap_or(letter)),
            '%' => Sign::Any,
            '_' => Sign::One,
            letter => Sign::Letter(letter),
        };
        signs.push(match sign {
            Sign::Letter(letter) => Sign::Letter(folded(&letter.to_string()).chars().next().unwrap_or(letter)),
            sign => sign,
        });
    }
    like_letters(&folded(text).chars().collect::<Vec<_>>(), &signs)
}

fn like_letters(text: &[char], signs: &[Sign]) -> bool {
    match signs {
        [] => text.is_empty(),
        [Sign::Any, rest @ ..] => (0..=text.len()).any(|skipped| like_letters(&text[skipped..], rest)),
        [Sign::One, rest @ ..] => !text.is_empty() && like_letters(&text[1..], rest),
        [Sign::Letter(letter), rest @ ..] => text.first() == Some(letter) && like_letters(&text[1..], rest),
    }
}

pub(super) fn regex_matches(text: &str, pattern: &str, ignore_case: bool) -> Result<bool, String> {
    let regex = regex::RegexBuilder::new(pattern).case_insensitive(ignore_case).dot_matches_new_line(true).build();
    Ok(regex.map_err(|error| error.to_string())?.is_match(text))
}

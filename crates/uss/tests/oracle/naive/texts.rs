//! Evaluates functions on strings, character by character, and their spellings with words.

use segment_engine::time::Timestamp;
use segment_engine::value::{Type, Value};
use sqlparser::ast::{Expr as Ast, TrimWhereField};

use super::values::cast;
use super::{Answer, Scope, kinds};

/// The longest string that `||` and `replace` return.
const BYTES_MAX: usize = 1_048_576;

impl Scope<'_> {
    pub(super) fn joined(&self, left: &Ast, right: &Ast) -> Answer {
        let side =
            |tree: &Ast| Ok::<_, String>(cast(self.value(tree, kinds::kind(tree).or(Some(Type::Text)))?, Type::Text));
        let (Value::Text(left), Value::Text(right)) = (side(left)?, side(right)?) else { return Ok(Value::Null) };
        Ok(bounded(format!("{left}{right}")))
    }

    pub(super) fn text_in_words(&self, tree: &Ast) -> Answer {
        match tree {
            Ast::Trim { expr, trim_where, trim_what, .. } => {
                let name = match trim_where {
                    Some(TrimWhereField::Leading) => "ltrim",
                    Some(TrimWhereField::Trailing) => "rtrim",
                    _ => "btrim",
                };
                let arguments: Vec<&Ast> = std::iter::once(&**expr).chain(trim_what.as_deref()).collect();
                self.text_function(name, &arguments)
            }
            Ast::Substring { expr, substring_from, substring_for, .. } => {
                let Value::Text(text) = self.value(expr, Some(Type::Text))? else { return Ok(Value::Null) };
                let number = |tree: &Ast| self.value(tree, Some(Type::Int));
                let from = substring_from.as_deref().map_or(Ok(Value::Int(1)), number)?;
                let count = substring_for.as_deref().map(number).transpose()?;
                let (Value::Int(from), None | Some(Value::Int(_))) = (&from, &count) else { return Ok(Value::Null) };
                let end = match count {
                    Some(Value::Int(count)) if count < 0 => return Ok(Value::Null),
                    Some(Value::Int(count)) => from + count,
                    _ => i64::MAX,
                };
                // Each character by its place.
                let inside = (1..).zip(text.chars()).filter(|(place, _)| (*from..end).contains(place));
                Ok(Value::Text(inside.map(|(_, letter)| letter).collect::<String>().into()))
            }
            Ast::Position { expr, r#in } => self.text_function("strpos", &[r#in, expr]),
            other => Err(format!("the naive interpreter does not know {other}")),
        }
    }

    pub(super) fn text_function(&self, name: &str, arguments: &[&Ast]) -> Answer {
        let text = |place: usize| match arguments.get(place) {
            Some(tree) => self.value(tree, Some(Type::Text)),
            None => Ok(Value::Text(" ".into())),
        };
        let (Value::Text(x), Value::Text(second)) = (
            text(0)?,
            match name {
                "left" | "right" => Value::Text("".into()),
                _ => text(1)?,
            },
        ) else {
            return Ok(Value::Null);
        };
        let number = |place: usize| match self.value(arguments[place], Some(Type::Int))? {
            Value::Int(number) => Ok(Some(number)),
            Value::Null => Ok(None),
            other => Err(format!("{other:?} is not a count")),
        };
        let letters: Vec<char> = x.chars().collect();
        let length = letters.len() as i64;
        let of = |letters: &[char]| Value::Text(letters.iter().collect::<String>().into());
        Ok(match name {
            "btrim" | "ltrim" | "rtrim" => {
                let mut letters = &letters[..];
                while let ([first, rest @ ..], true) = (letters, name != "rtrim")
                    && second.contains(*first)
                {
                    letters = rest;
                }
                while let ([rest @ .., last], true) = (letters, name != "ltrim")
                    && second.contains(*last)
                {
                    letters = rest;
                }
                of(letters)
            }
            "left" | "right" => {
                let Some(count) = number(1)? else { return Ok(Value::Null) };
                let kept = if count < 0 { (length + count).max(0) } else { count.min(length) } as usize;
                if name == "left" { of(&letters[..kept]) } else { of(&letters[letters.len() - kept..]) }
            }
            "split_part" => {
                let Some(number) = number(2)?.filter(|number| *number != 0) else { return Ok(Value::Null) };
                let parts: Vec<&str> = if second.is_empty() { vec![&x] } else { x.split(&*second).collect() };
                let place = if number > 0 { number - 1 } else { parts.len() as i64 + number };
                let part = usize::try_from(place).ok().and_then(|place| parts.get(place)).copied();
                Value::Text(part.unwrap_or_default().into())
            }
            "replace" => {
                let Value::Text(new) = text(2)? else { return Ok(Value::Null) };
                bounded(if second.is_empty() { x.to_string() } else { x.replace(&*second, &new) })
            }
            "strpos" => {
                let part: Vec<char> = second.chars().collect();
                let found = (0..=letters.len()).find(|start| letters[*start..].starts_with(&part));
                Value::Int(found.map_or(0, |start| start as i64 + 1))
            }
            other => return Err(format!("the naive interpreter does not know {other}")),
        })
    }
}

fn bounded(text: String) -> Value {
    if text.len() <= BYTES_MAX { Value::Text(text.into()) } else { Value::Null }
}

/// Returns the time that many seconds after the start of 1970, in the years 0001 to 9999.
pub(super) fn to_timestamp(seconds: Value) -> Value {
    let Value::Decimal(seconds) = seconds else { return Value::Null };
    let micros = seconds.scaled().div_euclid(1_000);
    match (-62_135_596_800_000_000..253_402_300_800_000_000).contains(&micros) {
        true => i64::try_from(micros).map_or(Value::Null, |micros| Value::Timestamp(Timestamp(micros))),
        false => Value::Null,
    }
}

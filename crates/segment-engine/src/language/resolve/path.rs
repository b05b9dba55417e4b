//! Paths into JSON: `payload->'cart'->>'size'`, `payload->'items'->0->>'sku'`, `traits->>'plan'`.

use sqlparser::ast::{BinaryOperator, Expr as Ast, UnaryOperator, Value as AstValue};

use super::{CompileError, Expr, Pos, Resolver, code, folded_name, start_of, unknown_column};
use crate::plan::{JsonPath, JsonStep};

/// The objects that paths begin at.
#[derive(Clone, Copy)]
pub(super) enum Root {
    Payload,
    Traits,
}

impl Root {
    pub(super) fn at(self, path: JsonPath) -> Expr {
        match self {
            Root::Payload => Expr::Payload(path),
            Root::Traits => Expr::Trait(path),
        }
    }
}

impl Resolver {
    /// Resolves a chain of `->` and `->>` on the payload or the traits.
    pub(super) fn path(&mut self, tree: &Ast, pos: Pos) -> Result<Expr, CompileError> {
        let mut keys = Vec::new();
        let mut as_text = None;
        let mut step = tree;
        let mut first_pos = pos;
        while let Ast::BinaryOp { left, op: op @ (BinaryOperator::Arrow | BinaryOperator::LongArrow), right } = step {
            let is_text = *op == BinaryOperator::LongArrow;
            if is_text && as_text.is_some() {
                return Err(CompileError::new(
                    code::TYPE,
                    start_of(right, pos),
                    "->> gives text, which has no properties",
                )
                .suggest("Use -> for all steps but the last"));
            }
            as_text.get_or_insert(is_text);
            keys.push(key(right, pos)?);
            first_pos = start_of(right, pos);
            step = left;
        }
        keys.reverse();
        let Some(root) = self.root(step, pos)? else { return Err(not_json("this", start_of(step, pos))) };
        if let Some(JsonStep::Index(_)) = keys.first() {
            let message = "payload and traits are objects: the first step names a property";
            return Err(CompileError::new(code::TYPE, first_pos, message).suggest("Write payload->'items'->0"));
        }
        Ok(root.at(JsonPath { keys, as_text: as_text.unwrap_or(true) }))
    }

    /// Returns the payload or the traits, if the tree names them.
    pub(super) fn root(&mut self, tree: &Ast, outer: Pos) -> Result<Option<Root>, CompileError> {
        let pos = start_of(tree, outer);
        match tree {
            Ast::Nested(inner) => self.root(inner, pos),
            Ast::Identifier(name) => match folded_name(name).as_str() {
                "payload" => {
                    self.note_bare_column("payload", pos);
                    Ok(Some(Root::Payload))
                }
                "traits" => Ok(Some(Root::Traits)),
                other if super::names::event_column(other).is_some() => Err(not_json(other, pos)),
                _ => Err(unknown_column(std::slice::from_ref(name), pos)),
            },
            // `AT TIME ZONE` binds closer than `->>`, as in Postgres.
            Ast::AtTimeZone { time_zone, .. } => Err(super::zone::zone_not_constant(start_of(time_zone, pos))),
            // So does `||`, from left to right.
            Ast::BinaryOp { op: BinaryOperator::StringConcat, .. } => {
                Err(not_json("what || joins", pos)
                    .suggest("Put the property in parentheses: region || (payload->>'name')"))
            }
            _ => Ok(None),
        }
    }
}

fn not_json(what: &str, pos: Pos) -> CompileError {
    CompileError::new(code::TYPE, pos, format!("{what} has no properties; payload and traits have"))
        .suggest("Write payload->>'name' or traits->>'name', in parentheses for a cast or a comparison")
}

fn key(tree: &Ast, outer: Pos) -> Result<JsonStep, CompileError> {
    let pos = start_of(tree, outer);
    let (message, suggestion) = match tree {
        Ast::Value(value) => match &value.value {
            AstValue::SingleQuotedString(key) => return Ok(JsonStep::Key(key.clone())),
            AstValue::Number(digits, _) => return index(digits, pos),
            _ => ("the name of a property is a constant text", "Write payload->>'name'"),
        },
        Ast::UnaryOp { op: UnaryOperator::Minus, expr } => match &**expr {
            Ast::Value(value) if matches!(value.value, AstValue::Number(..)) => {
                return index(&format!("-{}", value.value), pos);
            }
            _ => ("the index of a list is a constant number", "Write payload->'items'->-1 for the last element"),
        },
        Ast::CompoundFieldAccess { .. } => ("elements of lists are named with ->", "Write payload->'items'->0"),
        // `::` binds closer than `->>`, as in Postgres.
        Ast::Cast { .. } => ("the cast applies to the name of the property", "Write (payload->>'price')::numeric"),
        Ast::Identifier(_) => ("the name of a property needs single quotes", "Write payload->>'name'"),
        _ => ("the name of a property is a constant text", "Write (payload->>'name') in parentheses"),
    };
    Err(CompileError::new(code::TYPE, pos, message).suggest(suggestion))
}

fn index(digits: &str, pos: Pos) -> Result<JsonStep, CompileError> {
    digits.parse().map(JsonStep::Index).map_err(|_| {
        CompileError::new(
            code::TYPE,
            pos,
            format!("{digits} is not an index of a list: that is a whole number of 32 bits"),
        )
        .suggest("Write payload->'items'->0 for the first element, ->-1 for the last")
    })
}

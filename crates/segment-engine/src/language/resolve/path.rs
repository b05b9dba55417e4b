//! Properties: `payload->'cart'->>'size'`, `traits->>'plan'`.

use sqlparser::ast::{BinaryOperator, Expr as Ast, Value as AstValue};

use super::{CompileError, Expr, Pos, Resolver, code, folded_name, start_of, unknown_column};
use crate::plan::JsonPath;

impl Resolver {
    /// A chain of `->` and `->>` on the payload or the traits.
    pub(super) fn path(&mut self, tree: &Ast, pos: Pos) -> Result<Expr, CompileError> {
        let mut keys = Vec::new();
        let mut as_text = None;
        let mut step = tree;
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
            step = left;
        }
        keys.reverse();
        let path = JsonPath { keys, as_text: as_text.unwrap_or(true) };
        let root_pos = start_of(step, pos);
        match step {
            Ast::Identifier(name) => match folded_name(name).as_str() {
                "payload" => {
                    self.note_bare_column("payload", root_pos);
                    Ok(Expr::Payload(path))
                }
                "traits" => Ok(Expr::Trait(path)),
                other if super::names::event_column(other).is_some() => Err(not_json(other, root_pos)),
                _ => Err(unknown_column(std::slice::from_ref(name), root_pos)),
            },
            // `AT TIME ZONE` binds closer than `->>`, in Postgres too.
            Ast::AtTimeZone { time_zone, .. } => {
                Err(super::time_function::zone_not_constant(start_of(time_zone, root_pos)))
            }
            // And so does `||`, from left to right.
            Ast::BinaryOp { op: BinaryOperator::StringConcat, .. } => Err(not_json("what || joins", root_pos)
                .suggest("Put the property in parentheses: region || (payload->>'name')")),
            _ => Err(not_json("this", root_pos)),
        }
    }
}

fn not_json(what: &str, pos: Pos) -> CompileError {
    CompileError::new(code::TYPE, pos, format!("{what} has no properties; payload and traits have"))
        .suggest("Write payload->>'name' or traits->>'name'; casts and comparisons go around it in parentheses")
}

fn key(tree: &Ast, pos: Pos) -> Result<String, CompileError> {
    let pos = start_of(tree, pos);
    let (message, suggestion) = match tree {
        Ast::Value(value) => match &value.value {
            AstValue::SingleQuotedString(key) => return Ok(key.clone()),
            AstValue::Number(..) => ("elements of lists cannot be addressed", "Send what matters as a property"),
            _ => ("the name of a property is a constant text", "Write payload->>'name'"),
        },
        // `::` binds closer than `->>`, in Postgres too.
        Ast::Cast { .. } => ("the cast applies to the name of the property", "Write (payload->>'price')::numeric"),
        Ast::Identifier(_) => ("the name of a property stands in single quotes", "Write payload->>'name'"),
        _ => ("the name of a property is a constant text", "Write (payload->>'name') in parentheses"),
    };
    Err(CompileError::new(code::TYPE, pos, message).suggest(suggestion))
}

//! Text functions, `||`, and the spellings with words: `trim(BOTH … FROM …)`, `substring(… FROM
//! …)`, `position(… IN …)`.

use sqlparser::ast::{Expr as Ast, TrimWhereField, Value as AstValue};

use super::call::wrong_type;
use super::operand::{Operand, json_value, text_literal};
use super::{CompileError, Expr, Pos, Resolved, Resolver, Type, code, start_of};
use crate::plan::{Function, TrimSide};

impl Resolver {
    /// Resolves `a || b`. If one side is text, the other is cast to text, as in Postgres.
    pub(super) fn concat(&mut self, left: &Ast, right: &Ast, pos: Pos) -> Resolved {
        let (left_pos, right_pos) = (start_of(left, pos), start_of(right, pos));
        let left = self.resolve(left, left_pos)?;
        let right = self.resolve(right, right_pos)?;
        let sides = [self.typed(left, left_pos)?, self.typed(right, right_pos)?];
        for (side, pos) in sides.iter().zip([left_pos, right_pos]) {
            match side.value_type() {
                Type::Json => return Err(json_value(pos)),
                Type::Bool => {
                    return Err(CompileError::new(code::TYPE, pos, "|| joins texts, and this is a condition")
                        .suggest("Between conditions write OR"));
                }
                _ => {}
            }
        }
        if sides.iter().all(|side| side.value_type() != Type::Text) {
            return Err(CompileError::new(code::TYPE, pos, "|| joins texts, and neither side is one")
                .suggest("Between conditions write OR; to join the texts of two values cast one: x::text || y"));
        }
        let sides = sides.map(|side| match side.value_type() {
            Type::Text => side,
            _ => Expr::Cast(Box::new(side), Type::Text),
        });
        Ok(Operand::Typed(self.canonical(Expr::Call(Function::Concat, sides.into()))))
    }

    /// Resolves a call with commas between the arguments; `None` if there are too few or too many.
    pub(super) fn text_call(&mut self, name: &str, values: &[&Ast], pos: Pos) -> Result<Option<Expr>, CompileError> {
        use Type::{Int, Text};
        let (function, types): (Function, &[Type]) = match (name, values.len()) {
            ("btrim", 1 | 2) => (Function::Trim(TrimSide::Both), &[Text, Text]),
            ("ltrim", 1 | 2) => (Function::Trim(TrimSide::Leading), &[Text, Text]),
            ("rtrim", 1 | 2) => (Function::Trim(TrimSide::Trailing), &[Text, Text]),
            ("left", 2) => (Function::Left, &[Text, Int]),
            ("right", 2) => (Function::Right, &[Text, Int]),
            ("substring", 2 | 3) => (Function::Substring, &[Text, Int, Int]),
            ("split_part", 3) => (Function::SplitPart, &[Text, Text, Int]),
            ("replace", 3) => (Function::Replace, &[Text, Text, Text]),
            ("strpos", 2) => (Function::StrPos, &[Text, Text]),
            _ => return Ok(None),
        };
        let mut arguments = Vec::with_capacity(types.len());
        for (value, ty) in values.iter().zip(types) {
            arguments.push(self.argument(name, value, *ty, pos)?);
        }
        if matches!(function, Function::Trim(_)) && arguments.len() == 1 {
            arguments.push(text_literal(" "));
        }
        Ok(Some(Expr::Call(function, arguments)))
    }

    /// Resolves a call that the parser reads by its words.
    pub(super) fn spelled_out(&mut self, tree: &Ast, pos: Pos) -> Resolved {
        let (name, values): (_, Vec<&Ast>) = match tree {
            Ast::Trim { expr, trim_where, trim_what, trim_characters } => {
                let name = match trim_where {
                    Some(TrimWhereField::Leading) => "ltrim",
                    Some(TrimWhereField::Trailing) => "rtrim",
                    Some(TrimWhereField::Both) | None => "btrim",
                };
                let characters = trim_what.as_deref().into_iter().chain(trim_characters.iter().flatten());
                (name, std::iter::once(&**expr).chain(characters).collect())
            }
            Ast::Substring { expr, substring_from: Some(from), substring_for, .. } => {
                if is_text(from) {
                    return Err(wrong_type("substring", "a place and a count", Type::Text, start_of(from, pos))
                        .suggest(
                            "Whether a pattern matches is x ~ 'pattern'; parts of a text are split_part(x, '/', 2)",
                        ));
                }
                ("substring", [&**expr, from].into_iter().chain(substring_for.as_deref()).collect())
            }
            Ast::Substring { expr, substring_for: Some(count), .. } => {
                let text = self.argument("substring", expr, Type::Text, pos)?;
                let count = self.argument("substring", count, Type::Int, pos)?;
                let first = Expr::Literal(super::Value::Int(1), Type::Int);
                return Ok(Operand::Typed(Expr::Call(Function::Substring, vec![text, first, count])));
            }
            Ast::Position { expr, r#in } => ("strpos", vec![&**r#in, &**expr]),
            _ => ("substring", Vec::new()),
        };
        match self.text_call(name, &values, pos)? {
            Some(call) => Ok(Operand::Typed(call)),
            None => Err(self.wrong_call(name, pos)),
        }
    }
}

fn is_text(tree: &Ast) -> bool {
    matches!(tree, Ast::Value(value) if matches!(value.value, AstValue::SingleQuotedString(_)))
}

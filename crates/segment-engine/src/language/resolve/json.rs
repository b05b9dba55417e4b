//! Tests of lists and objects: `?`, `?|`, `?&`, `@>`, `jsonb_array_length`.

use serde_json::Value as Json;
use sqlparser::ast::{ArrayElemTypeDef, BinaryOperator, CastKind, DataType, Expr as Ast, Value as AstValue};

use super::call::wrong_type;
use super::path::Root;
use super::{CompileError, Expr, Pos, Resolver, Type, code, negated, start_of};
use crate::language::canonical::bool_literal;
use crate::language::limits::JSON_DEPTH_MAX;
use crate::plan::{Function, JsonConstant, JsonPath, JsonStep, JsonTest};

/// Whether an operator tests JSON.
pub(super) fn is_json_test(op: &BinaryOperator) -> bool {
    matches!(
        op,
        BinaryOperator::Question | BinaryOperator::QuestionPipe | BinaryOperator::QuestionAnd | BinaryOperator::AtArrow
    )
}

/// The left side of a test.
enum Subject {
    Root(Root),
    /// A path that ends in `->`.
    Path(Expr),
}

impl Resolver {
    pub(super) fn json_test(
        &mut self,
        left: &Ast,
        op: &BinaryOperator,
        right: &Ast,
        pos: Pos,
    ) -> Result<Expr, CompileError> {
        let subject = self.subject(left, op, pos)?;
        let right_pos = start_of(right, pos);
        let test = match op {
            BinaryOperator::Question => JsonTest::HasAny(vec![text(right).ok_or_else(|| not_a_text(op, right_pos))?]),
            BinaryOperator::QuestionPipe => JsonTest::HasAny(texts(right, op, right_pos)?),
            BinaryOperator::QuestionAnd => JsonTest::HasAll(texts(right, op, right_pos)?),
            _ => JsonTest::Contains(constant(right, right_pos)?),
        };
        Ok(match subject {
            Subject::Path(path) => Expr::JsonTest(Box::new(path), test),
            Subject::Root(root) => of_root(root, test),
        })
    }

    fn subject(&mut self, tree: &Ast, op: &BinaryOperator, outer: Pos) -> Result<Subject, CompileError> {
        let pos = start_of(tree, outer);
        if let Ast::Nested(inner) = tree {
            return self.subject(inner, op, pos);
        }
        if let Ast::Identifier(_) = tree
            && let Some(root) = self.root(tree, pos)?
        {
            return Ok(Subject::Root(root));
        }
        let value = self.value(tree, pos)?;
        match (&value, value.value_type()) {
            (Expr::Payload(_) | Expr::Trait(_), Type::Json) => Ok(Subject::Path(value)),
            (Expr::Payload(_) | Expr::Trait(_), _) => {
                Err(CompileError::new(code::TYPE, pos, format!("->> gives text, but {op} needs JSON"))
                    .suggest(format!("End the path with ->: payload->'tags' {op} …")))
            }
            (_, found) => Err(wrong_type(&op.to_string(), "a property of payload or traits", found, pos)),
        }
    }

    /// Resolves `jsonb_array_length(path)`.
    pub(super) fn array_length(&mut self, tree: &Ast, outer: Pos) -> Result<Expr, CompileError> {
        let pos = start_of(tree, outer);
        let list = self.value(tree, pos)?;
        match list.value_type() {
            Type::Json => Ok(Expr::Call(Function::JsonArrayLength, vec![list])),
            Type::Text => Err(wrong_type("jsonb_array_length", "a list", Type::Text, pos)
                .suggest("End the path with ->: jsonb_array_length(payload->'tags')")),
            found => Err(wrong_type("jsonb_array_length", "a list", found, pos)),
        }
    }
}

/// Turns a test of a whole object into tests of its properties, so that a segment knows which
/// traits it depends on.
fn of_root(root: Root, test: JsonTest) -> Expr {
    let property = |key: String| root.at(JsonPath { keys: vec![JsonStep::Key(key)], as_text: false });
    let present = |key: String| negated(Expr::IsNull(Box::new(property(key))));
    match test {
        JsonTest::HasAny(keys) => Expr::Or(keys.into_iter().map(present).collect()),
        JsonTest::HasAll(keys) => Expr::And(keys.into_iter().map(present).collect()),
        JsonTest::Contains(constant) | JsonTest::HoldsAsMember(constant) => match constant.json() {
            Json::Object(members) => Expr::And(
                members
                    .iter()
                    .map(|(key, value)| {
                        let test = JsonTest::HoldsAsMember(JsonConstant::new(value.clone()));
                        Expr::JsonTest(Box::new(property(key.clone())), test)
                    })
                    .collect(),
            ),
            _ => bool_literal(false),
        },
    }
}

fn text(tree: &Ast) -> Option<String> {
    match tree {
        Ast::Nested(inner) => text(inner),
        Ast::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr, data_type: DataType::Text, .. } => text(expr),
        Ast::Value(value) => match &value.value {
            AstValue::SingleQuotedString(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    }
}

fn texts(tree: &Ast, op: &BinaryOperator, pos: Pos) -> Result<Vec<String>, CompileError> {
    let elements = match tree {
        Ast::Nested(inner) => return texts(inner, op, pos),
        Ast::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr, data_type, .. } if is_text_array(data_type) => {
            return texts(expr, op, pos);
        }
        Ast::Array(array) if array.named => &array.elem,
        _ => return Err(not_a_text(op, pos)),
    };
    let mut texts = elements
        .iter()
        .map(|element| text(element).ok_or_else(|| not_a_text(op, start_of(element, pos))))
        .collect::<Result<Vec<_>, _>>()?;
    texts.sort_unstable();
    texts.dedup();
    if texts.is_empty() { Err(not_a_text(op, pos)) } else { Ok(texts) }
}

fn is_text_array(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Array(ArrayElemTypeDef::SquareBracket(inner, None)) if **inner == DataType::Text)
}

fn not_a_text(op: &BinaryOperator, pos: Pos) -> CompileError {
    let (what, example) = match op {
        BinaryOperator::Question => ("a constant text", "'a'".to_owned()),
        _ => ("constant texts", "array['a', 'b']".to_owned()),
    };
    CompileError::new(code::TYPE, pos, format!("{op} needs {what} on its right"))
        .suggest(format!("Write payload->'tags' {op} {example}"))
}

/// Reads `'["a"]'`, also with its type: `'["a"]'::jsonb`, `jsonb '["a"]'`.
fn constant(tree: &Ast, pos: Pos) -> Result<JsonConstant, CompileError> {
    let not_constant = || {
        CompileError::new(code::TYPE, pos, "@> needs constant JSON in single quotes on its right")
            .suggest(r#"Write payload->'tags' @> '["a"]'"#)
    };
    let text = match tree {
        Ast::Nested(inner) => return constant(inner, pos),
        Ast::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr, data_type, format: None } => {
            if !matches!(data_type, DataType::JSONB | DataType::JSON) {
                return Err(not_constant());
            }
            return constant(expr, start_of(expr, pos));
        }
        Ast::TypedString(typed) if matches!(typed.data_type, DataType::JSONB | DataType::JSON) => &typed.value.value,
        Ast::Value(value) => &value.value,
        _ => return Err(not_constant()),
    };
    let AstValue::SingleQuotedString(text) = text else { return Err(not_constant()) };
    let json: Json = serde_json::from_str(text).map_err(|error| {
        CompileError::new(code::BAD_LITERAL, pos, format!("this cannot be read as JSON: {error}"))
            .suggest(r#"Put strings in JSON in double quotes: '["a"]', '{"size": "XL"}'"#)
    })?;
    match depth(&json) > JSON_DEPTH_MAX {
        true => Err(CompileError::new(
            code::TOO_DEEP,
            pos,
            format!("the JSON has more than {JSON_DEPTH_MAX} levels of lists and objects"),
        )),
        false => Ok(JsonConstant::new(json)),
    }
}

fn depth(json: &Json) -> usize {
    match json {
        Json::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Json::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

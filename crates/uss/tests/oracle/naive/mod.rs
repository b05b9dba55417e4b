//! Evaluates clauses by brute force: it walks the parse tree over all of a user's events, as
//! docs/reference/semantics.md says. It shares with the engine only numbers, calendar and zones. It
//! has no plans, no accumulators and no optimisation.

mod aggregates;
mod functions;
mod kinds;
mod lists;
mod texts;
mod values;

use std::collections::{BTreeMap, BTreeSet};

use segment_engine::event::Event;
use segment_engine::ids::UserId;
use segment_engine::time::Timestamp;
use segment_engine::value::{Type, Value};
use sqlparser::ast::{BinaryOperator, Expr as Ast, UnaryOperator};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use crate::answers::{Answer as AllAnswers, Answers, Verdict};
use crate::history::{Case, User, World};
pub(crate) use values::text_of_json;
use values::{arithmetic, cast, compare, like, regex_matches};

/// A value, or the construct that the interpreter does not know.
pub(crate) type Answer = Result<Value, String>;

/// The form of a clause: semantics §2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Row,
    Aggregate,
    UserOnly,
}

/// A parsed clause.
pub(crate) struct Clause {
    tree: Option<Ast>,
    pub form: Form,
}

impl Clause {
    /// # Errors
    /// The error of the parser.
    pub(crate) fn parse(text: &str) -> Result<Clause, String> {
        if text.trim().is_empty() {
            return Ok(Clause { tree: None, form: Form::UserOnly });
        }
        let mut parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(text).map_err(|error| error.to_string())?;
        let tree = parser.parse_expr().map_err(|error| error.to_string())?;
        let form = if aggregates::contains_aggregate(&tree) {
            Form::Aggregate
        } else if kinds::contains_event_column(&tree) {
            Form::Row
        } else {
            Form::UserOnly
        };
        Ok(Clause { tree: Some(tree), form })
    }

    /// Returns whether the clause holds, by rule 1.
    ///
    /// # Errors
    /// A construct that the interpreter does not know.
    pub(crate) fn holds(&self, asked: Scope<'_>) -> Result<bool, String> {
        let Some(tree) = &self.tree else { return Ok(true) };
        if self.form != Form::Row {
            return Ok(asked.truth(tree)? == Some(true));
        }
        for event in &asked.user.events {
            if (Scope { event: Some(event), ..asked }).truth(tree)? == Some(true) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The input of an evaluation.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub id: UserId,
    pub user: &'a User,
    pub now: Timestamp,
    pub is_member: &'a dyn Fn(&str) -> Result<bool, String>,
    /// The row, in a row-form clause or inside an aggregate.
    pub event: Option<&'a Event>,
}

impl Scope<'_> {
    /// Returns the truth of a boolean expression; `None` is unknown.
    fn truth(&self, tree: &Ast) -> Result<Option<bool>, String> {
        match self.value(tree, Some(Type::Bool))? {
            Value::Bool(truth) => Ok(Some(truth)),
            Value::Null => Ok(None),
            other => Err(format!("{tree} is {other:?}, no truth")),
        }
    }

    /// Returns the value of an expression. `wanted` is the type of a constant that has none of its
    /// own.
    fn value(&self, tree: &Ast, wanted: Option<Type>) -> Answer {
        match tree {
            Ast::Nested(inner) => self.value(inner, wanted),
            Ast::Value(constant) => kinds::constant(&constant.value, wanted),
            Ast::TypedString(typed) => {
                let text = Value::Text(typed.value.value.clone().into_string().unwrap_or_default().into());
                Ok(cast(text, kinds::of_data_type(&typed.data_type)?))
            }
            Ast::Interval(interval) => kinds::interval(interval),
            Ast::Identifier(name) => self.event_column(&name.value),
            Ast::CompoundIdentifier(parts) => self.user_column(parts),
            Ast::UnaryOp { op: UnaryOperator::Not, expr } => Ok(boolean(self.truth(expr)?.map(|truth| !truth))),
            Ast::UnaryOp { op: UnaryOperator::Plus, expr } => self.value(expr, wanted),
            Ast::UnaryOp { op: UnaryOperator::Minus, expr } => Ok(values::negate(self.value(expr, wanted)?)),
            Ast::BinaryOp { left, op, right } => self.binary(left, op, right),
            Ast::IsNull(inner) => Ok(Value::Bool(self.any(inner)? == Value::Null)),
            Ast::IsNotNull(inner) => Ok(Value::Bool(self.any(inner)? != Value::Null)),
            Ast::IsTrue(inner) => Ok(Value::Bool(self.truth(inner)? == Some(true))),
            Ast::IsNotTrue(inner) => Ok(Value::Bool(self.truth(inner)? != Some(true))),
            Ast::IsFalse(inner) => Ok(Value::Bool(self.truth(inner)? == Some(false))),
            Ast::IsNotFalse(inner) => Ok(Value::Bool(self.truth(inner)? != Some(false))),
            Ast::IsUnknown(inner) => Ok(Value::Bool(self.truth(inner)?.is_none())),
            Ast::IsNotUnknown(inner) => Ok(Value::Bool(self.truth(inner)?.is_some())),
            Ast::IsDistinctFrom(left, right) => Ok(Value::Bool(!self.same(left, right)?)),
            Ast::IsNotDistinctFrom(left, right) => Ok(Value::Bool(self.same(left, right)?)),
            Ast::InList { expr, list, negated } => self.in_list(expr, list, *negated),
            Ast::Between { expr, negated, low, high } => {
                let above = self.compared(expr, &BinaryOperator::GtEq, low)?;
                let below = self.compared(expr, &BinaryOperator::LtEq, high)?;
                Ok(boolean(negate_if(*negated, and(above, below))))
            }
            Ast::Like { negated, expr, pattern, escape_char, .. } => {
                self.like(expr, pattern, escape_char.as_deref(), *negated, false)
            }
            Ast::ILike { negated, expr, pattern, escape_char, .. } => {
                self.like(expr, pattern, escape_char.as_deref(), *negated, true)
            }
            Ast::Trim { .. } | Ast::Substring { .. } | Ast::Position { .. } => self.text_in_words(tree),
            Ast::Cast { expr, data_type, .. } => self.cast(expr, data_type),
            Ast::AtTimeZone { timestamp, time_zone } => self.at_time_zone(timestamp, time_zone),
            Ast::Extract { field, expr, .. } => self.extract(&field.to_string(), expr),
            Ast::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref(), wanted)
            }
            Ast::Function(function) => self.function(function, wanted),
            other => Err(format!("the naive interpreter does not know {other}")),
        }
    }

    /// Returns a value of any type.
    fn any(&self, tree: &Ast) -> Answer {
        self.value(tree, kinds::kind(tree))
    }

    /// Returns both values in the type in which SQL compares them.
    fn pair(&self, left: &Ast, right: &Ast) -> Result<(Value, Value), String> {
        let ty = kinds::common([left, right]);
        Ok((self.value_as(left, ty)?, self.value_as(right, ty)?))
    }

    /// Converts a value to a common type: numbers become decimals if one of them is, times stay as
    /// they are.
    fn value_as(&self, tree: &Ast, ty: Type) -> Answer {
        let value = self.value(tree, Some(ty))?;
        Ok(match (&value, ty) {
            (Value::Int(_), Type::Decimal) => cast(value, Type::Decimal),
            _ => value,
        })
    }

    fn compared(&self, left: &Ast, op: &BinaryOperator, right: &Ast) -> Result<Option<bool>, String> {
        let (l, r) = self.pair(left, right)?;
        let Some(ordering) = compare(&l, &r)? else { return Ok(None) };
        Ok(Some(match op {
            BinaryOperator::Eq => ordering.is_eq(),
            BinaryOperator::NotEq => ordering.is_ne(),
            BinaryOperator::Lt => ordering.is_lt(),
            BinaryOperator::LtEq => ordering.is_le(),
            BinaryOperator::Gt => ordering.is_gt(),
            BinaryOperator::GtEq => ordering.is_ge(),
            other => return Err(format!("{other} is not a comparison")),
        }))
    }

    fn same(&self, left: &Ast, right: &Ast) -> Result<bool, String> {
        let (l, r) = self.pair(left, right)?;
        match (&l, &r) {
            (Value::Null, _) | (_, Value::Null) => Ok(l == r),
            _ => Ok(compare(&l, &r)?.is_some_and(std::cmp::Ordering::is_eq)),
        }
    }

    fn binary(&self, left: &Ast, op: &BinaryOperator, right: &Ast) -> Answer {
        use BinaryOperator as Op;
        match op {
            Op::And => Ok(boolean(and(self.truth(left)?, self.truth(right)?))),
            Op::Or => Ok(boolean(or(self.truth(left)?, self.truth(right)?))),
            Op::Eq | Op::NotEq | Op::Lt | Op::LtEq | Op::Gt | Op::GtEq => Ok(boolean(self.compared(left, op, right)?)),
            Op::Plus | Op::Minus | Op::Multiply | Op::Divide => {
                let (l, r) = kinds::operand_types(left, right);
                Ok(arithmetic(op, self.value(left, l)?, self.value(right, r)?)?)
            }
            Op::StringConcat => self.joined(left, right),
            Op::Arrow | Op::LongArrow => self.json(left, right, *op == Op::LongArrow),
            Op::Question | Op::QuestionPipe | Op::QuestionAnd | Op::AtArrow => self.json_test(left, op, right),
            Op::PGRegexMatch => self.regex(left, right, false, false),
            Op::PGRegexIMatch => self.regex(left, right, true, false),
            Op::PGRegexNotMatch => self.regex(left, right, false, true),
            Op::PGRegexNotIMatch => self.regex(left, right, true, true),
            other => Err(format!("the naive interpreter does not know {other}")),
        }
    }

    fn in_list(&self, expr: &Ast, list: &[Ast], negated: bool) -> Answer {
        let ty = kinds::common(list.iter().chain([expr]));
        let x = self.value_as(expr, ty)?;
        let mut found = Some(false);
        for item in list {
            let equal = compare(&x, &self.value_as(item, ty)?)?.map(std::cmp::Ordering::is_eq);
            found = or(found, equal);
        }
        Ok(boolean(negate_if(negated, found)))
    }

    fn like(&self, expr: &Ast, pattern: &Ast, escape: Option<&Ast>, negated: bool, ignore_case: bool) -> Answer {
        let (text, pattern) = (self.value(expr, Some(Type::Text))?, self.value(pattern, Some(Type::Text))?);
        let (Value::Text(text), Value::Text(pattern)) = (text, pattern) else { return Ok(Value::Null) };
        let escape = match escape.map(|escape| self.value(escape, Some(Type::Text))).transpose()? {
            Some(Value::Text(escape)) => escape.chars().next(),
            _ => Some('\\'),
        };
        Ok(Value::Bool(like(&text, &pattern, escape, ignore_case) != negated))
    }

    fn regex(&self, expr: &Ast, pattern: &Ast, ignore_case: bool, negated: bool) -> Answer {
        let (text, pattern) = (self.value(expr, Some(Type::Text))?, self.value(pattern, Some(Type::Text))?);
        let (Value::Text(text), Value::Text(pattern)) = (text, pattern) else { return Ok(Value::Null) };
        Ok(Value::Bool(regex_matches(&text, &pattern, ignore_case)? != negated))
    }
}

fn boolean(truth: Option<bool>) -> Value {
    truth.map_or(Value::Null, Value::Bool)
}

fn negate_if(negated: bool, truth: Option<bool>) -> Option<bool> {
    truth.map(|truth| truth != negated)
}

fn and(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    match (left, right) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

fn or(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    and(left.map(|truth| !truth), right.map(|truth| !truth)).map(|truth| !truth)
}

/// The brute-force source.
pub(crate) struct Naive;

impl Answers for Naive {
    fn name(&self) -> &'static str {
        "naive"
    }

    fn answer(&mut self, case: &Case, worlds: &[World]) -> Result<AllAnswers, String> {
        let mut answer = AllAnswers::new();
        for (number, (world, now)) in worlds.iter().zip(&case.instants).enumerate() {
            let segments = Segments::of(world)?;
            for tag in world.segments.keys() {
                answer.insert((number, tag.clone()), Verdict::Members(segments.members(world, tag, *now)?));
            }
        }
        Ok(answer)
    }
}

/// The parsed segments of a world.
pub(crate) struct Segments<'a>(BTreeMap<&'a str, Clause>);

impl<'a> Segments<'a> {
    /// # Errors
    /// The error of the parser on a clause.
    pub(crate) fn of(world: &'a World) -> Result<Segments<'a>, String> {
        let clauses = world.segments.iter().map(|(tag, text)| Ok((tag.as_str(), Clause::parse(text)?)));
        Ok(Segments(clauses.collect::<Result<_, String>>()?))
    }

    /// Returns the members of a segment at an instant of this world.
    ///
    /// # Errors
    /// A construct that the interpreter does not know.
    pub(crate) fn members(&self, world: &World, tag: &str, now: Timestamp) -> Result<BTreeSet<UserId>, String> {
        let mut members = BTreeSet::new();
        for (id, user) in &world.users {
            if self.holds(tag, *id, user, now).map_err(|error| format!("{tag}: {error}"))? {
                members.insert(*id);
            }
        }
        Ok(members)
    }

    fn holds(&self, tag: &str, id: UserId, user: &User, now: Timestamp) -> Result<bool, String> {
        let clause = self.0.get(tag).ok_or_else(|| format!("there is no segment {tag}"))?;
        let is_member = |tag: &str| self.holds(tag, id, user, now);
        clause.holds(Scope { id, user, now, is_member: &is_member, event: None })
    }
}

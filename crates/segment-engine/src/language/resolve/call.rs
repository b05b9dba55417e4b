//! Functions of one value or a few.

use sqlparser::ast::{
    Expr as Ast, Function as AstFunction, FunctionArg, FunctionArgExpr, FunctionArguments, Value as AstValue,
};

use super::operand::{Operand, cast_to, describe};
use super::{CompileError, Expr, Pos, Resolved, Resolver, Type, Value, code, start_of, unknown_function};
use crate::plan::{Function, NowExpr};

/// The arguments of a call. `*` is not among the values.
pub(super) struct Arguments<'a> {
    pub star: bool,
    pub distinct: bool,
    pub values: Vec<&'a Ast>,
}

impl Resolver {
    pub(super) fn function(&mut self, call: &AstFunction, pos: Pos) -> Resolved {
        let name = call.name.to_string().to_lowercase();
        if call.over.is_some() {
            return Err(CompileError::new(code::WINDOW_FUNCTION, pos, "there are no window functions (OVER)").suggest(
                "A window of time is a condition: count(*) FILTER (WHERE created_at >= now() - INTERVAL '7 days')",
            ));
        }
        if name == "current_timestamp" && matches!(call.args, FunctionArguments::None) {
            return Ok(Operand::Now(NowExpr { steps: Vec::new() }));
        }
        let arguments = arguments(call, &name, pos)?;
        if let Some(resolved) = self.aggregate(&name, &arguments, call.filter.as_deref(), pos) {
            return resolved;
        }
        if call.filter.is_some() || arguments.distinct || arguments.star {
            return Err(self.scalar_or_unknown(&name, pos));
        }
        let values = &arguments.values;
        match name.as_str() {
            "now" => match values.is_empty() {
                true => Ok(Operand::Now(NowExpr { steps: Vec::new() })),
                false => Err(wrong_arguments("now()", pos)),
            },
            "date_trunc" => self.date_trunc(values, pos),
            "segment" => self.segment(values, pos).map(Operand::Typed),
            "bucket" => bucket(values, pos).map(Operand::Typed),
            _ => self.scalar(&name, values, pos).map(Operand::Typed),
        }
    }

    fn scalar_or_unknown(&self, name: &str, pos: Pos) -> CompileError {
        match scalar_form(name) {
            Some(_) => CompileError::new(
                code::ARGUMENTS,
                pos,
                format!("{name} is not an aggregate, so it does not take *, DISTINCT or FILTER"),
            ),
            None => unknown_function(name, pos),
        }
    }

    pub(super) fn wrong_call(&self, name: &str, pos: Pos) -> CompileError {
        scalar_form(name).map_or_else(|| unknown_function(name, pos), |form| wrong_arguments(form, pos))
    }

    fn scalar(&mut self, name: &str, values: &[&Ast], pos: Pos) -> Result<Expr, CompileError> {
        let Some(form) = scalar_form(name) else { return Err(unknown_function(name, pos)) };
        match (name, values) {
            ("lower", [x]) => Ok(Expr::Call(Function::Lower, vec![self.argument(name, x, Type::Text, pos)?])),
            ("upper", [x]) => Ok(Expr::Call(Function::Upper, vec![self.argument(name, x, Type::Text, pos)?])),
            ("length", [x]) => Ok(Expr::Call(Function::Length, vec![self.argument(name, x, Type::Text, pos)?])),
            ("starts_with", [x, start]) => {
                let arguments =
                    vec![self.argument(name, x, Type::Text, pos)?, self.argument(name, start, Type::Text, pos)?];
                let call = Expr::Call(Function::StartsWith, arguments);
                crate::language::scope::check(&call, pos)?;
                Ok(call)
            }
            ("jsonb_array_length", [x]) => self.array_length(x, pos),
            ("abs", [x]) => Ok(Expr::Call(Function::Abs, vec![self.number(name, x, pos)?])),
            ("round", [x]) => self.round(x, 0, pos),
            ("round", [x, places]) => {
                let places = match self.value(places, pos)? {
                    Expr::Literal(Value::Int(places), _) => u8::try_from(places).ok().filter(|places| *places <= 9),
                    _ => None,
                };
                match places {
                    Some(places) => self.round(x, places, pos),
                    None => Err(wrong_arguments(form, pos).suggest("The places are a constant from 0 to 9")),
                }
            }
            ("to_timestamp", [_, _]) => Err(wrong_arguments(form, pos).suggest(
                "Times are read from text by a cast, in the spellings of ISO 8601: (payload->>'at')::timestamptz",
            )),
            ("to_timestamp", [seconds]) => {
                let seconds = cast_to(self.number(name, seconds, pos)?, Type::Decimal);
                Ok(Expr::Call(Function::ToTimestamp, vec![seconds]))
            }
            ("coalesce", [_, ..]) => {
                let items = self.operands(values, pos)?;
                Ok(Expr::Coalesce(self.unify(items)?))
            }
            ("nullif", [_, _]) => {
                let items = self.operands(values, pos)?;
                Ok(Expr::Call(Function::NullIf, self.unify(items)?))
            }
            _ => match self.text_call(name, values, pos)? {
                Some(call) => Ok(call),
                None => Err(wrong_arguments(form, pos)),
            },
        }
    }

    fn operands(&mut self, trees: &[&Ast], pos: Pos) -> Result<Vec<(Operand, Pos)>, CompileError> {
        trees
            .iter()
            .map(|tree| {
                let pos = start_of(tree, pos);
                let operand = self.resolve(tree, pos)?;
                if operand.is_now() {
                    return Err(super::operand::now_misplaced(pos));
                }
                Ok((operand, pos))
            })
            .collect()
    }

    pub(super) fn argument(&mut self, function: &str, tree: &Ast, ty: Type, outer: Pos) -> Result<Expr, CompileError> {
        let pos = start_of(tree, outer);
        let operand = self.resolve(tree, pos)?;
        let argument = self.of_type(operand, ty, pos)?;
        match argument.value_type() {
            found if found == ty => Ok(argument),
            found => Err(wrong_type(function, describe(ty), found, pos)),
        }
    }

    fn number(&mut self, function: &str, tree: &Ast, outer: Pos) -> Result<Expr, CompileError> {
        let pos = start_of(tree, outer);
        let operand = self.resolve(tree, pos)?;
        let argument = self.of_type(operand, Type::Decimal, pos)?;
        match argument.value_type() {
            Type::Int | Type::Decimal => Ok(argument),
            found => Err(wrong_type(function, "a number", found, pos)),
        }
    }

    fn round(&mut self, x: &Ast, places: u8, pos: Pos) -> Result<Expr, CompileError> {
        let x = cast_to(self.number("round", x, pos)?, Type::Decimal);
        Ok(Expr::Call(Function::Round(places), vec![x]))
    }

    fn segment(&mut self, values: &[&Ast], pos: Pos) -> Result<Expr, CompileError> {
        let Some(tag) = constant_name(values) else {
            return Err(CompileError::new(code::ARGUMENTS, pos, "segment takes the tag of a segment as constant text")
                .suggest("Write segment('vip')"));
        };
        Ok(Expr::Segment(self.segment_index(tag, pos)?))
    }
}

fn bucket(values: &[&Ast], pos: Pos) -> Result<Expr, CompileError> {
    constant_name(values).map(Expr::Bucket).ok_or_else(|| {
        let message = "bucket takes a name as constant text: each name divides the users in its own way";
        CompileError::new(code::ARGUMENTS, pos, message)
            .suggest("Write bucket('checkout-test') < 50 for half of all users")
    })
}

/// Returns the one argument, if it is a text that is not empty.
fn constant_name(values: &[&Ast]) -> Option<String> {
    let [Ast::Value(value)] = values else { return None };
    match &value.value {
        AstValue::SingleQuotedString(name) if !name.is_empty() => Some(name.clone()),
        _ => None,
    }
}

/// Returns how a scalar function is called.
fn scalar_form(name: &str) -> Option<&'static str> {
    Some(match name {
        "lower" => "lower(text)",
        "upper" => "upper(text)",
        "length" => "length(text)",
        "trim" => "trim(text), trim('characters' FROM text) or trim(LEADING | TRAILING | BOTH 'characters' FROM text)",
        "btrim" => "btrim(text) or btrim(text, characters)",
        "ltrim" => "ltrim(text) or ltrim(text, characters)",
        "rtrim" => "rtrim(text) or rtrim(text, characters)",
        "left" => "left(text, count)",
        "right" => "right(text, count)",
        "substring" => "substring(text FROM place FOR count), substring(text, place) or substring(text, place, count)",
        "split_part" => "split_part(text, separator, number)",
        "replace" => "replace(text, what, by)",
        "strpos" => "strpos(text, part)",
        "position" => "position(part IN text)",
        "to_timestamp" => "to_timestamp(seconds)",
        "starts_with" => "starts_with(text, start)",
        "jsonb_array_length" => "jsonb_array_length(payload->'list')",
        "abs" => "abs(number)",
        "bucket" => "bucket('name')",
        "segment" => "segment('tag')",
        "round" => "round(number) or round(number, places)",
        "coalesce" => "coalesce(a, b, …)",
        "nullif" => "nullif(a, b)",
        _ => return None,
    })
}

pub(super) fn wrong_arguments(form: &str, pos: Pos) -> CompileError {
    CompileError::new(code::ARGUMENTS, pos, format!("this function is called as {form}"))
}

pub(super) fn wrong_type(function: &str, wanted: &str, found: Type, pos: Pos) -> CompileError {
    let suggestion = match found {
        Type::Text if wanted == "a number" => Some("Cast the text, e.g. (payload->>'price')::numeric".to_owned()),
        Type::Json => Some("End the path with ->> to get text".to_owned()),
        _ => None,
    };
    CompileError::new(code::TYPE, pos, format!("{function} takes {wanted}, not {}", describe(found)))
        .suggest_maybe(suggestion)
}

/// Returns the arguments as plain expressions. SQL's other syntax for calls is refused.
fn arguments<'a>(call: &'a AstFunction, name: &str, pos: Pos) -> Result<Arguments<'a>, CompileError> {
    let refuse = |what: &str| Err(CompileError::new(code::UNSUPPORTED, pos, format!("{name}: {what}")));
    let is_plain = !call.uses_odbc_syntax
        && matches!(call.parameters, FunctionArguments::None)
        && call.within_group.is_empty()
        && call.null_treatment.is_none();
    let list = match &call.args {
        FunctionArguments::List(list) if is_plain && list.clauses.is_empty() => list,
        FunctionArguments::None => return Err(unknown_function(name, pos)),
        FunctionArguments::Subquery(_) => {
            return Err(CompileError::new(code::SUBQUERY, pos, "a clause has no sub-selects"));
        }
        FunctionArguments::List(_) => return refuse("only plain arguments, DISTINCT and FILTER are known"),
    };
    use sqlparser::ast::DuplicateTreatment;
    let distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
    let mut found = Arguments { star: false, distinct, values: Vec::with_capacity(list.args.len()) };
    for argument in &list.args {
        match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => found.values.push(value),
            FunctionArg::Unnamed(FunctionArgExpr::Wildcard) if list.args.len() == 1 => found.star = true,
            _ => return refuse("only plain arguments are known"),
        }
    }
    Ok(found)
}

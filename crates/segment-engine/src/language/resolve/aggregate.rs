//! Aggregates: `function(argument) FILTER (WHERE condition)`.

use sqlparser::ast::Expr as Ast;

use super::call::{Arguments, wrong_arguments, wrong_type};
use super::operand::{Operand, json_value};
use super::{CompileError, Expr, Pos, Resolved, Resolver, Type, code};
use crate::language::limits::AGGREGATES_MAX;
use crate::language::{canonical, scope};
use crate::plan::{Aggregate, AggregateFunction as F};

impl Resolver {
    /// Resolves a call if its name is an aggregate's.
    pub(super) fn aggregate(
        &mut self,
        name: &str,
        arguments: &Arguments<'_>,
        filter: Option<&Ast>,
        pos: Pos,
    ) -> Option<Resolved> {
        let function = match name {
            "count" if arguments.distinct => F::CountDistinct,
            "count" => F::Count,
            "sum" => F::Sum,
            "avg" => F::Avg,
            "min" => F::Min,
            "max" => F::Max,
            "bool_or" => F::BoolOr,
            "bool_and" => F::BoolAnd,
            "first" => F::First,
            "last" => F::Last,
            "funnel" => return Some(self.inside(pos, |resolver| resolver.funnel(arguments, filter, pos))),
            _ => return None,
        };
        Some(self.inside(pos, |resolver| resolver.aggregate_inside(name, function, arguments, filter, pos)))
    }

    /// Resolves what is inside an aggregate, and adds the aggregate to the clause's.
    fn inside(&mut self, pos: Pos, resolve: impl FnOnce(&mut Resolver) -> Result<Aggregate, CompileError>) -> Resolved {
        if self.inside_aggregate {
            return Err(CompileError::new(code::AGGREGATE_MISPLACED, pos, "an aggregate inside an aggregate")
                .suggest("Compare the aggregates with each other instead: max(created_at) > …"));
        }
        self.inside_aggregate = true;
        let resolved = resolve(self);
        self.inside_aggregate = false;
        resolved.and_then(|aggregate| self.intern(aggregate, pos)).map(Operand::Typed)
    }

    fn aggregate_inside(
        &mut self,
        name: &str,
        function: F,
        arguments: &Arguments<'_>,
        filter: Option<&Ast>,
        pos: Pos,
    ) -> Result<Aggregate, CompileError> {
        if arguments.distinct && function != F::CountDistinct {
            return Err(CompileError::new(code::UNSUPPORTED, pos, "DISTINCT is allowed only in count(DISTINCT x)"));
        }
        let argument = match (function, arguments.star, arguments.values.as_slice()) {
            (F::Count, true, []) => None,
            (_, false, [argument]) => {
                let argument = self.value(argument, pos)?;
                check_argument(name, function, argument.value_type(), pos)?;
                scope::check_argument(&argument, pos)?;
                Some(argument)
            }
            (F::Count | F::CountDistinct, ..) => {
                return Err(wrong_arguments("count(*), count(x) or count(DISTINCT x)", pos));
            }
            _ => return Err(wrong_arguments(&format!("{name}(x)"), pos)),
        };
        let filter = filter.map(|filter| self.condition(filter, pos)).transpose()?;
        Ok(canonical::aggregate(Aggregate { function, argument, filter }, &self.names()))
    }

    /// Returns the aggregate's index among the clause's; equal aggregates share it.
    pub(in crate::language) fn intern(&mut self, aggregate: Aggregate, pos: Pos) -> Result<Expr, CompileError> {
        let ty = aggregate.value_type();
        if let Some(index) = self.aggregates.iter().position(|known| *known == aggregate) {
            return Ok(Expr::Aggregate(index, ty));
        }
        if self.aggregates.len() == AGGREGATES_MAX {
            return Err(CompileError::new(
                code::TOO_MANY_AGGREGATES,
                pos,
                format!("a clause may have at most {AGGREGATES_MAX} different aggregates"),
            )
            .suggest("Split it into several segments and combine them with segment('tag')"));
        }
        self.aggregates.push(aggregate);
        self.aggregate_positions.push(pos);
        Ok(Expr::Aggregate(self.aggregates.len() - 1, ty))
    }
}

fn check_argument(name: &str, function: F, ty: Type, pos: Pos) -> Result<(), CompileError> {
    let wanted = match function {
        F::Count => return Ok(()),
        F::Sum | F::Avg if !matches!(ty, Type::Int | Type::Decimal) => "a number",
        F::BoolOr | F::BoolAnd if ty != Type::Bool => "a condition",
        F::Min | F::Max if ty == Type::Bool => {
            return Err(wrong_type(name, "something with an order", ty, pos).suggest("Write bool_or(x) or bool_and(x)"));
        }
        _ if ty == Type::Json => return Err(json_value(pos)),
        _ => return Ok(()),
    };
    Err(wrong_type(name, wanted, ty, pos))
}

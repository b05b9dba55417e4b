//! `funnel(INTERVAL '3 days', condition 1, condition 2, …) FILTER (WHERE condition)`.

use sqlparser::ast::Expr as Ast;

use super::call::{Arguments, wrong_arguments};
use super::{CompileError, Expr, Pos, Resolver, Type, Value, code, start_of};
use crate::language::canonical;
use crate::language::limits::FUNNEL_STEPS_MAX;
use crate::plan::{Aggregate, AggregateFunction};
use crate::time::Interval;

const FORM: &str = "funnel(INTERVAL '3 days', condition 1, condition 2, …)";

impl Resolver {
    pub(super) fn funnel(
        &mut self,
        arguments: &Arguments<'_>,
        filter: Option<&Ast>,
        pos: Pos,
    ) -> Result<Aggregate, CompileError> {
        if arguments.distinct {
            return Err(CompileError::new(code::UNSUPPORTED, pos, "DISTINCT is allowed only in count(DISTINCT x)"));
        }
        let [interval, steps @ ..] = &arguments.values[..] else { return Err(wrong_arguments(FORM, pos)) };
        let within = self.within(interval, pos)?;
        if steps.is_empty() {
            return Err(wrong_arguments(FORM, pos).suggest("Add at least one condition"));
        }
        if steps.len() > FUNNEL_STEPS_MAX {
            let message =
                format!("a funnel may have at most {FUNNEL_STEPS_MAX} steps, but this one has {}", steps.len());
            return Err(CompileError::new(code::TOO_MANY_STEPS, pos, message)
                .suggest("Leave out steps that users cannot skip anyway"));
        }
        let steps = steps.iter().map(|step| self.step(step, pos)).collect::<Result<Vec<_>, _>>()?;
        let filter = filter.map(|filter| self.condition(filter, pos)).transpose()?;
        let function = AggregateFunction::Funnel { within };
        Ok(canonical::aggregate(Aggregate { function, argument: Some(Expr::Steps(steps)), filter }, &self.names()))
    }

    /// Returns the interval in microseconds. It must be a constant of fixed length.
    fn within(&mut self, tree: &Ast, outer: Pos) -> Result<i64, CompileError> {
        let pos = start_of(tree, outer);
        let operand = self.resolve(tree, pos)?;
        if operand.is_now() {
            return Err(wrong_arguments(FORM, pos).suggest("The interval of a funnel is constant"));
        }
        let interval = match self.of_type(operand, Type::Interval, pos)? {
            Expr::Literal(Value::Interval(interval), _) => interval,
            _ => return Err(wrong_arguments(FORM, pos).suggest("It begins with a constant interval")),
        };
        if interval.months != 0 {
            let message = "months and years have no fixed length, but the interval of a funnel must have one";
            return Err(CompileError::new(code::ARGUMENTS, pos, message)
                .suggest(format!("Write INTERVAL '{} days'", days_about(interval))));
        }
        match i64::try_from(interval.fixed_micros()) {
            Ok(within @ 1..) => Ok(within),
            Ok(_) => Err(CompileError::new(code::ARGUMENTS, pos, "the interval of a funnel must be longer than zero")
                .suggest("Write how long after the first step the last may follow: INTERVAL '3 days'")),
            Err(_) => Err(CompileError::new(code::ARGUMENTS, pos, "the interval is longer than any history")
                .suggest("Write INTERVAL '36500 days'")),
        }
    }

    fn step(&mut self, tree: &Ast, outer: Pos) -> Result<Expr, CompileError> {
        let pos = start_of(tree, outer);
        let step = self.condition(tree, pos)?;
        if step.reads_now() {
            let message = "a step of a funnel must not use now(), because the events of a step do not change with time";
            return Err(CompileError::new(code::NOW_MISPLACED, pos, message).suggest(
                "Put the window into the filter: funnel(…) FILTER (WHERE created_at >= now() - INTERVAL '30 days')",
            ));
        }
        Ok(step)
    }
}

/// Returns about how many days an interval with months has.
fn days_about(interval: Interval) -> i64 {
    let years = i64::from(interval.months / 12) * 365;
    years + i64::from(interval.months % 12) * 30 + i64::from(interval.days)
}

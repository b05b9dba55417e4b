//! Patterns: `LIKE`, `ILIKE`, `~`, `~*`. They are constant, and checked here.

use sqlparser::ast::{BinaryOperator, Expr as Ast, Value as AstValue};

use super::operand::mismatch;
use super::{CompileError, Expr, Pos, Resolver, Type, code, start_of};
use crate::language::limits::{PATTERN_LENGTH_MAX, PATTERNS_MAX};
use crate::plan::{Pattern, PatternError, PatternKind};

impl Resolver {
    pub(super) fn like(
        &mut self,
        x: &Ast,
        pattern: &Ast,
        with_extras: bool,
        ignore_case: bool,
        pos: Pos,
    ) -> Result<Expr, CompileError> {
        if with_extras {
            return Err(CompileError::new(code::UNSUPPORTED, pos, "LIKE knows neither ESCAPE nor ANY")
                .suggest(r"The escape character is \: x LIKE '100\%'"));
        }
        self.matched(x, pattern, PatternKind::Like, ignore_case, pos)
    }

    pub(super) fn matched(
        &mut self,
        x: &Ast,
        pattern: &Ast,
        kind: PatternKind,
        ignore_case: bool,
        pos: Pos,
    ) -> Result<Expr, CompileError> {
        let x = self.value(x, pos)?;
        if x.value_type() != Type::Text {
            return Err(mismatch(x.value_type(), Type::Text, pos).suggest("Patterns match text only: cast it, x::text"));
        }
        let pattern_pos = start_of(pattern, pos);
        let text = match pattern {
            Ast::Value(value) => match &value.value {
                AstValue::SingleQuotedString(text) => text.clone(),
                _ => return Err(not_constant(pattern_pos)),
            },
            _ => return Err(not_constant(pattern_pos)),
        };
        let pattern = self.pattern(text, kind, ignore_case, pattern_pos)?;
        Ok(Expr::Match(Box::new(x), pattern))
    }

    fn pattern(
        &mut self,
        text: String,
        kind: PatternKind,
        ignore_case: bool,
        pos: Pos,
    ) -> Result<Pattern, CompileError> {
        self.patterns += 1;
        if self.patterns > PATTERNS_MAX {
            let message = format!("a clause may have {PATTERNS_MAX} patterns at most");
            return Err(CompileError::new(code::TOO_MANY_PATTERNS, pos, message)
                .suggest("Join regular expressions: x ~ 'one|two'"));
        }
        if text.chars().count() > PATTERN_LENGTH_MAX {
            let message = format!("the pattern is longer than {PATTERN_LENGTH_MAX} characters");
            return Err(CompileError::new(code::BAD_PATTERN, pos, message));
        }
        Pattern::new(text, kind, ignore_case).map_err(|error| bad_pattern(&error, pos))
    }
}

fn bad_pattern(error: &PatternError, pos: Pos) -> CompileError {
    match error {
        PatternError::Syntax(reason) => {
            let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
            CompileError::new(code::BAD_PATTERN, pos, format!("the regular expression cannot be used: {reason}"))
                .suggest("It must run in linear time: no back references, no look-around")
        }
        other => CompileError::new(code::BAD_PATTERN, pos, other.to_string()),
    }
}

fn not_constant(pos: Pos) -> CompileError {
    CompileError::new(code::BAD_PATTERN, pos, "a pattern is a constant text in single quotes")
        .suggest("Compare two columns with =, or use starts_with(a, b)")
}

/// Of the `~` operators, whether it is negated, and whether it ignores case.
pub(super) fn regex_operator(op: &BinaryOperator) -> Option<(bool, bool)> {
    match op {
        BinaryOperator::PGRegexMatch => Some((false, false)),
        BinaryOperator::PGRegexIMatch => Some((false, true)),
        BinaryOperator::PGRegexNotMatch => Some((true, false)),
        BinaryOperator::PGRegexNotIMatch => Some((true, true)),
        _ => None,
    }
}

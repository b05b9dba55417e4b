//! Patterns: `LIKE`, `ILIKE`, `~`, `~*`. They are constant, and checked here.

use regex::RegexBuilder;
use sqlparser::ast::{BinaryOperator, Expr as Ast, Value as AstValue};

use super::compare::regex_operator;
use super::operand::mismatch;
use super::{CompileError, Expr, Pos, Resolver, Type, code, negated_if, start_of, unsupported};
use crate::language::limits::{PATTERN_LENGTH_MAX, PATTERN_SIZE_MAX, PATTERNS_MAX};
use crate::plan::{Pattern, PatternKind};

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

    pub(super) fn regex_match(
        &mut self,
        x: &Ast,
        op: &BinaryOperator,
        pattern: &Ast,
        pos: Pos,
    ) -> Result<Expr, CompileError> {
        let Some((not, ignore_case)) = regex_operator(op) else {
            let tree = Ast::BinaryOp { left: x.clone().into(), op: op.clone(), right: pattern.clone().into() };
            return Err(unsupported(&tree, pos));
        };
        Ok(negated_if(not, self.matched(x, pattern, PatternKind::Regex, ignore_case, pos)?))
    }

    fn matched(
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
        let pattern = Pattern { text, kind, ignore_case };
        self.check_pattern(&pattern, pattern_pos)?;
        Ok(Expr::Match(Box::new(x), pattern))
    }

    fn check_pattern(&mut self, pattern: &Pattern, pos: Pos) -> Result<(), CompileError> {
        self.patterns += 1;
        if self.patterns > PATTERNS_MAX {
            return Err(CompileError::new(
                code::TOO_MANY_PATTERNS,
                pos,
                format!("a clause may have {PATTERNS_MAX} patterns at most"),
            )
            .suggest("Join regular expressions: x ~ 'one|two'"));
        }
        if pattern.text.chars().count() > PATTERN_LENGTH_MAX {
            let message = format!("the pattern is longer than {PATTERN_LENGTH_MAX} characters");
            return Err(CompileError::new(code::BAD_PATTERN, pos, message));
        }
        match pattern.kind {
            PatternKind::Like if ends_in_escape(&pattern.text) => {
                Err(CompileError::new(code::BAD_PATTERN, pos, r"the pattern ends in its escape character \")
                    .suggest(r"A backslash itself is \\"))
            }
            PatternKind::Like => Ok(()),
            PatternKind::Regex => RegexBuilder::new(&pattern.text)
                .case_insensitive(pattern.ignore_case)
                .size_limit(PATTERN_SIZE_MAX)
                .build()
                .map(|_| ())
                .map_err(|error| bad_regex(&error, pos)),
        }
    }
}

fn ends_in_escape(pattern: &str) -> bool {
    pattern.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1
}

fn bad_regex(error: &regex::Error, pos: Pos) -> CompileError {
    let reason = error.to_string();
    let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
    CompileError::new(code::BAD_PATTERN, pos, format!("the regular expression cannot be used: {reason}"))
        .suggest("It must run in linear time: no back references, no look-around")
}

fn not_constant(pos: Pos) -> CompileError {
    CompileError::new(code::BAD_PATTERN, pos, "a pattern is a constant text in single quotes")
        .suggest("Compare two columns with =, or use starts_with(a, b)")
}

//! Patterns: `LIKE`, `ILIKE`, `~`, `~*`. They are constant, and compiled here.

use sqlparser::ast::{BinaryOperator, Expr as Ast, Value as AstValue};

use super::operand::mismatch;
use super::{CompileError, Expr, Pos, Resolver, Type, code, start_of};
use crate::language::limits::{PATTERN_LENGTH_MAX, PATTERNS_BYTES_MAX, PATTERNS_MAX};
use crate::plan::{Pattern, PatternError, PatternKind};

/// The patterns of a clause so far.
#[derive(Default)]
pub(super) struct Patterns {
    /// How many patterns are written, with repetitions.
    written: usize,
    /// The different patterns, each compiled once.
    known: Vec<Pattern>,
}

impl Resolver {
    pub(super) fn like(
        &mut self,
        x: &Ast,
        pattern: &Ast,
        escape: Option<&Ast>,
        any: bool,
        ignore_case: bool,
        pos: Pos,
    ) -> Result<Expr, CompileError> {
        if any {
            return Err(CompileError::new(code::UNSUPPORTED, pos, "LIKE has no ANY")
                .suggest("Write a LIKE for each pattern and join them with OR"));
        }
        let Some(escape) = escape else { return self.matched(x, pattern, PatternKind::Like, ignore_case, pos) };
        let escape = escape_character(escape, start_of(escape, pos))?;
        let x = self.matched_text(x, pos)?;
        let pattern_pos = start_of(pattern, pos);
        let text = with_backslashes(constant(pattern, pattern_pos)?, escape, pattern_pos)?;
        let pattern = self.pattern(text, PatternKind::Like, ignore_case, pattern_pos)?;
        Ok(Expr::Match(Box::new(x), pattern))
    }

    pub(super) fn matched(
        &mut self,
        x: &Ast,
        pattern: &Ast,
        kind: PatternKind,
        ignore_case: bool,
        pos: Pos,
    ) -> Result<Expr, CompileError> {
        let x = self.matched_text(x, pos)?;
        let pattern_pos = start_of(pattern, pos);
        let text = constant(pattern, pattern_pos)?.to_owned();
        let pattern = self.pattern(text, kind, ignore_case, pattern_pos)?;
        Ok(Expr::Match(Box::new(x), pattern))
    }

    fn matched_text(&mut self, x: &Ast, pos: Pos) -> Result<Expr, CompileError> {
        let x = self.value(x, pos)?;
        match x.value_type() {
            Type::Text => Ok(x),
            other => Err(mismatch(other, Type::Text, pos).suggest("Patterns match text only: cast it, x::text")),
        }
    }

    fn pattern(
        &mut self,
        text: String,
        kind: PatternKind,
        ignore_case: bool,
        pos: Pos,
    ) -> Result<Pattern, CompileError> {
        self.patterns.written += 1;
        if self.patterns.written > PATTERNS_MAX {
            let message = format!("a clause may have at most {PATTERNS_MAX} patterns");
            return Err(CompileError::new(code::TOO_MANY_PATTERNS, pos, message)
                .suggest("Join regular expressions: x ~ 'one|two'"));
        }
        if text.chars().count() > PATTERN_LENGTH_MAX {
            let message = format!("the pattern is longer than {PATTERN_LENGTH_MAX} characters");
            return Err(CompileError::new(code::BAD_PATTERN, pos, message));
        }
        let is_same =
            |known: &&Pattern| known.text() == text && known.kind() == kind && known.ignores_case() == ignore_case;
        if let Some(known) = self.patterns.known.iter().find(is_same) {
            return Ok(known.clone());
        }
        let pattern = Pattern::new(text, kind, ignore_case).map_err(|error| bad_pattern(&error, pos))?;
        self.patterns.known.push(pattern.clone());
        let bytes: usize = self.patterns.known.iter().map(Pattern::heap_bytes).sum();
        if bytes > PATTERNS_BYTES_MAX && !self.saved {
            let message = format!(
                "with this one the patterns of the clause take {} MB of memory, but they may take at most {} MB",
                bytes.div_ceil(1 << 20),
                PATTERNS_BYTES_MAX >> 20
            );
            return Err(CompileError::new(code::TOO_MANY_PATTERNS, pos, message).suggest(
                r"\w, \d and [^x] stand for letters of all scripts: write [A-Za-z0-9_] and [0-9] where those are meant; repeat less, or split the clause with segment('tag')",
            ));
        }
        Ok(pattern)
    }
}

fn constant(pattern: &Ast, pos: Pos) -> Result<&str, CompileError> {
    match pattern {
        Ast::Value(value) => match &value.value {
            AstValue::SingleQuotedString(text) => Ok(text),
            _ => Err(not_constant(pos)),
        },
        _ => Err(not_constant(pos)),
    }
}

/// Reads `ESCAPE 'c'`; `None` for `ESCAPE ''`.
fn escape_character(escape: &Ast, pos: Pos) -> Result<Option<char>, CompileError> {
    let text = match escape {
        Ast::Value(value) => match &value.value {
            AstValue::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        _ => None,
    };
    let mut characters = text.map(|text| text.chars());
    match characters.as_mut().map(|characters| (characters.next(), characters.next())) {
        Some((character, None)) => Ok(character),
        _ => Err(CompileError::new(
            code::BAD_PATTERN,
            pos,
            "an escape is one character in single quotes, or '' for none",
        )
        .suggest("Write x LIKE '100!%' ESCAPE '!'")),
    }
}

/// Returns the `LIKE` pattern that means the same with the escape character `\`.
fn with_backslashes(pattern: &str, escape: Option<char>, pos: Pos) -> Result<String, CompileError> {
    let mut text = String::with_capacity(pattern.len());
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        if Some(character) == escape {
            let Some(escaped) = characters.next() else {
                let message = "a LIKE pattern must not end with its escape character";
                return Err(CompileError::new(code::BAD_PATTERN, pos, message)
                    .suggest(format!("Write it twice for the character itself: {character}{character}")));
            };
            text.extend(['\\', escaped]);
        } else if character == '\\' {
            text.push_str(r"\\");
        } else {
            text.push(character);
        }
    }
    Ok(text)
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

/// For a `~` operator, returns whether it is negated and whether it ignores case.
pub(super) fn regex_operator(op: &BinaryOperator) -> Option<(bool, bool)> {
    match op {
        BinaryOperator::PGRegexMatch => Some((false, false)),
        BinaryOperator::PGRegexIMatch => Some((false, true)),
        BinaryOperator::PGRegexNotMatch => Some((true, false)),
        BinaryOperator::PGRegexNotIMatch => Some((true, true)),
        _ => None,
    }
}

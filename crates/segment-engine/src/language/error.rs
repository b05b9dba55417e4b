//! Errors of the compiler: why a where clause is refused, and where.

use std::fmt;

/// A position in the clause, 1-based, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pos {
    pub line: u64,
    pub column: u64,
}

impl Pos {
    pub const START: Pos = Pos { line: 1, column: 1 };
}

/// Why a where clause is refused: a stable code, the position, the reason, and what to write
/// instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    /// Stable, for programs: `where_…`.
    pub code: &'static str,
    /// What is wrong, for people.
    pub message: String,
    /// What to write instead, for people.
    pub suggestion: Option<String>,
    /// 1-based.
    pub line: u64,
    /// 1-based, in characters.
    pub column: u64,
}

impl CompileError {
    pub(super) fn new(code: &'static str, pos: Pos, message: impl Into<String>) -> CompileError {
        CompileError { code, message: message.into(), suggestion: None, line: pos.line, column: pos.column }
    }

    pub(super) fn suggest(mut self, suggestion: impl Into<String>) -> CompileError {
        self.suggestion = Some(suggestion.into());
        self
    }

    pub(super) fn suggest_maybe(mut self, suggestion: Option<String>) -> CompileError {
        self.suggestion = suggestion;
        self
    }
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, ". {suggestion}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for CompileError {}

/// The stable codes.
pub(super) mod code {
    pub const SYNTAX: &str = "where_syntax";
    pub const COMMENT: &str = "where_comment";
    pub const PARAMETER: &str = "where_parameter";
    pub const SUBQUERY: &str = "where_subquery";
    pub const UNSUPPORTED: &str = "where_unsupported";
    pub const TOO_LONG: &str = "where_too_long";
    pub const TOO_DEEP: &str = "where_too_deep";
    pub const TOO_MANY_AGGREGATES: &str = "where_too_many_aggregates";
    pub const TOO_MANY_PATTERNS: &str = "where_too_many_patterns";
    pub const TOO_MANY_TERMS: &str = "where_too_many_user_terms";
    pub const TOO_MANY_STEPS: &str = "where_too_many_steps";
    pub const UNKNOWN_COLUMN: &str = "where_unknown_column";
    pub const UNKNOWN_FUNCTION: &str = "where_unknown_function";
    pub const ARGUMENTS: &str = "where_arguments";
    pub const TYPE: &str = "where_type";
    pub const NOT_BOOLEAN: &str = "where_not_boolean";
    pub const BAD_LITERAL: &str = "where_bad_literal";
    pub const BAD_PATTERN: &str = "where_bad_pattern";
    pub const MIXED_FORMS: &str = "where_mixed_forms";
    pub const MIXED_SCOPES: &str = "where_mixed_scopes";
    pub const NOW_MISPLACED: &str = "where_now_misplaced";
    pub const AGGREGATE_MISPLACED: &str = "where_aggregate_misplaced";
    pub const WINDOW_FUNCTION: &str = "where_window_function";
}

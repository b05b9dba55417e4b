//! Errors of the compiler: why a where clause is refused, and where.

use std::fmt;

/// A position in the clause, 1-based, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pos {
    pub line: u64,
    pub column: u64,
}

impl Pos {
    pub(super) const START: Pos = Pos { line: 1, column: 1 };
}

/// Why a where clause is refused: a stable code, the position, the reason, and what to write
/// instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    /// Stable, for programs: one of [`CODES`].
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

macro_rules! codes {
    ($($name:ident = $text:literal,)*) => {
        /// The stable codes, one per kind of refusal.
        pub(crate) mod code {
            $(pub(crate) const $name: &str = $text;)*
        }

        /// Every code of a [`CompileError`].
        pub const CODES: &[&str] = &[$(code::$name,)*];
    };
}

codes! {
    SYNTAX = "WHERE_SYNTAX",
    COMMENT = "WHERE_COMMENT",
    PARAMETER = "WHERE_PARAMETER",
    SUBQUERY = "WHERE_SUBQUERY",
    UNSUPPORTED = "WHERE_UNSUPPORTED",
    TOO_LONG = "WHERE_TOO_LONG",
    TOO_DEEP = "WHERE_TOO_DEEP",
    TOO_MANY_AGGREGATES = "WHERE_TOO_MANY_AGGREGATES",
    TOO_MANY_PATTERNS = "WHERE_TOO_MANY_PATTERNS",
    TOO_MANY_TERMS = "WHERE_TOO_MANY_USER_TERMS",
    TOO_MANY_STEPS = "WHERE_TOO_MANY_STEPS",
    UNKNOWN_COLUMN = "WHERE_UNKNOWN_COLUMN",
    UNKNOWN_FUNCTION = "WHERE_UNKNOWN_FUNCTION",
    ARGUMENTS = "WHERE_ARGUMENTS",
    TYPE = "WHERE_TYPE",
    NOT_BOOLEAN = "WHERE_NOT_BOOLEAN",
    BAD_LITERAL = "WHERE_BAD_LITERAL",
    BAD_PATTERN = "WHERE_BAD_PATTERN",
    MIXED_FORMS = "WHERE_MIXED_FORMS",
    MIXED_SCOPES = "WHERE_MIXED_SCOPES",
    NOW_MISPLACED = "WHERE_NOW_MISPLACED",
    AGGREGATE_MISPLACED = "WHERE_AGGREGATE_MISPLACED",
    WINDOW_FUNCTION = "WHERE_WINDOW_FUNCTION",
    THRESHOLD = "WHERE_THRESHOLD",
}

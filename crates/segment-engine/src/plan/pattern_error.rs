//! Why a pattern is refused, and the bounds that it may exceed.

/// How many bytes a compiled pattern may take. Without a bound, a pattern like `(a{1000}){1000}`
/// would fill the memory.
pub const PATTERN_PROGRAM_BYTES_MAX: usize = 1 << 20;

/// How often a part may be repeated, nested counts multiplied. This is RE2's limit.
pub(super) const REPETITIONS_MAX: u32 = 1_000;

/// Why a pattern is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Postgres refuses this too.
    #[error("a LIKE pattern must not end with its escape character; write `\\\\` for a backslash")]
    EndsWithEscape,
    /// The compiled pattern exceeds [`PATTERN_PROGRAM_BYTES_MAX`].
    #[error("the pattern is too large; use smaller repetition counts or fewer alternatives")]
    TooLarge,
    /// It is not a regular expression, or it uses something that cannot be matched in linear time
    /// (back references, look-around).
    #[error("{0}")]
    Syntax(String),
    /// More than [`REPETITIONS_MAX`].
    #[error("a part is repeated more than {REPETITIONS_MAX} times, nested counts multiplied; use smaller counts")]
    TooManyRepetitions,
    /// Only one of the two matchers knows it.
    #[error("{0} cannot be used in a regular expression; write it without")]
    Unsupported(&'static str),
}

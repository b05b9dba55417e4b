//! The errors of a replay.

use segment_engine::machine::SnapshotError;

/// Why a replay ended before the end of its input.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A line is wrong. The output of all earlier instants has been written.
    #[error("line {line}: {problem}")]
    Line {
        /// The number of the line, from 1.
        line: u64,
        /// What is wrong, and what to do.
        problem: Problem,
    },
    /// A `restart` line could not read its checkpoint back.
    #[error("the checkpoint that was just written cannot be read back: {0}")]
    Restart(#[from] SnapshotError),
    /// The input cannot be read, or the output cannot be written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// A message that says what is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Problem(pub String);

impl Problem {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// Returns the error for this line, counted from 1.
    pub(crate) fn at(self, line: u64) -> ReplayError {
        ReplayError::Line { line, problem: self }
    }
}

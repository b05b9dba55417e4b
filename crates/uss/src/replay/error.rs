//! Why a replay ends early.

use segment_engine::machine::SnapshotError;

/// Why a replay ended before its input did.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A line is wrong. Everything before its instant has been answered.
    #[error("line {line}: {problem}")]
    Line {
        /// From 1.
        line: u64,
        /// What is wrong, and what to do.
        problem: Problem,
    },
    /// A checkpoint could not be read back.
    #[error("the checkpoint that was just written cannot be read back: {0}")]
    Restart(#[from] SnapshotError),
    /// The input could not be read or the output not be written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// What is wrong with a line, for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Problem(pub String);

impl Problem {
    /// Of this message.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// In this line, counted from 1.
    pub fn at(self, line: u64) -> ReplayError {
        ReplayError::Line { line, problem: self }
    }
}

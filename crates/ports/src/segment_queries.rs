//! What the API asks of the engine's side: answers that only the running engine and the warehouse can give.

use async_trait::async_trait;
use segment_engine::event::UserId;
pub use segment_engine::machine::{ConditionReport, Explanation};

/// Who a clause would select now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// How many users.
    pub size: u64,
    /// Some of them, by id.
    pub sample: Vec<UserId>,
    /// How many users are known.
    pub population: u64,
}

/// How far a new or edited segment has come.
#[derive(Clone, Debug, PartialEq)]
pub struct BackfillProgress {
    /// The version that is coming into force.
    pub version: u64,
    /// From 0 to 1; 1: it is in force for all users.
    pub ratio: f64,
    /// In how many partitions it is in force, and in how many it will be.
    pub partitions: (u32, u32),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentQueryError {
    /// The engine does not know this user or segment (yet). Callers answer 404.
    #[error("the engine does not know {0}; if it was just created, ask again")]
    NotFound(String),
    /// The clause is refused.
    #[error("{message}")]
    Refused {
        /// Stable, machine-readable.
        code: String,
        /// Says what to change.
        message: String,
    },
    /// Engine or warehouse do not answer. Callers answer 503.
    #[error("the engine is unavailable: {0}")]
    Unavailable(String),
}

/// The port: implemented where engine and warehouse are.
#[async_trait]
pub trait SegmentQueries: Send + Sync + 'static {
    /// Explains the membership of a user in the segment with this tag.
    async fn explain(&self, user: UserId, tag: &str) -> Result<Explanation, SegmentQueryError>;

    /// Counts who a clause would select now, and shows at most `sample_max` of them.
    async fn preview(&self, where_statement: &str, sample_max: usize) -> Result<Preview, SegmentQueryError>;

    /// How far the newest version of a segment is in force.
    async fn progress(&self, segment: i64) -> Result<BackfillProgress, SegmentQueryError>;

    /// Returns when the memberships in the config store include everything that was in the log before the call.
    async fn await_fresh(&self) -> Result<(), SegmentQueryError>;
}

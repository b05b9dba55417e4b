//! What the API asks of the engine's side: answers that only the running engine and the warehouse can give.

use std::time::Duration;

use async_trait::async_trait;
use segment_engine::event::UserId;
pub use segment_engine::machine::{ConditionReport, Evidence, Explanation, ValueReport};

use crate::ErrorCode;
use crate::config_store::ConfigStoreError;
use crate::warehouse::WarehouseError;

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
        /// For programs.
        code: ErrorCode,
        /// Says what to change.
        message: String,
    },
    /// The answer would take more memory than the warehouse may take. Callers answer 503.
    #[error("the warehouse cannot hold what this needs")]
    TooLarge,
    /// The answer takes longer than anybody should wait. Callers answer 503.
    #[error("the warehouse has not answered within {} s", .0.as_secs())]
    TooSlow(Duration),
    /// The engine has not come to where the answer is right in the time that anybody should wait. Callers answer 503.
    #[error("the engine has not caught up with the log within {} s", .0.as_secs())]
    Behind(Duration),
    /// The engine does not answer. Callers answer 503.
    #[error("the engine is unavailable: {0}")]
    Unavailable(String),
    /// The warehouse does not answer, or does not take what it must have for the answer. Callers answer 503.
    #[error("{0}")]
    Warehouse(String),
    /// A defect of ours, for instance a query that the warehouse does not understand. Callers answer 500.
    #[error("{0}")]
    Failed(String),
}

impl From<WarehouseError> for SegmentQueryError {
    fn from(error: WarehouseError) -> Self {
        match error {
            WarehouseError::Unavailable(_) => Self::Warehouse(error.to_string()),
            WarehouseError::TooLarge(_) => Self::TooLarge,
            WarehouseError::Moved { .. } | WarehouseError::Refused(_) => Self::Failed(error.to_string()),
        }
    }
}

impl From<ConfigStoreError> for SegmentQueryError {
    fn from(error: ConfigStoreError) -> Self {
        match error {
            ConfigStoreError::Unavailable(_) => Self::Unavailable(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
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

    /// Returns when the memberships in the config store include everything that was in the log before the call, or with
    /// [`SegmentQueryError::Behind`]: not even a worker that is stuck keeps callers for ever.
    async fn wait_until_applied(&self) -> Result<(), SegmentQueryError>;
}

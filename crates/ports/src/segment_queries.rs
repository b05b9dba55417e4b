//! Queries of the configuration API that only the running engine and the warehouse can answer.

use std::time::Duration;

use async_trait::async_trait;
use segment_engine::ids::{SegmentId, SegmentVersion, UserId};
pub use segment_engine::machine::{ConditionReport, Evidence, Explanation, ValueReport};

use segment_engine::time::Timestamp;

use crate::ErrorCode;
use crate::config_store::ConfigStoreError;
use crate::warehouse::WarehouseError;

/// The users that a clause would select now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// How many users the clause selects.
    pub size: u64,
    /// Some of them, ordered by id.
    pub sample: Vec<UserId>,
    /// How many users are known.
    pub population: u64,
    /// Every event that was received before this instant is included; if its user was just merged into
    /// another, a moment later.
    pub as_of: Timestamp,
}

/// How far a new or edited segment has come.
#[derive(Clone, Debug, PartialEq)]
pub struct BackfillProgress {
    /// The version that is coming into force.
    pub version: SegmentVersion,
    /// From 0 to 1. At 1 the version is in force for all users.
    pub ratio: f64,
    /// The number of partitions in which it is in force, and of all partitions.
    pub partitions: (u32, u32),
}

/// Why a query failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentQueryError {
    /// The engine does not know this user or segment, perhaps not yet. Becomes a 404.
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
    /// The query needs more memory than the warehouse is allowed. Becomes a 503.
    #[error("the warehouse cannot hold what this needs")]
    TooLarge,
    /// The query takes too long. Becomes a 503.
    #[error("the warehouse has not responded within {} s", .0.as_secs())]
    TooSlow(Duration),
    /// The engine is too far behind the log. Becomes a 503.
    #[error("the engine has not caught up with the log within {} s", .0.as_secs())]
    Behind(Duration),
    /// The engine is stopped or has failed. Becomes a 503.
    #[error("the engine is unavailable: {0}")]
    Unavailable(String),
    /// The warehouse failed, or cannot archive what the query has to include. Becomes a 503.
    #[error("{0}")]
    Warehouse(String),
    /// A bug in USS, for instance SQL that the warehouse rejects. Becomes a 500.
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

/// The port, implemented where engine and warehouse are.
#[async_trait]
pub trait SegmentQueries: Send + Sync + 'static {
    /// Explains why a user is or is not in the segment with this tag.
    async fn explain(&self, user: UserId, tag: &str) -> Result<Explanation, SegmentQueryError>;

    /// Counts the users that a clause would select now, and returns at most `sample_max` of them. If it
    /// is to be `fresh`, waits until it can include everything that was received before the call.
    async fn preview(
        &self,
        where_statement: &str,
        sample_max: usize,
        fresh: bool,
    ) -> Result<Preview, SegmentQueryError>;

    /// Returns how far the newest version of a segment is in force.
    async fn progress(&self, segment: SegmentId) -> Result<BackfillProgress, SegmentQueryError>;

    /// Waits until every definition that the config store has now stands in the log of every
    /// partition: an event that is accepted afterwards comes after it.
    async fn wait_until_ordered(&self) -> Result<(), SegmentQueryError>;

    /// Waits until the memberships in the config store include everything that was in the log
    /// before the call. If that takes too long, as with a worker that is stuck, fails with
    /// [`SegmentQueryError::Behind`].
    async fn wait_until_applied(&self) -> Result<(), SegmentQueryError>;
}

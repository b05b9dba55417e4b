//! Where a service hands over events, so that they take the same way as a client's.

use async_trait::async_trait;
use serde_json::Value;

/// Why events were not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventSinkError {
    /// Ingestion does not take events now. Callers answer 503.
    #[error("ingestion is unavailable: {0}")]
    Unavailable(String),
    /// Events were refused: a defect of the caller, who made them.
    #[error("{rejected} of the events were refused, the first with: {first}")]
    Rejected {
        /// How many.
        rejected: usize,
        /// Why.
        first: String,
    },
}

/// The port. In one process it is ingestion itself; apart, its HTTP API.
#[async_trait]
pub trait EventSink: Send + Sync + 'static {
    /// Hands over events, each an object as `POST /api/v1/events` takes it, and returns when the log has them.
    async fn ingest(&self, events: Vec<Value>) -> Result<(), EventSinkError>;
}

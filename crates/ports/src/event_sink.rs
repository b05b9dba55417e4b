//! The way into the pipeline for events that do not come over HTTP: the seed actions.

use async_trait::async_trait;
use serde::Serialize;

use crate::error_code::ErrorCode;

/// What became of a batch of events. Every index is in exactly one of the three.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SinkOutcome {
    /// How many events the log has.
    pub accepted: usize,
    /// Events refused for good, ascending; each is on the error topic.
    pub rejected: Vec<Refused>,
    /// Events that were not stored and may be sent again, ascending.
    pub not_admitted: Vec<Refused>,
}

/// One event of a batch that was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// The event's index in the batch, from 0.
    pub index: usize,
    /// For programs.
    pub code: ErrorCode,
    /// Says what to do.
    pub message: String,
}

/// Takes events through the same admission, identities and log as those that come over HTTP.
#[async_trait]
pub trait EventSink: Send + Sync + 'static {
    /// Submits events as a client would send them (`id`, `id_type`, `payload`…). Never fails as a
    /// whole: events that the log could not take are in [`SinkOutcome::not_admitted`].
    async fn submit(&self, events: Vec<serde_json::Value>) -> SinkOutcome;
}

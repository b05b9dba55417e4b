//! Dead letters: the rejected events of the error topic, to look at, edit and send again.

mod edit;

use ports::log::{Log, LogError, Topic};
use ports::records::json::Reader;
use ports::records::{ErrorRecord, ErrorType};
use segment_engine::ids::PartitionId;

use crate::admission::Received;
use crate::outcome::Outcome;
use crate::pipeline::{IngestError, Ingestion, Options};

pub use edit::Edit;

/// How many bytes of the error topic are read in one call.
const READ_BYTES: usize = 1 << 20;

/// A record of the error topic.
#[derive(Clone, Debug)]
pub struct ErrorEntry {
    /// Identifies the record.
    pub offset: u64,
    /// The client's id of the user, or empty.
    pub key: String,
    /// The record itself.
    pub error: ErrorRecord,
}

/// Why a record of the error topic cannot be read or sent again.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// There is no record at this offset.
    #[error("the error topic has no record {0}; `uss errors list` shows those that it has")]
    NotFound(u64),
    /// Something else than our services wrote the record.
    #[error("record {0} of the error topic cannot be read: {1}")]
    Damaged(u64, String),
    /// The record is a failed computation.
    #[error("record {0} is not a rejected event but a failed computation; the worker itself repeats it")]
    NotAnEvent(u64),
    /// Only the start of the event was kept.
    #[error("record {0} holds only the start of an event that was too long; send the event again from its source")]
    Cut(u64),
    /// There is no object to patch.
    #[error("record {0} is not kept as JSON, so it cannot be patched; give the whole event instead")]
    NotPatchable(u64),
    /// The event was sent, but nothing was stored.
    #[error(transparent)]
    NotAdmitted(IngestError),
}

/// What came of a replay.
#[derive(Clone, Debug)]
pub enum Replay {
    /// The event was sent.
    Sent(Outcome),
    /// An earlier replay was accepted, so nothing was sent.
    AcceptedBefore,
}

/// Returns at most `limit` records of the error topic, from an offset on.
///
/// # Errors
/// The log could not be read, or a record is damaged.
pub async fn list(log: &dyn Log, from: u64, limit: usize) -> Result<Vec<ErrorEntry>, DeadLetterError> {
    let mut entries = Vec::new();
    let mut next = from.max(log.bounds(Topic::Errors, PartitionId::ONLY).await?.0);
    // For one record the smallest read will do.
    let read_bytes = if limit == 1 { 1 } else { READ_BYTES };
    while entries.len() < limit {
        let batch = log.read(Topic::Errors, PartitionId::ONLY, next, read_bytes).await?;
        if batch.records.is_empty() {
            break;
        }
        next = batch.next_offset;
        for record in batch.records.into_iter().take(limit - entries.len()) {
            let error = serde_json::from_slice(&record.value)
                .map_err(|error| DeadLetterError::Damaged(record.offset, error.to_string()))?;
            entries.push(ErrorEntry { offset: record.offset, key: record.key, error });
        }
    }
    Ok(entries)
}

/// Returns one record of the error topic.
///
/// # Errors
/// There is no record at this offset, or as [`list`].
pub async fn show(log: &dyn Log, offset: u64) -> Result<ErrorEntry, DeadLetterError> {
    let entry = list(log, offset, 1).await?.pop();
    entry.filter(|entry| entry.offset == offset).ok_or(DeadLetterError::NotFound(offset))
}

impl Ingestion {
    /// Sends a dead letter through the pipeline again. Once it was accepted, it is never sent again. An event without an
    /// event id gets one made of its offset on the error topic.
    ///
    /// # Errors
    /// The event cannot be sent, or nothing was stored. If it was sent and rejected again, that is an [`Outcome`].
    pub async fn replay(&self, offset: u64, edit: &Edit, options: Options) -> Result<Replay, DeadLetterError> {
        let entry = show(self.log(), offset).await?;
        self.replay_entry(&entry, edit, options).await
    }

    /// As [`Ingestion::replay`], of a record that has been read.
    pub(crate) async fn replay_entry(
        &self,
        entry: &ErrorEntry,
        edit: &Edit,
        options: Options,
    ) -> Result<Replay, DeadLetterError> {
        if entry.error.error_type != ErrorType::IngestEvent {
            return Err(DeadLetterError::NotAnEvent(entry.offset));
        }
        let data = entry.error.data.get();
        let event = edit.apply(entry.offset, data)?;
        let dedupe_forever = options.dedupe_forever || edit::dedupes_forever(data);
        let event_id = serde_json::json!(format!("error_topic:{}", entry.offset)).to_string();
        let event_id = Reader::new(&event_id).value().expect("serde_json writes JSON");
        let event = Received { event_id: Some(event_id), ..event[..].into() };
        let options = Options { dedupe_forever, ..options };
        let outcome = self.process_once(&producer(entry.offset), event, options).await;
        let outcome = outcome.map_err(DeadLetterError::NotAdmitted)?;
        Ok(outcome.map_or(Replay::AcceptedBefore, Replay::Sent))
    }

    /// Whether a replay of the record was accepted.
    pub(crate) async fn is_replayed(&self, offset: u64) -> Result<bool, LogError> {
        Ok(self.log().producer_sequence(&producer(offset)).await? > 0)
    }
}

/// The producer's name under which the log remembers that a record was replayed.
fn producer(offset: u64) -> String {
    format!("replay:{offset}")
}

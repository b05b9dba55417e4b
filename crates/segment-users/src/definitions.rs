//! Segment definitions: from the config topic into every partition, where they stand in one order with the events.

use std::sync::Arc;

use ports::log::{Log, LogError, NewRecord, Record, Topic};
use ports::records::{ConfigRecord, SegmentRecord};
use segment_engine::ids::PartitionId;

/// The relay's name in the log: it appends each definition once.
pub const PRODUCER: &str = "segment-definitions";

const BATCH_BYTES_MAX: usize = 1 << 20;

/// Copies what is new in the config topic into every partition of the event topic. Answers the config offset to wait for.
pub async fn relay(log: &Arc<dyn Log>) -> Result<u64, LogError> {
    let mut next = log.producer_sequence(PRODUCER).await?;
    loop {
        let batch = log.read(Topic::Config, PartitionId::ONLY, next, BATCH_BYTES_MAX).await?;
        if batch.records.is_empty() {
            return Ok(next);
        }
        for record in &batch.records {
            log.append_once(PRODUCER, record.offset + 1, copies(record, log.partitions())).await?;
        }
        next = batch.next_offset;
    }
}

/// Runs [`relay`] whenever the config topic grows. Cancel-safe: an interrupted copy is made again, once.
pub async fn run(log: Arc<dyn Log>) -> Result<(), LogError> {
    loop {
        let next = relay(&log).await?;
        log.wait_for(Topic::Config, PartitionId::ONLY, next).await;
    }
}

fn copies(record: &Record, partitions: u32) -> Vec<NewRecord> {
    let definition = match serde_json::from_slice::<ConfigRecord>(&record.value) {
        Ok(ConfigRecord::Segment { id, tag, version, where_statement, manual }) => {
            SegmentRecord::SegmentDefined { id, tag, version, where_statement, manual }
        }
        Ok(ConfigRecord::SegmentDeleted { id }) => SegmentRecord::SegmentRemoved { id },
        Err(error) => {
            tracing::error!(offset = record.offset, %error, "a record of the config topic cannot be read; it is skipped");
            return Vec::new();
        }
    };
    let value = serde_json::to_vec(&definition).expect("segment records are plain data");
    let copy = |partition| NewRecord {
        topic: Topic::Events,
        partition,
        key: format!("segment:{}", record.key),
        value: value.clone(),
    };
    PartitionId::all(partitions).map(copy).collect()
}

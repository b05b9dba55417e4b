//! Makes records of the notification and error topics from the machine's changes and failures.

use ports::ErrorCode;
use ports::log::{NewRecord, Topic};
use ports::records::{Cause, ErrorRecord, ErrorType, Notification};
use segment_engine::ids::{PartitionId, SegmentId};
use segment_engine::machine::{Change, Failure};
use segment_engine::time::Timestamp;
use serde_json::json;

/// Room for a notification of a few segments.
const NOTIFICATION_BYTES: usize = 320;

/// Returns the notifications of changes.
pub(super) fn notification_records(
    changes: &[Change],
    partition: PartitionId,
    at: Timestamp,
) -> impl Iterator<Item = NewRecord> {
    let at = at.to_string();
    changes.iter().map(move |change| {
        let key = change.user.to_string();
        let notification: Notification<&str, &[SegmentId]> = Notification {
            id: &format!("{key}:{}", change.sequence),
            user_id: change.user,
            client_ref_id: change.client_ref_id.as_deref(),
            sequence: change.sequence,
            in_segments: &change.entered,
            out_segments: &change.left,
            cause: change.cause,
            effective_at: &change.effective_at.to_string(),
            at: &at,
            segments: change.segments.as_deref(),
        };
        let mut value = Vec::with_capacity(NOTIFICATION_BYTES);
        serde_json::to_writer(&mut value, &notification).expect("a notification is plain data");
        NewRecord { topic: Topic::Notifications, partition, key, value }
    })
}

/// Returns the error record of a failed computation.
pub(super) fn failure_record(failure: &Failure, partition: PartitionId, offset: u64, at: Timestamp) -> NewRecord {
    let data = json!({
        "user_id": failure.user,
        "segments": failure.segments,
        "position": {"partition": partition, "offset": offset},
    });
    error_record(ErrorCode::StateFull, failure.reason.clone(), data, failure.user.to_string(), at)
}

/// Returns the error record of a record that cannot be applied.
pub(super) fn bad_record(
    code: ErrorCode,
    message: String,
    record: &ports::log::Record,
    partition: PartitionId,
    at: Timestamp,
) -> NewRecord {
    let body = match serde_json::from_slice(&record.value) {
        Ok(value) => value,
        Err(_) => json!({"raw": String::from_utf8_lossy(&record.value)}),
    };
    // A user's record has the user's id as its key; a definition has not.
    let user = record.key.parse::<i64>().map_or_else(|_| json!(record.key), |user| json!(user));
    let data = json!({
        "record": body,
        "user_id": user,
        "position": {"partition": partition, "offset": record.offset},
    });
    error_record(code, message, data, record.key.clone(), at)
}

fn error_record(code: ErrorCode, message: String, data: serde_json::Value, key: String, at: Timestamp) -> NewRecord {
    let error = ErrorRecord {
        error_type: ErrorType::SegmentComputation,
        code: code.to_string(),
        message,
        at: at.to_string(),
        data: serde_json::value::to_raw_value(&data).expect("a JSON value can be written"),
    };
    NewRecord {
        topic: Topic::Errors,
        partition: PartitionId::ONLY,
        key,
        value: serde_json::to_vec(&error).expect("an error record is plain data"),
    }
}

/// Counts transitions, and observes how long after their instant they are emitted.
pub(super) fn observe(changes: &[Change], at: Timestamp) {
    // Changes of one cause and instant, of which a deadline may have thousands, are counted together.
    for alike in changes.chunk_by(|a, b| (a.cause, a.effective_at) == (b.cause, b.effective_at)) {
        let Some(Change { cause, effective_at, .. }) = alike.first() else { continue };
        let transitions: usize = alike.iter().map(|change| change.entered.len() + change.left.len()).sum();
        metrics::counter!("uss_transitions_total", "cause" => cause_name(*cause)).increment(transitions as u64);
        let lag_seconds = (at.0 - effective_at.0).max(0) as f64 / 1e6;
        let lag = match cause {
            Cause::Time => metrics::histogram!("uss_deadline_to_transition_seconds"),
            Cause::Event => metrics::histogram!("uss_event_to_transition_seconds"),
            _ => continue,
        };
        lag.record_many(lag_seconds, alike.len());
    }
}

fn cause_name(cause: Cause) -> &'static str {
    match cause {
        Cause::Event => "event",
        Cause::Time => "time",
        Cause::Trait => "trait",
        Cause::User => "user",
        Cause::Manual => "manual",
        Cause::Merge => "merge",
        Cause::Backfill => "backfill",
        Cause::Edit => "edit",
        Cause::Delete => "delete",
        Cause::Repair => "repair",
    }
}

//! Makes records of the notification and error topics from the machine's changes and failures.

use ports::ErrorCode;
use ports::log::{NewRecord, Topic};
use ports::records::{Cause, ErrorRecord, ErrorType, Notification};
use segment_engine::ids::PartitionId;
use segment_engine::machine::{Change, Failure};
use segment_engine::time::Timestamp;
use serde_json::json;

/// Returns the notification of a change.
pub(super) fn notification_record(change: &Change, partition: PartitionId, at: Timestamp) -> NewRecord {
    let notification = Notification {
        id: format!("{}:{}", change.user, change.sequence),
        user_id: change.user,
        client_ref_id: change.client_ref_id.as_deref().map(str::to_owned),
        sequence: change.sequence,
        in_segments: change.entered.clone(),
        out_segments: change.left.clone(),
        cause: change.cause,
        effective_at: change.effective_at.to_string(),
        at: at.to_string(),
        segments: change.segments.clone(),
    };
    NewRecord {
        topic: Topic::Notifications,
        partition,
        key: change.user.to_string(),
        value: serde_json::to_vec(&notification).expect("a notification is plain data"),
    }
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
    for change in changes {
        let transitions = (change.entered.len() + change.left.len()) as u64;
        metrics::counter!("uss_transitions_total", "cause" => cause_name(change.cause)).increment(transitions);
        let lag_seconds = (at.0 - change.effective_at.0).max(0) as f64 / 1e6;
        match change.cause {
            Cause::Time => metrics::histogram!("uss_deadline_to_transition_seconds").record(lag_seconds),
            Cause::Event => metrics::histogram!("uss_event_to_transition_seconds").record(lag_seconds),
            _ => {}
        }
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

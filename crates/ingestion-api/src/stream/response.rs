//! The answer to lines: one JSON object, written while the request is read.

use axum::body::Bytes;
use ports::ErrorCode;
use ports::event_sink::Refused;
use serde::Serialize;

use crate::misplaced::Warnings;

/// The part of the answer that has not been sent. The list of rejected events comes first, since it grows with the request.
/// `serde_json` writes the entries and the rest; only the brackets and commas between them, which are written at different
/// times, stand here.
pub(super) struct Answer {
    bytes: Vec<u8>,
    has_entry: bool,
}

/// The fields after the list of rejected events.
#[derive(Serialize)]
pub(super) struct Rest<'a> {
    pub not_admitted: &'a [Refused],
    pub accepted: usize,
    #[serde(flatten)]
    pub stopped: Option<Stopped<'a>>,
    #[serde(skip_serializing_if = "Warnings::is_empty")]
    pub warnings: &'a Warnings,
    pub ok: bool,
}

/// Why the request was not read to its end.
#[derive(Serialize)]
pub(super) struct Stopped<'a> {
    /// The index of the first event that was not read.
    pub not_read_from: usize,
    pub code: ErrorCode,
    pub message: &'a str,
}

impl Answer {
    /// Begins an answer.
    pub(super) fn new() -> Self {
        Self { bytes: b"{\"rejected\":[".to_vec(), has_entry: false }
    }

    /// Writes a rejected event.
    pub(super) fn push(&mut self, rejected: &Refused) {
        if std::mem::replace(&mut self.has_entry, true) {
            self.bytes.push(b',');
        }
        self.bytes.extend(json(rejected));
    }

    /// Writes the end.
    pub(super) fn finish(&mut self, rest: &Rest<'_>) {
        self.bytes.extend(b"],");
        // The fields go on in the object that is open, so its own bracket is left out.
        self.bytes.extend(&json(rest)[1..]);
    }

    /// How many bytes have not been sent.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns what has been written since the last call.
    pub(super) fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.bytes).into()
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("numbers and strings can be written")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn refused(index: usize) -> Refused {
        Refused { index, code: ErrorCode::InvalidJson, message: "a \"quote\"".to_owned() }
    }

    #[test]
    fn the_pieces_are_one_object() {
        for (rejected, sent_early) in [(0, false), (1, false), (3, false), (3, true)] {
            let (mut answer, mut sent) = (Answer::new(), Vec::new());
            for index in 0..rejected {
                answer.push(&refused(index));
                if sent_early {
                    sent.extend(answer.take());
                }
            }
            let stopped = (rejected == 3).then_some(Stopped {
                not_read_from: 9,
                code: ErrorCode::LogFull,
                message: "the log is full",
            });
            let warnings = Warnings::default();
            answer.finish(&Rest { not_admitted: &[refused(7)], accepted: 2, stopped, warnings: &warnings, ok: false });
            sent.extend(answer.take());
            let entry = |index| json!({"index": index, "code": "INVALID_JSON", "message": "a \"quote\""});
            let mut expected = json!({
                "rejected": (0..rejected).map(entry).collect::<Vec<_>>(), "not_admitted": [entry(7)], "accepted": 2,
                "ok": false
            });
            if rejected == 3 {
                expected["not_read_from"] = json!(9);
                expected["code"] = json!("LOG_FULL");
                expected["message"] = json!("the log is full");
            }
            assert_eq!(serde_json::from_slice::<Value>(&sent).unwrap(), expected);
        }
    }
}

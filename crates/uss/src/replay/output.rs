//! The lines of a replay's output.

use std::collections::BTreeMap;
use std::io::Write;

use ports::records::{Cause, instant};
use segment_engine::time::Timestamp;
use serde::Serialize;

/// A line of the output. Times are RFC 3339 in UTC, with microseconds.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum OutputLine<'a> {
    /// A user's transitions of one instant and cause.
    Change {
        /// The same as `effective_at`: the clock stops at each deadline.
        at: String,
        /// The first microsecond at which the change holds.
        effective_at: String,
        /// The client id first seen for the user.
        user: &'a str,
        /// Tags entered, sorted.
        in_segments: Vec<&'a str>,
        /// Tags left, sorted.
        out_segments: Vec<&'a str>,
        cause: Cause,
    },
    /// A link that was refused, and why.
    Refused { at: String, refused: String },
    /// The members of the segments that a `members` line names.
    Members {
        at: String,
        /// Client ids, sorted, by tag.
        members: BTreeMap<&'a str, Vec<&'a str>>,
    },
}

impl OutputLine<'_> {
    pub(crate) fn write(&self, output: &mut impl Write) -> std::io::Result<()> {
        serde_json::to_writer(&mut *output, self)?;
        output.write_all(b"\n")
    }
}

/// Returns an instant in the form that the output has.
pub(crate) fn written(at: Timestamp) -> String {
    instant::format(at)
}

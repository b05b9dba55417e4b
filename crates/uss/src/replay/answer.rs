//! The lines of a replay's output.

use std::collections::BTreeMap;
use std::io::Write;

use ports::records::{Cause, instant};
use segment_engine::time::Timestamp;
use serde::Serialize;

/// A line of the output. Times are RFC 3339, UTC, with microseconds.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Answer<'a> {
    /// A user's transitions of one instant and cause.
    Change {
        /// The same as `effective_at`: the clock stops at each deadline.
        at: String,
        /// The first microsecond at which it holds.
        effective_at: String,
        /// The client id first seen for the user.
        user: &'a str,
        /// Tags entered, sorted.
        in_segments: Vec<&'a str>,
        /// Tags left, sorted.
        out_segments: Vec<&'a str>,
        /// Why.
        cause: Cause,
    },
    /// A link that was not made.
    Refused {
        /// When.
        at: String,
        /// Why.
        refused: String,
    },
    /// Who is in the segments asked for.
    Members {
        /// When.
        at: String,
        /// Client ids, sorted, by tag.
        members: BTreeMap<&'a str, Vec<&'a str>>,
    },
}

impl Answer<'_> {
    /// Writes it as one line.
    pub fn write(&self, output: &mut impl Write) -> std::io::Result<()> {
        serde_json::to_writer(&mut *output, self)?;
        output.write_all(b"\n")
    }
}

/// As every answer writes an instant.
pub fn written(at: Timestamp) -> String {
    instant::format(at)
}

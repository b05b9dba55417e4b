//! Instants as strings: read in many spellings, written in one, RFC 3339.

use segment_engine::time::Timestamp;

/// Reads what ISO 8601, RFC 3339 and common exporters write; without an offset it is UTC. Returns `None` also outside of the
/// years 0000 to 9999 in UTC, which [`format`] could not write so that they can be read.
pub fn parse(text: &str) -> Option<Timestamp> {
    Timestamp::parse_iso(text)
}

/// Writes RFC 3339 in UTC with six fractional digits.
pub fn format(instant: Timestamp) -> String {
    instant.to_string()
}

//! Instants as text: read in many spellings, written in one, RFC 3339.

use segment_engine::time::Timestamp;

/// Reads everything that ISO 8601, RFC 3339 and common exporters write; without an offset it is UTC. `None` for what is not in the
/// years 0000 to 9999 in UTC, too, since [`format`] could not write it so that it can be read.
pub fn parse(text: &str) -> Option<Timestamp> {
    Timestamp::parse_iso(text)
}

/// Writes RFC 3339 in UTC with six fractional digits.
pub fn format(instant: Timestamp) -> String {
    instant.to_string()
}

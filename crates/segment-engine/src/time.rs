//! Instants and lengths of time: whole microseconds, UTC.

use serde::{Deserialize, Serialize};

/// An instant: microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Before every instant that can be written.
    pub const MIN: Timestamp = Timestamp(i64::MIN);
    /// After every instant that can be written: "never".
    pub const MAX: Timestamp = Timestamp(i64::MAX);
}

/// A length of time as SQL has it: months, days and microseconds are kept apart, since neither a month nor (in a zone
/// with daylight saving) a day has a fixed length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Interval {
    /// Calendar months (a year is 12).
    pub months: i32,
    /// Calendar days.
    pub days: i32,
    /// Everything shorter, in microseconds.
    pub micros: i64,
}

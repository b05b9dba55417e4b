//! Instants.

use serde::{Deserialize, Serialize};

use super::{Interval, calendar};

/// An instant: microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Before every instant that can be written.
    pub const MIN: Timestamp = Timestamp(i64::MIN);
    /// After every instant that can be written. It stands for "never".
    pub const MAX: Timestamp = Timestamp(i64::MAX);

    /// Adds an interval in UTC, in Postgres' order: first the months (the day is clamped to the end
    /// of the month), then the days, then the rest. `None` outside the range of time.
    pub fn checked_add(self, interval: Interval) -> Option<Timestamp> {
        calendar::add(self.0, interval).map(Timestamp)
    }
}

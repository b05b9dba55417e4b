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
    /// After every instant that can be written: "never".
    pub const MAX: Timestamp = Timestamp(i64::MAX);

    /// The instant this long after, months and days counted in UTC: first the months, the day clamped to the end of the
    /// month, then the days, then the rest, as Postgres does. `None` outside the range of the type.
    pub fn checked_add(self, interval: Interval) -> Option<Timestamp> {
        calendar::add(self.0, interval).map(Timestamp)
    }
}

//! Instants and lengths of time: whole microseconds, UTC.

use serde::{Deserialize, Serialize};

pub mod calendar;
mod fields;
mod interval;
mod interval_text;
mod text;
mod written;
mod zone;

#[cfg(test)]
mod spellings;
#[cfg(test)]
mod tests;

pub use fields::{Field, Unit};
pub use interval::Interval;
pub use text::{date_text, is_within_written_years, local_text, parse_date, parse_local};
pub use zone::{OFFSET_MICROS_MAX, Transition, Zone};

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

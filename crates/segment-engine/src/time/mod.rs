//! Instants and intervals: whole microseconds, UTC.

pub mod calendar;
mod fields;
mod interval;
mod interval_text;
mod text;
mod timestamp;
mod units;
mod written;
mod zone;

#[cfg(test)]
mod spellings;
#[cfg(test)]
mod tests;

pub use fields::{Field, Unit};
pub use interval::Interval;
pub use text::{date_text, is_within_written_years, local_text, parse_date, parse_local};
pub use timestamp::Timestamp;
pub use zone::{OFFSET_MICROS_MAX, Transition, Zone};

//! The units of results, and how their values read.

use serde::Serialize;

/// Bytes of a mebibyte.
pub(crate) const MIB: f64 = 1024.0 * 1024.0;

/// The unit of a measurement.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    EventsPerSecond,
    UsersPerSecond,
    Seconds,
    Milliseconds,
    Nanoseconds,
    Mebibytes,
    KibibytesPerUser,
    Percent,
    Records,
    /// One thing in terms of another.
    Times,
}

impl Unit {
    /// Formats a value with its unit.
    pub(crate) fn show(self, value: f64) -> String {
        let number = self.number(value);
        match self {
            Self::EventsPerSecond if value >= 1e5 => format!("{number} events/s ({:.0} ns)", 1e9 / value),
            Self::EventsPerSecond => format!("{number} events/s"),
            Self::UsersPerSecond => format!("{number} users/s"),
            Self::Seconds => format!("{number} s"),
            Self::Milliseconds => format!("{number} ms"),
            Self::Nanoseconds => format!("{number} ns"),
            Self::Mebibytes => format!("{number} MiB"),
            Self::KibibytesPerUser => format!("{number} KiB a user"),
            Self::Percent => format!("{number} %"),
            Self::Records => format!("{number} records"),
            Self::Times => format!("{number}×"),
        }
    }

    /// Formats a value alone: with three digits that count, or more of a large number.
    pub(crate) fn number(self, value: f64) -> String {
        match value.abs() {
            tiny if tiny < 0.1 => format!("{value:.4}"),
            small if small < 10.0 => format!("{value:.2}"),
            middle if middle < 100.0 => format!("{value:.1}"),
            _ => grouped(value),
        }
    }
}

/// Formats a whole number in groups of three digits.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let first = digits.len() % 3;
    let (head, tail) = digits.split_at(first);
    let groups = tail.as_bytes().chunks(3).map(|group| String::from_utf8_lossy(group).into_owned());
    let groups: Vec<String> = (!head.is_empty()).then(|| head.to_owned()).into_iter().chain(groups).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_have_the_digits_that_count() {
        assert_eq!([5.0, 1234.0, 123_456.7].map(grouped), ["5", "1,234", "123,457"]);
        assert_eq!(Unit::Seconds.show(2.494), "2.49 s");
        assert_eq!(Unit::EventsPerSecond.show(12_345.6), "12,346 events/s");
        assert_eq!(Unit::Times.show(51.84), "51.8×");
        assert_eq!(Unit::Seconds.show(0.00123), "0.0012 s");
    }
}

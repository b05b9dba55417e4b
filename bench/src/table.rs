//! The table of results, medians and percentiles.

use std::fmt;
use std::time::Duration;

/// Rows of what was measured, under which conditions, and the result.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<[String; 3]>,
}

impl Table {
    /// Adds a row, and prints it to standard error at once.
    pub(crate) fn add(&mut self, what: impl Into<String>, conditions: impl Into<String>, result: impl Into<String>) {
        let row = [what.into(), conditions.into(), result.into()];
        eprintln!("  {}: {} ({})", row[0], row[2], row[1]);
        self.rows.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | with | result |\n|---|---|---|")?;
        self.rows.iter().try_for_each(|[what, conditions, result]| writeln!(f, "| {what} | {conditions} | {result} |"))
    }
}

/// Returns the middle value; of an even number, the upper of the two.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Durations, sorted for percentiles.
pub(crate) struct Spread(Vec<Duration>);

impl Spread {
    /// Sorts the durations.
    pub(crate) fn of(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        Self(durations)
    }

    /// Returns the percentile: `share` of the durations are at most this long.
    pub(crate) fn at(&self, share: f64) -> Duration {
        let rank = (self.0.len() as f64 * share).ceil() as usize;
        self.0.get(rank.saturating_sub(1).min(self.0.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return write!(f, "none");
        }
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| millis(self.at(share)));
        write!(f, "p50 {p50}, p99 {p99}, max {max} ms")
    }
}

/// Formats milliseconds: two decimals below 10, else none.
pub(crate) fn millis(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1e3;
    if millis < 10.0 { format!("{millis:.2}") } else { format!("{millis:.0}") }
}

/// Formats bytes as mebibytes.
pub(crate) fn mib(bytes: f64) -> String {
    format!("{:.0} MiB", bytes / 1024.0 / 1024.0)
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
    fn numbers_medians_and_percentiles() {
        assert_eq!([5.0, 1234.0, 123_456.7].map(grouped), ["5", "1,234", "123,457"]);
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        let spread = Spread::of((1..=100).rev().map(Duration::from_millis).collect());
        assert_eq!([0.5, 0.99, 1.0].map(|share| spread.at(share).as_millis()), [50, 99, 100]);
        assert_eq!(spread.to_string(), "p50 50, p99 99, max 100 ms");
    }
}

//! What was measured: each measurement with all its runs, as a table for readers and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::comparison::{self, Comparison};
use crate::units::{Unit, grouped};

/// One thing that was measured under some conditions.
#[derive(Serialize)]
pub(crate) struct Measurement {
    pub name: String,
    pub conditions: String,
    pub unit: Unit,
    /// The value of each run, in the order in which they ran. Empty if nothing could be measured.
    pub runs: Vec<f64>,
    pub median: Option<f64>,
    /// The lowest and the highest run.
    pub range: Option<(f64, f64)>,
    /// Of many single times within one run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percentiles: Option<Percentiles>,
    /// Seconds of processor time by the name of the thread; threads of one name together.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub threads: BTreeMap<String, f64>,
    /// Why there is no value, or what to know about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Percentiles of single times, in milliseconds.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Percentiles {
    pub count: usize,
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

impl Measurement {
    pub(crate) fn new(name: impl Into<String>, conditions: impl Into<String>, unit: Unit, runs: Vec<f64>) -> Self {
        let lowest = runs.iter().copied().reduce(f64::min);
        let highest = runs.iter().copied().reduce(f64::max);
        Self {
            name: name.into(),
            conditions: conditions.into(),
            unit,
            median: (!runs.is_empty()).then(|| median(runs.clone())),
            range: lowest.zip(highest),
            runs,
            percentiles: None,
            threads: BTreeMap::new(),
            note: None,
        }
    }

    /// Returns the value as the table shows it.
    pub(crate) fn shown(&self) -> String {
        if let Some(Percentiles { p50, p99, max, .. }) = self.percentiles {
            let [p50, p99, max] = [p50, p99, max].map(millis);
            return format!("p50 {p50}, p99 {p99}, max {max} ms");
        }
        let Some(median) = self.median else { return self.note.clone().unwrap_or_default() };
        let mut shown = self.unit.show(median);
        if let (Some((low, high)), 2..) = (self.range, self.runs.len()) {
            let [low, high] = [low, high].map(|value| self.unit.number(value));
            shown += &format!(", {} runs: {low} to {high}", self.runs.len());
        }
        let threads: Vec<String> =
            by_size(&self.threads).into_iter().take(5).map(|(name, seconds)| format!("{name} {seconds:.1}")).collect();
        if !threads.is_empty() {
            shown += &format!(": {}", threads.join(", "));
        }
        match &self.note {
            Some(note) => format!("{shown} ({note})"),
            None => shown,
        }
    }
}

fn by_size(threads: &BTreeMap<String, f64>) -> Vec<(&String, &f64)> {
    let mut threads: Vec<_> = threads.iter().collect();
    threads.sort_by(|a, b| b.1.total_cmp(a.1));
    threads
}

/// All measurements of a run, in order.
#[derive(Default)]
pub(crate) struct Results {
    /// With other systems.
    pub comparisons: Vec<Comparison>,
    pub measurements: Vec<Measurement>,
}

impl Results {
    /// Adds the values of several runs.
    pub(crate) fn runs(
        &mut self,
        name: impl Into<String>,
        conditions: impl Into<String>,
        unit: Unit,
        runs: impl IntoIterator<Item = f64>,
    ) {
        self.push(Measurement::new(name, conditions, unit, runs.into_iter().collect()));
    }

    /// Adds one value.
    pub(crate) fn one(&mut self, name: impl Into<String>, conditions: impl Into<String>, unit: Unit, value: f64) {
        self.runs(name, conditions, unit, [value]);
    }

    /// Adds how single times of one run spread.
    pub(crate) fn spread(&mut self, name: impl Into<String>, conditions: impl Into<String>, spread: &Spread) {
        let Some(percentiles) = spread.percentiles() else { return self.missing(name, conditions, "no times") };
        let measurement = Measurement::new(name, conditions, Unit::Milliseconds, vec![percentiles.p50]);
        self.push(Measurement { percentiles: Some(percentiles), ..measurement });
    }

    /// Adds the processor time of a server's threads during a part that took `wall` seconds.
    pub(crate) fn processor(&mut self, part: &str, wall: f64, threads: BTreeMap<String, f64>) {
        let name = format!("{part}: processor time of the server");
        let measurement =
            Measurement::new(name, format!("in {wall:.1} s"), Unit::Seconds, vec![threads.values().sum()]);
        self.push(Measurement { threads, ..measurement });
    }

    /// Adds a comparison with another system.
    pub(crate) fn compare(&mut self, comparison: Comparison) {
        eprint!("{}", comparison::table(std::slice::from_ref(&comparison)));
        self.comparisons.push(comparison);
    }

    /// Adds that something could not be measured, and why.
    pub(crate) fn missing(
        &mut self,
        name: impl Into<String>,
        conditions: impl Into<String>,
        reason: impl Into<String>,
    ) {
        let measurement = Measurement::new(name, conditions, Unit::Seconds, Vec::new());
        self.push(Measurement { note: Some(reason.into()), ..measurement });
    }

    /// Adds a measurement, and prints it to standard error at once.
    fn push(&mut self, measurement: Measurement) {
        eprintln!("  {}: {} ({})", measurement.name, measurement.shown(), measurement.conditions);
        self.measurements.push(measurement);
    }

    /// Returns the last measurement of that name whose conditions contain all of `with`.
    pub(crate) fn find(&self, name: &str, with: &[&str]) -> Option<&Measurement> {
        let fits = |found: &&Measurement| with.iter().all(|part| found.conditions.contains(part));
        self.measurements.iter().rev().filter(|found| found.name == name).find(fits)
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | with | result |\n|---|---|---|")?;
        self.measurements.iter().try_for_each(|row| {
            let Measurement { name, conditions, .. } = row;
            writeln!(f, "| {name} | {conditions} | {} |", row.shown())
        })
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
    fn at(&self, share: f64) -> Duration {
        let rank = (self.0.len() as f64 * share).ceil() as usize;
        self.0.get(rank.saturating_sub(1).min(self.0.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    pub(crate) fn percentiles(&self) -> Option<Percentiles> {
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| self.at(share).as_secs_f64() * 1e3);
        (!self.0.is_empty()).then_some(Percentiles { count: self.0.len(), p50, p99, max })
    }
}

/// Formats milliseconds: two decimals below 10, else none.
fn millis(millis: f64) -> String {
    if millis < 10.0 { format!("{millis:.2}") } else { grouped(millis) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_median_range_and_percentiles() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        let mut results = Results::default();
        results.runs("rate", "ten users", Unit::EventsPerSecond, [3e6, 1e6, 2e6]);
        results.spread("time", "", &Spread::of((1..=100).rev().map(Duration::from_millis).collect()));
        results.missing("more", "", "not installed");
        let table = results.to_string();
        let rows: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| rate | ten users | 2,000,000 events/s (500 ns), 3 runs: 1,000,000 to 3,000,000 |",
                "| time |  | p50 50, p99 99, max 100 ms |",
                "| more |  | not installed |",
            ]
        );
        assert_eq!(results.find("rate", &["ten", "users"]).and_then(|found| found.range), Some((1e6, 3e6)));
        assert!(results.find("rate", &["eleven"]).is_none());
    }
}

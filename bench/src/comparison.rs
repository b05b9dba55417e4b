//! What another system takes for the same answer, beside USS in the same minutes.

use serde::Serialize;

use crate::results::Measurement;
use crate::units::{Unit, grouped};

/// A method of another system and USS, on the same events and segments, with the same answer.
#[derive(Serialize)]
pub(crate) struct Comparison {
    pub method: String,
    /// The peer's version and settings.
    pub configuration: String,
    pub segments: usize,
    pub events: usize,
    pub changes_per_event: f64,
    /// The events per second of a method that answers after each event; the seconds of one that
    /// computes all memberships of one instant.
    pub peer: Measurement,
    /// The events per second of the engine alone, on one core.
    pub uss: Measurement,
    /// How many events USS applies while the method applies one, or computes all memberships once.
    pub ratio: f64,
    /// The same by processor time, which other processes on the machine change less.
    pub processor_ratio: f64,
}

impl Comparison {
    fn shown(&self, ratio: f64) -> String {
        let ratio = Unit::Times.number(ratio);
        match self.peer.unit {
            Unit::Seconds => format!("{ratio} events meanwhile"),
            _ => format!("{ratio}×"),
        }
    }
}

/// Formats comparisons for readers; nothing if there are none.
pub(crate) fn table(comparisons: &[Comparison]) -> String {
    if comparisons.is_empty() {
        return String::new();
    }
    let mut table =
        "| peer | segments | events | changes/event | peer takes | USS beside it | ratio | by processor time | configuration |\n\
                     |---|---|---|---|---|---|---|---|---|\n"
            .to_owned();
    for row in comparisons {
        let Comparison { method, configuration, changes_per_event, .. } = row;
        let [segments, events] = [row.segments, row.events].map(|count| grouped(count as f64));
        let (peer, uss) = (row.peer.shown(), row.uss.shown());
        let [ratio, processor] = [row.ratio, row.processor_ratio].map(|ratio| row.shown(ratio));
        table += &format!(
            "| {method} | {segments} | {events} | {changes_per_event:.2} | {peer} | {uss} | {ratio} | {processor} | {configuration} |\n"
        );
    }
    table + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(peer: Measurement, ratio: f64) -> Comparison {
        let uss = Measurement::new("USS", "", Unit::EventsPerSecond, vec![9e6]);
        let (method, configuration) = ("m".to_owned(), "c".to_owned());
        Comparison {
            method,
            configuration,
            segments: 1_000,
            events: 50,
            changes_per_event: 0.5,
            peer,
            uss,
            ratio,
            processor_ratio: 2.0,
        }
    }

    #[test]
    fn a_ratio_says_what_it_is_of() {
        assert_eq!(table(&[]), "");
        let each = comparison(Measurement::new("m", "", Unit::EventsPerSecond, vec![3e6]), 3.0);
        let once = comparison(Measurement::new("m", "", Unit::Seconds, vec![2.0]), 18e6);
        let table = table(&[each, once]);
        let rows: Vec<&str> = table.lines().skip(2).collect();
        let start = "| m | 1,000 | 50 | 0.50";
        let uss = "9,000,000 events/s (111 ns)";
        assert_eq!(rows[0], format!("{start} | 3,000,000 events/s (333 ns) | {uss} | 3.00× | 2.00× | c |"));
        assert_eq!(
            rows[1],
            format!("{start} | 2.00 s | {uss} | 18,000,000 events meanwhile | 2.00 events meanwhile | c |")
        );
    }
}

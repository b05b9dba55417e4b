//! The goals, which measurement decides each, and whether it holds: the one place that maps
//! results to goals.

use serde::Serialize;

use crate::results::{Measurement, Results};
use crate::units::{MIB, Unit, grouped};
use crate::{deadlines, engine, growth, idle, ingest, large, posts, restart, site};

/// What of a measurement counts.
#[derive(Clone, Copy)]
enum Of {
    Median,
    P50,
    P99,
    Max,
}

#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}
use Bound::{AtLeast, AtMost};

/// A part of a goal.
struct Goal {
    id: &'static str,
    what: &'static str,
    bound: Bound,
    of: Of,
    measured: Measured,
    peer: Option<Peer>,
}

enum Measured {
    /// A measurement of this name, with conditions that contain all of these.
    As(&'static str, &'static [&'static str]),
    /// The ratio to a method of another system, with so many segments.
    Ratio(&'static str, usize),
    /// Not by the bench.
    Never,
}

enum Peer {
    /// A method of another system, with so many segments.
    Method(&'static str, usize),
    /// A measurement of this name, which is shown beside.
    As(&'static str, &'static [&'static str]),
}

/// Users and events of the site, as conditions show them.
const SITE: &str = "1,000,000 users, 10,000,000 events";
const LARGE: &str = "10,000,000 known users";
const ARMED: &str = "10,000,000 to come";
const LOADED: &str = "events/s come in";
const FLINK: &str = "Apache Flink, keyed process function";
const BY_DATABEND: &str = "one SQL query per segment and event, Databend";
const BY_DUCKDB: &str = "one SQL query per segment and event, DuckDB";

fn goal(
    id: &'static str,
    what: &'static str,
    bound: Bound,
    of: Of,
    name: &'static str,
    with: &'static [&'static str],
) -> Goal {
    Goal { id, what, bound, of, measured: Measured::As(name, with), peer: None }
}

fn never(id: &'static str, what: &'static str, bound: Bound) -> Goal {
    Goal { id, what, bound, of: Of::Median, measured: Measured::Never, peer: None }
}

/// Returns the goals in their order.
fn goals() -> Vec<Goal> {
    [of_the_engine(), of_events(), of_time_and_memory(), of_history(), of_questions()].into_iter().flatten().collect()
}

fn of_the_engine() -> Vec<Goal> {
    use Of::Median;
    let p1 = "engine alone, 1,000 segments, 0.8 changes/event, events/s and core";
    let p1 = goal("P1", p1, AtLeast(2e6), Median, engine::RATE, &["1,000 segments", engine::GOAL]);
    vec![
        Goal { peer: Some(Peer::Method(FLINK, 1_000)), ..p1 },
        goal("P2", "cost of 100,000 segments in terms of 1,000", AtMost(2.0), Median, engine::GROWTH, &[]),
    ]
}

fn of_events() -> Vec<Goal> {
    use Of::{Median, P50, P99};
    let p3 = "NDJSON on disk, 0.1 changes/event, events/s";
    let at_half = &[posts::AT_HALF, posts::FEW_CHANGES];
    let p4 = goal("P4", "single POSTs, events/s", AtLeast(5e4), Median, posts::RATE, &[posts::FEW_CHANGES]);
    vec![
        goal("P3", p3, AtLeast(5e5), Median, ingest::ON_DISK, &[ingest::FEW_CHANGES, ingest::WITHOUT_IDS]),
        Goal { peer: Some(Peer::As(posts::BOUND, &[])), ..p4 },
        goal("P4", "response at half of that, p99 in ms", AtMost(15.0), P99, posts::RESPONSE, at_half),
        goal("P5", "event → subscriber at half of that, p50 in ms", AtMost(5.0), P50, posts::READ, at_half),
        goal("P5", "the same, p99 in ms", AtMost(20.0), P99, posts::READ, at_half),
    ]
}

fn of_time_and_memory() -> Vec<Goal> {
    use Of::{Max, Median, P99};
    let wave = &["1,000,000 users"];
    let p7 = "memory of a user in the engine, 1,000 segments, KiB";
    vec![
        goal("P6", "deadline → transition, 10 M to come, p99 in ms", AtMost(20.0), P99, deadlines::DEADLINE, &[ARMED]),
        goal("P6", "a wave of a million deadlines, s", AtMost(3.0), Median, deadlines::WAVE, wave),
        goal("P6", "delay of events during the wave, ms", AtMost(50.0), Max, deadlines::DURING, wave),
        goal("P7", p7, AtMost(0.6), Median, engine::MEMORY, &["1,000 segments", "500,000 events"]),
        goal(
            "P7",
            "ten million known users, the engine alone, MiB",
            AtMost(6e9 / MIB),
            Median,
            growth::MEMORY,
            &["10,000,000 known users"],
        ),
        goal("P7", "ten million known users, the server, MiB", AtMost(6e9 / MIB), Median, large::MEMORY, &[LARGE]),
        goal("P8", "kill -9 → serving, a million users, s", AtMost(5.0), Median, restart::SERVING, &[SITE]),
        goal("P8", "kill -9 → exact, a million users, s", AtMost(5.0), Median, restart::STORED, &[SITE]),
        goal("P8", "kill -9 → exact, ten million users, s", AtMost(30.0), Median, restart::STORED, &[LARGE]),
    ]
}

fn of_history() -> Vec<Goal> {
    use Of::Median;
    let under_load = "the same while 20,000 events/s come in";
    let p9 = "a new segment over ten million events: seconds beyond twice the warehouse's one query";
    let p10 = |what: &'static str, method: &'static str| Goal {
        id: "P10",
        what,
        bound: AtLeast(1e4),
        of: Median,
        measured: Measured::Ratio(method, 100),
        peer: Some(Peer::Method(method, 100)),
    };
    let p9 = goal("P9", p9, AtMost(2.0), Median, site::BEYOND_TWICE, &[SITE]);
    vec![
        Goal { peer: Some(Peer::As(site::ONE_SHOT, &[SITE])), ..p9 },
        goal("P9", under_load, AtMost(2.0), Median, site::LOADED_BEYOND_TWICE, &[SITE]),
        goal(
            "P9",
            "event → subscriber meanwhile, at 20,000 events/s, p99 in ms",
            AtMost(20.0),
            Of::P99,
            posts::READ,
            &[SITE, site::BESIDE_HISTORY],
        ),
        goal("P9", "ten new segments at once in terms of one", AtMost(2.0), Median, site::TEN_NEW_RATIO, &[SITE]),
        never("P9", "a new segment over a hundred million events, in terms of that query", AtMost(2.0)),
        p10("in terms of a query per segment and event on Databend", BY_DATABEND),
        p10("in terms of a query per segment and event on DuckDB", BY_DUCKDB),
        goal("P11", "idle service, % of a core", AtMost(1.0), Median, idle::SHARE, &[]),
        never("P12", "disagreements with SQL (`make soak` counts them)", AtMost(0.0)),
        goal("P13", "first contact, new users/s", AtLeast(5e4), Median, site::FIRST_CONTACT, &["200,000 new users"]),
    ]
}

fn of_questions() -> Vec<Goal> {
    use Of::{Median, P50, P99};
    vec![
        goal("P14", "saving a segment, p50 in ms", AtMost(20.0), P50, site::SAVING, &[SITE]),
        goal("P14", "saving 5,000 segments, s", AtMost(60.0), Median, idle::MANY_SAVED, &["5,000 segments"]),
        goal("P15", "preview under 50,000 events/s, p99 in ms", AtMost(1e3), P99, site::PREVIEW, &[SITE, LOADED]),
        goal("P15", "a page of members under load, p99 in ms", AtMost(50.0), P99, site::MEMBERS, &[SITE, LOADED]),
        goal("P15", "a user under load, p99 in ms", AtMost(20.0), P99, site::USER, &[SITE, LOADED]),
        goal("P15", "explain under load, p99 in ms", AtMost(50.0), P99, site::EXPLAIN, &[SITE, LOADED]),
    ]
}

/// A row of the table of goals.
#[derive(Serialize)]
pub(crate) struct Row {
    id: &'static str,
    what: &'static str,
    goal: String,
    measured: Option<f64>,
    /// Why there is no value: the server refused, or took too long. Then the goal does not hold.
    failed: Option<String>,
    conditions: Option<String>,
    peer: Option<String>,
    ratio: Option<f64>,
    held: Option<bool>,
}

/// Returns what of the goals was measured, and whether they hold.
pub(crate) fn rows(results: &Results) -> Vec<Row> {
    goals().into_iter().map(|goal| row(&goal, results)).collect()
}

fn row(goal: &Goal, results: &Results) -> Row {
    let method = |method: &str, segments| {
        results.comparisons.iter().find(|found| found.method == method && found.segments == segments)
    };
    let mut failed = None;
    let (measured, conditions) = match goal.measured {
        Measured::As(name, with) => {
            let found = results.find(name, with);
            failed = found.filter(|found| found.runs.is_empty()).and_then(|found| found.note.clone());
            (found.and_then(|found| value(found, goal.of)), found.map(|found| found.conditions.clone()))
        }
        Measured::Ratio(name, segments) => {
            let found = method(name, segments);
            let conditions = found.map(|found| format!("{segments} segments, {} events", grouped(found.events as f64)));
            (found.map(|found| found.ratio), conditions)
        }
        Measured::Never => (None, None),
    };
    let (peer, ratio) = match goal.peer.as_ref().filter(|_| measured.is_some()) {
        Some(Peer::Method(name, segments)) => {
            let found = method(name, *segments);
            (found.map(|found| found.peer.shown()), found.map(|found| found.ratio))
        }
        Some(Peer::As(name, with)) => (results.find(name, with).map(Measurement::shown), None),
        None => (None, None),
    };
    let (bound, held) = match goal.bound {
        AtLeast(bound) => (format!("≥ {}", exact(bound)), measured.map(|value| value >= bound)),
        AtMost(bound) => (format!("≤ {}", exact(bound)), measured.map(|value| value <= bound)),
    };
    let held = held.or(failed.as_ref().map(|_| false));
    Row { id: goal.id, what: goal.what, goal: bound, measured, failed, conditions, peer, ratio, held }
}

/// Formats a bound.
fn exact(bound: f64) -> String {
    if bound < 1_000.0 { bound.to_string() } else { grouped(bound) }
}

fn value(measurement: &Measurement, of: Of) -> Option<f64> {
    match of {
        Of::Median => measurement.median,
        Of::P50 => Some(measurement.percentiles?.p50),
        Of::P99 => Some(measurement.percentiles?.p99),
        Of::Max => Some(measurement.percentiles?.max),
    }
}

/// Formats the rows for readers.
pub(crate) fn table(rows: &[Row]) -> String {
    let number = |value: Option<f64>| value.map(|value| Unit::Times.number(value));
    let mut table =
        "| goal | what | at | measured | with | peer | ratio | held |\n|---|---|---|---|---|---|---|---|\n".to_owned();
    for row in rows {
        let held = row.held.map_or("–", |held| if held { "yes" } else { "no" });
        let measured = number(row.measured).or_else(|| row.failed.clone()).unwrap_or_else(|| "not measured".to_owned());
        let [with, peer] = [&row.conditions, &row.peer].map(|text| text.as_deref().unwrap_or("–"));
        let ratio = number(row.ratio).map_or_else(|| "–".to_owned(), |ratio| ratio + "×");
        let Row { id, what, goal, .. } = row;
        table += &format!("| {id} | {what} | {goal} | {measured} | {with} | {peer} | {ratio} | {held} |\n");
    }
    table
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::comparison::Comparison;
    use crate::results::Spread;

    fn find<'a>(table: &'a str, start: &str) -> &'a str {
        table.lines().find(|line| line.starts_with(start)).unwrap()
    }

    #[test]
    fn every_goal_has_a_row_and_what_was_not_measured_says_so() {
        let table = table(&rows(&Results::default()));
        for number in 1..=15 {
            assert!(find(&table, &format!("| P{number} |")).ends_with("| not measured | – | – | – | – |"), "{table}");
        }
    }

    #[test]
    fn a_row_takes_its_measurement_its_peer_and_its_bound() {
        let mut results = Results::default();
        results.runs(engine::RATE, "1,000 segments, 0.10 changes/event, few changes", Unit::EventsPerSecond, [9e6]);
        let many = format!("1,000 segments, 0.80 changes/event, {}", engine::GOAL);
        results.runs(engine::RATE, &many, Unit::EventsPerSecond, [1e6, 3e6, 2.5e6]);
        results.compare(Comparison {
            method: FLINK.to_owned(),
            configuration: String::new(),
            segments: 1_000,
            events: 500,
            changes_per_event: 0.5,
            peer: Measurement::new("", "", Unit::EventsPerSecond, vec![5e4]),
            uss: Measurement::new("", "", Unit::EventsPerSecond, vec![2e6]),
            ratio: 40.0,
            processor_ratio: 50.0,
        });
        let times = Spread::of((1..=100).map(Duration::from_millis).collect());
        let half = format!("{}, {}", posts::AT_HALF, posts::FEW_CHANGES);
        results.spread(posts::RESPONSE, &half, &times);
        results.missing(site::PREVIEW, format!("{SITE}, while 50,000 {LOADED}"), "refused");
        let table = table(&rows(&results));
        let p15 = find(&table, "| P15 | preview");
        assert!(p15.ends_with(&format!("| ≤ 1,000 | refused | {SITE}, while 50,000 {LOADED} | – | – | no |")), "{p15}");
        let p1 = find(&table, "| P1 |");
        assert!(p1.ends_with(&format!("| ≥ 2,000,000 | 2,500,000 | {many} | 50,000 events/s | 40.0× | yes |")), "{p1}");
        let p4 = find(&table, "| P4 | response");
        assert!(p4.ends_with(&format!("| ≤ 15 | 99.0 | {half} | – | – | no |")), "{p4}");
    }
}

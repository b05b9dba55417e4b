//! How the engine alone grows with the number of segments and of users.

use segment_engine::machine::Machine;

use crate::alone::{self, Run, know, machine_with};
use crate::picture::{Curve, draw};
use crate::results::Results;

use crate::units::{MIB, Unit, grouped};
use crate::watch::own_memory;
use crate::workload::{Clauses, Events, Mix, clauses, clauses_with_rare};
use crate::{Result, Scale, pictures};

const USERS: u64 = 100_000;
const BY_SEGMENTS: &str = "growth, engine alone: events/s by segments";
const BY_USERS: &str = "growth, engine alone: events/s by users";
/// The memory of the whole process that runs the engine.
pub(crate) const MEMORY: &str = "growth, engine alone: memory by users";

/// Measures both, and draws a picture of each.
pub(crate) fn run(scale: Scale, results: &mut Results) -> Result<()> {
    // First, so that the process has no memory of other sizes.
    by_users(scale, results)?;
    by_segments(scale, results)
}

fn by_segments(scale: Scale, results: &mut Results) -> Result<()> {
    let sizes: Vec<usize> = (1..=5).map(|power| 10_usize.pow(power)).collect();
    let mut curves = Vec::new();
    for busy in [10, 1_000] {
        let mut points = Vec::new();
        let mut changes = 0.0;
        for count in sizes.iter().copied().filter(|count| *count >= busy) {
            let clauses = clauses_with_rare(busy, count);
            let runs: Vec<Run> = (0..scale.growth_runs).map(|_| once(&clauses, USERS, scale).0).collect();
            changes = runs[0].changes();
            let conditions = format!("{} segments, {changes:.2} changes/event", grouped(count as f64));
            points.push((count as f64, add(BY_SEGMENTS, conditions, &runs, results)));
        }
        curves.push(Curve { label: format!("{changes:.2} changes per event"), points });
    }
    let axes = ("segments", "events per second, one core");
    draw(&pictures(scale)?.join("segments.svg"), "The engine alone, by the number of segments", axes, &curves)
}

fn by_users(scale: Scale, results: &mut Results) -> Result<()> {
    let clauses = clauses(1_000, Clauses::MANY_CHANGES);
    let mut points = Vec::new();
    for users in (4..).map(|power| 10_u64.pow(power)).take_while(|users| *users <= scale.users_max) {
        let mut memories = Vec::new();
        let runs: Vec<Run> = (0..scale.growth_runs)
            .map(|_| {
                let (run, machine) = once(&clauses, users, scale);
                memories.push(own_memory()? / MIB);
                drop(machine);
                Ok(run)
            })
            .collect::<Result<_>>()?;
        let users = users as f64;
        let conditions =
            format!("1,000 segments, {} known users, {:.2} changes/event", grouped(users), runs[0].changes());
        results.runs(MEMORY, &conditions, Unit::Mebibytes, memories);
        points.push((users, add(BY_USERS, conditions, &runs, results)));
    }
    let axes = ("known users", "events per second, one core");
    let curve = Curve { label: "1,000 segments".to_owned(), points };
    draw(&pictures(scale)?.join("users.svg"), "The engine alone, by the number of users", axes, &[curve])
}

fn once(clauses: &[String], users: u64, scale: Scale) -> (Run, Machine) {
    let mut machine = machine_with(clauses);
    know(&mut machine, users);
    alone::run(machine, Events::new(scale.engine_events, users, Mix::USUAL), None)
}

/// Returns the median.
fn add(name: &str, conditions: String, runs: &[Run], results: &mut Results) -> f64 {
    results.runs(name, conditions, Unit::EventsPerSecond, runs.iter().map(Run::rate));
    results.measurements.last().and_then(|added| added.median).unwrap_or_default()
}

//! The engine alone: memory, events per second by changes per event, and events that are unusual.

use std::collections::HashSet;

use segment_engine::ids::UserId;

use crate::alone::{self, Run, know, machine_with};
use crate::results::{Results, median};

use crate::units::{Unit, grouped};
use crate::watch::own_memory;
use crate::workload::{Clauses, Events, Mix, clauses, clauses_with_rare, entered_by_every_event};
use crate::{Result, Scale};

const USERS: u64 = 100_000;
const SILENT_USERS: u64 = 1_000_000;
/// What P2 compares.
const MANY_SEGMENTS: usize = 100_000;
pub(crate) const RATE: &str = "engine alone, one core";
/// Part of the conditions of what P1 asks for.
pub(crate) const GOAL: &str = "as many as the goal has";
/// Part of the conditions of the rate at 1,000 segments and at 100,000.
const MANY_CHANGES: &str = "many changes";
pub(crate) const MEMORY: &str = "engine alone: memory";
pub(crate) const GROWTH: &str = "engine alone: cost with 100,000 segments in terms of 1,000";

/// Measures memory, then rates.
pub(crate) fn run(scale: Scale, results: &mut Results) -> Result<()> {
    // First, since memory that earlier runs gave back to the allocator would not be counted.
    measure_memory(scale, results)?;
    let usual = clauses(1_000, Clauses::MANY_CHANGES);
    rate(GOAL, &clauses(1_000, Clauses::GOAL), Mix::USUAL, scale, results);
    let less = rate(MANY_CHANGES, &usual, Mix::USUAL, scale, results);
    let more = rate(MANY_CHANGES, &clauses_with_rare(1_000, MANY_SEGMENTS), Mix::USUAL, scale, results);
    results.one(GROWTH, "the same changes per event", Unit::Times, less / more);
    rate("few changes", &clauses(1_000, Clauses::FEW_CHANGES), Mix::USUAL, scale, results);
    for count in [10, 100, 1_000] {
        rate("changes of frequent activities", &clauses(count, Clauses::Broad), Mix::USUAL, scale, results);
    }
    for late in [0, 10] {
        rate(&format!("{late} % of the events late by up to a day"), &usual, Mix { late, hot: 0 }, scale, results);
    }
    rate("half of the events of one user", &usual, Mix { late: 0, hot: 50 }, scale, results);
    let all = entered_by_every_event(20);
    rate("each event enters 20 segments, which time ends", &all, Mix::IN_ORDER, scale, results);
    Ok(())
}

/// Measures the rate, and returns its median.
fn rate(what: &str, clauses: &[String], mix: Mix, scale: Scale, results: &mut Results) -> f64 {
    let once = || alone::run(machine_with(clauses), Events::new(scale.engine_events, USERS, mix), None);
    let runs: Vec<Run> = (0..scale.runs).map(|_| once().0).collect();
    let rates: Vec<f64> = runs.iter().map(Run::rate).collect();
    let changes = runs[0].changes();
    let conditions = format!("{} segments, {changes:.2} changes/event, {what}", grouped(clauses.len() as f64));
    results.runs(RATE, conditions, Unit::EventsPerSecond, rates.iter().copied());
    median(rates)
}

fn measure_memory(scale: Scale, results: &mut Results) -> Result<()> {
    let events: Vec<_> = Events::new(scale.engine_events, USERS, Mix::USUAL).collect();
    let users = events.iter().map(|event| event.user_id).collect::<HashSet<UserId>>().len() as f64;
    let clauses = clauses(1_000, Clauses::MANY_CHANGES);
    let before = own_memory()?;
    let (run, machine) = alone::run(machine_with(&clauses), events.iter().cloned(), None);
    let bytes = (own_memory()? - before) / users;
    let conditions = format!("1,000 segments, {} users, {} events", grouped(users), grouped(run.events as f64));
    drop(machine);
    results.one(MEMORY, conditions, Unit::KibibytesPerUser, bytes / 1024.0);
    let before = own_memory()?;
    let mut machine = machine_with(&clauses);
    know(&mut machine, SILENT_USERS);
    let bytes = (own_memory()? - before) / SILENT_USERS as f64;
    let conditions = format!("1,000 segments, {} users", grouped(SILENT_USERS as f64));
    drop(machine);
    results.one("engine alone: memory without events", conditions, Unit::KibibytesPerUser, bytes / 1024.0);
    Ok(())
}

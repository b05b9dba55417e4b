//! The engine alone, on one core: no log, no JSON, no network.

use std::collections::HashSet;
use std::time::Instant;

use segment_engine::event::Event;
use segment_engine::ids::{SegmentId, SegmentVersion, UserId};
use segment_engine::language::compile;
use segment_engine::machine::{self, Definition, Machine, UserProfile};
use segment_engine::time::Timestamp;

use crate::Result;
use crate::server::memory;
use crate::table::{Table, grouped};
use crate::workload::{self, Clauses};

const EVENTS: usize = 500_000;
const USERS: u64 = 100_000;
const SILENT_USERS: u64 = 1_000_000;
const RUNS: usize = 5;

/// Measures memory, then events per second for several numbers of segments and of changes per
/// event. The first two differ in segments that no event is of.
pub(crate) fn run(table: &mut Table) -> Result<()> {
    let events = workload::events(EVENTS, USERS);
    let users: HashSet<UserId> = events.iter().map(|event| event.user_id).collect();
    let clauses = workload::clauses(1_000, Clauses::MANY_CHANGES);
    let before = memory(std::process::id())?;
    // First, since memory that earlier runs gave back to the allocator would not be counted.
    let (_, _, machine) = run_once(&clauses, &events);
    let bytes = (memory(std::process::id())? - before) / users.len() as f64;
    drop(machine);
    let conditions = format!("1000 segments, {} users, {} events", grouped(users.len() as f64), grouped(EVENTS as f64));
    table.add("engine alone: memory", conditions, format!("{:.2} KiB a user", bytes / 1024.0));
    let before = memory(std::process::id())?;
    let machine = silent_users();
    let bytes = (memory(std::process::id())? - before) / SILENT_USERS as f64;
    drop(machine);
    let conditions = format!("1000 segments, {} users without events", grouped(SILENT_USERS as f64));
    table.add("engine alone: memory", conditions, format!("{:.2} KiB a user", bytes / 1024.0));
    let workloads = [
        workload::clauses(1_000, Clauses::MANY_CHANGES),
        workload::clauses_with_rare(100_000),
        workload::clauses(1_000, Clauses::FEW_CHANGES),
        workload::clauses(10, Clauses::Broad),
        workload::clauses(100, Clauses::Broad),
        workload::clauses(1_000, Clauses::Broad),
    ];
    for clauses in workloads {
        let mut runs: Vec<(f64, usize)> = Vec::new();
        for _ in 0..RUNS {
            let (seconds, changes, _) = run_once(&clauses, &events);
            runs.push((seconds, changes));
        }
        runs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (seconds, changes) = runs[RUNS / 2];
        let per_event = seconds / EVENTS as f64;
        table.add(
            "engine alone, one core",
            format!("{} segments, {:.2} changes/event", grouped(clauses.len() as f64), changes as f64 / EVENTS as f64),
            format!("{} events/s ({:.0} ns)", grouped(1.0 / per_event), per_event * 1e9),
        );
    }
    Ok(())
}

/// Returns a machine with users of whom only the client's id is known.
fn silent_users() -> Machine {
    let mut machine = machine_with(&workload::clauses(1_000, Clauses::MANY_CHANGES), Timestamp(0));
    for user in 0..SILENT_USERS {
        let (id, client_id) = (UserId(user as i64 + 1), workload::client_id(user));
        machine.profile(id, Some(&client_id), UserProfile::default(), Timestamp(user as i64));
    }
    machine.settle();
    machine
}

/// Returns a machine in which segments with these clauses are in force.
fn machine_with(clauses: &[String], start: Timestamp) -> Machine {
    let mut machine = Machine::new(machine::Settings::default());
    for (id, clause) in (1..).zip(clauses) {
        let rule = compile(clause).expect("the workload's clauses are in the language").into();
        let tag = format!("s{id}");
        let definition =
            Definition { id: SegmentId(id), tag, version: SegmentVersion(1), where_statement: clause.clone(), rule };
        machine.define(definition, 0, start);
        machine.activate(SegmentId(id), SegmentVersion(1), start);
    }
    machine
}

/// Returns the seconds that all events took, the number of transitions, and the machine.
fn run_once(clauses: &[String], events: &[Event]) -> (f64, usize, Machine) {
    let mut machine = machine_with(clauses, Timestamp(events[0].processed_at.0 - 1));
    let mut transitions = 0;
    let started = Instant::now();
    for batch in events.chunks(256) {
        for event in batch {
            machine.event(event, false, event.processed_at);
        }
        machine.settle();
        transitions +=
            machine.take_changes().iter().map(|change| change.entered.len() + change.left.len()).sum::<usize>();
    }
    (started.elapsed().as_secs_f64(), transitions, machine)
}

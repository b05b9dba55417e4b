//! `make bench`: the engine's speed by number of segments, with the change rate beside it.
#![allow(clippy::print_stdout, reason = "a benchmark prints a table")]

mod workload;

use std::time::Instant;

use segment_engine::language::compile;
use segment_engine::machine::{Definition, Machine, Settings};
use segment_engine::time::Timestamp;

const EVENTS: usize = 1_000_000;
const USERS: u64 = 100_000;
const RUNS: usize = 3;

fn main() {
    println!("engine alone, one core, {EVENTS} events of {USERS} users over 60 days, 1 % late; median of {RUNS} runs");
    println!("{:>9} {:>12} {:>10} {:>14}", "segments", "events/s", "ns/event", "changes/event");
    let events = workload::events(EVENTS, USERS);
    for segments in [10, 100, 1_000] {
        let clauses = workload::clauses(segments);
        let mut runs: Vec<(f64, usize)> = (0..RUNS).map(|_| run(&clauses, &events)).collect();
        runs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (seconds, changes) = runs[RUNS / 2];
        let per_event = seconds / EVENTS as f64;
        println!(
            "{segments:>9} {:>12.0} {:>10.0} {:>14.2}",
            1.0 / per_event,
            per_event * 1e9,
            changes as f64 / EVENTS as f64
        );
    }
}

/// Seconds for all events, and how many transitions came of them.
fn run(clauses: &[String], events: &[segment_engine::event::Event]) -> (f64, usize) {
    let mut machine = Machine::new(Settings::default());
    let start = Timestamp(events[0].processed_at.0 - 1);
    for (id, clause) in (1..).zip(clauses) {
        let rule = compile(clause).expect("the workload's clauses are in the language").into();
        let tag = format!("s{id}");
        let definition = Definition { id, tag, version: 1, where_statement: clause.clone(), rule };
        machine.define(definition, 0, start);
        machine.activate(id, 1, start);
    }
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
    (started.elapsed().as_secs_f64(), transitions)
}

//! A run of the engine alone, on one core: no log, no JSON, no network.

use std::time::{Duration, Instant};

use segment_engine::event::Event;
use segment_engine::ids::{SegmentId, SegmentVersion, UserId};
use segment_engine::language::compile;
use segment_engine::machine::{self, Definition, Machine, UserProfile};
use segment_engine::time::Timestamp;

use crate::watch::thread_time;
use crate::workload;

/// Events that are made at once. Making them is not measured, and only so many are in memory.
const CHUNK: usize = 1 << 16;
/// Events between two times that the changes are taken, as a worker takes them.
const TURN: usize = 256;

/// What a run of events took.
pub(crate) struct Run {
    pub seconds: f64,
    /// Of the processor, without the time that other processes had it.
    pub processor_seconds: f64,
    pub events: usize,
    pub transitions: usize,
}

impl Run {
    /// Returns the events per second.
    pub(crate) fn rate(&self) -> f64 {
        self.events as f64 / self.seconds
    }

    /// Returns the transitions per event.
    pub(crate) fn changes(&self) -> f64 {
        self.transitions as f64 / self.events as f64
    }
}

/// Returns a machine in which segments with these clauses are in force.
pub(crate) fn machine_with(clauses: &[String]) -> Machine {
    let mut machine = Machine::new(machine::Settings::default());
    let start = Timestamp(0);
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

/// Makes users known of whom there are no events yet.
pub(crate) fn know(machine: &mut Machine, users: u64) {
    for user in 0..users {
        let (id, client_id) = (UserId(user as i64 + 1), workload::client_id(user));
        machine.profile(id, Some(&client_id), UserProfile::default(), Timestamp(user as i64));
    }
    machine.settle();
    machine.take_changes();
}

/// Applies events, and lets time pass until `until`, if it is given.
pub(crate) fn run(
    mut machine: Machine,
    events: impl Iterator<Item = Event>,
    until: Option<Timestamp>,
) -> (Run, Machine) {
    let (mut clocks, mut count, mut transitions) = (Clocks::stopped(), 0, 0);
    let mut events = events.peekable();
    while events.peek().is_some() {
        let chunk: Vec<Event> = events.by_ref().take(CHUNK).collect();
        count += chunk.len();
        clocks.start();
        for turn in chunk.chunks(TURN) {
            for event in turn {
                machine.event(event, false, event.processed_at);
            }
            machine.settle();
            transitions += take_transitions(&mut machine);
        }
        clocks.stop();
    }
    clocks.start();
    if let Some(until) = until {
        machine.advance(until, usize::MAX);
        transitions += take_transitions(&mut machine);
    }
    clocks.stop();
    let [seconds, processor_seconds] = [clocks.wall, clocks.processor].map(|time| time.as_secs_f64());
    (Run { seconds, processor_seconds, events: count, transitions }, machine)
}

/// The wall clock, and the processor time of this thread.
struct Clocks {
    started: (Instant, Duration),
    wall: Duration,
    processor: Duration,
}

impl Clocks {
    fn stopped() -> Self {
        Self { started: (Instant::now(), thread_time()), wall: Duration::ZERO, processor: Duration::ZERO }
    }

    fn start(&mut self) {
        self.started = (Instant::now(), thread_time());
    }

    fn stop(&mut self) {
        self.wall += self.started.0.elapsed();
        self.processor += thread_time() - self.started.1;
    }
}

/// Takes the changes, and returns how many transitions they are.
pub(crate) fn take_transitions(machine: &mut Machine) -> usize {
    machine.take_changes().iter().map(|change| change.entered.len() + change.left.len()).sum()
}

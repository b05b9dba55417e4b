//! The events of the replay so far. They fill new segments, as the warehouse does in the service.

use segment_engine::event::Event;
use segment_engine::machine::{AccumulatorId, Machine};

use super::error::Problem;
use super::identities::Identities;

/// The most events that are kept for later segments. More would fill the memory.
const EVENTS_MAX: usize = 5_000_000;

/// The accepted events, in order.
#[derive(Default)]
pub(crate) struct History {
    events: Vec<Event>,
    /// All events so far, kept or not.
    count: u64,
}

impl History {
    /// Returns the offset of the next event.
    pub(crate) fn offset(&self) -> u64 {
        self.count
    }

    /// Keeps an accepted event.
    pub(crate) fn push(&mut self, event: Event) {
        self.count += 1;
        if self.events.len() < EVENTS_MAX {
            self.events.push(event);
        }
    }

    /// Returns whether every event was kept.
    pub(crate) fn is_whole(&self) -> bool {
        self.events.len() as u64 == self.count
    }

    /// Returns the error for a segment or merge that needs events which were not kept.
    pub(crate) fn too_long(&self) -> Problem {
        Problem::new(format!(
            "a segment or a merge after more than {EVENTS_MAX} events needs events that are no longer in memory; move its \
             line up, or shorten the history"
        ))
    }

    /// Adds the events to every accumulator that lacks history, under their present users.
    pub(crate) fn fill(&self, machine: &mut Machine, identities: &Identities) {
        let accumulators = machine.incomplete();
        self.give(machine, &accumulators, identities);
        for accumulator in accumulators {
            machine.complete(accumulator);
        }
    }

    /// Adds the events to these accumulators, under their present users.
    pub(crate) fn give(&self, machine: &mut Machine, accumulators: &[AccumulatorId], identities: &Identities) {
        for event in &self.events {
            let source = event.user_id;
            let event = Event { user_id: identities.survivor(source), ..event.clone() };
            machine.add_history(accumulators, source, &event);
        }
    }
}

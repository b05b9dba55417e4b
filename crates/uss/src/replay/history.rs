//! The events of the replay so far: what a new segment is filled from, as the warehouse would do it in the service.

use segment_engine::event::Event;
use segment_engine::machine::{AccumulatorId, Machine};

use super::error::Problem;
use super::identities::Identities;

/// So many events are kept for segments that come later.
const EVENTS_MAX: usize = 5_000_000;

/// The accepted events, in order.
#[derive(Default)]
pub struct History {
    events: Vec<Event>,
    /// How many there were, kept or not.
    count: u64,
}

impl History {
    /// Where the next event stands.
    pub fn offset(&self) -> u64 {
        self.count
    }

    /// Keeps an accepted event.
    pub fn push(&mut self, event: Event) {
        self.count += 1;
        if self.events.len() < EVENTS_MAX {
            self.events.push(event);
        }
    }

    /// Whether every event was kept.
    pub fn is_whole(&self) -> bool {
        self.events.len() as u64 == self.count
    }

    /// Why a segment cannot be filled any more.
    pub fn too_long(&self) -> Problem {
        Problem::new(format!(
            "a segment or a merge that comes after more than {EVENTS_MAX} events and needs them again cannot be done"
        ))
    }

    /// Gives every accumulator that lacks history all of it, under the users whose it is now.
    pub fn fill(&self, machine: &mut Machine, identities: &Identities) {
        let accumulators = machine.incomplete();
        self.give(machine, &accumulators, identities);
        for accumulator in accumulators {
            machine.complete(accumulator);
        }
    }

    /// Gives these accumulators what they lack, under the users whose it is now.
    pub fn give(&self, machine: &mut Machine, accumulators: &[AccumulatorId], identities: &Identities) {
        for event in &self.events {
            let source = event.user_id;
            let event = Event { user_id: identities.survivor(source), ..event.clone() };
            for accumulator in accumulators {
                machine.add_history(*accumulator, source, &event);
            }
        }
    }
}

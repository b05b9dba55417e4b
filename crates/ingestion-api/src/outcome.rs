//! The single outcome of each received event.

use std::ops::Range;

use ports::ErrorCode;
use ports::event_sink::{Refused, SinkOutcome};
use uss_http::Problem;

use crate::admission::Rejection;

/// What became of one event that was decided.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The log has it.
    Accepted,
    /// Refused for good; the error topic has it.
    Rejected(Box<Rejection>),
}

/// Counts events whose outcome was decided in `uss_events_total{outcome}`, each once.
pub fn count(outcomes: &[Outcome]) {
    let accepted = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Accepted)).count();
    count_as("accepted", accepted);
    count_as("rejected", outcomes.len() - accepted);
}

/// Counts events of which nothing was stored. A body that is not read at all counts as one event: how many it holds is not
/// known.
pub fn count_not_admitted(events: usize) {
    count_as("not_admitted", events);
}

fn count_as(outcome: &'static str, events: usize) {
    metrics::counter!("uss_events_total", "outcome" => outcome).increment(events as u64);
}

/// Returns the entries of an answer for events that were not stored, all for one reason.
pub fn not_admitted(events: Range<usize>, code: ErrorCode, message: &str) -> impl Iterator<Item = Refused> {
    events.map(move |index| Refused { index, code, message: message.to_owned() })
}

/// Returns why a request is not read beyond its `rejected_max` rejected events.
pub(crate) fn too_many_rejected(rejected_max: usize) -> Problem {
    let advice = "correct what they have in common, and send the rest then";
    let message = format!("{rejected_max} events were rejected, so the rest was not read; {advice}");
    Problem::invalid(ErrorCode::TooManyRejected, message)
}

/// Adds the outcomes of the events from `first` on to the answer.
pub fn tally(answer: &mut SinkOutcome, first: usize, outcomes: Vec<Outcome>) {
    for (index, outcome) in (first..).zip(outcomes) {
        match outcome {
            Outcome::Accepted => answer.accepted += 1,
            Outcome::Rejected(rejection) => {
                let Rejection { code, message } = *rejection;
                answer.rejected.push(Refused { index, code, message });
            }
        }
    }
}

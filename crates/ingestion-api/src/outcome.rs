//! The single fate of each received event.

use ports::event_sink::{Refused, SinkOutcome};
use uss_http::Problem;

use crate::admission::Rejection;

/// What became of one event.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The log has it.
    Accepted,
    /// Refused for good; the error topic has it.
    Rejected(Box<Rejection>),
    /// Nothing is stored; sending it again later may succeed.
    NotAdmitted(Box<Problem>),
}

impl Outcome {
    fn label(&self) -> &'static str {
        match self {
            Outcome::Accepted => "accepted",
            Outcome::Rejected(_) => "rejected",
            Outcome::NotAdmitted(_) => "not_admitted",
        }
    }
}

/// Counts each event once in `uss_events_total{outcome}`. Called at the one place where outcomes are made, and for bodies
/// that were not taken.
pub fn count(outcomes: &[Outcome]) {
    for label in ["accepted", "rejected", "not_admitted"] {
        let number = outcomes.iter().filter(|outcome| outcome.label() == label).count() as u64;
        metrics::counter!("uss_events_total", "outcome" => label).increment(number);
    }
}

/// Adds the outcomes of the events from `first` on to the answer.
pub fn tally(answer: &mut SinkOutcome, first: usize, outcomes: Vec<Outcome>) {
    for (index, outcome) in (first..).zip(outcomes) {
        match outcome {
            Outcome::Accepted => answer.accepted += 1,
            Outcome::Rejected(rejection) => {
                let Rejection { code, message } = *rejection;
                answer.rejected.push(Refused { index, code: code.to_owned(), message });
            }
            Outcome::NotAdmitted(problem) => {
                let Problem { code, message, .. } = *problem;
                answer.not_admitted.push(Refused { index, code: code.into_owned(), message });
            }
        }
    }
}

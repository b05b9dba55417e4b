//! NDJSON: events of a request without end, appended as they come, answered when the request ends.
//!
//! The answer is `{"rejected": […], "not_admitted": […], "accepted": n, "ok": …}`. It is held back until the request has
//! been read, so that a client may send first and read afterwards; only an answer beyond its bound is sent meanwhile.

use std::sync::Arc;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use ports::event_sink::{Refused, SinkOutcome};
use serde_json::json;
use tokio::time::timeout;
use uss_http::Problem;

use crate::body::next_piece;
use crate::capacity::Reservation;
use crate::lines::Lines;
use crate::outcome::{self, Outcome};
use crate::pipeline::{Ingestion, Options};

/// One NDJSON request under way.
pub struct Run {
    ingestion: Arc<Ingestion>,
    options: Options,
    body: BodyDataStream,
    lines: Lines,
    /// Kept for as long as the request holds lines.
    _reservation: Reservation,
    /// The index of the next event.
    next: usize,
    accepted: usize,
    refused: bool,
    answer: String,
    /// Whether the list being written has no entry yet.
    first_entry: bool,
    state: State,
}

/// What to do next.
enum State {
    Reading,
    /// The request is over, or cannot go on; nothing more is read.
    Ending(Ending),
    Done,
}

#[derive(Default)]
struct Ending {
    not_admitted: Vec<Refused>,
    /// Events from this one on were not read.
    not_read_from: Option<usize>,
    /// Why nothing at all was stored.
    problem: Option<Problem>,
}

impl Run {
    /// Starts a request.
    ///
    /// # Errors
    /// 429 over capacity.
    pub fn start(ingestion: Arc<Ingestion>, body: Body, options: Options) -> Result<Self, Problem> {
        let mut reservation = ingestion.capacity.reservation();
        // The lines held, and their records on the way into the log.
        reservation.grow(2 * ingestion.limits.chunk_bytes_max)?;
        let lines = Lines::new(&ingestion.limits);
        Ok(Self {
            ingestion,
            options,
            body: body.into_data_stream(),
            lines,
            _reservation: reservation,
            next: 0,
            accepted: 0,
            refused: false,
            answer: "{\"rejected\":[".to_owned(),
            first_entry: true,
            state: State::Reading,
        })
    }

    /// Reads the request and answers it.
    pub async fn respond(mut self) -> Response {
        let held = self.ingestion.limits.answer_bytes_held_max;
        while self.answer.len() <= held {
            match &mut self.state {
                State::Reading => self.read_chunk().await,
                State::Ending(Ending { problem: Some(problem), .. }) => return problem.clone().into_response(),
                State::Ending(_) => self.finish(),
                State::Done => return json_answer(Body::from(self.answer)),
            }
        }
        let rest = stream::unfold(self, |mut run| async {
            run.more().await.map(|piece| (Ok::<_, std::convert::Infallible>(piece), run))
        });
        json_answer(Body::from_stream(rest))
    }

    /// The next piece of an answer that is sent while the request is read.
    async fn more(&mut self) -> Option<Bytes> {
        while self.answer.is_empty() {
            match &self.state {
                State::Reading => self.read_chunk().await,
                State::Ending(_) => self.finish(),
                State::Done => return None,
            }
        }
        Some(std::mem::take(&mut self.answer).into())
    }

    /// Fills a chunk, takes it in, and writes what was rejected into the answer.
    async fn read_chunk(&mut self) {
        let end = self.fill().await;
        let received = self.lines.received();
        let mut outcomes = self.ingestion.process(&received, self.options).await;
        drop(received);
        self.lines.clear();
        if let Some(Err(problem)) = &end
            && self.lines.has_unfinished()
        {
            let cut_off = Outcome::NotAdmitted(Box::new(problem.clone()));
            outcome::count(std::slice::from_ref(&cut_off));
            outcomes.push(cut_off);
        }
        let first = self.next;
        self.next += outcomes.len();
        let refusal = outcomes.first().and_then(|outcome| match outcome {
            Outcome::NotAdmitted(problem) => Some((**problem).clone()),
            _ => None,
        });
        let mut tallied = SinkOutcome::default();
        outcome::tally(&mut tallied, first, outcomes);
        self.accepted += tallied.accepted;
        for refused in &tallied.rejected {
            self.push_entry(refused);
        }
        let nothing_taken = first == 0 && tallied.accepted + tallied.rejected.len() == 0;
        let (problem, all_read) = match end {
            None if tallied.not_admitted.is_empty() => return,
            None => (refusal, false),
            Some(Ok(())) => (refusal, true),
            Some(Err(problem)) => (refusal.or(Some(problem)), false),
        };
        self.state = State::Ending(Ending {
            not_admitted: tallied.not_admitted,
            not_read_from: (!all_read).then_some(self.next),
            problem: problem.filter(|_| nothing_taken).map(|problem| problem.with("accepted", 0)),
        });
    }

    /// Reads until a chunk is full, or no more comes for a moment. Answers how the request ended, if it did.
    async fn fill(&mut self) -> Option<Result<(), Problem>> {
        let limits = &self.ingestion.limits;
        while self.lines.bytes() < limits.chunk_bytes_max && self.lines.count() < limits.chunk_events_max {
            let piece = next_piece(&mut self.body, limits);
            let piece = if self.lines.count() == 0 {
                piece.await
            } else {
                match timeout(limits.chunk_linger, piece).await {
                    Ok(piece) => piece,
                    Err(_) => return None,
                }
            };
            match piece {
                Ok(Some(piece)) => {
                    if self.lines.push(&piece).is_err() {
                        self.lines.finish();
                        return Some(Err(endless()));
                    }
                }
                Ok(None) => {
                    self.lines.finish();
                    return Some(Ok(()));
                }
                Err(problem) => return Some(Err(problem)),
            }
        }
        None
    }

    /// Writes the end of the answer.
    fn finish(&mut self) {
        let State::Ending(ending) = std::mem::replace(&mut self.state, State::Done) else { return };
        self.answer.push_str("],\"not_admitted\":[");
        self.first_entry = true;
        for refused in &ending.not_admitted {
            self.push_entry(refused);
        }
        self.answer.push_str(&format!("],\"accepted\":{}", self.accepted));
        if let Some(index) = ending.not_read_from {
            self.refused = true;
            self.answer.push_str(&format!(",\"not_read_from\":{index}"));
        }
        self.answer.push_str(&format!(",\"ok\":{}}}", !self.refused));
    }

    fn push_entry(&mut self, refused: &Refused) {
        self.refused = true;
        if !std::mem::take(&mut self.first_entry) {
            self.answer.push(',');
        }
        self.answer.push_str(&json!(refused).to_string());
    }
}

fn endless() -> Problem {
    Problem::invalid("LINE_TOO_LONG", "a line is far too long for an event; end each event with a line break")
}

fn json_answer(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

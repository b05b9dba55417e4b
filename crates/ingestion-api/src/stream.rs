//! NDJSON: events of a request without end, appended as they come, answered when the request ends.
//!
//! The answer is `{"rejected": […], "not_admitted": […], "accepted": n, "ok": …}`. It is held back until the request has
//! been read, so that a client may send first and read afterwards; only an answer beyond its bound is sent meanwhile.
//! A request holds capacity for the lines and the answer that it has, so that one which waits holds nearly nothing.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use ports::event_sink::{Refused, SinkOutcome};
use serde_json::json;
use tokio::time::{Instant, timeout};
use uss_http::Problem;
use uss_http::pace::too_slow;

use crate::body::next_piece;
use crate::capacity::Reservation;
use crate::limits::Limits;
use crate::lines::Lines;
use crate::misplaced::Warnings;
use crate::mistaken;
use crate::outcome::{self, Outcome};
use crate::pipeline::{Ingestion, Options, Processed};
use crate::routes::count_refused;

/// One NDJSON request under way.
pub struct Run {
    ingestion: Arc<Ingestion>,
    options: Options,
    body: BodyDataStream,
    /// A piece of it for which there was no room.
    waiting: Option<Bytes>,
    lines: Lines,
    /// Since when the unfinished line waits for its end.
    line_since: Instant,
    reservation: Reservation,
    /// The index of the next event.
    next: usize,
    accepted: usize,
    rejected: usize,
    not_admitted: Vec<Refused>,
    /// Why the first of those was not.
    refusal: Option<Problem>,
    warnings: Warnings,
    answer: String,
    /// Whether the list being written has no entry yet.
    first_entry: bool,
    state: State,
}

/// What to do next.
enum State {
    Reading,
    /// The request is over, or cannot go on for this reason: then events from `next` on are not read.
    Ending(Option<Problem>),
    Done,
}

impl Run {
    /// Starts a request.
    pub fn start(ingestion: Arc<Ingestion>, body: Body, client: Option<IpAddr>, options: Options) -> Self {
        let reservation = ingestion.capacity.reservation(client);
        let lines = Lines::new(&ingestion.limits);
        Self {
            ingestion,
            options,
            body: body.into_data_stream(),
            waiting: None,
            lines,
            line_since: Instant::now(),
            reservation,
            next: 0,
            accepted: 0,
            rejected: 0,
            not_admitted: Vec::new(),
            refusal: None,
            warnings: Warnings::default(),
            answer: "{\"rejected\":[".to_owned(),
            first_entry: true,
            state: State::Reading,
        }
    }

    /// Reads the request and answers it.
    pub async fn respond(mut self) -> Response {
        let held = self.ingestion.limits.answer_bytes_held_max;
        while self.answer.len() <= held {
            match &mut self.state {
                State::Reading => self.read_chunk().await,
                State::Ending(Some(problem)) if self.accepted + self.rejected == 0 => {
                    return problem.clone().with("accepted", 0).into_response();
                }
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
        let mut lines = std::mem::replace(&mut self.lines, Lines::new(&self.ingestion.limits));
        let received = lines.received();
        if let Some(problem) = mistaken::one_value_over_lines(&received).filter(|_| self.next == 0) {
            count_refused(&problem);
            self.state = State::Ending(Some(problem));
            return;
        }
        let all = self.next + received.len();
        // One piece of a body may have far more lines than a chunk should.
        for part in received.chunks(self.ingestion.limits.chunk_events_max.max(1)) {
            let Processed { outcomes, warnings } = self.ingestion.process(part, self.options).await;
            self.take(outcomes, warnings);
            if let Some(problem) = self.too_many_rejected()
                && (end.is_none() || self.next < all)
            {
                self.state = State::Ending(Some(problem));
                return;
            }
        }
        lines.clear();
        self.lines = lines;
        self.state = match end {
            None if self.refusal.is_none() => return self.let_go(),
            None => State::Ending(self.refusal.take()),
            Some(Ok(())) => State::Ending(self.refusal.take().filter(|_| self.accepted + self.rejected == 0)),
            Some(Err(problem)) => {
                self.cut_off(&problem);
                State::Ending(self.refusal.take().or(Some(problem)))
            }
        };
    }

    /// The line that had begun is not admitted. A request of which nothing else came counts as one event.
    fn cut_off(&mut self, problem: &Problem) {
        if self.lines.has_unfinished() {
            let outcomes = vec![Outcome::NotAdmitted(Box::new(problem.clone()))];
            outcome::count(&outcomes);
            self.take(outcomes, Warnings::default());
        } else if self.next == 0 {
            count_refused(problem);
        }
    }

    /// Counts what became of some events, and writes it into the answer.
    fn take(&mut self, outcomes: Vec<Outcome>, warnings: Warnings) {
        let first = self.next;
        self.next += outcomes.len();
        self.warnings.append(first, warnings);
        if self.refusal.is_none() {
            self.refusal = outcomes.iter().find_map(|outcome| match outcome {
                Outcome::NotAdmitted(problem) => Some((**problem).clone()),
                _ => None,
            });
        }
        let mut tallied = SinkOutcome::default();
        outcome::tally(&mut tallied, first, outcomes);
        self.accepted += tallied.accepted;
        self.rejected += tallied.rejected.len();
        for refused in &tallied.rejected {
            self.push_entry(refused);
        }
        self.not_admitted.extend(tallied.not_admitted);
    }

    fn too_many_rejected(&self) -> Option<Problem> {
        let (accepted, rejected) = (self.accepted, self.rejected);
        (rejected > accepted.saturating_add(self.ingestion.limits.rejected_surplus_max)).then(|| {
            let advice = "correct what they have in common, and send the rest then";
            let message =
                format!("{rejected} events were rejected and {accepted} accepted, so the rest was not read; {advice}");
            Problem::invalid("TOO_MANY_REJECTED", message)
        })
    }

    /// Reads until a chunk is full, or no more comes for a moment. Answers how the request ended, if it did.
    async fn fill(&mut self) -> Option<Result<(), Problem>> {
        let ingestion = Arc::clone(&self.ingestion);
        let limits = &ingestion.limits;
        while self.lines.bytes() < limits.chunk_bytes_max && self.lines.count() < limits.chunk_events_max {
            let piece = match self.waiting.take() {
                Some(piece) => Ok(Some(piece)),
                None => self.next_piece(limits).await?,
            };
            let piece = match piece {
                Ok(Some(piece)) => piece,
                Ok(None) => {
                    self.lines.finish();
                    return Some(Ok(()));
                }
                Err(problem) => return Some(Err(problem)),
            };
            if let Err(problem) = self.hold(piece.len()) {
                // With the whole lines gone there may be room.
                if self.lines.count() == 0 {
                    return Some(Err(problem));
                }
                self.waiting = Some(piece);
                return None;
            }
            if self.lines.push(&piece).is_err() {
                self.lines.finish();
                return Some(Err(endless()));
            }
            if !self.lines.has_unfinished() || piece.contains(&b'\n') {
                self.line_since = Instant::now();
            }
        }
        None
    }

    /// The next piece of the body; `None` if whole lines are there and no more comes for a moment.
    async fn next_piece(&mut self, limits: &Limits) -> Option<Result<Option<Bytes>, Problem>> {
        let waited = if self.lines.has_unfinished() { self.line_since.elapsed() } else { Duration::ZERO };
        // However much of the line has come, and is there.
        if waited > limits.body_pause_max {
            return Some(Err(too_slow()));
        }
        let piece = next_piece(&mut self.body, limits.body_pause_max.saturating_sub(waited));
        if self.lines.count() == 0 {
            return Some(piece.await);
        }
        timeout(limits.chunk_linger, piece).await.ok()
    }

    /// Holds what there is and so much more: the lines, their records on the way into the log, and the answer.
    fn hold(&mut self, more: usize) -> Result<(), Problem> {
        self.reservation.hold(2 * (self.lines.bytes() + more) + self.answer.len())
    }

    /// Gives back what the lines held that are in the log now.
    fn let_go(&mut self) {
        // The answer may have grown by more than that; it has its own bound, and the next piece asks for all of it.
        let _over = self.hold(0);
        // The time that the log took is not the client's.
        self.line_since = Instant::now();
    }

    /// Writes the end of the answer.
    fn finish(&mut self) {
        let State::Ending(stopped) = std::mem::replace(&mut self.state, State::Done) else { return };
        let not_admitted = std::mem::take(&mut self.not_admitted);
        let ok = self.rejected == 0 && not_admitted.is_empty() && stopped.is_none();
        self.answer.push_str("],\"not_admitted\":[");
        self.first_entry = true;
        for refused in &not_admitted {
            self.push_entry(refused);
        }
        self.answer.push_str(&format!("],\"accepted\":{}", self.accepted));
        if let Some(Problem { code, message, .. }) = &stopped {
            let (code, message) = (json!(code), json!(message));
            self.answer.push_str(&format!(",\"not_read_from\":{},\"code\":{code},\"message\":{message}", self.next));
        }
        if !self.warnings.is_empty() {
            self.answer.push_str(&format!(",\"warnings\":{}", json!(self.warnings)));
        }
        self.answer.push_str(&format!(",\"ok\":{ok}}}"));
    }

    fn push_entry(&mut self, refused: &Refused) {
        if !std::mem::take(&mut self.first_entry) {
            self.answer.push(',');
        }
        self.answer.push_str(&json!(refused).to_string());
    }
}

fn endless() -> Problem {
    Problem::invalid(
        "LINE_TOO_LONG",
        "a line, or a run of blank lines, is far too long; end each event with one line break",
    )
}

fn json_answer(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

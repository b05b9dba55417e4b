//! NDJSON: events of a request of any length, appended as they come, answered when the request ends.
//!
//! The answer is `{"rejected": […], "not_admitted": […], "accepted": n, "ok": …}`. It is held back until the request has
//! been read, so that a client may send first and read afterwards; only an answer beyond its bound is sent meanwhile.
//! A request holds capacity for its lines and its answer as they are, so a waiting request holds nearly nothing.

mod response;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use ports::ErrorCode;
use ports::event_sink::{Refused, SinkOutcome};
use tokio::time::{Instant, timeout};
use uss_http::Problem;
use uss_http::pace::too_slow;

use crate::behind::BehindMax;
use crate::body::next_piece;
use crate::capacity::Reservation;
use crate::limits::Limits;
use crate::lines::Lines;
use crate::misplaced::Warnings;
use crate::mistaken;
use crate::outcome;
use crate::pipeline::{Ingestion, Options, Processed};
use response::{Answer, Rest, Stopped};

/// One NDJSON request under way.
pub(crate) struct Run {
    ingestion: Arc<Ingestion>,
    options: Options,
    behind_max: BehindMax,
    body: BodyDataStream,
    /// A piece of the body for which there was no room.
    waiting: Option<Bytes>,
    lines: Lines,
    /// When the unfinished line began.
    line_since: Instant,
    reservation: Reservation,
    /// The index of the next event.
    next: usize,
    accepted: usize,
    rejected: usize,
    not_admitted: Vec<Refused>,
    /// Why the first of those was not admitted.
    refusal: Option<Problem>,
    warnings: Warnings,
    answer: Answer,
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
    pub(crate) fn start(
        ingestion: Arc<Ingestion>,
        body: Body,
        client: Option<IpAddr>,
        (options, behind_max): (Options, BehindMax),
    ) -> Self {
        let reservation = ingestion.capacity.reservation(client);
        let lines = Lines::new(&ingestion.limits);
        Self {
            ingestion,
            options,
            behind_max,
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
            answer: Answer::new(),
            state: State::Reading,
        }
    }

    /// Reads the request and answers it.
    pub(crate) async fn respond(mut self) -> Response {
        let held = self.ingestion.limits.answer_bytes_held_max;
        while self.answer.len() <= held {
            match &mut self.state {
                State::Reading => self.read_chunk().await,
                State::Ending(Some(problem)) if self.accepted + self.rejected == 0 => {
                    return problem.clone().with("accepted", 0).into_response();
                }
                State::Ending(_) => self.finish(),
                State::Done => return json_answer(self.answer.take().into()),
            }
        }
        let rest = stream::unfold(self, |mut run| async {
            run.more().await.map(|piece| (Ok::<_, std::convert::Infallible>(piece), run))
        });
        json_answer(Body::from_stream(rest))
    }

    /// The next piece of an answer that is sent while the request is read.
    async fn more(&mut self) -> Option<Bytes> {
        while self.answer.len() == 0 {
            match &self.state {
                State::Reading => self.read_chunk().await,
                State::Ending(_) => self.finish(),
                State::Done => return None,
            }
        }
        Some(self.answer.take())
    }

    /// Fills a chunk, processes it, and writes what was rejected into the answer.
    async fn read_chunk(&mut self) {
        let end = self.fill().await;
        let mut lines = std::mem::replace(&mut self.lines, Lines::new(&self.ingestion.limits));
        let received = lines.received();
        if let Some(problem) = mistaken::one_value_over_lines(&received).filter(|_| self.next == 0) {
            outcome::count_not_admitted(1);
            self.state = State::Ending(Some(problem));
            return;
        }
        // One piece of a body may have far more lines than a chunk should.
        for part in received.chunks(self.ingestion.limits.chunk_events_max.max(1)) {
            let rejected_max = self.ingestion.limits.rejected_max;
            let left = rejected_max.saturating_sub(self.rejected);
            let read_to = self.next + part.len();
            match self.ingestion.process_within(part, self.options, left).await {
                Ok(processed) => self.take(processed),
                Err(error) => self.take_not_admitted(part.len(), error.into()),
            }
            if self.next < read_to {
                self.state = State::Ending(Some(outcome::too_many_rejected(rejected_max)));
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

    /// The line that had begun is not admitted. A request that sent nothing else counts as one event.
    fn cut_off(&mut self, problem: &Problem) {
        if self.lines.has_unfinished() {
            outcome::count_not_admitted(1);
            self.take_not_admitted(1, problem.clone());
        } else if self.next == 0 {
            outcome::count_not_admitted(1);
        }
    }

    /// Counts the outcomes of the next events, and writes those that were rejected into the answer.
    fn take(&mut self, Processed { outcomes, warnings }: Processed) {
        let first = self.next;
        self.next += outcomes.len();
        self.warnings.append(first, warnings);
        let mut tallied = SinkOutcome::default();
        outcome::tally(&mut tallied, first, outcomes);
        self.accepted += tallied.accepted;
        self.rejected += tallied.rejected.len();
        for refused in &tallied.rejected {
            self.answer.push(refused);
        }
    }

    /// Notes that the next events were not stored.
    fn take_not_admitted(&mut self, events: usize, problem: Problem) {
        let first = self.next;
        self.next += events;
        self.not_admitted.extend(outcome::not_admitted(first..self.next, problem.code, &problem.message));
        self.refusal.get_or_insert(problem);
    }

    /// Reads until a chunk is full, or no more comes for a moment. Returns how the request ended, if it did.
    async fn fill(&mut self) -> Option<Result<(), Problem>> {
        let ingestion = Arc::clone(&self.ingestion);
        let limits = &ingestion.limits;
        let mut has_waited = false;
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
            if !std::mem::replace(&mut has_waited, true) {
                if let Err(problem) = ingestion.wait_for_readers(self.behind_max).await {
                    return Some(Err(problem));
                }
                // The time that it took is not the client's.
                self.line_since = Instant::now();
            }
            if let Err(problem) = self.hold(piece.len()) {
                // With the whole lines gone there may be room.
                if self.lines.count() > 0 {
                    self.waiting = Some(piece);
                    return None;
                }
                // A request of which nothing is stored can be sent again as a whole.
                if self.next == 0 {
                    return Some(Err(problem));
                }
                let bytes = self.needed(piece.len());
                if let Err(problem) = self.reservation.hold_in_time(bytes, limits.room_wait_max).await {
                    return Some(Err(problem));
                }
                // The time that it took is not the client's.
                self.line_since = Instant::now();
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

    /// Returns the next piece of the body; `None` if whole lines are there and no more comes for a moment.
    async fn next_piece(&mut self, limits: &Limits) -> Option<Result<Option<Bytes>, Problem>> {
        let waited = if self.lines.has_unfinished() { self.line_since.elapsed() } else { Duration::ZERO };
        // Even if more of the line has come already.
        if waited > limits.body_pause_max {
            return Some(Err(too_slow()));
        }
        let piece = next_piece(&mut self.body, limits.body_pause_max.saturating_sub(waited));
        if self.lines.count() == 0 {
            return Some(piece.await);
        }
        timeout(limits.chunk_linger, piece).await.ok()
    }

    /// Reserves room for the lines and `more` bytes of them, for their records on the way into the log, and for the answer.
    fn hold(&mut self, more: usize) -> Result<(), Problem> {
        self.reservation.hold(self.needed(more))
    }

    fn needed(&self, more: usize) -> usize {
        2 * (self.lines.bytes() + more) + self.answer.len()
    }

    /// Gives back the room of lines that are in the log now.
    fn let_go(&mut self) {
        // The answer may have grown by more than that; it has its own bound, and the next piece asks for all of it.
        let _over = self.hold(0);
        // The time that the log took is not the client's.
        self.line_since = Instant::now();
    }

    /// Writes the end of the answer.
    fn finish(&mut self) {
        let State::Ending(stopped) = std::mem::replace(&mut self.state, State::Done) else { return };
        let ok = self.rejected == 0 && self.not_admitted.is_empty() && stopped.is_none();
        let stopped = stopped.as_ref();
        let stopped =
            stopped.map(|Problem { code, message, .. }| Stopped { not_read_from: self.next, code: *code, message });
        let rest =
            Rest { not_admitted: &self.not_admitted, accepted: self.accepted, stopped, warnings: &self.warnings, ok };
        self.answer.finish(&rest);
    }
}

fn endless() -> Problem {
    Problem::invalid(
        ErrorCode::LineTooLong,
        "a line, or a run of blank lines, is far too long; end each event with one line break",
    )
}

fn json_answer(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

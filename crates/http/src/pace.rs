//! Limits how slowly a body may arrive. A client that sends one in drips keeps a connection and
//! memory for as long as it likes.

use ports::ErrorCode;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::problem::{Kind, Problem};

/// The least speed of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The time that a body has in any case.
    pub grace: Duration,
    /// The bytes that earn a body one second more.
    pub bytes_per_second_min: usize,
    /// The longest time of a body, however many bytes it has.
    pub time_max: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { grace: Duration::from_secs(10), bytes_per_second_min: 1 << 10, time_max: Duration::from_secs(300) }
    }
}

impl Pace {
    /// Returns the time that a body may take, after `bytes` of it have arrived.
    pub fn time_for(&self, bytes: usize) -> Duration {
        let earned = Duration::from_secs((bytes / self.bytes_per_second_min.max(1)) as u64);
        (self.grace + earned).min(self.time_max)
    }

    /// Applies this pace to the bodies of all requests that reach `router`: 408 for a body that is
    /// too slow.
    pub fn hold<S: Clone + Send + Sync + 'static>(self, router: Router<S>) -> Router<S> {
        router.layer(from_fn_with_state(self, hold))
    }
}

/// 408 for a body that arrives too slowly.
pub fn too_slow() -> Problem {
    let message = "the body arrives too slowly; send it faster, or send less";
    Problem::new(Kind::TooSlow, ErrorCode::BodyTooSlow, message)
}

async fn hold(State(pace): State<Pace>, request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let is_late = Arc::new(AtomicBool::new(false));
    let request = request.map(|body| {
        let (started, late) = (Instant::now(), is_late.clone());
        Body::new(Paced { body, pace, started, bytes: 0, until: Box::pin(sleep_until(started)), is_late: late })
    });
    let response = next.run(request).await;
    // Replaces any response to the broken body, because this is the cause.
    if is_late.load(Ordering::Relaxed) { too_slow().into_response() } else { response }
}

/// A body that fails when it is too slow.
struct Paced {
    body: Body,
    pace: Pace,
    started: Instant,
    bytes: usize,
    until: Pin<Box<Sleep>>,
    is_late: Arc<AtomicBool>,
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            if let Some(Ok(frame)) = &frame {
                this.bytes += frame.data_ref().map_or(0, Bytes::len);
            }
            return Poll::Ready(frame);
        }
        this.until.as_mut().reset(this.started + this.pace.time_for(this.bytes));
        ready!(this.until.as_mut().poll(context));
        this.is_late.store(true, Ordering::Relaxed);
        Poll::Ready(Some(Err(axum::Error::new(std::io::Error::from(std::io::ErrorKind::TimedOut)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_earns_time_with_its_bytes() {
        let seconds = |bytes| Pace::default().time_for(bytes).as_secs();
        assert_eq!((seconds(0), seconds(10 << 10), seconds(16 << 20)), (10, 20, 300));
    }
}

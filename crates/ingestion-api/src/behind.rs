//! Requests wait while the readers of the log are far behind.
//!
//! Events come in faster than they are applied and archived. Without a bound a site that sends all it
//! can would find its notifications late and its warehouse old, by more and more.

use std::time::Duration;

use axum::http::{HeaderMap, header};
use ports::ErrorCode;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use uss_http::{Kind, Problem};

use crate::limits::Limits;
use crate::pipeline::Ingestion;

/// How often a request that waits asks again.
const ASKED_EVERY: Duration = Duration::from_millis(50);

/// How many records the readers may be behind for a request not to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BehindMax(u64);

impl BehindMax {
    /// A request of few events waits later: it is a visitor's, and adds little.
    pub(crate) fn of(headers: &HeaderMap, limits: &Limits) -> Self {
        let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let is_short = length.is_some_and(|length: usize| length <= limits.event_bytes_max);
        let is_packed = headers.contains_key(header::CONTENT_ENCODING);
        Self(if is_short && !is_packed { limits.behind_short_max } else { limits.behind_max })
    }
}

impl Ingestion {
    /// Waits until the readers of the log are near enough. To be called before much of a body is read:
    /// the rest waits with its client.
    ///
    /// # Errors
    /// 429 if they were too far behind all the time, or if too many requests wait already.
    pub(crate) async fn wait_for_readers(&self, max: BehindMax) -> Result<(), Problem> {
        let Some(readers) = &self.readers else { return Ok(()) };
        if readers.behind().await <= max.0 {
            return Ok(());
        }
        let Some(_place) = HeldUp::among(&self.held_up) else { return Err(behind()) };
        let deadline = Instant::now() + self.limits.behind_wait_max;
        while Instant::now() < deadline {
            tokio::time::sleep(ASKED_EVERY).await;
            if readers.behind().await <= max.0 {
                return Ok(());
            }
        }
        Err(behind())
    }
}

fn behind() -> Problem {
    let message = "USS is behind with the events that it has; nothing more was stored, send it again later";
    Problem::new(Kind::TooMany, ErrorCode::OverCapacity, message)
}

/// Counts a request that waits until it is dropped.
struct HeldUp<'a>(#[expect(dead_code, reason = "gives its place back")] SemaphorePermit<'a>);

impl<'a> HeldUp<'a> {
    fn among(places: &'a Semaphore) -> Option<Self> {
        let place = places.try_acquire().ok()?;
        metrics::gauge!("uss_requests_held_up").increment(1.0);
        Some(Self(place))
    }
}

impl Drop for HeldUp<'_> {
    fn drop(&mut self) {
        metrics::gauge!("uss_requests_held_up").decrement(1.0);
    }
}

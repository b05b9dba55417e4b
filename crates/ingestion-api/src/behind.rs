//! Requests wait while the readers of the log are far behind.
//!
//! Events come in faster than they are applied and archived. Without a bound a site that sends all it
//! can would find its notifications late and its warehouse old, by more and more.

use std::time::Duration;

use axum::http::{HeaderMap, header};
use ports::ErrorCode;
use tokio::time::Instant;
use uss_http::{Kind, Problem};

use crate::limits::Limits;
use crate::pipeline::Ingestion;

/// How often a request that waits asks again.
const ASKED_EVERY: Duration = Duration::from_millis(20);

/// How many records the readers may be behind for a request not to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BehindMax(u64);

impl BehindMax {
    /// A request of few events waits later: it is a visitor's, and adds little.
    pub(crate) fn of(headers: &HeaderMap, limits: &Limits) -> Self {
        let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let is_short = length.is_some_and(|length: usize| length <= limits.event_bytes_max);
        Self(if is_short { limits.behind_short_max } else { limits.behind_max })
    }
}

impl Ingestion {
    /// Waits until the readers of the log are near enough. To be called before a body is read, which
    /// then waits with its client.
    ///
    /// # Errors
    /// 429 if they were too far behind all the time.
    pub(crate) async fn wait_for_readers(&self, max: BehindMax) -> Result<(), Problem> {
        let Some(readers) = &self.readers else { return Ok(()) };
        if readers.behind().await <= max.0 {
            return Ok(());
        }
        let (_counted, deadline) = (HeldUp::count(), Instant::now() + self.limits.room_wait_max);
        while Instant::now() < deadline {
            tokio::time::sleep(ASKED_EVERY).await;
            if readers.behind().await <= max.0 {
                return Ok(());
            }
        }
        let message = "USS is behind with the events that it has; nothing more was stored, send it again later";
        Err(Problem::new(Kind::TooMany, ErrorCode::OverCapacity, message))
    }
}

/// Counts a request that waits until it is dropped.
struct HeldUp;

impl HeldUp {
    fn count() -> Self {
        metrics::gauge!("uss_requests_held_up").increment(1.0);
        Self
    }
}

impl Drop for HeldUp {
    fn drop(&mut self) {
        metrics::gauge!("uss_requests_held_up").decrement(1.0);
    }
}

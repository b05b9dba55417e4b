//! How partitions share a thread.

use std::time::{Duration, Instant};

/// How long a partition runs before it lets others run, between two events.
///
/// It is a time and not a number of events: an expensive clause may take a second for one event.
/// Each change of partition empties the processor's caches of a partition's state, so a slice is
/// much longer than a usual event takes.
pub(crate) struct Slice {
    began: Instant,
    length: Duration,
}

impl Slice {
    pub(crate) fn begin(length: Duration) -> Self {
        Self { began: Instant::now(), length }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.began.elapsed() >= self.length
    }

    /// If the slice is over, lets others run and begins the next one.
    pub(crate) async fn end_if_over(&mut self) {
        if self.is_over() {
            tokio::task::yield_now().await;
            self.began = Instant::now();
        }
    }
}

//! How partitions share a thread.

use std::time::{Duration, Instant};

/// For how long a partition keeps its thread before others run.
///
/// An expensive clause may take a second for one event, so events are not counted. After every
/// change of partition the processor's caches hold the wrong machine, so a slice is much longer
/// than the time of a usual event.
pub(crate) struct Slice {
    began: Instant,
    length: Duration,
}

impl Slice {
    pub(crate) fn begin(length: Duration) -> Self {
        Self { began: Instant::now(), length }
    }

    /// If the slice is over, lets others run and begins the next one.
    pub(crate) async fn end_if_over(&mut self) {
        if self.began.elapsed() >= self.length {
            tokio::task::yield_now().await;
            self.began = Instant::now();
        }
    }
}

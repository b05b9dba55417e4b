//! How partitions share a thread.

use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

/// The cores for what events need not wait for: to catch up, to add history, to save users. Shared by
/// all partitions: a turn that has records waits for the slices that others run, not for all that they
/// have to do.
#[derive(Clone, Debug)]
pub struct Background(Arc<Semaphore>);

impl Default for Background {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(available_parallelism().map_or(1, std::num::NonZero::get))))
    }
}

impl Background {
    /// Waits for a core. What is done with it takes some slices at most, and waits for nothing.
    pub(crate) async fn core(&self) -> SemaphorePermit<'_> {
        self.0.acquire().await.expect("the semaphore is never closed")
    }

    /// Returns a core if one is free.
    pub(crate) fn free_core(&self) -> Option<SemaphorePermit<'_>> {
        self.0.try_acquire().ok()
    }
}

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

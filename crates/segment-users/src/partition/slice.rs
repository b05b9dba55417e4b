//! How partitions share a thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

/// The cores for what events need not wait for: to catch up, to add history, to save users. Shared by
/// all partitions. While records come, only half of the cores are for that, or a turn that has some
/// would wait for a slice of each other partition.
#[derive(Clone, Debug)]
pub struct Background(Arc<Cores>);

#[derive(Debug)]
struct Cores {
    all: Semaphore,
    began: Instant,
    /// When records came last, in milliseconds since the beginning.
    records_at: AtomicU64,
}

/// For how long records are expected after the last.
const RECORDS_WITHIN_MS: u64 = 100;

impl Default for Background {
    fn default() -> Self {
        // Half of two is one: a single core is for both.
        let cores = available_parallelism().map_or(1, std::num::NonZero::get).max(2);
        Self(Arc::new(Cores { all: Semaphore::new(cores), began: Instant::now(), records_at: AtomicU64::new(0) }))
    }
}

impl Background {
    /// Notes that a partition has records.
    pub(crate) fn note_records(&self) {
        self.0.records_at.store(self.0.now(), Ordering::Relaxed);
    }

    /// Waits for a core. What is done with it takes some slices at most, and waits for nothing.
    pub(crate) async fn core(&self) -> SemaphorePermit<'_> {
        self.0.all.acquire_many(self.0.share()).await.expect("the semaphore is never closed")
    }

    /// Returns a core if one is free.
    pub(crate) fn free_core(&self) -> Option<SemaphorePermit<'_>> {
        self.0.all.try_acquire_many(self.0.share()).ok()
    }
}

impl Cores {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns how many cores are taken for work on one of them.
    fn share(&self) -> u32 {
        if self.now() < self.records_at.load(Ordering::Relaxed).saturating_add(RECORDS_WITHIN_MS) { 2 } else { 1 }
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

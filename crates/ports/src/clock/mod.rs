//! The current time comes from outside, so that tests decide it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use segment_engine::time::Timestamp;

mod guarded;
mod status;

pub use guarded::{GuardedClock, Limits};
pub use status::{ClockStatus, Implausible, Jump};

/// A source of the current time.
pub trait Clock: Send + Sync + 'static {
    /// Returns the current instant. It need not be monotone: the log ensures that for its records.
    fn now(&self) -> Timestamp;

    /// Returns how far this time can be trusted. A clock without a guard is always trusted.
    fn status(&self) -> ClockStatus {
        ClockStatus::default()
    }

    /// Accepts the time that the system clock shows, although it jumped.
    fn accept(&self) {}
}

/// A source of elapsed time that cannot be set.
pub trait Monotonic: Send + Sync + 'static {
    /// Returns microseconds since a fixed moment, including the time that the machine was
    /// suspended.
    fn elapsed_micros(&self) -> i64;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

/// A clock that a test sets.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// Creates a clock that shows `at`.
    pub fn at(at: Timestamp) -> Self {
        Self(AtomicI64::new(at.0))
    }

    /// Moves the clock to a time, also to an earlier one.
    pub fn set(&self, to: Timestamp) {
        self.0.store(to.0, Ordering::SeqCst);
    }

    /// Moves the clock forward.
    pub fn advance_micros(&self, micros: i64) {
        self.0.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

impl Monotonic for ManualClock {
    fn elapsed_micros(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

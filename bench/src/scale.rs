//! How large a run is.

use std::time::Duration;

/// Sizes of all parts.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    /// Whether this is a short run.
    pub quick: bool,
    /// Users and events of the site.
    pub users: u64,
    pub events: usize,
    /// Events of one run of the engine alone.
    pub engine_events: usize,
    /// The most users that the engine alone has.
    pub users_max: u64,
    /// Runs of the engine alone.
    pub runs: usize,
    /// Runs of each size of a picture.
    pub growth_runs: usize,
    /// Runs with a server.
    pub served_runs: u64,
    /// Counts and durations of the other parts are divided by this.
    divisor: u32,
}

impl Scale {
    pub(crate) const REAL: Self = Self {
        quick: false,
        users: 1_000_000,
        events: 10_000_000,
        engine_events: 500_000,
        users_max: 10_000_000,
        runs: 5,
        growth_runs: 3,
        served_runs: 3,
        divisor: 1,
    };
    pub(crate) const QUICK: Self = Self {
        quick: true,
        users: 50_000,
        events: 500_000,
        engine_events: 100_000,
        users_max: 100_000,
        runs: 3,
        growth_runs: 1,
        served_runs: 1,
        divisor: 4,
    };

    /// Returns how many of something a part has.
    pub(crate) fn count(self, real: u64) -> u64 {
        real / u64::from(self.divisor)
    }

    /// Returns how long a part does something.
    pub(crate) fn duration(self, real: Duration) -> Duration {
        real / self.divisor
    }
}

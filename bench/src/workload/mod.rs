//! The workload: segments and events from fixed seeds.

mod events;
mod lines;
mod segments;

pub(crate) use events::{Events, Mix};
pub(crate) use lines::{History, Lines, plain_event};
pub(crate) use segments::{Clauses, Rolling, clauses, clauses_with_rare, entered_by_every_event, rolling};

/// Ranks from 0, with probability proportional to 1 / (rank + 1).
pub(crate) struct Zipf(Vec<f64>);

impl Zipf {
    /// Has ranks from 0 to `n - 1`.
    pub(crate) fn new(n: usize) -> Self {
        let mut sum = 0.0;
        let mut cumulative: Vec<f64> = Vec::with_capacity(n);
        for rank in 0..n {
            sum += 1.0 / (rank + 1) as f64;
            cumulative.push(sum);
        }
        cumulative.iter_mut().for_each(|value| *value /= sum);
        Self(cumulative)
    }

    /// Picks a rank.
    pub(crate) fn pick(&self, random: &mut fastrand::Rng) -> usize {
        let at = random.f64();
        self.0.partition_point(|value| *value < at)
    }
}

/// The number of activities; lower numbers are more frequent.
const ACTIVITIES: usize = 50;
const CATEGORIES: usize = 200;
const SECOND: i64 = 1_000_000;
const MILLISECOND: i64 = 1_000;
const DAY: i64 = 86_400 * SECOND;

/// Returns the client's id of a user.
pub(crate) fn client_id(user: u64) -> String {
    format!("{user:08x}-4bf7-b9db-fe4484c604a5")
}

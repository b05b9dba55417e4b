//! Which accumulators of a user lack events because they were full.

use super::accumulator_key::AccumulatorId;
use crate::time::Timestamp;

/// The accumulators that refused events of a user. Each has the instant at which the last refused
/// event would have ended: from then on the accumulator is exact again.
#[derive(Clone, Debug, Default)]
pub(super) struct Limited(Vec<(AccumulatorId, Timestamp)>);

impl Limited {
    pub(super) const NONE: Self = Self(Vec::new());

    /// Notes a refusal. Returns whether the accumulator was exact before.
    pub(super) fn note(&mut self, accumulator: AccumulatorId, until: Timestamp, now: Timestamp) -> bool {
        let Some((_, known)) = self.0.iter_mut().find(|(id, _)| *id == accumulator) else {
            self.0.push((accumulator, until));
            return true;
        };
        let was_exact = *known <= now;
        *known = until.max(*known);
        was_exact
    }

    /// Returns the accumulators that lack events now, each until when.
    pub(super) fn accumulators(&self, now: Timestamp) -> impl Iterator<Item = (AccumulatorId, Timestamp)> {
        self.0.iter().copied().filter(move |(_, until)| *until > now)
    }

    /// Forgets accumulators that no segment reads any longer.
    pub(super) fn forget(&mut self, unused: &[AccumulatorId]) {
        self.0.retain(|(id, _)| !unused.contains(id));
    }
}

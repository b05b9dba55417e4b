//! Which accumulators of a user lack events because they were full.

use super::accumulator_key::AccumulatorId;
use crate::time::Timestamp;

/// The accumulators that refused events of a user. Each has the instant at which the last refused
/// event would have ended: from then on the accumulator is exact again. A box, because hardly any
/// user has one.
#[derive(Clone, Debug, Default)]
pub(super) struct Limited(Option<Box<Refusals>>);

#[derive(Clone, Debug, Default)]
struct Refusals {
    accumulators: Vec<(AccumulatorId, Timestamp)>,
}

impl Limited {
    /// Notes a refusal. Returns whether the accumulator was exact before.
    pub(super) fn note(&mut self, accumulator: AccumulatorId, until: Timestamp, now: Timestamp) -> bool {
        let accumulators = &mut self.0.get_or_insert_default().accumulators;
        let Some((_, known)) = accumulators.iter_mut().find(|(id, _)| *id == accumulator) else {
            accumulators.push((accumulator, until));
            return true;
        };
        let was_exact = *known <= now;
        *known = until.max(*known);
        was_exact
    }

    /// Returns the accumulators that lack events now, each until when.
    pub(super) fn accumulators(&self, now: Timestamp) -> impl Iterator<Item = (AccumulatorId, Timestamp)> {
        let accumulators = self.0.iter().flat_map(|refusals| &refusals.accumulators);
        accumulators.copied().filter(move |(_, until)| *until > now)
    }

    /// Forgets accumulators that no segment reads any longer.
    pub(super) fn forget(&mut self, unused: &[AccumulatorId]) {
        if let Some(refusals) = &mut self.0 {
            refusals.accumulators.retain(|(id, _)| !unused.contains(id));
        }
    }
}

//! What happens when an accumulator of a user is full.

use super::index::UserSlot;
use super::user::User;
use super::{AccumulatorId, Failure, Machine};
use crate::accumulator::{CapacityExceeded, ENTRIES_MAX};
use crate::ids::SegmentId;
use crate::time::Timestamp;

impl Machine {
    /// Notes that an accumulator of the user was full and refused events. Reports a failure when
    /// that begins, for the segments of which it was not reported before: a user who stays beyond
    /// the bound has one record, not one per event.
    pub(super) fn refused(
        &mut self,
        slot: UserSlot,
        accumulator: AccumulatorId,
        CapacityExceeded { until }: CapacityExceeded,
    ) {
        let user = self.users[slot.0 as usize].as_mut().expect("the caller found it");
        let before: Vec<AccumulatorId> = user.rare().limited.accumulators(self.now).map(|(id, _)| id).collect();
        if !user.rare_mut().limited.note(accumulator, until, self.now) {
            return;
        }
        let reported: Vec<SegmentId> = before.into_iter().flat_map(|id| self.catalog.segments_of(id)).collect();
        let segments = self.catalog.segments_of(accumulator);
        let mut segments: Vec<SegmentId> = segments.filter(|id| !reported.contains(id)).collect();
        segments.sort_unstable();
        segments.dedup();
        if segments.is_empty() {
            return;
        }
        let reason = format!(
            "more than {ENTRIES_MAX} events or values of one user count in one window. The others are left out, so these \
             segments may be wrong for the user until {}. Shorten the window, use a lower threshold, or give a funnel a \
             window in its FILTER. This is reported once, not for each event",
            if until == Timestamp::MAX { "the segment changes".to_owned() } else { format!("{until} or later") }
        );
        self.failures.push(Failure { user: user.id, segments, reason });
    }

    /// Whether one of these accumulators lacks events of the user now.
    pub(super) fn is_limited(&self, user: &User, accumulators: &[AccumulatorId]) -> bool {
        user.rare().limited.accumulators(self.now).any(|(id, _)| accumulators.contains(&id))
    }
}

#[cfg(test)]
mod tests;

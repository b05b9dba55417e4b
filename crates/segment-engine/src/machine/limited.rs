//! Which states of a user lack events because they were full.

use super::user::User;
use super::{Failure, Machine, StoreId};
use crate::leaf::{ENTRIES_MAX, Overfull};
use crate::time::Timestamp;

/// The stores that refused events of a user, each with the instant at which the last of those would have ended: from then on
/// it is exact again. A box, because hardly any user has one.
#[derive(Clone, Debug, Default)]
pub(super) struct Limited(Option<Box<Refusals>>);

#[derive(Clone, Debug, Default)]
struct Refusals {
    stores: Vec<(StoreId, Timestamp)>,
}

impl Limited {
    /// Notes a refusal. Answers whether the store was exact before.
    pub(super) fn note(&mut self, store: StoreId, until: Timestamp, now: Timestamp) -> bool {
        let stores = &mut self.0.get_or_insert_default().stores;
        let Some((_, known)) = stores.iter_mut().find(|(id, _)| *id == store) else {
            stores.push((store, until));
            return true;
        };
        let was_exact = *known <= now;
        *known = until.max(*known);
        was_exact
    }

    /// The stores that lack something now.
    pub(super) fn stores(&self, now: Timestamp) -> impl Iterator<Item = (StoreId, Timestamp)> {
        let stores = self.0.iter().flat_map(|refusals| &refusals.stores);
        stores.copied().filter(move |(_, until)| *until > now)
    }

    /// Forgets stores that are no longer read.
    pub(super) fn forget(&mut self, unused: &[StoreId]) {
        if let Some(refusals) = &mut self.0 {
            refusals.stores.retain(|(id, _)| !unused.contains(id));
        }
    }
}

impl Machine {
    /// A store had no place for events of the user. It is told when that begins, for the segments of which it was not told
    /// before: a user who goes on beyond the bound has one record, not one for each event.
    pub(super) fn refused(&mut self, slot: u32, store: StoreId, Overfull { until }: Overfull) {
        let user = self.users[slot as usize].as_mut().expect("the caller found it");
        let before: Vec<StoreId> = user.limited.stores(self.now).map(|(id, _)| id).collect();
        if !user.limited.note(store, until, self.now) {
            return;
        }
        let told: Vec<i64> = before.into_iter().flat_map(|id| self.catalog.segments_of(id)).collect();
        let mut segments: Vec<i64> = self.catalog.segments_of(store).filter(|id| !told.contains(id)).collect();
        segments.sort_unstable();
        segments.dedup();
        if segments.is_empty() {
            return;
        }
        let reason = format!(
            "more than {ENTRIES_MAX} events or values of one user count in one window: those beyond are left out, so these \
             segments may be wrong for the user until {}; shorten the window, use a lower threshold, or give a funnel a window \
             in its FILTER. It is told once, not for each event",
            if until == Timestamp::MAX { "the segment changes".to_owned() } else { format!("{until} or later") }
        );
        self.failures.push(Failure { user: user.id, segments, reason });
    }

    /// Whether one of these stores lacks something of the user now.
    pub(super) fn is_limited(&self, user: &User, stores: &[StoreId]) -> bool {
        user.limited.stores(self.now).any(|(id, _)| stores.contains(&id))
    }
}

#[cfg(test)]
mod tests;

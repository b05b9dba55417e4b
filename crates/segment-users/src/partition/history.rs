//! Reads users' past events from the warehouse into accumulators, with bounded memory.

use std::collections::{BTreeMap, VecDeque};

use ports::warehouse::{History, HistoryOf, Warehouse, WarehouseError};
use segment_engine::event::Event;
use segment_engine::ids::UserId;
use segment_engine::machine::{AccumulatorId, Machine};
use serde::{Deserialize, Serialize};

use super::slice::Slice;
use super::{Partition, WorkerError};
use crate::settings::Settings;

/// A user's history that is still to be read, of one of the ids that it was received with.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Unread {
    user: UserId,
    /// The user, or one that was merged into them.
    source: UserId,
    /// What comes before this offset of the source's partition has been read.
    from: u64,
}

impl Unread {
    pub(crate) fn new(user: UserId, source: UserId) -> Self {
        Self { user, source, from: 0 }
    }
}

/// An event of a user who was merged into another. It counts for that one.
#[derive(Debug)]
pub(crate) struct MergedEvent {
    /// The id of the user who was merged.
    source: UserId,
    /// With the other one's id.
    event: Event,
}

impl MergedEvent {
    /// Adds the event to those of the accumulators that did not get it live.
    pub(crate) fn add(&self, machine: &mut Machine, accumulators: &[AccumulatorId]) {
        machine.add_history(accumulators, self.source, &self.event);
    }
}

/// Reads some of the history at the end of `unread`, and removes what it has read there.
/// Cancel-safe.
pub(crate) async fn read_some(
    machine: &Machine,
    warehouse: &dyn Warehouse,
    settings: &Settings,
    accumulators: &[AccumulatorId],
    unread: &mut Vec<Unread>,
) -> Result<VecDeque<MergedEvent>, WarehouseError> {
    let rest = unread.len().saturating_sub(settings.backfill_users_per_read);
    // A user that was merged away meanwhile took the sources along.
    let present = unread[rest..].iter().filter(|unread| machine.knows(unread.user));
    let sources: BTreeMap<UserId, Unread> = present.map(|unread| (unread.source, *unread)).collect();
    let parts: Vec<HistoryOf> = sources
        .values()
        .map(|Unread { user, source, from }| HistoryOf {
            user: *source,
            from: *from,
            below: machine.history_below(accumulators, *user, *source),
        })
        .collect();
    let History { events, left } = warehouse.history(&parts, settings.history_bytes_max).await?;
    unread.truncate(rest);
    unread.extend(left.into_iter().map(|part| Unread { from: part.from, ..sources[&part.user] }));
    let of_present_user = |event: Event| {
        let source = event.user_id;
        MergedEvent { source, event: Event { user_id: sources[&source].user, ..event } }
    };
    Ok(events.into_iter().map(of_present_user).collect())
}

impl Partition {
    /// Reads all of this history into accumulators.
    pub(crate) async fn read_history(
        &mut self,
        accumulators: &[AccumulatorId],
        mut unread: Vec<Unread>,
    ) -> Result<(), WorkerError> {
        let mut slice = Slice::begin(self.settings.slice);
        while !unread.is_empty() {
            let warehouse = self.ports.warehouse.as_ref();
            let events = read_some(&self.machine, warehouse, &self.settings, accumulators, &mut unread).await?;
            for event in events {
                event.add(&mut self.machine, accumulators);
                slice.end_if_over().await;
            }
        }
        Ok(())
    }
}

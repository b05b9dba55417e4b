//! A log that is behind those who read it: its end was lost, or all of it.

use configuration_api::PRODUCER as OUTBOX;
use ports::checkpoints::{CheckpointError, Generation};
use ports::log::Topic;

use super::restore::{self, PRODUCER};
use super::{Failure, LOG_GIVEN_UP, LOG_WAY_BACK, Loss};
use crate::serve::open::Opened;

/// Where the readers of a partition stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    /// Of the warehouse, in the events.
    pub archived: u64,
    /// Of the memberships in the config store, in the notifications.
    pub stored: u64,
    /// Of the commit and the checkpoints, in the events and in the notifications: they lie with the log, but not in one file.
    pub computed: (u64, u64),
}

impl Positions {
    pub async fn of(opened: &Opened, partition: u32) -> Result<Self, Failure> {
        let archived = opened.warehouse.archive_position(partition).await?;
        let stored = opened.memberships.membership_positions().await?;
        let stored = stored.iter().find(|(other, _)| *other == partition).map_or(0, |(_, position)| *position);
        let mut computed = (0, 0);
        let mut note = |progress: ports::log::Progress| {
            computed = (computed.0.max(progress.next_offset), computed.1.max(progress.notifications_offset));
        };
        opened.log.committed(partition).await?.into_iter().for_each(&mut note);
        for generation in [Generation::Latest, Generation::Kept] {
            match opened.checkpoints.marker(partition, generation).await {
                // The partition says what becomes of it.
                Err(CheckpointError::Corrupt { .. }) => {}
                marker => marker?.into_iter().for_each(&mut note),
            }
        }
        Ok(Self { archived, stored, computed })
    }
}

/// The last row of the outbox that was certainly sent: those before the first that is left.
pub async fn sent(opened: &Opened) -> Result<u64, Failure> {
    let first = opened.store.outbox(0, 1).await?;
    Ok(first.first().map_or(0, |row| row.id.saturating_sub(1)))
}

/// What the log has lost, if it has.
pub async fn is_behind(opened: &Opened) -> Result<Option<Loss>, Failure> {
    let log = opened.log.as_ref();
    let (mut archived, mut stored, mut computed) = (Beyond::default(), Beyond::default(), Beyond::default());
    for partition in 0..log.partitions() {
        let positions = Positions::of(opened, partition).await?;
        let (_, events) = log.bounds(Topic::Events, partition).await?;
        let (_, notifications) = log.bounds(Topic::Notifications, partition).await?;
        archived.note(partition, positions.archived, events);
        stored.note(partition, positions.stored, notifications);
        computed.note(partition, positions.computed.0, events);
        computed.note(partition, positions.computed.1, notifications);
    }
    let mut parts = Vec::new();
    parts.extend(archived.told("the warehouse has records that it has not"));
    parts.extend(stored.told("the memberships in the config store come of notifications that it has not"));
    parts.extend(computed.told("the checkpoints come of records that it has not"));
    let (sent, has) = (sent(opened).await?, log.producer_sequence(OUTBOX).await?);
    if sent > has {
        parts.push(format!("changes up to {sent} were sent to it, and it has them up to {has}"));
    }
    if restore::is_under_way(log.producer_sequence(PRODUCER).await?) {
        parts.push("a start with --accept-loss was interrupted".to_owned());
    }
    let lost = format!("log/ was removed, lost its end, or is an older copy: {}", parts.join("; "));
    let loss = Loss { lost, given_up: LOG_GIVEN_UP.to_owned(), way_back: LOG_WAY_BACK };
    Ok((!parts.is_empty()).then_some(loss))
}

/// What the warehouse has lost that is no longer in the log, if it has.
pub async fn has_left(opened: &Opened) -> Result<Option<Loss>, Failure> {
    let mut missing = Beyond::default();
    for partition in 0..opened.log.partitions() {
        let (first, _) = opened.log.bounds(Topic::Events, partition).await?;
        missing.note(partition, first, opened.warehouse.archive_position(partition).await?);
    }
    Ok(missing.told("it lacks records that have left the log since").map(|told| Loss {
        lost: format!("warehouse.duckdb was removed, or is an older copy: {told}"),
        given_up: "new segments and previews do not see those events; segments that are in force do".to_owned(),
        way_back: "Put warehouse.duckdb of the same time as log/ in its place",
    }))
}

/// How far something stands beyond where it may.
#[derive(Default)]
struct Beyond {
    records: u64,
    partitions: Vec<u32>,
}

impl Beyond {
    fn note(&mut self, partition: u32, position: u64, end: u64) {
        if position > end {
            self.records += position - end;
            self.partitions.push(partition);
        }
    }

    fn told(mut self, what: &str) -> Option<String> {
        self.partitions.dedup();
        let partitions = self.partitions.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        (self.records > 0).then(|| format!("{what}, {} of them (partitions {partitions})", self.records))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_beyond_is_told() {
        let mut beyond = Beyond::default();
        for (partition, position, end) in [(0, 5, 5), (1, 4, 5), (2, 0, 0)] {
            beyond.note(partition, position, end);
        }
        assert_eq!(beyond.told("x"), None);
        let mut beyond = Beyond::default();
        for (partition, position, end) in [(0, 5, 5), (3, 9, 5), (4, 1, 0), (4, 2, 1)] {
            beyond.note(partition, position, end);
        }
        assert_eq!(beyond.told("x").as_deref(), Some("x, 6 of them (partitions 3, 4)"));
    }
}

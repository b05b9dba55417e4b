//! Finds a log that is behind its readers, because its end or all of it was lost.

use configuration_api::PRODUCER as OUTBOX;
use ports::checkpoints::{CheckpointError, Generation};
use ports::log::Topic;
use segment_engine::ids::PartitionId;

use super::restore;
use super::{Failure, LOG_GIVEN_UP, LOG_WAY_BACK, Loss};
use crate::serve::open::Opened;

/// The positions of a partition's readers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Positions {
    /// The warehouse's position in the events.
    pub archived: u64,
    /// The config store's position in the notifications, from which its memberships come.
    pub stored: u64,
    /// The positions of the commit and the checkpoints in the events and the notifications. Both
    /// are stored with the log, but not in the same file.
    pub computed: (u64, u64),
}

impl Positions {
    pub(super) async fn of(opened: &Opened, partition: PartitionId) -> Result<Self, Failure> {
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
                // The partition reports a damaged checkpoint.
                Err(CheckpointError::Corrupt { .. }) => {}
                marker => marker?.into_iter().for_each(&mut note),
            }
        }
        Ok(Self { archived, stored, computed })
    }
}

/// Returns the last row of the outbox that was certainly sent: the one before the first that is
/// left.
pub(super) async fn sent(opened: &Opened) -> Result<u64, Failure> {
    let first = opened.store.outbox(0, 1).await?;
    Ok(first.first().map_or(0, |row| row.id.saturating_sub(1)))
}

/// Returns what the log has lost, if anything.
pub(super) async fn is_behind(opened: &Opened) -> Result<Option<Loss>, Failure> {
    let log = opened.log.as_ref();
    let (mut archived, mut stored, mut computed) = (Beyond::default(), Beyond::default(), Beyond::default());
    for partition in PartitionId::all(log.partitions()) {
        let positions = Positions::of(opened, partition).await?;
        let (_, events) = log.bounds(Topic::Events, partition).await?;
        let (_, notifications) = log.bounds(Topic::Notifications, partition).await?;
        archived.note(partition, positions.archived, events);
        stored.note(partition, positions.stored, notifications);
        computed.note(partition, positions.computed.0, events);
        computed.note(partition, positions.computed.1, notifications);
    }
    let mut parts = Vec::new();
    parts.extend(archived.describe("the warehouse has records that the log lacks"));
    parts.extend(stored.describe("the memberships in the config store come from notifications that the log lacks"));
    parts.extend(computed.describe("the checkpoints come from records that the log lacks"));
    let (sent, has) = (sent(opened).await?, log.producer_sequence(OUTBOX).await?);
    if sent > has {
        parts.push(format!("the config store has sent changes up to {sent}, but the log has them only up to {has}"));
    }
    if restore::begun_by_earlier_build(log).await?.is_some() {
        parts.push("a start with --accept-loss was interrupted".to_owned());
    }
    let lost = format!("log/ was removed, lost its end, or is an older copy: {}", parts.join("; "));
    let loss = Loss { lost, given_up: LOG_GIVEN_UP.to_owned(), way_back: LOG_WAY_BACK };
    Ok((!parts.is_empty()).then_some(loss))
}

/// Returns what the warehouse lacks that the log no longer has, if anything.
pub(super) async fn has_left(opened: &Opened) -> Result<Option<Loss>, Failure> {
    let mut missing = Beyond::default();
    for partition in PartitionId::all(opened.log.partitions()) {
        let (first, _) = opened.log.bounds(Topic::Events, partition).await?;
        missing.note(partition, first, opened.warehouse.archive_position(partition).await?);
    }
    Ok(missing.describe("it lacks records that the log no longer has").map(|missing| Loss {
        lost: format!("warehouse.duckdb was removed, or is an older copy: {missing}"),
        given_up: "new segments and previews do not see those events; existing segments still do".to_owned(),
        way_back: "Put back the warehouse.duckdb of the same time as log/",
    }))
}

/// Adds up how far positions are beyond their limits.
#[derive(Default)]
struct Beyond {
    records: u64,
    partitions: Vec<PartitionId>,
}

impl Beyond {
    fn note(&mut self, partition: PartitionId, position: u64, end: u64) {
        if position > end {
            self.records += position - end;
            self.partitions.push(partition);
        }
    }

    fn describe(mut self, what: &str) -> Option<String> {
        self.partitions.dedup();
        let partitions = self.partitions.iter().map(PartitionId::to_string).collect::<Vec<_>>().join(", ");
        (self.records > 0).then(|| format!("{what}, {} of them (partitions {partitions})", self.records))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_positions_beyond_the_limit_are_described() {
        let mut beyond = Beyond::default();
        for (partition, position, end) in [(0, 5, 5), (1, 4, 5), (2, 0, 0)] {
            beyond.note(PartitionId(partition), position, end);
        }
        assert_eq!(beyond.describe("x"), None);
        let mut beyond = Beyond::default();
        for (partition, position, end) in [(0, 5, 5), (3, 9, 5), (4, 1, 0), (4, 2, 1)] {
            beyond.note(PartitionId(partition), position, end);
        }
        assert_eq!(beyond.describe("x").as_deref(), Some("x, 6 of them (partitions 3, 4)"));
    }
}

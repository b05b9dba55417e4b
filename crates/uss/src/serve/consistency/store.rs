//! Finds a config store that is behind the log.

use std::collections::BTreeMap;

use configuration_api::PRODUCER;
use ports::config_store::{ConfigStore, LastIds, OutboxEntry, Page};
use ports::log::{Log, Topic};
use ports::records::ConfigRecord;
use segment_engine::ids::PartitionId;

use super::{Failure, Loss};

const BATCH_BYTES_MAX: usize = 1 << 20;

/// Returns what the config store has lost, if anything.
pub(super) async fn is_behind(log: &dyn Log, store: &dyn ConfigStore) -> Result<Option<Loss>, Failure> {
    Ok(store_is_behind(known_ids(log).await?, store.last_ids().await?))
}

/// Prepares a config store that has lost data: it assigns no id again, and the log gets its
/// segments.
pub(super) async fn give_up(log: &dyn Log, store: &dyn ConfigStore) -> Result<(), Failure> {
    let entries = definitions(log, store).await?;
    Ok(store.go_on_after(known_ids(log).await?, entries).await?)
}

/// Returns the last ids that appear in the log.
async fn known_ids(log: &dyn Log) -> Result<LastIds, ports::log::LogError> {
    let highest = log.highest_ids().await?;
    Ok(LastIds { user: highest.user, segment: highest.segment, outbox: log.producer_sequence(PRODUCER).await? })
}

/// The config store assigns ids and writes the outbox. Both reach the log afterwards.
fn store_is_behind(known: LastIds, given: LastIds) -> Option<Loss> {
    let mut parts = Vec::new();
    let mut compare = |what: &str, known: u64, given: u64| {
        if known > given {
            parts.push(format!("{what} up to {known}, not {given}"));
        }
    };
    compare("users", known.user.unsigned_abs(), given.user.unsigned_abs());
    compare("segments", known.segment.unsigned_abs(), given.segment.unsigned_abs());
    compare("changes", known.outbox, given.outbox);
    if parts.is_empty() {
        return None;
    }
    let users = match known.user > given.user {
        true => format!("the users {} to {} are lost", given.user + 1, known.user),
        false => "no user is lost".to_owned(),
    };
    Some(Loss {
        lost: format!("config.sqlite was removed, or is an older copy: the log has {}", parts.join("; ")),
        given_up: format!(
            "{users}, and everything changed since then (users, identities, traits, segments, manual lists) is as it \
             was before. Segments are as in config.sqlite; those that are only in the log are removed. Events stay, and no \
             id is assigned a second time"
        ),
        way_back: "Put config.sqlite of the same time as log/ back",
    })
}

/// Returns the records that make the log's segments equal to the store's: the definitions of all
/// existing segments, and the deletions of the others.
pub(super) async fn definitions(log: &dyn Log, store: &dyn ConfigStore) -> Result<Vec<OutboxEntry>, Failure> {
    let mut defined = BTreeMap::new();
    let mut next = 0;
    loop {
        let batch = log.read(Topic::Config, PartitionId::ONLY, next, BATCH_BYTES_MAX).await?;
        if batch.records.is_empty() {
            break;
        }
        for record in &batch.records {
            match serde_json::from_slice(&record.value) {
                Ok(ConfigRecord::Segment { id, .. }) => drop(defined.insert(id, OutboxEntry::segment_deleted(id))),
                Ok(ConfigRecord::SegmentDeleted { id }) => drop(defined.remove(&id)),
                // The relay of definitions skips it too, and reports it.
                Err(_) => {}
            }
        }
        next = batch.next_offset;
    }
    for segment in store.segments(Page::ALL).await? {
        defined.insert(segment.id, OutboxEntry::segment(&segment));
    }
    Ok(defined.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_may_be_ahead_of_the_log_but_not_behind() {
        let ids = |user, segment, outbox| LastIds { user, segment, outbox };
        for given in [ids(5, 2, 9), ids(6, 2, 9), ids(5, 3, 9), ids(5, 2, 10)] {
            assert!(store_is_behind(ids(5, 2, 9), given).is_none(), "{given:?}");
        }
        for (given, part) in [
            (ids(4, 2, 9), "users up to 5, not 4"),
            (ids(5, 1, 9), "segments up to 2, not 1"),
            (ids(5, 2, 8), "changes up to 9, not 8"),
            (ids(0, 0, 0), "users up to 5, not 0; segments up to 2, not 0; changes up to 9, not 0"),
        ] {
            let loss = store_is_behind(ids(5, 2, 9), given).expect("it is behind");
            assert!(loss.lost.contains(part), "{}", loss.lost);
            let named = loss.given_up.contains(&format!("users {} to 5 are lost", given.user + 1));
            assert_eq!(named, given.user < 5, "{}", loss.given_up);
        }
    }
}

//! The warehouse in memory, without SQL.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use segment_engine::event::{Event, Position};
use segment_engine::ids::{PartitionId, UserId};
use segment_engine::machine::{PastEvent, Receipt};

use ports::warehouse::{
    ArchiveBatch, ArchiveRow, Departure, History, HistoryBatch, HistoryCursor, HistoryOf, HistoryScan, Table,
    TraitsRow, UserRow, Warehouse, WarehouseError, history_bytes,
};

/// A warehouse in memory; clones share it. It refuses SQL.
#[derive(Clone, Default)]
pub struct MemoryWarehouse {
    rows: Arc<Mutex<Rows>>,
}

#[derive(Default)]
struct Rows {
    positions: HashMap<PartitionId, u64>,
    events: Vec<Event>,
    /// The positions of events whose ids dedupe forever.
    dedupe_forever: HashSet<Position>,
    users: BTreeMap<UserId, UserRow>,
    traits: Vec<TraitsRow>,
    /// From each merged user to the last survivor of the chain.
    survivors: HashMap<UserId, UserId>,
    departures: HashMap<UserId, Departure>,
}

impl Rows {
    fn resolve(&self, user: UserId) -> UserId {
        self.survivors.get(&user).copied().unwrap_or(user)
    }

    fn apply(&mut self, row: ArchiveRow) {
        match row {
            ArchiveRow::Event { event, dedupe_forever } => {
                if dedupe_forever {
                    self.dedupe_forever.insert(event.position);
                }
                self.events
                    .push(event.map_payload(|text| Arc::new(serde_json::from_str(&text).expect("a payload is JSON"))));
            }
            ArchiveRow::User(user) => drop(self.users.insert(user.id, user)),
            ArchiveRow::Traits(traits) => self.traits.push(traits),
            ArchiveRow::MergeUser(user) => {
                self.users.remove(&user);
                self.departures.insert(user, Departure::Merged);
            }
            ArchiveRow::Alias { absorbed, survivor } => self.alias(absorbed, survivor),
            ArchiveRow::DeleteUser(user) => self.delete(user),
        }
    }

    fn alias(&mut self, absorbed: UserId, survivor: UserId) {
        let survivor = self.resolve(survivor);
        if survivor == absorbed {
            return;
        }
        self.survivors.insert(absorbed, survivor);
        self.survivors.values_mut().filter(|known| **known == absorbed).for_each(|known| *known = survivor);
    }

    fn delete(&mut self, user: UserId) {
        self.departures.insert(user, Departure::Deleted);
        let survivors = std::mem::take(&mut self.survivors);
        let is_deleted = |id: &UserId| *id == user || survivors.get(id) == Some(&user);
        self.events.retain(|event| !is_deleted(&event.user_id));
        self.users.retain(|id, _| !is_deleted(id));
        self.traits.retain(|row| !is_deleted(&row.user));
        self.survivors = survivors.iter().filter(|(id, _)| !is_deleted(id)).map(|(id, to)| (*id, *to)).collect();
    }
}

impl MemoryWarehouse {
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the traits of a user as SQL would see them.
    pub fn traits(&self, user: UserId) -> serde_json::Map<String, serde_json::Value> {
        let rows = self.rows();
        let mut theirs: Vec<&TraitsRow> = rows.traits.iter().filter(|row| rows.resolve(row.user) == user).collect();
        theirs.sort_by_key(|row| (row.created_at, row.user == user, row.position.offset));
        let mut traits = serde_json::Map::new();
        for (key, value) in theirs.iter().flat_map(|row| &row.traits) {
            traits.insert(key.clone(), value.clone());
        }
        traits.retain(|_, value| !value.is_null());
        traits
    }

    /// Returns the row of a user as SQL would see it.
    pub fn user(&self, user: UserId) -> Option<UserRow> {
        self.rows().users.get(&user).cloned()
    }
}

fn no_sql() -> WarehouseError {
    WarehouseError::Refused("the in-memory warehouse runs no SQL; use an embedded one".to_owned())
}

#[async_trait]
impl Warehouse for MemoryWarehouse {
    async fn ping(&self) -> Result<(), WarehouseError> {
        Ok(())
    }

    async fn archive_position(&self, partition: PartitionId) -> Result<u64, WarehouseError> {
        Ok(self.rows().positions.get(&partition).copied().unwrap_or_default())
    }

    async fn archive(&self, batch: ArchiveBatch) -> Result<(), WarehouseError> {
        let mut rows = self.rows();
        let found = rows.positions.get(&batch.partition).copied().unwrap_or_default();
        if found != batch.from_offset {
            return Err(WarehouseError::Moved { found, expected: batch.from_offset });
        }
        rows.positions.insert(batch.partition, batch.to_offset);
        batch.rows.into_iter().for_each(|(_, row)| rows.apply(row));
        Ok(())
    }

    async fn received(&self, ids: &[(UserId, String)]) -> Result<Vec<Option<Receipt>>, WarehouseError> {
        let rows = self.rows();
        let receipt = |(user, event_id): &(UserId, String)| {
            let same_user = |event: &&Event| rows.resolve(event.user_id) == rows.resolve(*user);
            let same_id = |event: &&Event| event.event_id.as_deref() == Some(event_id);
            let found: Vec<&Event> = rows.events.iter().filter(same_user).filter(same_id).collect();
            let at = found.iter().map(|event| event.processed_at).max()?;
            Some(Receipt {
                at,
                dedupe_forever: found.iter().any(|event| rows.dedupe_forever.contains(&event.position)),
            })
        };
        Ok(ids.iter().map(receipt).collect())
    }

    async fn departures(&self, users: &[UserId]) -> Result<Vec<Option<Departure>>, WarehouseError> {
        let rows = self.rows();
        Ok(users.iter().map(|user| rows.departures.get(user).copied()).collect())
    }

    async fn history(&self, parts: &[HistoryOf], bytes_max: usize) -> Result<History, WarehouseError> {
        let rows = self.rows();
        let (mut events, mut bytes) = (Vec::new(), 0);
        for (place, part) in parts.iter().enumerate() {
            let is_in =
                |event: &&Event| event.user_id == part.user && (part.from..part.below).contains(&event.position.offset);
            let mut theirs: Vec<&Event> = rows.events.iter().filter(is_in).collect();
            theirs.sort_by_key(|event| event.position.offset);
            for event in theirs {
                bytes += history_bytes(event, event.payload.to_string().len());
                if bytes > bytes_max && !events.is_empty() {
                    let cut = HistoryOf { from: event.position.offset, ..*part };
                    let left = [cut].into_iter().chain(parts[place + 1..].iter().copied()).collect();
                    return Ok(History { events, left });
                }
                events.push(event.clone());
            }
        }
        Ok(History { events, left: Vec::new() })
    }

    fn scan_history(&self, scan: HistoryScan) -> HistoryCursor {
        let offsets = scan.from..scan.below;
        let is_in =
            |event: &&Event| event.position.partition == scan.partition && offsets.contains(&event.position.offset);
        let mut events: Vec<PastEvent> =
            self.rows().events.iter().filter(is_in).filter_map(|event| scan.needs.reduce(event)).collect();
        events.sort_by_key(|event| event.offset);
        let (sender, cursor) = HistoryCursor::new();
        tokio::spawn(async move {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            for event in events {
                let event_bytes =
                    event.rest.as_ref().map_or(0, |rest| history_bytes(rest, rest.payload.to_string().len()));
                if bytes + event_bytes > scan.bytes_max && !batch.is_empty() {
                    bytes = 0;
                    let batch = HistoryBatch { events: std::mem::take(&mut batch), until: event.offset };
                    if sender.send(Ok(Some(batch))).await.is_err() {
                        return;
                    }
                }
                bytes += event_bytes;
                batch.push(event);
            }
            let end = HistoryBatch { events: batch, until: scan.below.max(scan.from) };
            for batch in [Ok(Some(end)), Ok(None)] {
                // Nobody reads a cursor that was dropped.
                let _ = sender.send(batch).await;
            }
        });
        cursor
    }

    async fn users(&self, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>, WarehouseError> {
        let rows = self.rows();
        let known = rows.users.keys().filter(|id| after.is_none_or(|after| **id > after));
        Ok(known.take(limit).copied().collect())
    }

    async fn members(&self, _sql: &str) -> Result<Vec<UserId>, WarehouseError> {
        Err(no_sql())
    }

    async fn query(&self, _sql: &str) -> Result<Table, WarehouseError> {
        Err(no_sql())
    }
}

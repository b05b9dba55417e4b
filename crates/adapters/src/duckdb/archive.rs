//! Writes batches of partitions' rows together with the archive positions, in one transaction.

use std::collections::BTreeMap;

use duckdb::types::{TimeUnit, Value};
use duckdb::{Connection, OptionalExt, Transaction, params};
use ports::warehouse::{ArchiveBatch, ArchiveRow, ArchivedEvent, TraitsRow, UserRow, WarehouseError};
use segment_engine::eval::jsonb_ordered;
use segment_engine::event::Position;
use segment_engine::ids::{PartitionId, UserId};
use segment_engine::time::Timestamp;

use super::{columns, unavailable};

pub(super) const SCHEMA: &str = "user_segment_analytics";

/// Returns the next offset to archive.
pub(super) fn position(connection: &Connection, partition: PartitionId) -> Result<u64, WarehouseError> {
    let sql = "SELECT next_offset FROM user_segment_analytics.archive_positions WHERE log_partition = ?";
    let position = connection.query_row(sql, [partition.0], |row| row.get(0)).optional().map_err(unavailable)?;
    Ok(position.unwrap_or_default())
}

/// What became of one batch.
pub(super) type Outcome = Result<(), WarehouseError>;

/// Writes those of the batches that start at the archive position of their partition. Returns what
/// became of each.
pub(super) fn archive(connection: &mut Connection, batches: &[ArchiveBatch]) -> Result<Vec<Outcome>, WarehouseError> {
    let transaction = connection.transaction().map_err(unavailable)?;
    let before = positions(&transaction).map_err(unavailable)?;
    let mut reached = before.clone();
    let mut rows = Rows::new(&transaction);
    let mut outcomes = Vec::with_capacity(batches.len());
    for batch in batches {
        let found = reached.get(&batch.partition).copied().unwrap_or_default();
        if found != batch.from_offset {
            outcomes.push(Err(WarehouseError::Moved { found, expected: batch.from_offset }));
            continue;
        }
        batch.rows.iter().try_for_each(|(_, row)| rows.add(row)).map_err(unavailable)?;
        reached.insert(batch.partition, batch.to_offset);
        outcomes.push(Ok(()));
    }
    rows.flush().map_err(unavailable)?;
    move_positions(&transaction, &before, &reached).map_err(unavailable)?;
    transaction.commit().map_err(unavailable)?;
    Ok(outcomes)
}

/// The next offset of each partition. All are read and written together: a statement takes longer
/// than the rows of a small batch.
type Positions = BTreeMap<PartitionId, u64>;

fn positions(transaction: &Transaction<'_>) -> duckdb::Result<Positions> {
    let sql = "SELECT log_partition, next_offset FROM user_segment_analytics.archive_positions";
    let mut statement = transaction.prepare(sql)?;
    statement.query_map([], |row| Ok((PartitionId(row.get(0)?), row.get(1)?)))?.collect()
}

fn move_positions(transaction: &Transaction<'_>, before: &Positions, reached: &Positions) -> duckdb::Result<()> {
    let values = |is_wanted: &dyn Fn(&PartitionId, &u64) -> bool| {
        let wanted = reached.iter().filter(|(partition, offset)| is_wanted(partition, offset));
        wanted.map(|(partition, offset)| format!("({}, {offset})", partition.0)).collect::<Vec<_>>().join(", ")
    };
    let moved = values(&|partition, offset| before.get(partition).is_some_and(|before| before != offset));
    if !moved.is_empty() {
        let sql = format!(
            "UPDATE {SCHEMA}.archive_positions SET next_offset = moved.next_offset
             FROM (VALUES {moved}) moved (log_partition, next_offset)
             WHERE archive_positions.log_partition = moved.log_partition"
        );
        transaction.execute(&sql, [])?;
    }
    let new = values(&|partition, _| !before.contains_key(partition));
    if !new.is_empty() {
        transaction.execute(&format!("INSERT INTO {SCHEMA}.archive_positions VALUES {new}"), [])?;
    }
    Ok(())
}

/// Rows that wait to be written together. The last row of a user wins. Rows that change other rows
/// are written in turn.
struct Rows<'a> {
    transaction: &'a Transaction<'a>,
    events: Vec<&'a ArchivedEvent>,
    /// The positions of those whose ids dedupe forever.
    once_events: Vec<Position>,
    users: BTreeMap<UserId, &'a UserRow>,
    traits: Vec<&'a TraitsRow>,
}

impl<'a> Rows<'a> {
    fn new(transaction: &'a Transaction<'a>) -> Self {
        Self { transaction, events: Vec::new(), once_events: Vec::new(), users: BTreeMap::new(), traits: Vec::new() }
    }

    fn add(&mut self, row: &'a ArchiveRow) -> duckdb::Result<()> {
        match row {
            ArchiveRow::Event { event, dedupe_forever } => {
                self.events.push(event);
                self.once_events.extend(dedupe_forever.then_some(event.position));
            }
            ArchiveRow::User(user) => drop(self.users.insert(user.id, user)),
            ArchiveRow::Traits(traits) => self.traits.push(traits),
            ArchiveRow::MergeUser(user) => {
                self.flush()?;
                self.transaction.execute("DELETE FROM user_segment_analytics.users WHERE id = ?", [user.0])?;
                self.record_departure(*user, false)?;
            }
            ArchiveRow::Alias { absorbed, survivor } => {
                self.flush()?;
                self.alias(*absorbed, *survivor)?;
            }
            ArchiveRow::DeleteUser(user) => {
                self.flush()?;
                self.delete(*user)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> duckdb::Result<()> {
        self.flush_events()?;
        self.flush_users()?;
        self.flush_traits()
    }

    fn flush_events(&mut self) -> duckdb::Result<()> {
        if self.events.is_empty() {
            return Ok(());
        }
        columns::append_events(self.transaction, &std::mem::take(&mut self.events))?;
        columns::append_positions(self.transaction, &std::mem::take(&mut self.once_events))
    }

    fn flush_users(&mut self) -> duckdb::Result<()> {
        let users = std::mem::take(&mut self.users);
        if users.is_empty() {
            return Ok(());
        }
        // The ids as one string, because DuckDB's client cannot bind lists.
        let ids = users.keys().map(UserId::to_string).collect::<Vec<_>>().join(",");
        let sql = "DELETE FROM user_segment_analytics.users
                   WHERE id IN (SELECT unnest(CAST(string_split(?, ',') AS BIGINT[])))";
        self.transaction.execute(sql, [&ids])?;
        let mut appender = self.transaction.appender_to_db("users", SCHEMA)?;
        for (id, user) in users {
            let (client_ref_id, email, name) = (&user.client_ref_id, &user.email, &user.name);
            appender.append_row(params![id.0, client_ref_id, email, name, timestamp(user.created_at)])?;
        }
        appender.flush()
    }

    fn flush_traits(&mut self) -> duckdb::Result<()> {
        if self.traits.is_empty() {
            return Ok(());
        }
        let mut appender = self.transaction.appender_to_db("trait_values", SCHEMA)?;
        for row in self.traits.drain(..) {
            for (key, value) in &row.traits {
                let (at, position) = (timestamp(row.created_at), row.position);
                appender.append_row(params![
                    row.user.0,
                    key,
                    jsonb_ordered(value),
                    at,
                    position.partition.0,
                    position.offset
                ])?;
            }
        }
        appender.flush()
    }

    fn alias(&self, absorbed: UserId, survivor: UserId) -> duckdb::Result<()> {
        let sql = "SELECT survivor FROM user_segment_analytics.aliases WHERE absorbed = ?";
        let final_survivor: Option<i64> = self.transaction.query_row(sql, [survivor.0], |row| row.get(0)).optional()?;
        let survivor = final_survivor.unwrap_or(survivor.0);
        if survivor == absorbed.0 {
            tracing::error!(%absorbed, "a record merges a user into itself; ignoring its alias");
            return Ok(());
        }
        let sql = "DELETE FROM user_segment_analytics.aliases WHERE absorbed = ?";
        self.transaction.execute(sql, [absorbed.0])?;
        let sql = "UPDATE user_segment_analytics.aliases SET survivor = ? WHERE survivor = ?";
        self.transaction.execute(sql, params![survivor, absorbed.0])?;
        let sql = "INSERT INTO user_segment_analytics.aliases VALUES (?, ?)";
        self.transaction.execute(sql, params![absorbed.0, survivor]).map(drop)
    }

    fn delete(&self, user: UserId) -> duckdb::Result<()> {
        let also_theirs = "SELECT absorbed FROM user_segment_analytics.aliases WHERE survivor = ?";
        let sql = format!(
            "DELETE FROM {SCHEMA}.once_events o USING {SCHEMA}.events e
             WHERE o.log_partition = e.log_partition AND o.log_offset = e.log_offset
               AND (e.user_id = ? OR e.user_id IN ({also_theirs}))"
        );
        self.transaction.execute(&sql, [user.0, user.0])?;
        for (table, column) in [("events", "user_id"), ("users", "id"), ("trait_values", "user_id")] {
            let sql = format!("DELETE FROM {SCHEMA}.{table} WHERE {column} = ? OR {column} IN ({also_theirs})");
            self.transaction.execute(&sql, [user.0, user.0])?;
        }
        let sql = "DELETE FROM user_segment_analytics.aliases WHERE absorbed = ? OR survivor = ?";
        self.transaction.execute(sql, [user.0, user.0])?;
        self.record_departure(user, true)
    }

    fn record_departure(&self, user: UserId, deleted: bool) -> duckdb::Result<()> {
        let sql = "INSERT INTO user_segment_analytics.departures VALUES (?, ?)";
        self.transaction.execute(sql, params![user.0, deleted]).map(drop)
    }
}

fn timestamp(at: Timestamp) -> Value {
    Value::Timestamp(TimeUnit::Microsecond, at.0)
}

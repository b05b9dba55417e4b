//! Reads for the engine: users' events, receipts of deliveries, and known users.

use std::collections::HashMap;
use std::sync::Arc;

use duckdb::types::Value;
use duckdb::{Connection, Row, params};
use ports::warehouse::{Departure, HistoryOf, WarehouseError};
use segment_engine::decimal::Decimal;
use segment_engine::event::{Event, Position};
use segment_engine::ids::{PartitionId, UserId};
use segment_engine::machine::Receipt;
use segment_engine::schema::{ColumnType, EventColumn};
use segment_engine::time::Timestamp;
use serde::Serialize;

use super::unavailable;

/// One item of a request, with its place in it. Lists go to DuckDB as one JSON parameter each,
/// because its client cannot bind lists.
#[derive(Serialize)]
struct Delivery<'a> {
    place: usize,
    user: i64,
    event_id: &'a str,
}

#[derive(Serialize)]
struct Part {
    place: usize,
    user: i64,
    below: u64,
}

fn json<T: Serialize>(rows: impl Iterator<Item = T>) -> String {
    serde_json::to_string(&rows.collect::<Vec<_>>()).expect("numbers and strings always serialise")
}

/// See `Warehouse::received`.
pub(super) fn received(
    connection: &Connection,
    ids: &[(UserId, String)],
) -> Result<Vec<Option<Receipt>>, WarehouseError> {
    let sql = r#"
        WITH listed AS (
            SELECT unnest(from_json(?, '[{"place": "BIGINT", "user": "BIGINT", "event_id": "VARCHAR"}]')) AS item
        ), asked AS (
            SELECT l.item.place AS place, l.item.event_id AS event_id, coalesce(a.survivor, l.item.user) AS user_id
            FROM listed l LEFT JOIN user_segment_analytics.aliases a ON a.absorbed = l.item.user
        )
        SELECT asked.place, epoch_us(max(e.processed_at)), bool_or(o.log_offset IS NOT NULL)
        FROM asked
        JOIN user_segment_analytics.events e ON e.event_id = asked.event_id
        LEFT JOIN user_segment_analytics.aliases a ON a.absorbed = e.user_id
        LEFT JOIN user_segment_analytics.once_events o USING (log_partition, log_offset)
        WHERE coalesce(a.survivor, e.user_id) = asked.user_id
        GROUP BY asked.place"#;
    let asked = ids.iter().enumerate().map(|(place, (user, event_id))| Delivery { place, user: user.0, event_id });
    let mut received = vec![None; ids.len()];
    let mut statement = connection.prepare(sql).map_err(unavailable)?;
    let found = statement.query_map([json(asked)], |row| Ok((row.get::<_, usize>(0)?, row.get(1)?, row.get(2)?)));
    for row in found.map_err(unavailable)? {
        let (place, micros, dedupe_forever) = row.map_err(unavailable)?;
        received[place] = Some(Receipt { at: Timestamp(micros), dedupe_forever });
    }
    Ok(received)
}

/// See `Warehouse::departures`.
pub(super) fn departures(connection: &Connection, users: &[UserId]) -> Result<Vec<Option<Departure>>, WarehouseError> {
    let sql = "SELECT user_id, bool_or(deleted) FROM user_segment_analytics.departures
               WHERE user_id IN (SELECT unnest(CAST(string_split(?, ',') AS BIGINT[]))) GROUP BY user_id";
    if users.is_empty() {
        return Ok(Vec::new());
    }
    let ids = users.iter().map(UserId::to_string).collect::<Vec<_>>().join(",");
    let mut statement = connection.prepare(sql).map_err(unavailable)?;
    let found = statement.query_map([ids], |row| {
        let departure = if row.get(1)? { Departure::Deleted } else { Departure::Merged };
        Ok((UserId(row.get(0)?), departure))
    });
    let found: HashMap<UserId, Departure> = found.and_then(Iterator::collect).map_err(unavailable)?;
    Ok(users.iter().map(|user| found.get(user).copied()).collect())
}

/// See `Warehouse::history`.
pub(super) fn history(connection: &Connection, asked: &[HistoryOf]) -> Result<Vec<Event>, WarehouseError> {
    let columns = EventColumn::ALL.map(selected).join(", ");
    let sql = format!(
        r#"
        WITH listed AS (
            SELECT unnest(from_json(?, '[{{"place": "BIGINT", "user": "BIGINT", "below": "UBIGINT"}}]')) AS item
        )
        SELECT {columns}, e.log_partition, e.log_offset, CAST(e.payload AS VARCHAR)
        FROM listed l
        JOIN user_segment_analytics.events e ON e.user_id = l.item.user AND e.log_offset < l.item.below
        ORDER BY l.item.place, e.processed_at, e.log_partition, e.log_offset"#
    );
    let parts = asked.iter().enumerate().map(|(place, of)| Part { place, user: of.user.0, below: of.below });
    let mut statement = connection.prepare(&sql).map_err(unavailable)?;
    let mut rows = statement.query([json(parts)]).map_err(unavailable)?;
    let mut events = Vec::new();
    while let Some(row) = rows.next().map_err(unavailable)? {
        let event = event(row).map_err(unavailable)?;
        let payload = row.get::<_, String>(PAYLOAD).map_err(unavailable)?;
        let payload = serde_json::from_str(&payload).map_err(|error| {
            WarehouseError::Unavailable(format!(
                "the payload of the event at offset {} of partition {} is not JSON: {error}",
                event.position.offset, event.position.partition
            ))
        })?;
        events.push(Event { payload: Arc::new(payload), ..event });
    }
    Ok(events)
}

/// The columns of a row of [`history`] after those of the schema.
const LOG_PARTITION: usize = EventColumn::ALL.len();
const LOG_OFFSET: usize = LOG_PARTITION + 1;
const PAYLOAD: usize = LOG_OFFSET + 1;

/// Returns what to select for a column.
fn selected(column: EventColumn) -> String {
    let name = column.table_name();
    match column.column_type() {
        ColumnType::Timestamp => format!("epoch_us(e.{name})"),
        ColumnType::UserId | ColumnType::Text | ColumnType::Decimal => format!("e.{name}"),
    }
}

/// Reads an event without its payload.
fn event(row: &Row<'_>) -> duckdb::Result<Event> {
    Ok(Event {
        user_id: UserId(row.get(EventColumn::UserId.index())?),
        client_ref_id: row.get::<_, String>(EventColumn::ClientRefId.index())?.into(),
        id_type: text(row, EventColumn::IdType)?,
        region: text(row, EventColumn::Region)?,
        device_type: text(row, EventColumn::DeviceType)?,
        country: text(row, EventColumn::Country)?,
        activity_type: text(row, EventColumn::ActivityType)?,
        url: text(row, EventColumn::Url)?,
        order_total: decimal(row, EventColumn::OrderTotal)?,
        order_id: text(row, EventColumn::OrderId)?,
        element_id: text(row, EventColumn::ElementId)?,
        created_at: Timestamp(row.get(EventColumn::CreatedAt.index())?),
        processed_at: Timestamp(row.get(EventColumn::ProcessedAt.index())?),
        event_id: text(row, EventColumn::EventId)?,
        payload: Arc::default(),
        position: Position { partition: PartitionId(row.get(LOG_PARTITION)?), offset: row.get(LOG_OFFSET)? },
    })
}

fn text(row: &Row<'_>, column: EventColumn) -> duckdb::Result<Option<Box<str>>> {
    Ok(row.get::<_, Option<String>>(column.index())?.map(Into::into))
}

fn decimal(row: &Row<'_>, column: EventColumn) -> duckdb::Result<Option<Decimal>> {
    Ok(match row.get(column.index())? {
        Value::Decimal(number) => Decimal::from_scaled(number.value()),
        _ => None,
    })
}

/// See `Warehouse::users`.
pub(super) fn users(
    connection: &Connection,
    after: Option<UserId>,
    limit: usize,
) -> Result<Vec<UserId>, WarehouseError> {
    let sql = "SELECT id FROM user_segment_analytics.users WHERE id > ? OR ? ORDER BY id LIMIT ?";
    let from = after.map_or(i64::MIN, |after| after.0);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = connection.prepare(sql).map_err(unavailable)?;
    let rows = statement.query_map(params![from, after.is_none(), limit], |row| row.get(0).map(UserId));
    rows.and_then(Iterator::collect).map_err(unavailable)
}
